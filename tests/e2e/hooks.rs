//! TCX and clsact count the same, and do not affect the programs and filters of others.

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    counters::Counters,
    lab,
    lab::Lab,
    need, requires,
    tally::{Crossed, Tally},
    traffic::{Transfer, Udp, exchange},
    veth::{Family, Interface, Task, ip_batch},
};

/// Traffic of several kinds in both directions.
fn mixture(task: &Task) -> Result<Crossed> {
    let mut sent = Crossed::default();
    for family in Family::ALL {
        let udp = Udp { family, flows: 10, packets: 100, payload: 200 };
        sent.ingress += udp.send(&task.outside, &task.inside)?;
        sent.egress += udp.send(&task.inside, &task.outside)?;
        let transfer = Transfer { family, request: 10_000, response: 3_000_000 };
        let connection = exchange(&task.inside, &task.outside, transfer)?;
        sent += Crossed { ingress: connection.from_server, egress: connection.from_client };
    }
    Ok(sent)
}

/// Qdiscs and filters of an interface, as `tc` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    qdiscs: String,
    filters: [String; 2],
}

impl Chain {
    fn of(interface: &Interface) -> Result<Self> {
        let tc = |args: &[&str]| interface.namespace().output("tc", args);
        let filters = |side| tc(&["filter", "show", "dev", interface.name(), side]);
        Ok(Self {
            qdiscs: tc(&["qdisc", "show", "dev", interface.name()])?,
            filters: [filters("ingress")?, filters("egress")?],
        })
    }
}

fn tc(interface: &Interface, line: &str) -> Result<()> {
    let args: Vec<&str> = line.split_whitespace().collect();
    interface.namespace().output("tc", &args)?;
    Ok(())
}

/// Third-party filters in both directions, which copy every frame to a dummy interface that counts
/// them.
struct Mirror<'a> {
    task: &'a Task,
}

impl<'a> Mirror<'a> {
    const NAME: &'static str = "mirror0";

    /// Adds them with a later priority than the first.
    fn add(task: &'a Task) -> Result<Self> {
        for end in task.ends() {
            let silent =
                || Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?);
            end.namespace().run(silent)?;
        }
        let name = Self::NAME;
        let other = task.outside.namespace().path().display();
        ip_batch(
            task.inside.namespace(),
            &format!(
                "link add {name} type veth peer name {name} netns {other}\nlink set {name} up\n"
            ),
        )?;
        ip_batch(task.outside.namespace(), &format!("link set {name} up\n"))?;
        let device = task.inside.name();
        for side in ["ingress", "egress"] {
            let rule = "protocol all prio 7 u32 match u32 0 0";
            let action = format!("action mirred egress mirror dev {name}");
            tc(&task.inside, &format!("filter add dev {device} {side} {rule} {action}"))?;
        }
        Ok(Self { task })
    }

    /// Number of copied frames.
    fn seen(&self) -> Result<u64> {
        let counters = Counters::read(self.task.inside.namespace(), Self::NAME)?;
        Ok(counters.frames.egress.packets + counters.dropped)
    }
}

fn counts_exactly(lab: &Lab, attach: &str) -> Result<()> {
    let task = lab.task("task")?;
    let before = Chain::of(&task.inside)?;
    let daemon = lab.daemon().set("attach", attach).start()?;
    let sent = mixture(&task)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    assert_eq!(Chain::of(&task.inside)?, before, "qdiscs and filters after, and before");
    Ok(())
}

#[test]
fn tcx_counts_exactly_and_leaves_nothing() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    need!(requires::linux(6, 6));
    counts_exactly(&lab, "tcx")
}

#[test]
fn clsact_counts_exactly_and_leaves_nothing() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    counts_exactly(&lab, "clsact")
}

/// The filter of a third party exists before the daemon starts.
fn stays_beside(lab: &Lab, attach: &str) -> Result<()> {
    let task = lab.task("task")?;
    tc(&task.inside, &format!("qdisc add dev {} clsact", task.inside.name()))?;
    let mirror = Mirror::add(&task)?;
    let before = Chain::of(&task.inside)?;
    let daemon = lab.daemon().set("attach", attach).start()?;
    let sent = mixture(&task)?;
    let seen = mirror.seen()?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    let crossed = books.counters[&task.inside.mac()].frames;
    assert_eq!(
        seen,
        crossed.ingress.packets + crossed.egress.packets,
        "frames that the other's filter saw, and frames that crossed"
    );
    assert_eq!(Chain::of(&task.inside)?, before, "qdiscs and filters after, and before");
    Ok(())
}

