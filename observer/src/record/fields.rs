//! The table of AWS's fields.
//!
//! Names, order, versions and types are those of the AWS page "Flow log records" (VPC Flow Logs
//! versions 2 to 11).

use std::net::IpAddr;

use super::{Content, Record, Value};
use crate::{
    flow::{Delta, Direction},
    tasks::Attribute,
};

/// Type of a field in Parquet, Athena and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// `INT_32`.
    Int32,
    /// `INT_64`.
    Int64,
    /// `STRING`.
    String,
}

/// Origin of a value, which determines the records without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The format, or the kind of the record.
    Record,
    /// The flow's packets, or else the window's bounds: never `-`.
    Time,
    /// The interface and its task: `-` if no source provides it. The same in all records of an
    /// interface and window.
    Subject,
    /// The packets of a flow: `-` only in NODATA and SKIPDATA.
    Flow,
    /// The packets of some flows: `-` in other flows too.
    SomeFlows,
    /// Known only to AWS, outside of the host: always `-`.
    Beyond,
}

impl Origin {
    /// True if two flows of one interface and window may differ in it.
    pub const fn is_of_flow(self) -> bool {
        matches!(self, Self::Time | Self::Flow | Self::SomeFlows)
    }

    /// True if every flow has a value.
    pub const fn is_of_every_flow(self) -> bool {
        matches!(self, Self::Time | Self::Flow)
    }
}

