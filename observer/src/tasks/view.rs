//! Views: the answers of all sources in one form.

use std::{net::IpAddr, path::PathBuf};

use super::{Attribute, InterfaceKey, Mac, arn::Arn};

/// A value that a source gives of a task, an ENI or the host.
pub(super) type Detail = (Attribute, Box<str>);

/// Everything that a source currently gives of this host. A newer view replaces the older one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Details of the instance.
    pub host: Vec<Detail>,
    /// The instance's primary ENI.
    pub primary: Option<EniView>,
    /// The tasks of this host.
    pub tasks: Vec<TaskView>,
    /// ENIs of the interfaces that the source was asked about; their tasks are unknown to it.
    pub enis: Vec<(InterfaceKey, EniView)>,
    /// MAC addresses of trunk interfaces, which carry the traffic of branch ENIs.
    pub trunks: Vec<Mac>,
}

/// A task, as a source describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskView {
    /// Task id: the last part of its ARN, unique among all tasks.
    pub id: Box<str>,
    /// Details of the task.
    pub details: Vec<Detail>,
    /// Containers, in the source's order.
    pub containers: Vec<ContainerView>,
    /// ENIs of the task.
    pub enis: Vec<EniView>,
    /// Addresses of its ENI, from a source that gives nothing else of the ENI.
    pub addresses: Vec<IpAddr>,
    /// Path of a file of its network namespace. The file may belong to another namespace by now.
    pub netns: Option<PathBuf>,
}

/// A container, as a source describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContainerView {
    /// Id that the container runtime gave.
    pub id: Box<str>,
    /// Name in the task definition.
    pub name: Box<str>,
    /// Process id; `None` unless the container runs and the source gives the id.
    pub pid: Option<u32>,
    /// Path of a file of its network namespace.
    pub netns: Option<PathBuf>,
    /// Id at the task metadata endpoint.
    pub endpoint: Option<Box<str>>,
}

/// An ENI, as a source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EniView {
    /// MAC address.
    pub mac: Mac,
    /// Details of the ENI.
    pub details: Vec<Detail>,
}

/// Prefix of the names of pause containers, which the ECS agent adds to hold a network namespace.
const PAUSE: &str = "~internal~ecs~pause";

impl ContainerView {
    /// True for a pause container.
    pub(super) fn is_pause(&self) -> bool {
        self.name.starts_with(PAUSE)
    }

    /// True for the pause container that holds the network namespace of a whole task.
    pub(super) fn holds_task(&self) -> bool {
        &*self.name == PAUSE
    }
}

impl TaskView {
    /// A task with the details that its ARN contains: account, region and, in the long form,
    /// cluster. `None` if the text is not the ARN of a task.
    pub(super) fn new(arn: &str) -> Option<Self> {
        let parsed =
            Arn::parse(arn).filter(|arn| arn.kind() == "task" && !arn.name().is_empty())?;
        let mut task = Self { id: parsed.name().into(), ..Self::default() };
        task.add(Attribute::TaskArn, arn);
        task.add(Attribute::TaskId, parsed.name());
        task.add(Attribute::AccountId, parsed.account);
        task.add(Attribute::Region, parsed.region);
        if let Some(cluster) = parsed.cluster() {
            task.add_cluster(cluster);
        }
        Some(task)
    }

    /// Adds a detail, unless the value is empty.
    pub(super) fn add(&mut self, attribute: Attribute, value: &str) {
        add(&mut self.details, attribute, value);
    }

    /// The value of a detail.
    pub(super) fn get(&self, attribute: Attribute) -> Option<&str> {
        self.details.iter().find(|(known, _)| *known == attribute).map(|(_, value)| &**value)
    }

    /// Adds the cluster, given by name or ARN. A cluster in the task's own ARN takes precedence.
    pub(super) fn add_cluster(&mut self, cluster: &str) {
        if self.get(Attribute::ClusterArn).is_some() {
            return;
        }
        let name = Arn::parse(cluster).map_or(cluster, |arn| arn.name());
        if let Some(arn) = self.sibling(&format!("cluster/{name}")).filter(|_| !name.is_empty()) {
            self.add(Attribute::ClusterArn, &arn);
        }
        self.add(Attribute::ClusterName, name);
    }

    /// Adds the task definition.
    pub(super) fn add_definition(&mut self, family: &str, revision: &str) {
        self.add(Attribute::Family, family);
        if !family.is_empty()
            && !revision.is_empty()
            && let Some(arn) = self.sibling(&format!("task-definition/{family}:{revision}"))
        {
            self.add(Attribute::TaskDefinitionArn, &arn);
        }
    }

    fn sibling(&self, resource: &str) -> Option<String> {
        Some(Arn::parse(self.get(Attribute::TaskArn)?)?.sibling(resource))
    }
}

/// Adds a container instance: its ARN and the id in it.
pub(super) fn add_container_instance(details: &mut Vec<Detail>, arn: &str) {
    if let Some(parsed) = Arn::parse(arn) {
        add(details, Attribute::ContainerInstanceArn, arn);
        add(details, Attribute::ContainerInstanceId, parsed.name());
    }
}

/// Adds a detail, unless the value is empty.
pub(super) fn add(details: &mut Vec<Detail>, attribute: Attribute, value: &str) {
    if !value.is_empty() {
        details.push((attribute, value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_gives_the_arns_of_its_cluster_and_definition() {
        let mut task = TaskView::new("arn:aws:ecs:eu-west-1:111122223333:task/lab/0123").unwrap();
        task.add_cluster("arn:aws:ecs:eu-west-1:111122223333:cluster/other");
        task.add_definition("web", "7");
        for (attribute, expected) in [
            (Attribute::TaskId, "0123"),
            (Attribute::AccountId, "111122223333"),
            (Attribute::Region, "eu-west-1"),
            (Attribute::ClusterName, "lab"),
            (Attribute::ClusterArn, "arn:aws:ecs:eu-west-1:111122223333:cluster/lab"),
            (Attribute::Family, "web"),
            (
                Attribute::TaskDefinitionArn,
                "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:7",
            ),
        ] {
            assert_eq!(task.get(attribute), Some(expected), "{attribute:?}");
        }
    }

    #[test]
    fn a_short_arn_takes_its_cluster_from_elsewhere() {
        for cluster in ["lab", "arn:aws:ecs:eu-west-1:111122223333:cluster/lab"] {
            let mut task = TaskView::new("arn:aws:ecs:eu-west-1:111122223333:task/0123").unwrap();
            task.add_cluster(cluster);
            assert_eq!(task.get(Attribute::ClusterName), Some("lab"));
            let arn = task.get(Attribute::ClusterArn);
            assert_eq!(arn, Some("arn:aws:ecs:eu-west-1:111122223333:cluster/lab"));
        }
    }

    #[test]
    fn an_arn_of_another_kind_is_no_task() {
        for arn in
            ["", "0123", "arn:aws:ecs:eu-west-1:1:cluster/lab", "arn:aws:ecs:eu-west-1:1:task/"]
        {
            assert_eq!(TaskView::new(arn), None, "{arn:?}");
        }
    }
}
