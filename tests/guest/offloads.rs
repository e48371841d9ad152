//! Super-packets of every kind of interface, in transfers that an emulated processor completes in
//! seconds.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab,
    lab::Lab,
    offloads::Offloads,
    tally::Crossed,
    traffic::{Transfer, exchange},
    veth::Family,
};

fn counts_exactly(lab: &Lab, offloads: Offloads) -> Result<()> {
    let mut task = lab.task("task")?;
    task.set_offloads(offloads)?;
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    for family in Family::ALL {
        let down = Transfer { family, request: 1_000, response: 3_000_000 };
        let down = exchange(&task.inside, &task.outside, down)?;
        sent += Crossed { ingress: down.from_server, egress: down.from_client };
        let up = Transfer { family, request: 1_000_000, response: 1_000 };
        let up = exchange(&task.inside, &task.outside, up)?;
        sent += Crossed { ingress: up.from_server, egress: up.from_client };
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    Ok(())
}

#[test]
fn super_packets_that_cross_whole_are_their_segments() -> Result<()> {
    let lab = lab!();
    counts_exactly(&lab, Offloads::VETH)
}

#[test]
fn super_packets_that_are_cut_behind_the_hook_are_their_segments() -> Result<()> {
    let lab = lab!();
    counts_exactly(&lab, Offloads::NONE)
}

#[test]
fn super_packets_that_are_merged_before_the_hook_are_their_segments() -> Result<()> {
    let lab = lab!();
    counts_exactly(&lab, Offloads::MERGED)
}
