//! Tasks in the format of `aws ecs describe-tasks`.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::veth::{Family, Interface, Mac};

/// A task and its ENI.
#[derive(Clone, Debug)]
pub struct FakeTask {
    /// Account ID, twelve digits.
    pub account: String,
    /// Region.
    pub region: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the service; none for a standalone task.
    pub service: Option<String>,
    /// Family of the task definition.
    pub family: String,
    /// Revision of the task definition.
    pub revision: u32,
    /// The task's id.
    pub id: String,
    /// The ENI's id.
    pub eni: String,
    /// The ENI's subnet.
    pub subnet: String,
    /// Runtime IDs of the containers.
    pub containers: Vec<String>,
    /// `awsvpc`, `bridge`, `host` or `none`.
    pub mode: String,
    /// Status that the agent reports.
    pub status: String,
    mac: String,
    address: String,
}

impl FakeTask {
    /// A task of `service` with this interface; `number` makes its IDs unique.
    pub fn new(interface: &Interface, service: &str, number: u32) -> Self {
        Self::with(interface.mac(), interface.address(Family::V4), service, number)
    }

    /// [`new`](Self::new), for an interface that does not exist yet.
    pub fn with(mac: Mac, address: IpAddr, service: &str, number: u32) -> Self {
        Self {
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            cluster: "shop".into(),
            service: Some(service.into()),
            family: format!("{service}-family"),
            revision: 7,
            id: format!("{number:032x}"),
            eni: format!("eni-{number:017x}"),
            subnet: "subnet-08c4050330714ed3d".into(),
            containers: vec![
                format!("{number:032x}-1111111111"),
                format!("{number:032x}-2222222222"),
            ],
            mode: "awsvpc".into(),
            status: "RUNNING".into(),
            mac: mac.to_string(),
            address: address.to_string(),
        }
    }

    /// The name of a container in the task definition.
    pub fn container_name(number: usize) -> String {
        format!("container-{number}")
    }

    /// ID of a container at the task metadata endpoint.
    pub fn endpoint_id(&self, number: usize) -> String {
        format!("{}-{number:04}", self.id)
    }

    /// True if this is the endpoint ID of one of its containers.
    pub fn endpoint(&self, id: &str) -> bool {
        (0..self.containers.len().max(1)).any(|number| self.endpoint_id(number) == id)
    }

    fn of_containers(&self, of: impl Fn(usize, &str) -> Value) -> Vec<Value> {
        self.containers.iter().enumerate().map(|(number, id)| of(number, id)).collect()
    }

    fn networks(&self) -> Value {
        let mut network = json!({"NetworkMode": self.mode, "IPv4Addresses": [self.address]});
        if self.mode == "awsvpc" {
            network["AttachmentIndex"] = 0.into();
            network["MACAddress"] = self.mac.clone().into();
            network["IPv4SubnetCIDRBlock"] = "10.0.4.0/24".into();
        }
        json!([network])
    }

    /// The task in the response of `/v1/tasks` of the introspection endpoint.
    pub fn introspected(&self) -> Value {
        let containers = self.of_containers(|number, id| {
            let mut container = json!({
                "DockerId": id,
                "DockerName": format!("ecs-{}-{}-{}", self.family, self.revision, Self::container_name(number)),
                "Name": Self::container_name(number),
                "Image": "busybox"
            });
            if self.mode == "awsvpc" {
                container["Networks"] = json!([{"NetworkMode": "awsvpc", "IPv4Addresses": [self.address]}]);
            }
            container
        });
        json!({
            "Arn": self.arn_of_task(), "DesiredStatus": self.status, "KnownStatus": self.status,
            "Family": self.family, "Version": self.revision.to_string(), "Containers": containers
        })
    }

    /// The response of `/v4/<id>/task` of the task metadata endpoint.
    pub fn metadata(&self) -> Value {
        let mut containers = vec![json!({
            "DockerId": format!("{}-pause", self.id), "Name": "~internal~ecs~pause", "Type": "CNI_PAUSE",
            "Networks": self.networks()
        })];
        containers.extend(self.of_containers(|number, id| {
            json!({
                "DockerId": id, "Name": Self::container_name(number), "Type": "NORMAL", "KnownStatus": "RUNNING",
                "Networks": self.networks()
            })
        }));
        let mut task = json!({
            "Cluster": self.cluster, "TaskARN": self.arn_of_task(), "Family": self.family,
            "Revision": self.revision.to_string(), "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
            "AvailabilityZone": format!("{}b", self.region), "AvailabilityZoneID": crate::fake_agent::AZ,
            "LaunchType": "EC2", "VPCID": crate::fake_agent::VPC, "FaultInjectionEnabled": false,
            "Containers": containers
        });
        if let Some(service) = &self.service {
            task["ServiceName"] = service.clone().into();
        }
        task
    }

