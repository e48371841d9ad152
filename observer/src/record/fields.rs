//! The one table of fields.
//!
//! Names, order, versions and types are those of the AWS page "Flow log records" (VPC Flow Logs versions 2 to 11).

use std::net::IpAddr;

use super::{Content, Record};
use crate::{
    flow::{Action, Delta, Icmp},
    tasks::Attribute,
};

/// How a field is typed in Parquet, Athena and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// `INT_32`.
    Int32,
    /// `INT_64`.
    Int64,
    /// `STRING`.
    String,
}

/// A field's value in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `-` in text, null or left out in JSON.
    Absent,
    /// A number.
    Number(u64),
    /// A text that needs no escaping in any format: an id, an ARN, a word of AWS's.
    Text(&'a str),
    /// An address, written as RFC 5952 says.
    Address(IpAddr),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        match text {
            Some(text) if !text.is_empty() => Self::Text(text),
            _ => Self::Absent,
        }
    }
}

macro_rules! fields {
    ($($variant:ident $name:literal $json:literal $version:literal $type:ident,)*) => {
        /// A field of VPC Flow Logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "AWS's own names; what they mean stands in AWS's documents")]
        pub enum Field { $($variant,)* }

        impl Field {
            /// All of them, in AWS's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in text files and formats.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The name in JSON, Parquet and Athena.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $json,)* }
            }

            /// The version of VPC Flow Logs that brought it.
            pub const fn version(self) -> u8 {
                match self { $(Self::$variant => $version,)* }
            }

            /// Its type.
            pub const fn field_type(self) -> FieldType {
                match self { $(Self::$variant => FieldType::$type,)* }
            }
        }
    };
}

fields! {
    Version "version" "version" 2 Int32,
    AccountId "account-id" "account_id" 2 String,
    InterfaceId "interface-id" "interface_id" 2 String,
    SrcAddr "srcaddr" "srcaddr" 2 String,
    DstAddr "dstaddr" "dstaddr" 2 String,
    SrcPort "srcport" "srcport" 2 Int32,
    DstPort "dstport" "dstport" 2 Int32,
    Protocol "protocol" "protocol" 2 Int32,
    Packets "packets" "packets" 2 Int64,
    Bytes "bytes" "bytes" 2 Int64,
    Start "start" "start" 2 Int64,
    End "end" "end" 2 Int64,
    Action "action" "action" 2 String,
    LogStatus "log-status" "log_status" 2 String,
    VpcId "vpc-id" "vpc_id" 3 String,
    SubnetId "subnet-id" "subnet_id" 3 String,
    InstanceId "instance-id" "instance_id" 3 String,
    TcpFlags "tcp-flags" "tcp_flags" 3 Int32,
    Type "type" "type" 3 String,
    PktSrcAddr "pkt-srcaddr" "pkt_srcaddr" 3 String,
    PktDstAddr "pkt-dstaddr" "pkt_dstaddr" 3 String,
    Region "region" "region" 4 String,
    AzId "az-id" "az_id" 4 String,
    SublocationType "sublocation-type" "sublocation_type" 4 String,
    SublocationId "sublocation-id" "sublocation_id" 4 String,
    PktSrcAwsService "pkt-src-aws-service" "pkt_src_aws_service" 5 String,
    PktDstAwsService "pkt-dst-aws-service" "pkt_dst_aws_service" 5 String,
    FlowDirection "flow-direction" "flow_direction" 5 String,
    TrafficPath "traffic-path" "traffic_path" 5 Int32,
    EcsClusterArn "ecs-cluster-arn" "ecs_cluster_arn" 7 String,
    EcsClusterName "ecs-cluster-name" "ecs_cluster_name" 7 String,
    EcsContainerInstanceArn "ecs-container-instance-arn" "ecs_container_instance_arn" 7 String,
    EcsContainerInstanceId "ecs-container-instance-id" "ecs_container_instance_id" 7 String,
    EcsContainerId "ecs-container-id" "ecs_container_id" 7 String,
    EcsSecondContainerId "ecs-second-container-id" "ecs_second_container_id" 7 String,
    EcsServiceName "ecs-service-name" "ecs_service_name" 7 String,
    EcsTaskDefinitionArn "ecs-task-definition-arn" "ecs_task_definition_arn" 7 String,
    EcsTaskArn "ecs-task-arn" "ecs_task_arn" 7 String,
    EcsTaskId "ecs-task-id" "ecs_task_id" 7 String,
    RejectReason "reject-reason" "reject_reason" 8 String,
    ResourceId "resource-id" "resource_id" 9 String,
    EncryptionStatus "encryption-status" "encryption_status" 10 Int32,
    InstanceTag "instance-tag" "instance_tag" 11 String,
    InstanceTag2 "instance-tag-2" "instance_tag_2" 11 String,
    InterfaceTag "interface-tag" "interface_tag" 11 String,
    InterfaceTag2 "interface-tag-2" "interface_tag_2" 11 String,
    AsgTag "asg-tag" "asg_tag" 11 String,
    AsgTag2 "asg-tag-2" "asg_tag_2" 11 String,
    InterfaceType "interface-type" "interface_type" 11 String,
    NextHopInterfaceId "next-hop-interface-id" "next_hop_interface_id" 11 String,
    NextHopSubnetId "next-hop-subnet-id" "next_hop_subnet_id" 11 String,
    NextHopAzId "next-hop-az-id" "next_hop_az_id" 11 String,
    NextHopVpcId "next-hop-vpc-id" "next_hop_vpc_id" 11 String,
    NextHopInterfaceType "next-hop-interface-type" "next_hop_interface_type" 11 String,
}

