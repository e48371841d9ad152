//! Unseen traffic that drops do not explain.

use observer_ebpf::abi::Direction;

use crate::flow::Traffic;

/// Reasons, by their kernel names, of drops that may happen before the hook on ingress. Traffic
/// that such drops explain is not reported as unseen.
const BEFORE_INGRESS: [&str; 4] = ["unknown", "XDP", "CPU_BACKLOG", "NOMEM"];

/// True if a packet that was dropped for this reason may have been dropped before the hook. On
/// egress, the interface has not counted such a packet either.
pub fn may_precede_hook(direction: Direction, reason: &str) -> bool {
    direction == Direction::Ingress && BEFORE_INGRESS.contains(&reason)
}

/// Unseen traffic, minus the traffic that drops explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unexplained {
    unseen: Traffic,
    reported: Traffic,
}

impl Unexplained {
    /// Adds unseen traffic. `explained` is the total that drops explain so far. Returns the part
    /// that is neither explained nor reported yet.
    pub fn add(&mut self, more: Traffic, explained: Traffic) -> Traffic {
        self.unseen += more;
        let new = self.unseen.saturating_sub(explained).saturating_sub(self.reported);
        if new.packets == 0 {
            return Traffic::NONE;
        }
        self.reported += new;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(packets: u64) -> Traffic {
        Traffic { packets, bytes: packets * 100 }
    }

    #[test]
    fn what_drops_explain_is_not_told() {
        let mut unexplained = Unexplained::default();
        assert_eq!(unexplained.add(loss(10), loss(4)), loss(6));
        assert_eq!(unexplained.add(loss(0), loss(4)), loss(0));
        // Drops that become known later reduce no reported traffic. They offset later unseen
        // traffic.
        assert_eq!(unexplained.add(loss(3), loss(9)), loss(0));
        assert_eq!(unexplained.add(loss(5), loss(9)), loss(3));
        assert!(
            may_precede_hook(Direction::Ingress, "XDP")
                && !may_precede_hook(Direction::Egress, "XDP")
        );
        assert!(!may_precede_hook(Direction::Ingress, "NO_SOCKET"));
    }
}
