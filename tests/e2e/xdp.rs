//! XDP as the ingress hook. If attaching it would change the interface, it is refused with the
//! reason, and TC counts. Otherwise the interface is the same afterwards. The other scenarios run
//! with it too: see [`Hook`].

use std::{collections::BTreeMap, slice};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use observer_tests::{
    books::Books,
    daemon::{self, Setup, run_to_end},
    hook::Hook,
    lab,
    lab::Lab,
    need,
    poll::PATIENCE,
    requires,
    tally::{Crossed, Tally},
    traffic::{Echo, Transfer, Udp, exchange},
    veth::{Family, Interface, Task, ip_batch, quiet},
};
use serde_json::Value;

/// State of a pair that others can observe: the output of `ip`, `ethtool` and `tc`, except the link
/// state, which the kernel reports late.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown(Vec<String>);

impl Shown {
    fn of(task: &Task) -> Result<Self> {
        let mut shown = Vec::new();
        for end in task.ends() {
            for (program, args) in [
                ("ip", &["-details", "link", "show", "dev"][..]),
                ("ethtool", &["-k"]),
                ("ethtool", &["-l"]),
                ("tc", &["qdisc", "show", "dev"]),
            ] {
                let args = [args, &[end.name()]].concat();
                let said = match end.namespace().output(program, &args) {
                    // A veth has no channels before Linux 5.13.
                    Err(error) if error.to_string().contains("not supported") => error.to_string(),
                    said => said?,
                };
                shown.extend(said.lines().map(|line| line.replace("state UNKNOWN", "state UP")));
            }
        }
        Ok(Self(shown))
    }
}

/// The features of an interface by their `ethtool` names, with their state.
fn features(interface: &Interface) -> Result<BTreeMap<String, bool>> {
    let text = interface.namespace().output("ethtool", &["-k", interface.name()])?;
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    Ok(lines.map(|(name, state)| (name.to_owned(), state.starts_with("on"))).collect())
}

fn ethtool(interface: &Interface, flag: &str, words: &[&str]) -> Result<()> {
    interface.namespace().output("ethtool", &[&[flag, interface.name()], words].concat())?;
    Ok(())
}

/// Makes an end send no super-packets, which native XDP at the other end requires.
fn segment_before(interface: &Interface) -> Result<()> {
    let segments = |name: &str| {
        name.starts_with("tx-tcp") && name.ends_with("segmentation")
            || ["tx-sctp-segmentation", "tx-udp-segmentation", "tx-gso-list"].contains(&name)
    };
    for (name, on) in features(interface)? {
        if on && segments(&name) {
            ethtool(interface, "-K", &[&name, "off"])?;
        }
    }
    Ok(())
}

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
fn hook_label(daemon: &daemon::Daemon<'_>, interface: &Interface) -> Result<String> {
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

/// A refused pair: daemon and `check` report the reason, TC counts, and the interfaces stay
/// unchanged.
fn refused(lab: &Lab, task: &Task, hook: Hook, reason: &str, words: &str) -> Result<()> {
    let before = Shown::of(task)?;
    let why = checked(lab, hook, task.inside.name())?;
    assert!(why.contains(words), "`observer check` says {why:?}, and not {words:?}");
    let daemon = asked(lab, hook)?.start()?;
    let label = hook_label(&daemon, &task.inside)?;
    assert!(["tcx", "clsact"].contains(&label.as_str()), "counted by {label}");
    assert!(daemon.said().contains(&why), "{} does not say {why:?}", daemon.said());
    let sent = mixture(task)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    let refusals: Vec<_> = books
        .metrics
        .all("observer_xdp_refusals_total", &[])
        .filter(|sample| sample.value != 0.0)
        .map(|sample| (sample.label("reason"), sample.value))
        .collect();
    assert_eq!(refusals, [(reason, 1.0)], "refusals by reason");
    assert_eq!(Shown::of(task)?, before, "the pair after, and before");
    Ok(())
}

/// The reason by which `observer check` would refuse XDP on this interface.
fn checked(lab: &Lab, hook: Hook, interface: &str) -> Result<String> {
    let (mode, _) = hook.xdp().context("a mode of XDP")?;
    let mut command = daemon::command()?;
    command.args([
        "check",
        "--json",
        "--hook",
        "xdp",
        "--xdp-mode",
        mode,
        "--source",
        "netns",
        "--netns-dir",
    ]);
    let exit = run_to_end(command.arg(lab.netns_dir()), PATIENCE)?;
    ensure!(exit.status.success(), "{}", exit.stderr);
    let report: Value = serde_json::from_str(&exit.stdout).with_context(|| exit.stdout.clone())?;
    let all = report["interfaces"].as_array().context("interfaces")?;
    let found =
        all.iter().find(|it| it["interface"] == interface).with_context(|| exit.stdout.clone())?;
    let by = found["hook"].as_str().unwrap_or_default();
    assert!(["tcx", "clsact"].contains(&by), "would be counted by {by}: {found}");
    Ok(found["why"].as_str().context("why")?.to_owned())
}

#[test]
fn native_xdp_is_refused_where_it_would_switch_off_segmentation() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    need!(requires::linux(5, 18));
    let task = lab.task("task")?;
    refused(
        &lab,
        &task,
        Hook::XdpNative,
        "offloads",
        "of the other end (--xdp-changes accept allows it)",
    )
}