impl Field {
    /// The field of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Its value in a record. `version` is a matter of the whole format.
    pub fn value<'a>(self, record: &Record<'a>, version: u8) -> Value<'a> {
        let known = |attribute| record.subject.identity.get(attribute).into();
        match self {
            Self::Version => Value::Number(version.into()),
            Self::AccountId => known(Attribute::AccountId),
            Self::InterfaceId => Value::Text(&record.subject.interface_id),
            Self::Start => seconds(record, |delta| delta.counters.first_ms, record.window.start),
            Self::End => seconds(record, |delta| delta.counters.last_ms, record.window.end),
            Self::LogStatus => Value::Text(match record.content {
                Content::Flow(_) => "OK",
                Content::NoData => "NODATA",
                Content::SkipData(_) => "SKIPDATA",
            }),
            Self::VpcId => known(Attribute::VpcId),
            Self::SubnetId => known(Attribute::SubnetId),
            Self::InstanceId => known(Attribute::InstanceId),
            Self::Region => known(Attribute::Region),
            Self::AzId => known(Attribute::AzId),
            Self::EcsClusterArn => known(Attribute::ClusterArn),
            Self::EcsClusterName => known(Attribute::ClusterName),
            Self::EcsContainerInstanceArn => known(Attribute::ContainerInstanceArn),
            Self::EcsContainerInstanceId => known(Attribute::ContainerInstanceId),
            Self::EcsContainerId => known(Attribute::ContainerId),
            Self::EcsSecondContainerId => known(Attribute::SecondContainerId),
            Self::EcsServiceName => known(Attribute::ServiceName),
            Self::EcsTaskDefinitionArn => known(Attribute::TaskDefinitionArn),
            Self::EcsTaskArn => known(Attribute::TaskArn),
            Self::EcsTaskId => known(Attribute::TaskId),
            _ => match record.content {
                Content::Flow(delta) => self.of_flow(delta),
                Content::NoData | Content::SkipData(_) => Value::Absent,
            },
        }
    }

    /// What only a flow has. The rest is what a host cannot know.
    fn of_flow(self, delta: &Delta) -> Value<'_> {
        let (key, counters) = (&delta.key, &delta.counters);
        match self {
            Self::SrcAddr | Self::PktSrcAddr => Value::Address(key.source()),
            Self::DstAddr | Self::PktDstAddr => Value::Address(key.destination()),
            Self::SrcPort => Value::Number(key.source_port().into()),
            Self::DstPort => Value::Number(key.destination_port().into()),
            Self::Protocol => Value::Number(key.protocol().into()),
            Self::Packets => Value::Number(counters.packets),
            Self::Bytes => Value::Number(counters.bytes),
            Self::Action => Value::Text(key.action().as_str()),
            Self::TcpFlags => Value::Number(counters.tcp_flags_aws.into()),
            Self::Type => Value::Text(if key.source().is_ipv4() { "IPv4" } else { "IPv6" }),
            Self::FlowDirection => Value::Text(key.direction().as_str()),
            _ => Value::Absent,
        }
    }
}

