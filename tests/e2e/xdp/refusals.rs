//! Pairs for which XDP is refused.

use std::slice;

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    books::Books,
    daemon::{self, run_to_end},
    hook::Hook,
    lab,
    lab::Lab,
    need,
    offloads::Offloads,
    poll::PATIENCE,
    requires,
    tally::Crossed,
    veth::{Task, ip_batch, quiet},
};
use serde_json::Value;

use super::{
    asked, hook_label, mixture,
    pair::{Shown, ethtool, segment_before},
};

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
    task.set_offloads(Offloads::MERGED)?;
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
