//! Exchanges without loss: no packet is undelivered or rejected.

use std::env;

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    lab,
    records::Status,
    tally::Tally,
    traffic::{Manner, exchanges, ping},
    veth::Family,
};

/// Total number of exchanges; `OBSERVER_CLEAN_CONNECTIONS` overrides it.
fn wanted() -> Result<u64> {
    const USUAL: u64 = 20_000;
    match env::var("OBSERVER_CLEAN_CONNECTIONS") {
        Ok(count) => {
            count.parse().with_context(|| format!("OBSERVER_CLEAN_CONNECTIONS is {count:?}"))
        }
        Err(_) => Ok(USUAL),
    }
}

#[test]
fn clean_connections_are_all_delivered() -> Result<()> {
    let lab = lab!();
    let pair = lab.observed_pair()?;
    let daemon = lab.daemon().window(5).start()?;
    let (one, two) = (&pair.inside, &pair.outside);
    let kinds = (Manner::ALL.len() * Family::ALL.len()) as u64;
    let each = wanted()?.div_ceil(2 * kinds);
    for (client, server) in [(one, two), (two, one)] {
        exchanges(client, server, each)?;
        for family in Family::ALL {
            // With a raw socket, beside which the kernel also looks for ping sockets.
            ping(client, server, family, 5, 56)?;
        }
    }
    let books = Books::close_in_brief(daemon, [one, two])?;
    for interface in [one, two] {
        let flows =
            || books.records.of(interface.mac()).filter(|record| record.status == Status::Ok);
        let reasons = books.metrics.shown("observer_interface_dropped_packets_total{");
        let undelivered: Vec<_> =
            flows().filter(|record| record.undelivered != 0).take(5).collect();
        assert!(undelivered.is_empty(), "undelivered: {undelivered:#?}\n{reasons}");
        let rejected: Vec<_> = flows().filter(|record| record.is_rejected).take(5).collect();
        assert!(rejected.is_empty(), "rejected: {rejected:#?}\n{reasons}");
        println!("{} exchanges:\n{reasons}", 2 * each * kinds);
        assert_eq!(books.lost(interface), Tally::default(), "lost on {}", interface.id());
        // Each exchange keeps its port for at least a second, and has a record in each direction.
        let count = flows().count() as u64;
        assert!(count >= each * kinds, "{count} records of {} exchanges", 2 * each * kinds);
    }
    Ok(())
}
