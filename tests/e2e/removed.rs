//! The daemon's programs are removed from an interface under traffic: they are attached again, and
//! the packets in between are a loss with a reason, exact by the interface's own counters.

use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    books::Books,
    daemon::Daemon,
    foreign,
    hook::Hook,
    lab,
    lab::Lab,
    need,
    poll::{PATIENCE, until, until_true},
    records::Status,
    requires,
    tally::{Crossed, Direction, Tally},
    traffic::{Trickle, Udp, frames::LINK_HEADER},
    veth::{Family, Interface, Task},
};

/// A way to remove programs.
type Remove = fn(&Interface) -> Result<()>;

fn tc(interface: &Interface, line: &str) -> Result<()> {
    let args: Vec<&str> = line.split_whitespace().collect();
    interface.namespace().output("tc", &args).map(drop)
}

fn remove_qdisc(interface: &Interface) -> Result<()> {
    tc(interface, &format!("qdisc del dev {} clsact", interface.name()))
}

fn remove_egress_filters(interface: &Interface) -> Result<()> {
    tc(interface, &format!("filter del dev {} egress", interface.name()))
}

fn remove_ingress_filters(interface: &Interface) -> Result<()> {
    tc(interface, &format!("filter del dev {} ingress", interface.name()))
}

fn replace_qdisc(interface: &Interface) -> Result<()> {
    remove_qdisc(interface)?;
    // The daemon may have made one in the meantime.
    tc(interface, &format!("qdisc replace dev {} clsact", interface.name()))
}

/// Waits until an interface's ledger has grown in both directions beyond `before`.
fn wait_counted(daemon: &Daemon<'_>, interface: &Interface, before: [u64; 2]) -> Result<[u64; 2]> {
    let frames = |page: &observer_tests::metrics::Metrics| {
        page.ledger(interface).map_or([0; 2], |ledger| ledger.map(|side| side.frames.packets))
    };
    let grown = |now: [u64; 2]| now.iter().zip(before).all(|(now, before)| *now > before + 200);
    let page = daemon.wait("packets are counted each way", |page| grown(frames(page)))?;
    Ok(frames(&page))
}

/// Asserts that the ledger and the loss for this reason add up to the interface's counters, and
/// that no window of this time has a NODATA record.
fn assert_whole(books: &Books, interface: &Interface, (start, end): (i64, i64)) {
    let missed = books.metrics.uncounted(interface, "hook_removed");
    let counted = books.counters[&interface.mac()].frames;
    for (direction, ledger) in Direction::ALL.into_iter().zip(books.ledger(interface)) {
        let missed = missed.get(direction);
        let with_headers = Tally::new(missed.packets, missed.bytes + missed.packets * LINK_HEADER);
        assert_eq!(
            ledger.frames + with_headers,
            counted.get(direction),
            "{direction}: frames seen and missed ({missed}), and those that the interface counted"
        );
        let recorded = books.records.recorded(interface.mac()).get(direction);
        assert_eq!(recorded + ledger.lost, ledger.seen + missed, "{direction}: records and losses");
    }
    assert_eq!(books.records.lost(interface.mac()), books.lost(interface), "SKIPDATA and losses");
    let silent = books.records.with_status(interface.mac(), Status::NoData);
    let silent: Vec<_> =
        silent.into_iter().filter(|it| it.start >= start && it.end <= end).collect();
    assert!(
        silent.is_empty(),
        "NODATA of an interface that carried packets all the time: {silent:?}"
    );
}

/// Current time, UNIX seconds.
fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
}

/// A running daemon that has counted packets of a task in both directions.
struct Observed<'lab> {
    daemon: Daemon<'lab>,
    traffic: [Trickle; 2],
    counted: [u64; 2],
    since: i64,
}

impl<'lab> Observed<'lab> {
    fn start(lab: &'lab Lab, attach: &str, task: &Task) -> Result<Self> {
        let daemon = lab.daemon().window(1).set("attach", attach).start()?;
        daemon.wait_attached(&task.inside)?;
        let traffic = [
            Trickle::start(&task.outside, &task.inside, Family::V4)?,
            Trickle::start(&task.inside, &task.outside, Family::V4)?,
        ];
        let counted = wait_counted(&daemon, &task.inside, [0; 2])?;
        Ok(Self { daemon, traffic, counted, since: now() + 1 })
    }

    /// Waits until more is counted, stops the traffic and the daemon, and closes the books.
    fn close(self, task: &Task) -> Result<Books> {
        let Self { daemon, traffic, counted, since } = self;
        wait_counted(&daemon, &task.inside, counted)?;
        daemon.wait_windows(1)?;
        let end = now() - 1;
        traffic.into_iter().for_each(Trickle::stop);
        let books = Books::close(daemon, [&task.inside])?;
        assert_whole(&books, &task.inside, (since, end));
        Ok(books)
    }
}

/// Runs `remove` under traffic in both directions. Packets in the directions `misses` are not
/// counted meanwhile.
fn comes_back(lab: &Lab, attach: &str, remove: Remove, missed_in: &[Direction]) -> Result<()> {
    let task = lab.task("task")?;
    let observed = Observed::start(lab, attach, &task)?;
    let daemon = &observed.daemon;
    let began = Instant::now();
    remove(&task.inside)?;
    daemon.wait("the removal is noticed, and mended", |page| {
        page.sum("observer_hook_removals_total", &[]) == 1 && page.interfaces("attached") == 1
    })?;
    let took = began.elapsed();
    daemon.wait_said("somebody has removed the programs from an interface")?;
    daemon.wait_said("the programs are back on an interface")?;
    assert_eq!(daemon.get("/readyz")?.status, 200, "/readyz");
    let books = observed.close(&task)?;
    let missed = books.metrics.uncounted(&task.inside, "hook_removed");
    for direction in Direction::ALL {
        let any = missed.get(direction).packets > 0;
        assert_eq!(any, missed_in.contains(&direction), "{direction}: {missed}");
    }
    println!("back after {took:?}, meanwhile {missed}");
    Ok(())
}

