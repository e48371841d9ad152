//! Datagrams that the kernel segments from one message.

use anyhow::Result;
use observer_tests::{
    books::Books, lab, offloads::Offloads, tally::Crossed, traffic::segmented, veth::Family,
};

#[test]
fn segments_of_udp_messages_are_counted_one_by_one() -> Result<()> {
    let lab = lab!();
    let mut task = lab.task("task")?;
    if !Offloads::veth_takes_udp() {
        task.set_offloads(Offloads::SOFTWARE)?;
    }
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    for family in Family::ALL {
        // 10 segments with a shorter last one, and messages of a single segment.
        for payload in [9_500, 1_000, 10] {
            sent.ingress += segmented((&task.outside, &task.inside), family, 200, payload, 1_000)?;
            sent.egress += segmented((&task.inside, &task.outside), family, 100, payload, 1_000)?;
        }
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    Ok(())
}
