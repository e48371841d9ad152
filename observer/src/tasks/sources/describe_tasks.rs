//! The response of the ECS operation `DescribeTasks`, from the API or a file.

use serde::Deserialize;

use crate::tasks::{
    Attribute,
    arn::Arn,
    view::{ContainerView, EniView, TaskView, add, add_container_instance},
};

/// The fields used of `DescribeTasksResponse`.
#[derive(Deserialize)]
pub(super) struct Answer {
    pub(super) tasks: Vec<Task>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub(super) struct Task {
    pub(super) task_arn: String,
    #[serde(default)]
    pub(super) cluster_arn: String,
    #[serde(default)]
    pub(super) container_instance_arn: String,
    #[serde(default)]
    pub(super) task_definition_arn: String,
    #[serde(default)]
    pub(super) group: String,
    #[serde(default)]
    pub(super) last_status: String,
    #[serde(default)]
    pub(super) attachments: Vec<Attachment>,
    #[serde(default)]
    pub(super) containers: Vec<Container>,
}

#[derive(Deserialize)]
pub(super) struct Attachment {
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) details: Vec<Detail>,
}

#[derive(Deserialize)]
pub(super) struct Detail {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) runtime_id: String,
}

/// The view of a task; `None` if it has stopped.
pub(super) fn task_view(task: &Task) -> Option<TaskView> {
    // The ENI of a stopped task may belong to another task by now.
    let mut view = TaskView::new(&task.task_arn).filter(|_| task.last_status != "STOPPED")?;
    view.add_cluster(&task.cluster_arn);
    add_container_instance(&mut view.details, &task.container_instance_arn);
    if let Some(definition) = Arn::parse(&task.task_definition_arn) {
        let (family, revision) =
            definition.name().rsplit_once(':').unwrap_or((definition.name(), ""));
        view.add_definition(family, revision);
    }
    view.add(Attribute::ServiceName, task.group.strip_prefix("service:").unwrap_or(""));
    let attached = |it: &&Attachment| !matches!(it.status.as_str(), "DETACHED" | "DELETED");
    for attachment in task.attachments.iter().filter(attached) {
        let detail = |name| {
            let detail = attachment.details.iter().find(|detail| detail.name == name);
            detail.map_or("", |detail| detail.value.as_str())
        };
        let Ok(mac) = detail("macAddress").parse() else { continue };
        let mut details = Vec::new();
        for (name, attribute) in [
            ("networkInterfaceId", Attribute::InterfaceId),
            ("subnetId", Attribute::SubnetId),
            ("privateIPv4Address", Attribute::EniIpv4),
            ("ipv6Address", Attribute::EniIpv6),
        ] {
            add(&mut details, attribute, detail(name));
        }
        view.enis.push(EniView { mac, details });
    }
    if !view.enis.is_empty() {
        // Only tasks in this mode have an ENI of their own.
        view.add(Attribute::NetworkMode, "awsvpc");
    }
    let containers = task.containers.iter().map(|container| ContainerView {
        id: container.runtime_id.as_str().into(),
        name: container.name.as_str().into(),
        ..ContainerView::default()
    });
    view.containers = containers.collect();
    Some(view)
}
