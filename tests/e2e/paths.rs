//! The device through which traffic leaves a namespace is observed once, whatever its name and the
//! devices above it.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    books::Books,
    lab,
    lab::Lab,
    need,
    netns::Namespace,
    requires::Missing,
    tally::{Crossed, Tally},
    traffic::{Udp, ping},
    veth::{Addresses, Family, Task, ip_batch, silence},
};

/// Bytes that are not UTF-8, which names, aliases and alternative names may have.
const NAME: &[u8] = b"caf\xe9-\xff0";

/// Runs `ip` with arguments of any bytes.
fn ip(namespace: &Namespace, args: &[&[u8]]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(args.iter().map(|arg| OsStr::from_bytes(arg))).stdin(Stdio::null());
    namespace.place(&mut command)?;
    let output = command.output().context("starting ip")?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn send_both_ways(task: &Task) -> Result<Crossed> {
    let udp = Udp { family: Family::V4, flows: 2, packets: 10, payload: 100 };
    Ok(Crossed {
        ingress: udp.send(&task.outside, &task.inside)?,
        egress: udp.send(&task.inside, &task.outside)?,
    })
}

#[test]
fn an_alias_and_a_second_name_of_any_bytes_hide_nothing() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).start()?;
    daemon.wait_attached(&task.inside)?;
    let mut sent = send_both_ways(&task)?;
    let (namespace, device) = (task.inside.namespace(), task.inside.name().as_bytes());
    ip(namespace, &[b"link", b"set", b"dev", device, b"alias", NAME])?;
    ip(namespace, &[b"link", b"property", b"add", b"dev", device, b"altname", NAME])?;
    // Causes another listing of the namespace.
    ip(namespace, &[b"addr", b"add", b"10.77.1.50/24", b"dev", device])?;
    daemon.wait_windows(2)?;
    sent += send_both_ways(&task)?;
    assert_eq!(daemon.metrics()?.interfaces("attached"), 1);
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    drop(books);

    let daemon = lab.daemon().name("second").start()?;
    let sent = send_both_ways(&task)?;
    assert_eq!(daemon.metrics()?.sum("observer_netlink_unread_total", &[]), 0);
    let before = task.inside.counters()?;
    let books = Books::close(daemon, [&task.inside])?;
    assert_eq!(books.counters[&task.inside.mac()], before);
    for (direction, ledger) in
        observer_tests::tally::Direction::ALL.into_iter().zip(books.ledger(&task.inside))
    {
        assert_eq!(ledger.seen, sent.get(direction), "{direction}, after a restart");
    }
    Ok(())
}

#[test]
fn an_interface_with_a_name_of_any_bytes_is_observed_and_shown() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let other = lab.other_namespace("other")?;
    let path = other.path().display().to_string();
    let namespace = task.inside.namespace();
    let add: [&[u8]; 9] =
        [b"link", b"add", b"name", NAME, b"type", b"veth", b"peer", b"name", b"peer0"];
    ip(namespace, &add)?;
    ip(namespace, &[b"link", b"set", b"dev", b"peer0", b"netns", path.as_bytes()])?;
    for attach in ["auto", "clsact"] {
        let daemon = lab.daemon().name(attach).set("attach", attach).start()?;
        let shown = [("interface_name", "caf\\xe9-\\xff0")];
        let page = daemon
            .wait("it is shown", |page| page.all("observer_interface_info", &shown).count() == 1)?;
        assert_eq!(page.interfaces("attached"), 2);
        let sent = send_both_ways(&task)?;
        daemon.wait("its neighbour is counted", |page| {
            page.ledger(&task.inside).is_some_and(|[ingress, egress]| {
                ingress.seen == sent.ingress && egress.seen == sent.egress
            })
        })?;
        daemon.stop()?;
    }
    Ok(())
}

