//! Programs that say what they cannot make sense of: other code than usual, which a verifier must take as well.

use anyhow::Result;
use observer_tests::{books::Books, lab, tally::Crossed, traffic::Udp, veth::Family};

#[test]
fn programs_that_log_load_and_count_exactly() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().set("log-level", "debug").start()?;
    let sent =
        Udp { family: Family::V4, flows: 3, packets: 10, payload: 100 }.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    Ok(())
}