#[test]
fn a_clsact_qdisc_that_is_removed_comes_back() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    comes_back(&lab, "clsact", remove_qdisc, &Direction::ALL)
}

#[test]
fn a_clsact_qdisc_that_is_removed_and_made_anew_gets_its_filters_back() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    comes_back(&lab, "clsact", replace_qdisc, &Direction::ALL)
}

#[test]
fn a_filter_that_is_removed_comes_back_and_the_other_way_misses_nothing() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    comes_back(&lab, "clsact", remove_egress_filters, &[Direction::Egress])?;
    drop(lab);
    let lab = lab!();
    comes_back(&lab, "clsact", remove_ingress_filters, &[Direction::Ingress])
}

#[test]
fn a_tcx_link_that_is_detached_comes_back() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    comes_back(
        &lab,
        "tcx",
        |interface| foreign::detach_tcx(interface, &Direction::ALL),
        &Direction::ALL,
    )
}

#[test]
fn one_of_two_tcx_links_that_is_detached_comes_back() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    comes_back(
        &lab,
        "tcx",
        |interface| foreign::detach_tcx(interface, &[Direction::Ingress]),
        &[Direction::Ingress],
    )
}

/// A TC program behind XDP counts packets that XDP does not see.
#[test]
fn an_xdp_link_that_is_detached_comes_back_and_nothing_is_missed() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).hook(Hook::XdpGeneric).start()?;
    daemon.wait_attached(&task.inside)?;
    let udp = Udp { family: Family::V4, flows: 5, packets: 100, payload: 100 };
    let mut sent = udp.send(&task.outside, &task.inside)?;
    for removals in 1..=2 {
        foreign::detach_xdp(&task.inside)?;
        sent += udp.send(&task.outside, &task.inside)?;
        daemon.wait("it is put back", |page| {
            page.sum("observer_hook_removals_total", &[]) == removals
                && page.interfaces("attached") == 1
        })?;
        sent += udp.send(&task.outside, &task.inside)?;
    }
    // This also checks that XDP counts.
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    Ok(())
}

/// The programs cannot be attached again while another qdisc is in their place.
#[test]
fn an_interface_without_its_programs_is_never_told_as_silent() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    let task = lab.task("task")?;
    let device = task.inside.name();
    let observed = Observed::start(&lab, "clsact", &task)?;
    let daemon = &observed.daemon;
    remove_qdisc(&task.inside)?;
    until("another qdisc takes its place", PATIENCE, || {
        // The daemon may be faster.
        if tc(&task.inside, &format!("qdisc add dev {device} ingress")).is_ok() {
            return Ok(Some(()));
        }
        let _ = remove_qdisc(&task.inside);
        Ok(None)
    })?;
    let page = daemon.wait("it is told as detached", |page| page.interfaces("detached") == 1)?;
    assert_eq!(page.interfaces("attached"), 0);
    let mut ready = String::new();
    until_true("/readyz says which interface is not observed", PATIENCE, || {
        let answer = daemon.get("/readyz")?;
        ready = format!("{} {}", answer.status, answer.body);
        Ok(answer.status == 503 && answer.body.contains(&format!("{device} in ")))
    })
    .with_context(|| ready.clone())?;
    let mac = task.inside.mac().to_string();
    daemon.wait_report("observer tasks says so", |report| {
        let attach = report.interface(&mac).and_then(|it| it["attach"].as_str());
        attach.is_some_and(|attach| attach.starts_with("detached") && attach.contains("ingress"))
    })?;
    daemon.wait_windows(3)?;
    tc(&task.inside, &format!("qdisc del dev {device} ingress"))?;
    daemon.wait("it is observed again", |page| page.interfaces("attached") == 1)?;
    let books = observed.close(&task)?;
    let missed = books.metrics.uncounted(&task.inside, "hook_removed");
    ensure!(
        missed.ingress.packets > 500 && missed.egress.packets > 500,
        "{missed} in three windows"
    );
    let skipped = books.records.with_status(task.inside.mac(), Status::SkipData);
    ensure!(skipped.len() >= 3, "{} SKIPDATA records of three windows", skipped.len());
    Ok(())
}

/// An egress filter on an `ingress` qdisc would count incoming packets as outgoing.
#[test]
fn an_interface_with_an_ingress_qdisc_fails_with_the_reason() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    let task = lab.task("task")?;
    let device = task.inside.name();
    tc(&task.inside, &format!("qdisc add dev {device} ingress"))?;
    let daemon = lab.daemon().set("attach", "clsact").start_unready()?;
    until_true("it has failed", PATIENCE, || {
        daemon.ensure_alive()?;
        Ok(daemon.metrics().is_ok_and(|page| page.interfaces("failed") == 1))
    })?;
    let answer = daemon.get("/readyz")?;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("`ingress`"), "{}", answer.body);
    let filters =
        task.inside.namespace().output("tc", &["filter", "show", "dev", device, "ingress"])?;
    assert!(!filters.contains("bpf"), "filters on the other qdisc: {filters}");
    tc(&task.inside, &format!("qdisc del dev {device} ingress"))?;
    daemon.wait("it is observed", |page| page.interfaces("attached") == 1)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::default());
    Ok(())
}
