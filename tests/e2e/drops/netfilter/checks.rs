//! Drops of all UDP traffic of a task to one port, in one direction.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab, need, requires,
    tally::{Crossed, Direction, Tally},
    traffic::ping,
    veth::{Family, Task},
};

use crate::drops::{NETFILTER, all_rejected, assert_flows_rejected, udp};

/// Checks a drop of ingress traffic to [`SINK`](observer_tests::traffic::SINK), after the hook has
/// counted it.
pub(super) fn drops_behind_the_hook(
    drop: impl Fn(&Task) -> Result<()>,
    reason: &str,
) -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    drop(&task)?;
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    for family in Family::ALL {
        sent.ingress += udp(family).send(&task.outside, &task.inside)?;
        // Egress traffic is not dropped.
        sent.egress += udp(family).send(&task.inside, &task.outside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    for family in Family::ALL {
        assert_flows_rejected(&books, &task, Direction::Ingress, &udp(family), reason)?;
    }
    assert_eq!(all_rejected(&books.records, &task.inside), sent.ingress);
    assert_eq!(books.metrics.dropped(&task.inside, Direction::Ingress, reason), sent.ingress);
    assert_eq!(books.stopped(&task.inside), Crossed::default());
    Ok(())
}

/// Checks a drop of egress traffic to [`SINK`](observer_tests::traffic::SINK), before the hook
/// could see it.
pub(super) fn drops_before_the_hook(drop: impl Fn(&Task) -> Result<()>) -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    drop(&task)?;
    let daemon = lab.daemon().start()?;
    let mut stopped = Tally::default();
    for family in Family::ALL {
        stopped += udp(family).send_refused(&task.inside, &task.outside)?;
    }
    let pings = ping(&task.inside, &task.outside, Family::V4, 5, 56)?.each_way;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed { ingress: pings, egress: pings });
    for family in Family::ALL {
        assert_flows_rejected(&books, &task, Direction::Egress, &udp(family), NETFILTER)?;
    }
    assert_eq!(all_rejected(&books.records, &task.inside), stopped);
    assert_eq!(books.stopped(&task.inside), Crossed::egress(stopped));
    assert_eq!(books.metrics.dropped(&task.inside, Direction::Egress, NETFILTER), stopped);
    Ok(())
}