/// A kind of device that this kernel supports.
fn makes(lab: &Lab, kind: &str) -> Result<(), Missing> {
    let missing = || Missing::new(format!("devices of the kind {kind}"));
    let namespace = lab.other_namespace("probe").map_err(|_| missing())?;
    ip_batch(&namespace, &format!("link add probe0 type {kind}\n")).map_err(|_| missing())
}

/// Moves a task's address from `eth0` to a new device of which `eth0` becomes a port.
fn as_port(task: &Task, kind: &str) -> Result<()> {
    let (inside, outside) = (&task.inside, &task.outside);
    let (name, address) = (inside.name(), inside.address(Family::V4));
    let (other, other_mac) = (outside.address(Family::V4), outside.mac());
    ip_batch(
        inside.namespace(),
        &format!(
            "link add upper0 address {} type {kind}\n{}\
             addr flush dev {name}\n\
             link set {name} master upper0\n\
             link set upper0 up\n\
             addr add {address}/24 dev upper0\n\
             neigh replace {other} lladdr {other_mac} dev upper0 nud permanent\n",
            inside.mac(),
            silence("upper0"),
        ),
    )
}

fn is_counted_as_port(lab: &Lab, kind: &str) -> Result<()> {
    for before_the_daemon in [true, false] {
        let name = if before_the_daemon { "before" } else { "after" };
        let task = lab.task_with(name, Addresses { ipv6: false, ..Addresses::default() })?;
        if before_the_daemon {
            as_port(&task, kind)?;
        }
        let daemon = lab.daemon().name(name).window(1).start()?;
        daemon.wait_attached(&task.inside)?;
        if !before_the_daemon {
            as_port(&task, kind)?;
            daemon.wait_windows(1)?;
        }
        let pings = ping(&task.outside, &task.inside, Family::V4, 20, 56)?;
        let page = daemon.metrics()?;
        assert_eq!(
            page.interfaces("attached"),
            1,
            "{kind} {name}: {}",
            page.shown("observer_interface")
        );
        let books = Books::close(daemon, [&task.inside])?;
        let sent = Crossed { ingress: pings.each_way, egress: pings.each_way };
        books.assert_exact(&task.inside, sent);
        let all: Tally =
            books.records.all.iter().filter(|it| it.flow.is_some()).map(|it| it.tally).sum();
        assert_eq!(all, sent.ingress + sent.egress, "{kind} {name}: records of all interfaces");
        drop(task.end());
    }
    Ok(())
}

#[test]
fn a_port_of_a_bridge_within_is_counted_once() -> Result<()> {
    let lab = lab!();
    need!(makes(&lab, "bridge"));
    is_counted_as_port(&lab, "bridge mcast_snooping 0")
}

/// A pair with both ends in one namespace does not lead out of it.
#[test]
fn what_stays_within_a_namespace_is_left_out_with_a_reason() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    ip_batch(task.inside.namespace(), "link add in0 type veth peer name in1\n")?;
    let daemon = lab.daemon().start()?;
    let sent = send_both_ways(&task)?;
    let page = daemon.metrics()?;
    assert_eq!((page.interfaces("attached"), page.interfaces("left_out")), (1, 2));
    let report = daemon.report()?;
    let left_out: Vec<_> = report.0["left_out"].as_array().into_iter().flatten().collect();
    for name in ["in0", "in1"] {
        let entry = left_out
            .iter()
            .find(|it| it["name"] == name)
            .with_context(|| format!("{left_out:?}"))?;
        ensure!(entry["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{entry}");
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    Ok(())
}

/// A device with the name of the agent's link is observed if it is the way out.
#[test]
fn a_link_that_is_called_as_the_agents_is_observed_where_it_is_the_only_way_out() -> Result<()> {
    let lab = lab!();
    let task = lab.task_with("task", Addresses { name: "ecs-eth0", ..Addresses::default() })?;
    let daemon = lab.daemon().start()?;
    daemon.wait_attached(&task.inside)?;
    let sent = send_both_ways(&task)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    Ok(())
}
