//! The fields that are read of the agent's state. Credentials and environments next to them are
//! never parsed.

use std::path::PathBuf;

use serde::Deserialize;

use crate::tasks::{
    Attribute, Mac,
    view::{ContainerView, EniView, TaskView, View, add, add_container_instance},
};

/// A task in the database and in the file of older agents.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Task {
    arn: String,
    family: String,
    version: String,
    service_name: String,
    network_mode: String,
    known_status: String,
    #[serde(rename = "ENI")]
    eni: Option<OneOrMany>,
    network_namespace: String,
    containers: Option<Vec<Container>>,
}

/// One ENI or a list: older agents wrote a single ENI without a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Eni>),
    One(Box<Eni>),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Eni {
    #[serde(rename = "ec2Id")]
    id: String,
    mac_address: String,
    #[serde(rename = "IPV4Addresses")]
    ipv4: Option<Vec<Address>>,
    #[serde(rename = "IPV6Addresses")]
    ipv6: Option<Vec<Address>>,
    interface_vlan_properties: Option<Vlan>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Address {
    primary: bool,
    address: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Vlan {
    trunk_interface_mac_address: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    name: String,
    #[serde(rename = "RuntimeID")]
    runtime_id: String,
    #[serde(rename = "V3EndpointID")]
    endpoint: String,
}

/// The agent's host.
pub(super) struct Host {
    pub(super) cluster: String,
    pub(super) container_instance_arn: String,
    pub(super) instance_id: String,
}

/// Builds the view of the agent's state.
pub(super) fn view(host: &Host, tasks: impl IntoIterator<Item = Task>) -> View {
    let mut view = View::default();
    add_container_instance(&mut view.host, &host.container_instance_arn);
    add(&mut view.host, Attribute::InstanceId, &host.instance_id);
    for task in tasks {
        let trunks = task.enis().filter_map(Eni::trunk);
        view.trunks.extend(trunks);
        // The agent keeps a stopped task for hours, while its ENI may already belong to another
        // task.
        if task.known_status != "STOPPED" {
            view.tasks.extend(task.view(&host.cluster));
        }
    }
    view.trunks.sort();
    view.trunks.dedup();
    view
}

impl Task {
    fn enis(&self) -> impl Iterator<Item = &Eni> {
        match &self.eni {
            Some(OneOrMany::Many(enis)) => enis.as_slice(),
            Some(OneOrMany::One(eni)) => std::slice::from_ref(&**eni),
            None => &[],
        }
        .iter()
    }

    fn view(&self, cluster: &str) -> Option<TaskView> {
        let mut view = TaskView::new(&self.arn)?;
        view.add_cluster(cluster);
        view.add_definition(&self.family, &self.version);
        view.add(Attribute::ServiceName, &self.service_name);
        view.add(Attribute::NetworkMode, &self.network_mode);
        view.enis = self.enis().filter_map(Eni::view).collect();
        // The agent's container has the host's /proc at /host/proc.
        view.netns = self.network_namespace.strip_prefix("/host").map(PathBuf::from);
        let containers = self.containers.iter().flatten().map(|container| ContainerView {
            id: container.runtime_id.as_str().into(),
            name: container.name.as_str().into(),
            endpoint: Some(container.endpoint.as_str()).filter(|id| !id.is_empty()).map(Into::into),
            ..ContainerView::default()
        });
        view.containers = containers.collect();
        Some(view)
    }
}

impl Eni {
    fn view(&self) -> Option<EniView> {
        let mut details = Vec::new();
        add(&mut details, Attribute::InterfaceId, &self.id);
        for (attribute, addresses) in
            [(Attribute::EniIpv4, &self.ipv4), (Attribute::EniIpv6, &self.ipv6)]
        {
            let addresses = || addresses.iter().flatten();
            let primary = addresses().find(|it| it.primary).or(addresses().next());
            add(&mut details, attribute, primary.map_or("", |it| &it.address));
        }
        Some(EniView { mac: self.mac_address.parse().ok()?, details })
    }

    fn trunk(&self) -> Option<Mac> {
        self.interface_vlan_properties.as_ref()?.trunk_interface_mac_address.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::hostile;

    const TASK: &str = r#"{"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/lab/a","Family":"api","Version":"7",
        "ServiceName":"apisvc","Group":"service:apisvc","NetworkMode":"awsvpc","KnownStatus":"RUNNING","LaunchType":"EC2",
        "credentialsID":"secret",
        "ENI":[{"ec2Id":"eni-0bbb","MacAddress":"0a:5f:4e:3d:2c:1b",
          "IPV4Addresses":[{"Primary":false,"Address":"10.7.1.99"},{"Primary":true,"Address":"10.7.1.26"}],
          "IPV6Addresses":null,"SubnetGatewayIPV4Address":"10.7.1.1/24","InterfaceAssociationProtocol":"vlan",
          "InterfaceVlanProperties":{"VlanID":"133","TrunkInterfaceMacAddress":"0a:99:00:00:00:01"}}],
        "NetworkNamespace":"/host/proc/25721/ns/net","DefaultIfname":"eth0",
        "Containers":[{"Name":"~internal~ecs~pause","RuntimeID":"c0"},{"Name":"app","RuntimeID":"c1","V3EndpointID":"e1",
          "environment":{"PASSWORD":"secret"}}]}"#;

    fn view_of(tasks: &[&str]) -> View {
        let host = Host {
            cluster: "lab".into(),
            container_instance_arn:
                "arn:aws:ecs:eu-west-1:111122223333:container-instance/lab/0011".into(),
            instance_id: "i-0a".into(),
        };
        view(&host, tasks.iter().map(|task| serde_json::from_str::<Task>(task).unwrap()))
    }

    #[test]
    fn a_branch_eni_has_its_trunk() {
        let view = view_of(&[TASK]);
        assert_eq!(view.trunks, ["0a:99:00:00:00:01".parse().unwrap()]);
        assert_eq!(view.host.len(), 3);
        let [task] = &view.tasks[..] else { panic!("{:?}", view.tasks) };
        assert_eq!(task.get(Attribute::ServiceName), Some("apisvc"));
        assert_eq!(task.netns.as_deref(), Some(std::path::Path::new("/proc/25721/ns/net")));
        assert_eq!(
            task.enis[0].details,
            [(Attribute::InterfaceId, "eni-0bbb".into()), (Attribute::EniIpv4, "10.7.1.26".into())]
        );
        assert_eq!(task.containers[1].endpoint.as_deref(), Some("e1"));
        assert!(!format!("{view:?}").contains("secret"));
    }

    #[test]
    fn an_eni_of_older_agents_is_no_list() {
        let old = TASK
            .replace("\"ENI\":[{", "\"ENI\":{")
            .replace("}}],\n        \"NetworkN", "}},\n        \"NetworkN");
        assert_eq!(view_of(&[&old]).tasks, view_of(&[TASK]).tasks);
    }

    #[test]
    fn a_stopped_task_has_lost_its_eni() {
        assert_eq!(view_of(&[&TASK.replace("RUNNING", "STOPPED")]).tasks, []);
    }

    #[test]
    fn texts_of_every_kind_become_single_words() {
        let host = Host {
            cluster: "lab".into(),
            container_instance_arn: String::new(),
            instance_id: String::new(),
        };
        hostile::assert_words(TASK, |text| Some(view(&host, [serde_json::from_str(text).ok()?])));
    }
}
