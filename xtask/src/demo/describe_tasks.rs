//! The output of `aws ecs describe-tasks` for the demo's tasks: it maps MAC addresses to ENIs and
//! tasks.

use serde_json::{Value, json};

use super::cast::{TASKS, Task};

const CLUSTER: &str = "demo";
const ATTACHMENT: &str = "464044b3-626f-44da-86ec-fa20a064d408";

pub(super) fn json() -> Value {
    json!({ "tasks": TASKS.map(task), "failures": [] })
}

fn arn(resource: &str) -> String {
    format!("arn:aws:ecs:eu-west-1:111122223333:{resource}")
}

fn task(task: &Task) -> Value {
    let Task { service, id, .. } = task;
    json!({
        "attachments": [attachment(task)],
        "attributes": [{ "name": "ecs.cpu-architecture", "value": "x86_64" }],
        "availabilityZone": "eu-west-1b",
        "clusterArn": arn(&format!("cluster/{CLUSTER}")),
        "connectivity": "CONNECTED",
        "containerInstanceArn": arn(&format!("container-instance/{CLUSTER}/0f9de17a6465404e8b1b2356dc13c2f8")),
        "containers": [container(task)],
        "desiredStatus": "RUNNING",
        "group": format!("service:{service}"),
        "healthStatus": "HEALTHY",
        "lastStatus": "RUNNING",
        "launchType": "EC2",
        "startedBy": "ecs-svc/8962710467093341990",
        "tags": [],
        "taskArn": arn(&format!("task/{CLUSTER}/{id}")),
        "taskDefinitionArn": arn(&format!("task-definition/{CLUSTER}-{service}:8")),
        "version": 4
    })
}

fn attachment(task: &Task) -> Value {
    let details = [
        ("subnetId", "subnet-08c4050330714ed3d".to_owned()),
        ("networkInterfaceId", task.eni.to_owned()),
        ("macAddress", task.eth0.mac.to_owned()),
        ("privateIPv4Address", task.eth0.v4.to_string()),
        ("ipv6Address", task.eth0.v6.to_string()),
    ];
    let details = details.map(|(name, value)| json!({ "name": name, "value": value }));
    json!({ "id": ATTACHMENT, "type": "ElasticNetworkInterface", "status": "ATTACHED", "details": details })
}

fn container(task: &Task) -> Value {
    let Task { service, id, container, .. } = task;
    json!({
        "containerArn": arn(&format!("container/{CLUSTER}/{id}/db0fa651-1727-4215-b5a5-8a5577120942")),
        "taskArn": arn(&format!("task/{CLUSTER}/{id}")),
        "name": service,
        "image": format!("registry.example/{service}:1.2.3"),
        "runtimeId": container,
        "lastStatus": "RUNNING",
        "networkBindings": [],
        "networkInterfaces": [{ "attachmentId": ATTACHMENT, "privateIpv4Address": task.eth0.v4 }],
        "healthStatus": "HEALTHY"
    })
}