macro_rules! fields {
    ($($variant:ident $name:literal $json:literal $version:literal $type:ident $origin:ident $doc:literal,)*) => {
        /// A field of VPC Flow Logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Field { $(#[doc = $doc] $variant,)* }

        impl Field {
            /// Every field, in AWS's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name in text files and formats.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Name in JSON, Parquet and Athena.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $json,)* }
            }

            /// Version of VPC Flow Logs that introduced the field.
            pub const fn version(self) -> u8 {
                match self { $(Self::$variant => $version,)* }
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

fields! {
    Version "version" "version" 2 Int32 Record "Highest version among the fields of the format.",
    AccountId "account-id" "account_id" 2 String Subject "Account that owns the interface.",
    InterfaceId "interface-id" "interface_id" 2 String Subject "ENI ID; name and MAC address if it is unknown.",
    SrcAddr "srcaddr" "srcaddr" 2 String Flow "Source address; on IPv4 egress of an ENI, its primary address.",
    DstAddr "dstaddr" "dstaddr" 2 String Flow "Destination address; on IPv4 ingress of an ENI, its primary address.",
    SrcPort "srcport" "srcport" 2 Int32 Flow "Source port; 0 for protocols without ports.",
    DstPort "dstport" "dstport" 2 Int32 Flow "Destination port; 0 for protocols without ports.",
    Protocol "protocol" "protocol" 2 Int32 Flow "IANA protocol number.",
    Packets "packets" "packets" 2 Int64 Flow "Packets in the window, as on the wire.",
    Bytes "bytes" "bytes" 2 Int64 Flow "Layer-3 bytes of these packets.",
    Start "start" "start" 2 Int64 Time "First packet, or start of the window, in UNIX seconds.",
    End "end" "end" 2 Int64 Time "Last packet, or end of the window, in UNIX seconds.",
    Action "action" "action" 2 String Flow "ACCEPT or REJECT.",
    LogStatus "log-status" "log_status" 2 String Record "OK, NODATA or SKIPDATA.",
    VpcId "vpc-id" "vpc_id" 3 String Subject "VPC of the interface.",
    SubnetId "subnet-id" "subnet_id" 3 String Subject "Subnet of the interface.",
    InstanceId "instance-id" "instance_id" 3 String Subject "EC2 instance that the interface is attached to.",
    TcpFlags "tcp-flags" "tcp_flags" 3 Int32 Flow "OR of FIN, SYN, RST, and ACK of packets with SYN; 0 without TCP.",
    Type "type" "type" 3 String Flow "IPv4 or IPv6.",
    PktSrcAddr "pkt-srcaddr" "pkt_srcaddr" 3 String Flow "Source address in the packets.",
    PktDstAddr "pkt-dstaddr" "pkt_dstaddr" 3 String Flow "Destination address in the packets.",
    Region "region" "region" 4 String Subject "Region of the interface.",
    AzId "az-id" "az_id" 4 String Subject "ID of the availability zone.",
    SublocationType "sublocation-type" "sublocation_type" 4 String Subject "wavelength, outpost or localzone.",
    SublocationId "sublocation-id" "sublocation_id" 4 String Subject "ID of the sublocation.",
    PktSrcAwsService "pkt-src-aws-service" "pkt_src_aws_service" 5 String SomeFlows
        "Service that pkt-srcaddr belongs to, by the file of --ip-ranges.",
    PktDstAwsService "pkt-dst-aws-service" "pkt_dst_aws_service" 5 String SomeFlows
        "Service that pkt-dstaddr belongs to, by the file of --ip-ranges.",
    FlowDirection "flow-direction" "flow_direction" 5 String Flow "ingress or egress, seen from the interface.",
    TrafficPath "traffic-path" "traffic_path" 5 Int32 SomeFlows
        "1 for egress to the ENI's subnets and to --vpc-cidr; other paths are unknown to a host.",
    EcsClusterArn "ecs-cluster-arn" "ecs_cluster_arn" 7 String Subject "ARN of the task's cluster.",
    EcsClusterName "ecs-cluster-name" "ecs_cluster_name" 7 String Subject "Name of the task's cluster.",
    EcsContainerInstanceArn "ecs-container-instance-arn" "ecs_container_instance_arn" 7 String Subject
        "ARN of the container instance; none on Fargate.",
    EcsContainerInstanceId "ecs-container-instance-id" "ecs_container_instance_id" 7 String Subject
        "ID of the container instance.",
    EcsContainerId "ecs-container-id" "ecs_container_id" 7 String Subject
        "Runtime ID of the task's first container.",
    EcsSecondContainerId "ecs-second-container-id" "ecs_second_container_id" 7 String Subject
        "Runtime ID of the task's second container.",
    EcsServiceName "ecs-service-name" "ecs_service_name" 7 String Subject "Service that started the task.",
    EcsTaskDefinitionArn "ecs-task-definition-arn" "ecs_task_definition_arn" 7 String Subject
        "ARN of the task definition.",
    EcsTaskArn "ecs-task-arn" "ecs_task_arn" 7 String Subject "ARN of the task.",
    EcsTaskId "ecs-task-id" "ecs_task_id" 7 String Subject "ID of the task.",
    RejectReason "reject-reason" "reject_reason" 8 String Beyond
        "BPA or EC: block public access and encryption controls act outside of the host.",
    ResourceId "resource-id" "resource_id" 9 String Beyond "Resource that has no ENI, such as a regional NAT gateway.",
    EncryptionStatus "encryption-status" "encryption_status" 10 Int32 Beyond "Encryption by the network.",
    InstanceTag "instance-tag" "instance_tag" 11 String Beyond "Value of a tag of the instance.",
    InstanceTag2 "instance-tag-2" "instance_tag_2" 11 String Beyond "Value of another tag of the instance.",
    InterfaceTag "interface-tag" "interface_tag" 11 String Beyond "Value of a tag of the ENI.",
    InterfaceTag2 "interface-tag-2" "interface_tag_2" 11 String Beyond "Value of another tag of the ENI.",
    AsgTag "asg-tag" "asg_tag" 11 String Beyond "Value of a tag of the auto-scaling group.",
    AsgTag2 "asg-tag-2" "asg_tag_2" 11 String Beyond "Value of another tag of the auto-scaling group.",
    InterfaceType "interface-type" "interface_type" 11 String Beyond "Type of an interface that no task has.",
    NextHopInterfaceId "next-hop-interface-id" "next_hop_interface_id" 11 String Beyond "ENI at the other end.",
    NextHopSubnetId "next-hop-subnet-id" "next_hop_subnet_id" 11 String Beyond "Subnet of that ENI.",
    NextHopAzId "next-hop-az-id" "next_hop_az_id" 11 String Beyond "Availability zone of that ENI.",
    NextHopVpcId "next-hop-vpc-id" "next_hop_vpc_id" 11 String Beyond "VPC of that ENI.",
    NextHopInterfaceType "next-hop-interface-type" "next_hop_interface_type" 11 String Beyond "Type of that ENI.",
}

impl Field {
    /// Finds a field by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Value in a record.
    pub fn value<'a>(self, record: &Record<'a>) -> Value<'a> {
        match self.attribute() {
            Some(attribute) => return record.known(attribute),
            None if self.origin() == Origin::Beyond => return Value::Absent,
            None => {}
        }
        match (self, record.content) {
            (Self::Version, _) => Value::Number(record.context.format.version().into()),
            (Self::InterfaceId, _) => Some(&*record.subject.interface_id).into(),
            (Self::LogStatus, content) => Value::Word(content.status().as_str()),
            (_, Content::Flow(delta)) => self.of_flow(record, delta),
            (Self::Start, _) => seconds(record.start()),
            (Self::End, _) => seconds(record.end()),
            (_, Content::NoData | Content::SkipData(_)) => Value::Absent,
        }
    }

    /// The identity attribute with the value of this field.
    const fn attribute(self) -> Option<Attribute> {
        Some(match self {
            Self::AccountId => Attribute::AccountId,
            Self::VpcId => Attribute::VpcId,
            Self::SubnetId => Attribute::SubnetId,
            Self::InstanceId => Attribute::InstanceId,
            Self::Region => Attribute::Region,
            Self::AzId => Attribute::AzId,
            Self::SublocationType => Attribute::SublocationType,
            Self::SublocationId => Attribute::SublocationId,
            Self::EcsClusterArn => Attribute::ClusterArn,
            Self::EcsClusterName => Attribute::ClusterName,
            Self::EcsContainerInstanceArn => Attribute::ContainerInstanceArn,
            Self::EcsContainerInstanceId => Attribute::ContainerInstanceId,
            Self::EcsContainerId => Attribute::ContainerId,
            Self::EcsSecondContainerId => Attribute::SecondContainerId,
            Self::EcsServiceName => Attribute::ServiceName,
            Self::EcsTaskDefinitionArn => Attribute::TaskDefinitionArn,
            Self::EcsTaskArn => Attribute::TaskArn,
            Self::EcsTaskId => Attribute::TaskId,
            _ => return None,
        })
    }

    /// Value in the record of a flow, for fields that may differ between flows.
    #[inline]
    pub(super) fn of_flow<'a>(self, record: &Record<'a>, delta: &'a Delta) -> Value<'a> {
        let (key, counters) = (&delta.key, &delta.counters);
        match self {
            Self::Start => seconds(record.start()),
            Self::End => seconds(record.end()),
            Self::SrcAddr => {
                Value::Address(record.subject.address(key, Direction::Egress, key.source()))
            }
            Self::DstAddr => {
                Value::Address(record.subject.address(key, Direction::Ingress, key.destination()))
            }
            Self::PktSrcAddr => Value::Address(key.source()),
            Self::PktDstAddr => Value::Address(key.destination()),
            Self::SrcPort => Value::Number(key.source_port().into()),
            Self::DstPort => Value::Number(key.destination_port().into()),
            Self::Protocol => Value::Number(key.protocol().into()),
            Self::Packets => Value::Number(counters.packets),
            Self::Bytes => Value::Number(counters.bytes),
            Self::Action => Value::Word(key.action().as_str()),
            Self::TcpFlags => Value::Number(counters.tcp_flags_aws.into()),
            Self::Type => Value::Word(if key.source().is_ipv4() { "IPv4" } else { "IPv6" }),
            Self::FlowDirection => Value::Word(key.direction().as_str()),
            Self::PktSrcAwsService => service(record, key.source()),
            Self::PktDstAwsService => service(record, key.destination()),
            Self::TrafficPath
                if key.direction() == Direction::Egress && is_in_vpc(record, key.destination()) =>
            {
                Value::Number(IN_VPC)
            }
            _ => Value::Absent,
        }
    }
}

/// The `traffic-path` to another resource in the same VPC.
const IN_VPC: u64 = 1;

fn is_in_vpc(record: &Record<'_>, address: IpAddr) -> bool {
    record.context.vpc.iter().chain(&record.subject.subnets).any(|block| block.contains(&address))
}

fn seconds<'a>(unix: i64) -> Value<'a> {
    Value::Number(unix.max(0) as u64)
}

fn service<'a>(record: &Record<'a>, address: IpAddr) -> Value<'a> {
    let service = record.context.services.as_ref().and_then(|services| services.service(address));
    service.map_or(Value::Absent, Value::Word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_aws() {
        let table = include_str!("aws/flowlog-fields.csv");
        let mut rows = table.lines().skip(1);
        for (number, field) in Field::ALL.iter().enumerate() {
            let kind = match field.field_type() {
                FieldType::Int32 => "INT_32",
                FieldType::Int64 => "INT_64",
                FieldType::String => "STRING",
            };
            let row = format!("{},{},{},{kind}", number + 1, field.name(), field.version());
            assert_eq!(Some(row.as_str()), rows.next());
        }
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn keys_are_names_with_underscores() {
        for field in Field::ALL {
            assert_eq!(field.key(), field.name().replace('-', "_"));
            assert_eq!(Field::from_name(field.name()), Some(*field));
        }
    }

    #[test]
    fn attributes_of_sources_belong_to_the_subject() {
        for field in Field::ALL {
            let said = field.attribute().is_some() || *field == Field::InterfaceId;
            assert_eq!(said, field.origin() == Origin::Subject, "{}", field.name());
        }
    }
}
