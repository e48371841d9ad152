//! A store that refuses, fails, hangs or is slow.

use std::time::Duration;

use anyhow::{Context as _, Result};
use observer_tests::{
    lab,
    lab::Lab,
    need, poll,
    python::Python,
    records::Records,
    store::{Fault, Store, Way},
    tally::Tally,
};

use super::{
    assert_delivered, deliver,
    progress::{delivered, failing, waiting},
    send,
};

/// Runs with a fault for a while, and checks that nothing is lost or duplicated.
fn survives(fault: Fault, test: &str) -> Result<()> {
    let lab = Lab::new(test, 1)?;
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    let daemon = deliver(&lab, &way).start()?;
    let mut sent = send(&daemon, &task)?;
    daemon.wait("the first file is delivered", |page| delivered(page) >= 1)?;
    way.set(fault);
    let before = store.keys()?.len();
    sent += send(&daemon, &task)?;
    poll::until("the delivery fails", Duration::from_secs(40), || {
        Ok((failing(&daemon.metrics()?)).then_some(()))
    })
    .with_context(|| daemon.said())?;
    sent += send(&daemon, &task)?;
    // At most one file more: its upload had begun before the fault.
    assert!(store.keys()?.len() <= before + 1, "{fault:?}: objects that came through");
    assert_eq!(daemon.get("/readyz")?.status, 200);
    way.set(Fault::None);
    daemon.wait("all is delivered", |page| !failing(page) && waiting(page) == Some(0.0))?;
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)
}

#[test]
fn a_store_that_refuses_gets_all_of_it_later() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Refuse, observer_tests::test_name!())
}

#[test]
fn a_store_that_answers_500_gets_all_of_it_later() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Error, observer_tests::test_name!())
}

#[test]
fn a_page_in_the_place_of_an_answer_is_no_delivery() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Page, observer_tests::test_name!())
}

#[test]
fn a_store_that_hangs_gets_all_of_it_later() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Hang, observer_tests::test_name!())
}

#[test]
fn a_put_that_is_cut_midway_leaves_no_part_of_a_file() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Cut(2000), observer_tests::test_name!())
}

#[test]
fn a_store_that_is_slow_delays_files_alone() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Slow);
    let daemon = deliver(&lab, &way).start()?;
    let sent = send(&daemon, &task)?;
    daemon.wait("all is delivered", |page| delivered(page) >= 1 && waiting(page) == Some(0.0))?;
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)
}

#[test]
fn what_is_more_than_the_spool_holds_is_dropped_and_counted() -> Result<()> {
    const SPOOL: u64 = 20_000;
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Refuse);
    let daemon = deliver(&lab, &way).set("spool-size", format!("{SPOOL}B")).start()?;
    let mut sent = Tally::default();
    while daemon.metrics()?.sum("observer_dropped_files_total", &[]) < 3 {
        sent += send(&daemon, &task)?;
    }
    let page = daemon.metrics()?;
    assert!(
        page.get("observer_spool_bytes", &[]) <= Some(SPOOL as f64),
        "{}",
        page.shown("observer_spool")
    );
    way.set(Fault::None);
    let page = daemon.wait("the rest is delivered", |page| waiting(page) == Some(0.0))?;
    let labels = [("stage", "sink"), ("reason", "spool_full")];
    let lost = Tally::new(
        page.sum("observer_lost_packets_total", &labels),
        page.sum("observer_lost_bytes_total", &labels),
    );
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent - lost)
}

#[test]
fn a_store_that_never_answers_does_not_hold_up_the_end() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Hang);
    let daemon = deliver(&lab, &way).set("stop-timeout", "3").start()?;
    let sent = send(&daemon, &task)?;
    let out = daemon.out().to_path_buf();
    let said = daemon.stop()?.said;
    assert!(said.contains("the next start delivers them"), "{said}");
    assert_eq!(
        Records::read(&out)?.recorded(task.inside.mac()).egress,
        sent,
        "what is on the disk"
    );
    Ok(())
}
