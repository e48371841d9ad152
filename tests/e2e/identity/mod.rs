//! Identity of an interface from each source alone, from several that disagree, and from none; and
//! sources that fail or answer late.

mod agent;
mod imds;
mod late;
mod sources;

use anyhow::Result;
use observer_tests::{
    books::Books,
    daemon::{Daemon, Setup},
    lab::Lab,
    metrics::Metrics,
    records::Status,
    tally::Crossed,
    traffic::Udp,
    veth::{Family, Task},
};

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 20, payload: 64 };

fn up(page: &Metrics, source: &str) -> Option<f64> {
    page.get("observer_source_up", &[("source", source)])
}

/// Waits until a label of the interface's info metric has this value.
fn wait_label(daemon: &Daemon<'_>, task: &Task, label: &str, value: &str) -> Result<Metrics> {
    daemon.wait(&format!("{label} is {value}"), |page| {
        page.info(&task.inside).is_some_and(|info| info.label(label) == value)
    })
}

/// A daemon with the source `netns` and one source that queries an endpoint.
fn asking<'lab>(
    lab: &'lab Lab,
    source: &'static str,
    endpoint: &'static str,
    at: &str,
) -> Setup<'lab> {
    lab.daemon().sources(&["netns", source]).set(endpoint, at)
}

/// Sends traffic, closes the books, and returns the fields that all flow records must have.
fn assert_recorded(daemon: Daemon<'_>, task: &Task, fields: &[(&str, &str)]) -> Result<()> {
    let sent = UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    let records = books.records.with_status(task.inside.mac(), Status::Ok);
    assert!(!records.is_empty());
    for record in records {
        for (key, expected) in fields {
            assert_eq!(record.text(key), *expected, "{key}");
        }
    }
    Ok(())
}