#[test]
fn generic_xdp_is_refused_where_super_packets_would_be_copied() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    let task = lab.task("task")?;
    refused(&lab, &task, Hook::XdpGeneric, "offloads", "copied, and dropped where memory is short")
}

#[test]
fn generic_xdp_is_refused_where_it_would_keep_packets_from_being_merged() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    need!(requires::linux(5, 13));
    let mut task = lab.task("task")?;
    task.set_offloads(observer_tests::offloads::Offloads::MERGED)?;
    segment_before(&task.outside)?;
    refused(&lab, &task, Hook::XdpGeneric, "offloads", "would keep rx-gro from merging packets")
}

#[test]
fn native_xdp_is_refused_where_there_are_too_few_queues() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    need!(requires::linux(6, 9));
    need!(requires::cpus(2));
    let task = lab.task("task")?;
    segment_before(&task.outside)?;
    ethtool(&task.outside, "-L", &["tx", "2"])?;
    // The link went down and comes up again.
    quiet(slice::from_ref(&task))?;
    let words = "needs a receive queue for each of the 2 send queues of the other end, and has 1";
    refused(&lab, &task, Hook::XdpNative, "queues", words)
}

#[test]
fn xdp_gives_way_to_another_program_in_either_mode() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ethtool"));
    let task = lab.task("task")?;
    let other = lab.daemon().name("other").hook(Hook::XdpGeneric).start()?;
    for hook in Hook::XDP {
        let before = Shown::of(&task)?;
        let why = checked(&lab, hook, task.inside.name())?;
        assert!(why.contains("gives way to XDP program ") && why.contains("observe_xdp"), "{why}");
        let (mode, _) = hook.xdp().context("a mode of XDP")?;
        let daemon = asked(&lab, hook)?.name(mode).set("xdp-changes", "accept").start()?;
        assert!(hook_label(&daemon, &task.inside)?.contains('c'), "counted at TC");
        daemon.stop()?;
        assert_eq!(Shown::of(&task)?, before, "the pair after, and before");
    }
    let books = Books::close(other, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::default());
    Ok(())
}

#[test]
fn native_xdp_is_refused_on_what_is_neither_card_nor_pair() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    // Above a device of another namespace, because above one of its own it would not be observed.
    let line = format!(
        "link add link {} name derived0 netns {} type macvlan\n",
        task.outside.name(),
        task.inside.namespace().path().display()
    );
    ip_batch(task.outside.namespace(), &line)?;
    let why = checked(&lab, Hook::XdpNative, "derived0")?;
    assert_eq!(why, "native XDP is for network cards and veth pairs");
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
            page.ledger(&task.inside).is_some_and(|[ingress, _]| ingress.seen.packets > 0)
        })?;
        if killed { daemon.signal(Signal::SIGKILL)? } else { drop(daemon.stop()?) }
    }
    assert!(echo.goes_on(), "a datagram was lost: {:?}", echo.stop());
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
