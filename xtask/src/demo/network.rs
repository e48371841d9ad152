//! Links between the namespaces: a bridge outside that connects all `eth0`, and one at the agent
//! for all `ecs-eth0`.

use std::{
    fmt::Write as _,
    net::{IpAddr, UdpSocket},
};

use anyhow::Result;

use super::{
    cast::{AGENT, AGENT_BRIDGE, API, Endpoint, OUTSIDE, TASKS, Task, WEB},
    namespace::Namespace,
    place::Place,
};

/// Folder of the observed namespaces: those of the tasks only.
pub(super) const OBSERVED: &str = "tasks";

#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) web: Namespace,
    pub(super) api: Namespace,
    pub(super) outside: Namespace,
    pub(super) agent: Namespace,
}

impl Network {
    pub(super) fn build(place: &Place) -> Result<Self> {
        let (observed, others) = (place.folder(OBSERVED)?, place.folder("others")?);
        let network = Self {
            web: Namespace::create(observed.join(WEB.service))?,
            api: Namespace::create(observed.join(API.service))?,
            outside: Namespace::create(others.join("outside"))?,
            agent: Namespace::create(others.join("agent"))?,
        };
        network.outside.ip(&bridge_outside())?;
        network.agent.ip(&bridge_of_agent())?;
        for (task, namespace) in network.tasks() {
            let inside = namespace.path().display().to_string();
            network.outside.ip(&port(
                "br0",
                task.service,
                &inside,
                &format!("eth0 address {}", task.eth0.mac),
            ))?;
            network.agent.ip(&port("ecs-bridge", task.service, &inside, "ecs-eth0"))?;
            namespace.ip(&inside_task(task))?;
        }
        Ok(network)
    }

    fn tasks(&self) -> [(&'static Task, &Namespace); 2] {
        [(&WEB, &self.web), (&API, &self.api)]
    }

    /// True if all addresses can be used: an IPv6 address is tentative until its link runs.
    pub(super) fn is_up(&self) -> Result<bool> {
        let ends = self.tasks().map(|(task, namespace)| (&task.eth0, namespace));
        for (endpoint, namespace) in ends.into_iter().chain([(&OUTSIDE, &self.outside)]) {
            if !namespace
                .run(|| Ok(endpoint.addresses().iter().all(|address| can_be_bound(*address))))?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn can_be_bound(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

fn bridge_outside() -> String {
    let mac = OUTSIDE.mac;
    format!("link set lo up\nlink add name br0 address {mac} type bridge\n")
        + &addresses("br0", &OUTSIDE)
}

fn bridge_of_agent() -> String {
    format!(
        "link set lo up\n\
         link add name ecs-bridge type bridge\n\
         addr add {AGENT_BRIDGE}/22 dev ecs-bridge\n\
         addr add {AGENT}/32 dev ecs-bridge\n\
         link set ecs-bridge up\n"
    )
}

/// Lines that connect a bridge's port with an interface in another namespace.
fn port(bridge: &str, name: &str, inside: &str, interface: &str) -> String {
    format!(
        "link add name {name} type veth peer name {interface} netns {inside}\n\
         link set {name} master {bridge} up\n"
    )
}

fn inside_task(task: &Task) -> String {
    let local = task.local;
    addresses("eth0", &task.eth0)
        + &format!(
            "link set lo up\n\
             addr add {local}/22 dev ecs-eth0\n\
             link set ecs-eth0 up\n\
             route add {AGENT}/32 dev ecs-eth0\n"
        )
}

/// Addresses of an interface, and the other ends as permanent neighbours: neighbour discovery uses
/// ICMPv6, and would be aggregated with the echo messages.
fn addresses(interface: &str, end: &Endpoint) -> String {
    let Endpoint { v4, v6, .. } = end;
    let mut lines = format!(
        "addr add {v4}/24 dev {interface}\n\
         addr add {v6}/64 dev {interface} nodad\n\
         link set {interface} up\n"
    );
    let all = TASKS.map(|task| &task.eth0).into_iter().chain([&OUTSIDE]);
    for other in all.filter(|other| other.mac != end.mac) {
        for address in other.addresses() {
            let mac = other.mac;
            let _ = writeln!(
                lines,
                "neigh replace {address} lladdr {mac} dev {interface} nud permanent"
            );
        }
    }
    lines
}
