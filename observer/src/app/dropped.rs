//! Drops of an interface between two ticks, and losses in the log.

use crate::{
    accounts::unexplained::may_precede_hook,
    flow::{Direction, Traffic},
    kernel::drops::Dropped,
};

/// Drops that may have happened before the hook, by direction.
pub(super) fn before_hook(dropped: &[Dropped]) -> [Traffic; 2] {
    Direction::ALL.map(|direction| {
        let precede =
            |it: &&Dropped| it.direction == direction && may_precede_hook(direction, &it.reason);
        dropped.iter().filter(precede).map(|it| Traffic::from(it.count)).sum()
    })
}

/// Growth of each sum of drops.
pub(super) fn grown<'a>(
    before: &'a [Dropped],
    now: &'a [Dropped],
) -> impl Iterator<Item = (&'a Dropped, Traffic)> {
    now.iter().map(|dropped| {
        let is_same =
            |it: &&Dropped| (it.direction, &it.reason) == (dropped.direction, &dropped.reason);
        let earlier = before.iter().find(is_same).map(|it| it.count).unwrap_or_default();
        (dropped, Traffic::from(dropped.count).saturating_sub(earlier.into()))
    })
}

pub(super) fn warn_of_refused(packets: u64, out_of_memory: bool) {
    if packets == 0 {
    } else if out_of_memory {
        tracing::warn!(
            packets,
            "lost: more flows than fit into memory; a higher memory limit, a shorter --window or faster outputs help"
        );
    } else {
        tracing::warn!(
            packets,
            "lost: more flows than a window may hold; --max-flows sets how many that are"
        );
    }
}
