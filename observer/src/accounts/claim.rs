//! Unseen traffic that no drop explains.

use observer_ebpf::abi::Direction;

use crate::flow::Traffic;

/// Drops that may have happened before the hook on ingress, by the kernel's names: what they
/// explain was not unseen.
const BEFORE_INGRESS: [&str; 4] = ["unknown", "XDP", "CPU_BACKLOG", "NOMEM"];

/// Whether a packet that the kernel dropped for this reason may have been dropped before the hook
/// saw it. On egress such a packet was not counted by the interface either.
pub fn may_precede_hook(direction: Direction, reason: &str) -> bool {
    direction == Direction::Ingress && BEFORE_INGRESS.contains(&reason)
}

/// What was not seen, less what drops explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    unseen: Traffic,
    told: Traffic,
}

impl Claim {
    /// More was not seen, and by now drops explain so much. Returns what remains, and is new.
    pub fn add(&mut self, more: Traffic, explained: Traffic) -> Traffic {
        self.unseen += more;
        let new = self.unseen.saturating_sub(explained).saturating_sub(self.told);
        if new.packets == 0 {
            return Traffic::NONE;
        }
        self.told += new;
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
        let mut claim = Claim::default();
        assert_eq!(claim.add(loss(10), loss(4)), loss(6));
        assert_eq!(claim.add(loss(0), loss(4)), loss(0));
        // Drops that become known later take nothing back, and pay for what comes.
        assert_eq!(claim.add(loss(3), loss(9)), loss(0));
        assert_eq!(claim.add(loss(5), loss(9)), loss(3));
        assert!(
            may_precede_hook(Direction::Ingress, "XDP")
                && !may_precede_hook(Direction::Egress, "XDP")
        );
        assert!(!may_precede_hook(Direction::Ingress, "NO_SOCKET"));
    }
}