/// A time of the flow, or of the window where there is no flow, in UNIX seconds.
fn seconds<'a>(record: &Record<'a>, of_flow: fn(&Delta) -> i64, of_window: i64) -> Value<'a> {
    let seconds = match record.content {
        Content::Flow(delta) => of_flow(delta).div_euclid(1000),
        Content::NoData | Content::SkipData(_) => of_window,
    };
    Value::Number(seconds.max(0) as u64)
}

macro_rules! extensions {
    ($($variant:ident $key:literal $doc:literal,)*) => {
        /// What AWS cannot know, under names that AWS does not use. In JSON only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Extension { $(#[doc = $doc] $variant,)* }

        impl Extension {
            /// All of them, in the order in which they are written.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The key in JSON.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// What it says, in one line.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

extensions! {
    StartMs "start_ms" "Arrival of the first packet of the flow in the window, in UNIX milliseconds.",
    EndMs "end_ms" "Arrival of the last packet of the flow in the window, in UNIX milliseconds.",
    TcpFlagsAll "tcp_flags_all" "All eight TCP flags of the flow's packets, or-ed.",
    IcmpType "icmp_type" "ICMP type, where all messages of the flow had one type and code.",
    IcmpCode "icmp_code" "ICMP code, likewise.",
    DropReason "drop_reason" "On REJECT: why this host dropped the packets, by the kernel's name for it.",
    LostPackets "lost_packets" "On SKIPDATA: packets of the window that are in no record.",
    LostBytes "lost_bytes" "On SKIPDATA: their bytes of layer 3.",
    Mac "mac" "MAC address of the interface.",
    InterfaceName "interface_name" "Name of the interface in its network namespace.",
    Netns "netns" "Inode of the network namespace.",
    NetworkMode "network_mode" "Network mode of the task: awsvpc, bridge, host or none.",
    TaskFamily "ecs_task_family" "Family of the task definition.",
}

impl Extension {
    /// Its value in a record.
    pub fn value<'a>(self, record: &Record<'a>) -> Value<'a> {
        let subject = record.subject;
        match (self, record.content) {
            (Self::Mac, _) => Some(&*subject.mac).into(),
            (Self::InterfaceName, _) => Value::Text(&subject.interface_name),
            (Self::Netns, _) if subject.netns != 0 => Value::Number(subject.netns),
            (Self::NetworkMode, _) => subject.identity.get(Attribute::NetworkMode).into(),
            (Self::TaskFamily, _) => subject.identity.get(Attribute::Family).into(),
            (Self::LostPackets, Content::SkipData(lost)) => Value::Number(lost.packets),
            (Self::LostBytes, Content::SkipData(lost)) => Value::Number(lost.bytes),
            (_, Content::Flow(delta)) => self.of_flow(delta),
            _ => Value::Absent,
        }
    }

    fn of_flow(self, delta: &Delta) -> Value<'_> {
        let counters = &delta.counters;
        match (self, counters.icmp) {
            (Self::DropReason, _) => match delta.key.action() {
                Action::Reject(reason) => Value::Text(reason.as_str()),
                Action::Accept => Value::Absent,
            },
            (Self::StartMs, _) => Value::Number(counters.first_ms.max(0) as u64),
            (Self::EndMs, _) => Value::Number(counters.last_ms.max(0) as u64),
            (Self::TcpFlagsAll, _) if delta.key.protocol() == TCP => {
                Value::Number(counters.tcp_flags_all.into())
            }
            (Self::IcmpType, Icmp::One { kind, .. }) => Value::Number(kind.into()),
            (Self::IcmpCode, Icmp::One { code, .. }) => Value::Number(code.into()),
            _ => Value::Absent,
        }
    }
}

const TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_54_fields_in_order_of_their_versions() {
        assert_eq!(Field::ALL.len(), 54);
        assert!(Field::ALL.is_sorted_by_key(|field| field.version()));
        let of = |version| Field::ALL.iter().filter(|field| field.version() == version).count();
        assert_eq!([2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map(of), [14, 7, 4, 4, 0, 10, 1, 1, 1, 12]);
    }

    #[test]
    fn keys_are_names_with_underscores_and_extensions_are_none_of_them() {
        for field in Field::ALL {
            assert_eq!(field.key(), field.name().replace('-', "_"));
            assert_eq!(Field::from_name(field.name()), Some(*field));
        }
        for extension in Extension::ALL {
            assert!(Field::ALL.iter().all(|field| field.key() != extension.key()), "{}", extension.key());
        }
    }
}
