//! A VLAN device as a task's `eth0`, as a branch ENI is in a task's namespace.

use std::slice;

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    lab,
    lab::Lab,
    need,
    netns::Namespace,
    requires,
    tally::Crossed,
    traffic::{Transfer, Udp, exchange, frames::LINK_HEADER, ping},
    veth::{Family, Interface, Task, ip_batch, quiet, silence},
};

const ID: u16 = 100;

/// A task on a VLAN of a trunk that is in neither its namespace nor the daemon's. Its peer is on
/// the same VLAN.
fn task_on_a_vlan(lab: &Lab, trunk: &Namespace) -> Result<Task> {
    let task = lab.task("task")?;
    // The former veth pair becomes the trunk.
    ip_batch(
        task.inside.namespace(),
        &format!(
            "link set eth0 down\nlink set eth0 name trunk0\nlink set trunk0 netns {}\n",
            trunk.path().display()
        ),
    )?;
    let mac = task.inside.mac();
    let space = task.inside.namespace().path().display();
    // Like a trunk ENI, it has its own address.
    ip_batch(
        trunk,
        &format!(
            "link set trunk0 address 06:39:ff:00:00:01\n\
             link set trunk0 up\n\
             link add link trunk0 name eth0 address {mac} type vlan id {ID}\n\
             link set eth0 netns {space}\n"
        ),
    )?;
    ip_batch(
        task.outside.namespace(),
        &format!(
            "link set eth0 down\n\
             addr flush dev eth0\n\
             link set eth0 name trunk0\n\
             link set trunk0 up\n\
             link add link trunk0 name eth0 type vlan id {ID}\n"
        ),
    )?;
    configure(&task.inside, &task.outside)?;
    configure(&task.outside, &task.inside)?;
    quiet(slice::from_ref(&task))?;
    Ok(task)
}

/// Configures the addresses that an interface had as an end of the pair.
fn configure(own: &Interface, other: &Interface) -> Result<()> {
    let [v4, v6] = Family::ALL.map(|family| own.address(family));
    let neighbours = Family::ALL.map(|family| {
        format!(
            "neigh replace {} lladdr {} dev eth0 nud permanent\n",
            other.address(family),
            other.mac()
        )
    });
    let lines = format!(
        "{}\
         addr add {v4}/24 dev eth0\n\
         addr add {v6}/64 dev eth0 nodad\n\
         link set eth0 up\n\
         {}",
        silence("eth0"),
        neighbours.concat()
    );
    ip_batch(own.namespace(), &lines)
}

/// Traffic of several kinds in both directions, including super-packets.
fn mixture(task: &Task) -> Result<Crossed> {
    let mut sent = Crossed::default();
    for family in Family::ALL {
        let udp = Udp { family, flows: 5, packets: 50, payload: 200 };
        sent.ingress += udp.send(&task.outside, &task.inside)?;
        sent.egress += udp.send(&task.inside, &task.outside)?;
        let down = exchange(
            &task.inside,
            &task.outside,
            Transfer { family, request: 1_000, response: 1_000_000 },
        )?;
        sent += Crossed { ingress: down.from_server, egress: down.from_client };
        let up = exchange(
            &task.inside,
            &task.outside,
            Transfer { family, request: 1_000_000, response: 1_000 },
        )?;
        sent += Crossed { ingress: up.from_server, egress: up.from_client };
        let pings = ping(&task.inside, &task.outside, family, 10, 56)?.each_way;
        sent += Crossed { ingress: pings, egress: pings };
    }
    Ok(sent)
}

fn counts_exactly(lab: &Lab, attach: &str) -> Result<()> {
    let trunk = lab.other_namespace("trunk")?;
    let task = task_on_a_vlan(lab, &trunk)?;
    let daemon = lab.daemon().set("attach", attach).start()?;
    let sent = mixture(&task)?;
    let mut books = Books::close(daemon, [&task.inside])?;
    let counters =
        books.counters.get_mut(&task.inside.mac()).context("the interface's counters")?;
    // A VLAN device counts received bytes without the link header (`vlan_do_receive`).
    counters.frames.ingress.bytes += counters.frames.ingress.packets * LINK_HEADER;
    // Frames have the same length as without a VLAN, because the tag is not counted.
    books.assert_exact(&task.inside, sent);
    for record in books.records.of(task.inside.mac()) {
        assert_eq!(record.text("interface_id"), task.inside.id());
    }
    Ok(())
}

#[test]
fn a_vlan_device_of_a_task_is_counted_exactly_and_untagged_by_clsact() -> Result<()> {
    let lab = lab!();
    counts_exactly(&lab, "clsact")
}

#[test]
fn a_vlan_device_of_a_task_is_counted_exactly_and_untagged_by_tcx() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    counts_exactly(&lab, "tcx")
}
