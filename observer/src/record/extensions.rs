//! Fields beyond those of AWS, in JSON only. Keys are flat, differ from AWS's, and end with the
//! unit.

use super::{Content, FieldType, Origin, Record, Value, community::CommunityId};
use crate::{
    flow::{Action, Delta, Icmp},
    tasks::Attribute,
};

macro_rules! extensions {
    ($($variant:ident $key:literal $type:ident $origin:ident $doc:literal,)*) => {
        /// A key of JSON lines in addition to AWS's fields.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Extension { $(#[doc = $doc] $variant,)* }

        impl Extension {
            /// Every extension, in output order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Key in JSON.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// Type of the value.
            pub const fn field_type(self) -> FieldType {
                match self { $(Self::$variant => FieldType::$type,)* }
            }

            /// Origin of the value.
            pub const fn origin(self) -> Origin {
                match self { $(Self::$variant => Origin::$origin,)* }
            }

            /// Description in one line.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

extensions! {
    StartMs "start_ms" Int64 Flow "Arrival of the first packet of the flow in the window, in UNIX milliseconds.",
    EndMs "end_ms" Int64 Flow "Arrival of the last packet of the flow in the window, in UNIX milliseconds.",
    TcpFlagsAll "tcp_flags_all" Int32 SomeFlows "OR of all eight TCP flags of the flow's packets.",
    IcmpType "icmp_type" Int32 SomeFlows "ICMP type, if all messages of the flow have the same type and code.",
    IcmpCode "icmp_code" Int32 SomeFlows "ICMP code, under the same condition.",
    DropReason "drop_reason" String SomeFlows
        "On REJECT: the kernel's name of the reason for the drop.",
    UndeliveredPackets "undelivered_packets" Int64 SomeFlows
        "On ACCEPT: ingress packets that did not reach their receiver for reasons other than policy: no socket, a full queue, …",
    Initiator "initiator" String SomeFlows
        "The end that initiated the flow, source or destination, if the window holds the handshake or an echo.",
    CommunityId "community_id" String SomeFlows "Community ID 1, the same for both directions and in other tools.",
    LostPackets "lost_packets" Int64 Record "On SKIPDATA: packets of the window that are in no record.",
    LostBytes "lost_bytes" Int64 Record "On SKIPDATA: layer-3 bytes of these packets.",
    Mac "mac" String Subject "MAC address of the interface.",
    InterfaceName "interface_name" String Subject "Name of the interface in its network namespace.",
    Netns "netns" Int64 Subject "Inode of the network namespace.",
    NetworkMode "network_mode" String Subject "Network mode of the task: awsvpc, bridge, host or none.",
    TaskFamily "ecs_task_family" String Subject "Family of the task definition.",
    ContainerName "container_name" String Subject "Name of the container, if its namespace belongs to no other container.",
}

impl Extension {
    /// Value in a record.
    pub fn value<'a>(self, record: &Record<'a>) -> Value<'a> {
        let subject = record.subject;
        match (self, record.content) {
            (Self::Mac, _) => Some(&*subject.mac).into(),
            (Self::InterfaceName, _) => Some(&*subject.interface_name).into(),
            (Self::Netns, _) if subject.netns != 0 => Value::Number(subject.netns),
            (Self::NetworkMode, _) => record.known(Attribute::NetworkMode),
            (Self::TaskFamily, _) => record.known(Attribute::Family),
            (Self::ContainerName, _) => record.known(Attribute::ContainerName),
            (Self::LostPackets, Content::SkipData(lost)) => Value::Number(lost.packets),
            (Self::LostBytes, Content::SkipData(lost)) => Value::Number(lost.bytes),
            (_, Content::Flow(delta)) => self.of_flow(delta),
            _ => Value::Absent,
        }
    }

    /// Value in the record of a flow, for fields that may differ between flows.
    #[inline]
    pub(super) fn of_flow(self, delta: &Delta) -> Value<'_> {
        let counters = &delta.counters;
        match (self, counters.icmp) {
            (Self::DropReason, _) => match delta.key.action() {
                Action::Reject(reason) => Value::Word(reason.as_str()),
                Action::Accept => Value::Absent,
            },
            (Self::UndeliveredPackets, _) if counters.undelivered != 0 => {
                Value::Number(counters.undelivered.min(counters.packets))
            }
            (Self::StartMs, _) => Value::Number(counters.first_ms.max(0) as u64),
            (Self::EndMs, _) => Value::Number(counters.last_ms.max(0) as u64),
            (Self::TcpFlagsAll, _) if delta.key.protocol() == TCP => {
                Value::Number(counters.tcp_flags_all.into())
            }
            (Self::IcmpType, Icmp::One { kind, .. }) => Value::Number(kind.into()),
            (Self::IcmpCode, Icmp::One { code, .. }) => Value::Number(code.into()),
            (Self::Initiator, _) => initiator(delta).map_or(Value::Absent, Value::Word),
            (Self::CommunityId, icmp) => {
                CommunityId::of(&delta.key, icmp).map_or(Value::Absent, Value::Community)
            }
            _ => Value::Absent,
        }
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP_V6: u8 = 58;

/// The side that initiated the flow: it sent a SYN without ACK, or an echo request.
fn initiator(delta: &Delta) -> Option<&'static str> {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const ASKED: Option<&str> = Some("source");
    const ANSWERED: Option<&str> = Some("destination");
    match (delta.key.protocol(), delta.counters.icmp) {
        // AWS's mask contains ACK only from packets with SYN.
        (TCP, _) if delta.counters.tcp_flags_aws & ACK != 0 => ANSWERED,
        (TCP, _) if delta.counters.tcp_flags_aws & SYN != 0 => ASKED,
        (ICMP, Icmp::One { kind: 8, .. }) | (ICMP_V6, Icmp::One { kind: 128, .. }) => ASKED,
        (ICMP, Icmp::One { kind: 0, .. }) | (ICMP_V6, Icmp::One { kind: 129, .. }) => ANSWERED,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Field;

    #[test]
    fn extensions_have_names_that_aws_does_not_use() {
        for extension in Extension::ALL {
            assert!(
                Field::ALL.iter().all(|field| field.key() != extension.key()),
                "{}",
                extension.key()
            );
        }
    }
}
