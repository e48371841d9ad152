use crate::flow::Room;

/// The limits of the open window.
#[derive(Debug)]
pub(super) struct Shares {
    max_flows: usize,
    room: Room,
    /// Flows that each interface may make, whatever the others do.
    share: usize,
    /// Flows that were added since the last window was closed.
    open: usize,
    /// Whether a flow was refused because memory had no room for it.
    out_of_memory: bool,
}

/// The part of the room that is kept for interfaces within their share.
const KEPT: usize = 4;

/// Whether a window may take one more flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// It may.
    Allowed,
    /// It has as many as it may have.
    Full,
    /// It may, but memory has no room.
    OutOfMemory,
}

impl Shares {
    /// Of a window with up to `max_flows` flows, and as many more as are within the shares of their
    /// interfaces.
    pub(super) fn new(max_flows: usize, room: Room) -> Self {
        let mut shares = Self { max_flows, room, share: 0, open: 0, out_of_memory: false };
        shares.divide(1);
        shares
    }

    /// Divides the window among so many interfaces.
    pub(super) fn divide(&mut self, interfaces: usize) {
        self.share = self.max_flows.min(self.room.left() / KEPT) / interfaces.max(1);
    }

    /// Whether a table with `flows` flows, of which `own` are of one interface, may take another
    /// one of this interface.
    pub(super) fn growth(&self, flows: usize, own: usize) -> Growth {
        let left = self.room.left();
        let within = own < self.share;
        match if within { left } else { left - left / KEPT } {
            _ if !within && flows >= self.max_flows => Growth::Full,
            most if self.open >= most => Growth::OutOfMemory,
            _ => Growth::Allowed,
        }
    }

    /// A flow was added.
    pub(super) fn grew(&mut self) {
        self.open += 1;
    }

    /// A flow was refused.
    pub(super) fn refused(&mut self, growth: Growth) {
        self.out_of_memory |= growth == Growth::OutOfMemory;
    }

    /// The window is closed; the next one holds `flows` flows already. Says whether memory had no
    /// room for a flow.
    pub(super) fn close(&mut self, flows: usize) -> bool {
        self.open = flows;
        std::mem::take(&mut self.out_of_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flows that interfaces come to have of those that they try to make, one after the other.
    fn fill(shares: &mut Shares, wanted: &[usize]) -> Vec<usize> {
        let mut total = shares.open;
        let of_each = wanted.iter().map(|wanted| {
            let mut own = 0;
            for _ in 0..*wanted {
                match shares.growth(total, own) {
                    Growth::Allowed => {
                        shares.grew();
                        (total, own) = (total + 1, own + 1);
                    }
                    refused => shares.refused(refused),
                }
            }
            own
        });
        of_each.collect()
    }

    #[test]
    fn an_interface_has_its_share_of_a_window_that_another_one_has_filled() {
        let mut shares = Shares::new(100, Room::new(1000));
        shares.divide(4);
        assert_eq!(fill(&mut shares, &[500, 30, 30, 20]), [100, 25, 25, 20]);
        assert!(!shares.close(0));
    }

    #[test]
    fn memory_is_never_exceeded_and_keeps_a_part_for_the_shares() {
        let mut shares = Shares::new(1000, Room::new(400));
        shares.divide(4);
        assert_eq!(fill(&mut shares, &[500, 30, 30, 30]), [300, 25, 25, 25]);
        assert!(shares.close(0));
        shares.divide(1);
        assert_eq!(fill(&mut shares, &[5000]), [300]);
        assert!(shares.close(0));
        assert!(!shares.close(0));
    }

    #[test]
    fn a_window_that_waits_for_its_output_leaves_less_to_the_next() {
        let room = Room::new(400);
        let mut shares = Shares::new(1000, room.clone());
        assert_eq!(fill(&mut shares, &[500]), [300]);
        let waiting = room.claim(300);
        shares.close(0);
        shares.divide(1);
        assert_eq!(fill(&mut shares, &[500]), [75]);
        drop(waiting);
        assert_eq!(fill(&mut shares, &[500]), [300 - 75]);
        // What was counted for the next window before the last one was closed is in memory too.
        shares.close(390);
        assert_eq!(fill(&mut shares, &[500]), [10]);
    }
}
