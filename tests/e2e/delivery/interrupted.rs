//! A store that stops, and a daemon that is killed.

use anyhow::Result;
use observer_tests::{
    lab, need, poll,
    python::Python,
    records::finished,
    store::{Fault, Store, Way},
};

use super::{
    assert_delivered, deliver,
    progress::{delivered, failing, waiting},
    send, stored,
};

#[test]
fn a_store_that_stops_and_starts_again_gets_every_file_once() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let address = store.address();
    let way = Way::to(address)?;
    let daemon = deliver(&lab, &way).start()?;
    let mut sent = send(&daemon, &task)?;
    daemon.wait("the first files are delivered", |page| {
        delivered(page) >= 1 && waiting(page) == Some(0.0)
    })?;
    way.set(Fault::Refuse);
    // The server keeps objects in memory, so they are read before it stops.
    let (before, first) = stored(&store, &lab.path("before"))?;
    drop(store);
    way.set(Fault::None);
    sent += send(&daemon, &task)?;
    daemon.wait("files wait", |page| failing(page) && waiting(page) > Some(0.0))?;
    let store = Store::start_at(&python, &lab.path("moto-again"), address)?;
    daemon.wait("all is delivered", |page| waiting(page) == Some(0.0))?;
    daemon.stop()?;
    let (after, second) = stored(&store, &lab.path("after"))?;
    let both = before.recorded(task.inside.mac()).egress + after.recorded(task.inside.mac()).egress;
    assert_eq!(both, sent);
    assert_eq!(first.intersection(&second).count(), 0, "objects in both");
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_while_it_delivers_delivers_once() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Hang);
    let daemon = deliver(&lab, &way).start()?;
    let sent = send(&daemon, &task)?;
    daemon.wait("a file is on its way", |page| waiting(page) > Some(0.0))?;
    poll::until_true("the store is asked", poll::PATIENCE, || Ok(way.connections() > 0))?;
    let out = daemon.out().to_path_buf();
    daemon.kill();
    assert_eq!(store.keys()?, Vec::<String>::new());
    let files = finished(&out, "jsonl")?;
    assert!(!files.is_empty());
    way.set(Fault::None);
    let daemon = deliver(&lab, &way).start()?;
    daemon.wait("what was left is delivered", |page| {
        waiting(page) == Some(0.0) && delivered(page) > 0
    })?;
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)?;
    let keys = store.keys()?;
    for file in files {
        let key = format!("fleet/{}", file.strip_prefix(&out)?.display());
        assert_eq!(keys.iter().filter(|it| **it == key).count(), 1, "{key}");
    }
    Ok(())
}