    /// The task in the agent's state on disk, with fields that the daemon must ignore.
    pub fn state(&self) -> Value {
        let containers = self.of_containers(|number, id| {
            json!({
                "Name": Self::container_name(number), "RuntimeID": id, "V3EndpointID": self.endpoint_id(number),
                "environment": {"PASSWORD": "s3cret"}
            })
        });
        let mut task = json!({
            "Arn": self.arn_of_task(), "Family": self.family, "Version": self.revision.to_string(),
            "ServiceName": self.service.as_deref().unwrap_or(""), "NetworkMode": self.mode,
            "KnownStatus": self.status, "LaunchType": "EC2", "credentialsID": "s3cret", "Containers": containers
        });
        if self.mode == "awsvpc" {
            task["ENI"] = json!([{
                "ec2Id": self.eni, "MacAddress": self.mac,
                "IPV4Addresses": [{"Primary": true, "Address": self.address}], "IPV6Addresses": null,
                "SubnetGatewayIPV4Address": "10.0.4.1/24", "InterfaceAssociationProtocol": "default"
            }]);
        }
        task
    }

    fn arn(&self, resource: &str) -> String {
        format!("arn:aws:ecs:{}:{}:{resource}", self.region, self.account)
    }

    /// The cluster's ARN.
    pub fn cluster_arn(&self) -> String {
        self.arn(&format!("cluster/{}", self.cluster))
    }

    /// The task's ARN.
    pub fn arn_of_task(&self) -> String {
        self.arn(&format!("task/{}/{}", self.cluster, self.id))
    }

    /// The task definition's ARN.
    pub fn definition_arn(&self) -> String {
        self.arn(&format!("task-definition/{}:{}", self.family, self.revision))
    }

    /// The container instance's ARN.
    pub fn instance_arn(&self) -> String {
        self.arn(&format!("container-instance/{}/{}", self.cluster, self.instance_id()))
    }

    /// The container instance's id.
    pub fn instance_id(&self) -> String {
        "0f9de17a6465404e8b1b2356dc13c2f8".into()
    }

    fn json(&self) -> Value {
        let attachment = "464044b3-626f-44da-86ec-fa20a064d408";
        let containers: Vec<Value> = self
            .containers
            .iter()
            .enumerate()
            .map(|(number, runtime_id)| {
                json!({
                    "containerArn": self.arn(&format!("container/{}/{}/{number}", self.cluster, self.id)),
                    "taskArn": self.arn_of_task(),
                    "name": Self::container_name(number),
                    "image": "public.ecr.aws/aws-containers/retail-store-sample-ui:1.2.3",
                    "runtimeId": runtime_id,
                    "lastStatus": "RUNNING",
                    "networkBindings": [],
                    "networkInterfaces": [
                        {"attachmentId": attachment, "privateIpv4Address": self.address}
                    ],
                    "healthStatus": "HEALTHY",
                    "cpu": "0"
                })
            })
            .collect();
        let group = match &self.service {
            Some(service) => format!("service:{service}"),
            None => format!("family:{}", self.family),
        };
        json!({
            "attachments": [{
                "id": attachment,
                "type": "ElasticNetworkInterface",
                "status": "ATTACHED",
                "details": [
                    {"name": "subnetId", "value": self.subnet},
                    {"name": "networkInterfaceId", "value": self.eni},
                    {"name": "macAddress", "value": self.mac},
                    {"name": "privateDnsName", "value": "ip-10-0-4-128.eu-west-1.compute.internal"},
                    {"name": "privateIPv4Address", "value": self.address}
                ]
            }],
            "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
            "availabilityZone": format!("{}b", self.region),
            "clusterArn": self.cluster_arn(),
            "connectivity": "CONNECTED",
            "connectivityAt": "2024-04-10T08:09:33.968000+00:00",
            "containerInstanceArn": self.instance_arn(),
            "containers": containers,
            "cpu": "1024",
            "createdAt": "2024-04-10T08:09:29.943000+00:00",
            "desiredStatus": "RUNNING",
            "enableExecuteCommand": false,
            "group": group,
            "healthStatus": "HEALTHY",
            "lastStatus": "RUNNING",
            "launchType": "EC2",
            "memory": "2048",
            "overrides": {
                "containerOverrides": [{"name": "container-0"}],
                "inferenceAcceleratorOverrides": []
            },
            "pullStartedAt": "2024-04-10T08:09:44.535000+00:00",
            "pullStoppedAt": "2024-04-10T08:09:52.398000+00:00",
            "startedAt": "2024-04-10T08:10:44.148000+00:00",
            "startedBy": "ecs-svc/8962710467093341990",
            "tags": [],
            "taskArn": self.arn_of_task(),
            "taskDefinitionArn": self.definition_arn(),
            "version": 4
        })
    }
}

/// Writes a file for `--tasks-file`.
pub fn write<'a>(path: &Path, tasks: impl IntoIterator<Item = &'a FakeTask>) -> Result<PathBuf> {
    let tasks: Vec<Value> = tasks.into_iter().map(FakeTask::json).collect();
    let answer = json!({"tasks": tasks, "failures": []});
    fs::write(path, serde_json::to_vec_pretty(&answer)?)?;
    Ok(path.to_path_buf())
}
