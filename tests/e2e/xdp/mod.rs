//! XDP as the ingress hook. If attaching it would change the interface, it is refused with the
//! reason, and TC counts. Otherwise the interface is the same afterwards. The other scenarios run
//! with it too: see [`Hook`].

mod pair;
mod refusals;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use observer_tests::{
    books::Books,
    daemon::{Daemon, Setup},
    hook::Hook,
    lab,
    lab::Lab,
    need, requires,
    tally::{Crossed, Tally},
    traffic::{Echo, Transfer, Udp, exchange},
    veth::{Family, Interface, Task, ip_batch},
};

use self::pair::{Shown, features, segment_before};

/// A daemon configured for XDP without permission to change the interface.
fn asked(lab: &Lab, hook: Hook) -> Result<Setup<'_>> {
    let (mode, _) = hook.xdp().context("a mode of XDP")?;
    Ok(lab.daemon().hook(Hook::Tc).set("hook", "xdp").set("xdp-mode", mode))
}

/// Traffic of several kinds in both directions.
fn mixture(task: &Task) -> Result<Crossed> {
    let mut sent = Crossed::default();
    for family in Family::ALL {
        // The larger datagrams are fragmented.
        for payload in [200, 5_000] {
            let udp = Udp { family, flows: 5, packets: 20, payload };
            sent.ingress += udp.send(&task.outside, &task.inside)?;
            sent.egress += udp.send(&task.inside, &task.outside)?;
        }
        let transfer = Transfer { family, request: 300_000, response: 2_000_000 };
        let connection = exchange(&task.inside, &task.outside, transfer)?;
        sent += Crossed { ingress: connection.from_server, egress: connection.from_client };
    }
    Ok(sent)
}

/// The label `hook` of an interface, once it is on the page.
fn hook_label(daemon: &Daemon<'_>, interface: &Interface) -> Result<String> {
    let page = daemon.wait("the interface is observed", |page| page.info(interface).is_some())?;
    Ok(page.info(interface).map_or("", |info| info.label("hook")).to_owned())
}

/// If XDP changes nothing, it counts without permission for changes.
fn counts_where_nothing_changes(lab: &Lab, hook: Hook) -> Result<()> {
    let task = lab.task("task")?;
    segment_before(&task.outside)?;
    let (before, before_features) = (Shown::of(&task)?, task.ends().map(features));
    let daemon = asked(lab, hook)?.start()?;
    let (_, label) = hook.xdp().context("a mode of XDP")?;
    assert_eq!(hook_label(&daemon, &task.inside)?, label);
    let sent = mixture(&task)?;
    for (end, before) in task.ends().into_iter().zip(before_features) {
        assert_eq!(features(end)?, before?, "features of {} with XDP, and before", end.id());
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    assert_eq!(books.metrics.sum("observer_xdp_refusals_total", &[]), 0, "refusals");
    assert_eq!(Shown::of(&task)?, before, "the pair after, and before");
    Ok(())
}

#[test]
fn native_xdp_counts_exactly_where_nothing_changes() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    // Before, it switches GRO on.
    need!(requires::linux(6, 9));
    counts_where_nothing_changes(&lab, Hook::XdpNative)
}

#[test]
fn generic_xdp_counts_exactly_where_nothing_changes() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    counts_where_nothing_changes(&lab, Hook::XdpGeneric)
}

#[test]
fn what_native_xdp_was_allowed_to_switch_off_is_on_again_behind_it() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    need!(requires::linux(6, 9));
    let task = lab.task("task")?;
    let before = Shown::of(&task)?;
    let daemon = lab.daemon().hook(Hook::XdpNative).start()?;
    let sent = mixture(&task)?;
    assert!(task.inside.has_native_xdp()?, "a program in the driver");
    assert!(
        !features(&task.outside)?["tx-tcp-segmentation"],
        "the other end's segmentation, during native XDP"
    );
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    assert_eq!(Shown::of(&task)?, before, "the pair after, and before");
    Ok(())
}