#[test]
fn a_foreign_filter_sees_every_packet_behind_clsact_and_stays() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    stays_beside(&lab, "clsact")
}

#[test]
fn a_foreign_filter_sees_every_packet_behind_tcx_and_stays() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    need!(requires::linux(6, 6));
    stays_beside(&lab, "tcx")
}

#[test]
fn a_foreign_filter_that_came_onto_our_qdisc_stays_with_it() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    let task = lab.task("task")?;
    let daemon = lab.daemon().set("attach", "clsact").start()?;
    let mirror = Mirror::add(&task)?;
    let with_both = Chain::of(&task.inside)?;
    assert!(with_both.filters[0].contains("bpf"), "our filter is there: {with_both:#?}");
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::default());

    let after = Chain::of(&task.inside)?;
    assert!(
        after.qdiscs.contains("clsact"),
        "the qdisc that somebody else uses by now: {after:#?}"
    );
    for filters in &after.filters {
        assert!(filters.contains(Mirror::NAME), "the other's filter: {after:#?}");
        assert!(!filters.contains("bpf"), "our filter: {after:#?}");
    }
    let before = mirror.seen()?;
    let udp = Udp { family: Family::V4, flows: 1, packets: 100, payload: 10 };
    assert_eq!(udp.send(&task.outside, &task.inside)?, Tally::of(100, 38));
    assert_eq!(mirror.seen()? - before, 100, "frames that the other's filter sees after our end");
    Ok(())
}

#[test]
fn a_foreign_filter_at_our_priority_is_neither_replaced_nor_removed() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    let task = lab.task("task")?;
    let device = task.inside.name();
    tc(&task.inside, &format!("qdisc add dev {device} clsact"))?;
    for side in ["ingress", "egress"] {
        // Without an action: it matches, ends the u32 chain, and lets the packet pass.
        let rule = format!(
            "filter add dev {device} {side} protocol ip prio 1 u32 match ip dst 192.0.2.1/32 flowid 1:1"
        );
        tc(&task.inside, &rule)?;
    }
    let before = Chain::of(&task.inside)?;
    let daemon = lab.daemon().set("attach", "clsact").start()?;
    let during = Chain::of(&task.inside)?;
    for (before, during) in before.filters.iter().zip(&during.filters) {
        assert!(
            during.contains(before.trim()),
            "the other's filter before:\n{before}\nand during:\n{during}"
        );
    }
    let sent = mixture(&task)?;
    let books = Books::close(daemon, [&task.inside]).context("with priority 1 taken")?;
    books.assert_exact(&task.inside, sent);
    assert_eq!(Chain::of(&task.inside)?, before, "qdiscs and filters after, and before");
    Ok(())
}

/// Two daemons on one interface: each counts all traffic, and the end of one does not affect the
/// other.
fn counts_beside_another(lab: &Lab, attach: &str) -> Result<()> {
    let task = lab.task("task")?;
    let before = Chain::of(&task.inside)?;
    let first = lab.daemon().name("first").set("attach", attach).start()?;
    let second = lab.daemon().name("second").set("attach", attach).start()?;
    let shared = mixture(&task)?;
    let first = Books::close(first, [&task.inside])?;
    first.assert_exact(&task.inside, shared);
    let alone = mixture(&task)?;
    let second = Books::close(second, [&task.inside])?;
    second.assert_exact(&task.inside, shared + alone);
    // The qdisc was in use when the daemon that created it ended, and the second daemon must not
    // remove it.
    assert_eq!(Chain::of(&task.inside)?.filters, before.filters, "filters after both, and before");
    Ok(())
}

#[test]
fn two_daemons_under_tcx_count_the_same() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    need!(requires::linux(6, 6));
    counts_beside_another(&lab, "tcx")
}

#[test]
fn two_daemons_under_clsact_count_the_same() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    counts_beside_another(&lab, "clsact")
}
