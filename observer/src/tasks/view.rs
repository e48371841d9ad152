//! What a source says, in one shape for all of them.

use std::{net::IpAddr, path::PathBuf};

use super::{Attribute, InterfaceKey, Mac, arn::Arn};

/// Something that a source says of a task, an ENI or the host.
pub(super) type Detail = (Attribute, Box<str>);

/// All that a source says of this host. A newer view replaces the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Of the instance.
    pub host: Vec<Detail>,
    /// Of the instance's primary ENI.
    pub primary: Option<EniView>,
    /// Of its tasks.
    pub tasks: Vec<TaskView>,
    /// Of interfaces that it was asked about, whatever task they belong to.
    pub enis: Vec<(InterfaceKey, EniView)>,
    /// MAC addresses of trunks, which carry the traffic of branch ENIs.
    pub trunks: Vec<Mac>,
}

/// What a source says of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TaskView {
    /// The last part of its ARN, which no other task has.
    pub id: Box<str>,
    /// Of the task.
    pub details: Vec<Detail>,
    /// Its containers, in the source's order.
    pub containers: Vec<ContainerView>,
    /// Its ENIs.
    pub enis: Vec<EniView>,
    /// Addresses of its ENI, where the source does not say more of it.
    pub addresses: Vec<IpAddr>,
    /// A file of its network namespace, which may be another's by now.
    pub netns: Option<PathBuf>,
}

/// What a source says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ContainerView {
    /// The runtime's id.
    pub id: Box<str>,
    /// Its name in the task definition.
    pub name: Box<str>,
    /// Process id of a running container, where the source knows it.
    pub pid: Option<u32>,
    /// A file of its network namespace.
    pub netns: Option<PathBuf>,
    /// Its id at the task metadata endpoint.
    pub endpoint: Option<Box<str>>,
}

/// What a source says of an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EniView {
    /// Its MAC address.
    pub mac: Mac,
    /// Of the ENI.
    pub details: Vec<Detail>,
}

/// Begins the names of the containers that the agent adds to hold a network namespace.
const PAUSE: &str = "~internal~ecs~pause";

impl ContainerView {
    /// Whether the agent added it to hold a network namespace.
    pub(super) fn is_pause(&self) -> bool {
        self.name.starts_with(PAUSE)
    }

    /// Whether it holds the network namespace of a whole task.
    pub(super) fn holds_task(&self) -> bool {
        &*self.name == PAUSE
    }
}

impl TaskView {
    /// A task by its ARN, which tells account and region, and in its long form the cluster. `None` where it is none.
    pub(super) fn new(arn: &str) -> Option<Self> {
        let parsed = Arn::parse(arn).filter(|arn| arn.kind() == "task" && !arn.name().is_empty())?;
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

    /// Adds what is not empty.
    pub(super) fn add(&mut self, attribute: Attribute, value: &str) {
        add(&mut self.details, attribute, value);
    }

    /// The value of a detail.
    pub(super) fn get(&self, attribute: Attribute) -> Option<&str> {
        self.details.iter().find(|(known, _)| *known == attribute).map(|(_, value)| &**value)
    }

    /// Its cluster, by name or ARN. The task's own ARN knows better where it knows at all.
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

    /// Its task definition.
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

/// Adds a container instance, which also tells its id.
pub(super) fn add_container_instance(details: &mut Vec<Detail>, arn: &str) {
    if let Some(parsed) = Arn::parse(arn) {
        add(details, Attribute::ContainerInstanceArn, arn);
        add(details, Attribute::ContainerInstanceId, parsed.name());
    }
}

/// Adds what is not empty.
pub(super) fn add(details: &mut Vec<Detail>, attribute: Attribute, value: &str) {
    if !value.is_empty() {
        details.push((attribute, value.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_of_its_siblings() {
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
            (Attribute::TaskDefinitionArn, "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:7"),
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
    fn what_is_no_task_is_none() {
        for arn in ["", "0123", "arn:aws:ecs:eu-west-1:1:cluster/lab", "arn:aws:ecs:eu-west-1:1:task/"] {
            assert_eq!(TaskView::new(arn), None, "{arn:?}");
        }
    }
}