/// The task's packets are redirected into its own interface, behind the driver, which bypasses
/// generic XDP.
fn redirected(lab: &Lab, hook: Hook) -> Result<()> {
    let task = lab.task("task")?;
    let device = task.inside.name();
    for line in [
        format!("qdisc add dev {device} clsact"),
        format!(
            "filter add dev {device} egress protocol all prio 7 u32 match u32 0 0 \
             action mirred ingress redirect dev {device}"
        ),
    ] {
        task.inside.namespace().output("tc", &line.split(' ').collect::<Vec<_>>())?;
    }
    let daemon = lab.daemon().hook(hook).start()?;
    let mut sent = Tally::default();
    for family in Family::ALL {
        let udp = Udp { family, flows: 5, packets: 100, payload: 300 };
        sent += udp.send(&task.inside, &task.outside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    let both = Crossed { ingress: sent, egress: sent };
    let seen = books.ledger(&task.inside).map(|ledger| ledger.seen);
    assert_eq!(seen, [both.ingress, both.egress], "{hook:?}: ledger, and what was sent");
    assert_eq!(
        books.records.recorded(task.inside.mac()),
        both,
        "{hook:?}: records, and what was sent"
    );
    Ok(())
}

#[test]
fn what_is_redirected_past_xdp_is_counted_once() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    redirected(&lab, Hook::XdpGeneric)
}

#[test]
fn what_is_redirected_past_the_driver_is_counted_once() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    need!(requires::linux(5, 18));
    redirected(&lab, Hook::XdpNative)
}

#[test]
fn packets_in_several_buffers_are_counted_exactly() -> Result<()> {
    const MTU: u16 = 9_000;
    let lab = lab!();
    need!(requires::linux(5, 18));
    let task = lab.task("task")?;
    for end in task.ends() {
        ip_batch(end.namespace(), &format!("link set {} mtu {MTU}\n", end.name()))?;
    }
    let daemon = lab.daemon().hook(Hook::XdpNative).start()?;
    let mut sent = Crossed::default();
    for family in Family::ALL {
        let transfer = Transfer { family, request: 1, response: 10_000_000 };
        let connection = exchange(&task.inside, &task.outside, transfer)?;
        let most = u64::from(MTU) * connection.from_server.packets;
        assert!(
            connection.from_server.bytes > most / 2,
            "{} in large packets",
            connection.from_server
        );
        sent += Crossed { ingress: connection.from_server, egress: connection.from_client };
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    Ok(())
}

/// Daemons start, stop and are killed on an interface with traffic.
fn costs_nobody_a_packet(lab: &Lab, hook: Hook) -> Result<()> {
    let task = lab.task("task")?;
    segment_before(&task.outside)?;
    // Adding a qdisc costs packets, for anyone: see `harmless`. Without TCX the daemon would add
    // it.
    task.inside.namespace().output("tc", &["qdisc", "add", "dev", task.inside.name(), "clsact"])?;
    let before = Shown::of(&task)?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V4)?;
    for killed in [false, true, false] {
        let daemon = asked(lab, hook)?.start()?;
        let (_, label) = hook.xdp().context("a mode of XDP")?;
        assert_eq!(hook_label(&daemon, &task.inside)?, label);
        daemon.wait("the traffic is seen", |page| {
            let seen = page.ledger(&task.inside);
            seen.is_some_and(|[ingress, _]| ingress.seen.packets > 0) || !echo.goes_on()
        })?;
        if !echo.goes_on() {
            break;
        }
        if killed { daemon.signal(Signal::SIGKILL)? } else { drop(daemon.stop()?) }
    }
    let rounds = echo.stop()?;
    assert_eq!(
        task.inside.counters()?.frames.ingress.packets,
        rounds,
        "questions that arrived, and asked"
    );
    assert_eq!(Shown::of(&task)?, before, "the pair after, and before");
    Ok(())
}

#[test]
fn no_datagram_is_lost_while_native_xdp_comes_and_goes() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    need!(requires::program("tc"));
    need!(requires::linux(6, 9));
    costs_nobody_a_packet(&lab, Hook::XdpNative)
}

#[test]
fn no_datagram_is_lost_while_generic_xdp_comes_and_goes() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    need!(requires::program("tc"));
    costs_nobody_a_packet(&lab, Hook::XdpGeneric)
}
