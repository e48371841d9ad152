use crate::flow::Room;

/// Limits of the open window.
#[derive(Debug)]
pub(super) struct Shares {
    max_flows: usize,
    room: Room,
    /// Flows that each interface may create, regardless of the others.
    share: usize,
    /// Flows added since the last window was closed.
    open: usize,
    /// True if a flow was refused because memory was full.
    out_of_memory: bool,
}

/// Divisor: this part of the room is reserved for interfaces within their share.
const KEPT: usize = 4;

/// Permission to add a flow to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// The flow may be added.
    Allowed,
    /// The window has its largest number of flows.
    Full,
    /// The window has room, but memory is full.
    OutOfMemory,
}

impl Shares {
    /// Creates the limits of a window of up to `max_flows` flows. Flows within the shares of their
    /// interfaces may exceed it.
    pub(super) fn new(max_flows: usize, room: Room) -> Self {
        let mut shares = Self { max_flows, room, share: 0, open: 0, out_of_memory: false };
        shares.divide(1);
        shares
    }

    /// Divides the window among this many interfaces.
    pub(super) fn divide(&mut self, interfaces: usize) {
        self.share = self.max_flows.min(self.room.left() / KEPT) / interfaces.max(1);
    }

    /// Decides if an interface may add a flow to a table of `flows` flows, `own` of which are its
    /// own.
    pub(super) fn growth(&self, flows: usize, own: usize) -> Growth {
        let left = self.room.left();
        let within = own < self.share;
        match if within { left } else { left - left / KEPT } {
            _ if !within && flows >= self.max_flows => Growth::Full,
            most if self.open >= most => Growth::OutOfMemory,
            _ => Growth::Allowed,
        }
    }

    /// Counts an added flow.
    pub(super) fn grew(&mut self) {
        self.open += 1;
    }

    /// Records that a flow was refused.
    pub(super) fn refused(&mut self, growth: Growth) {
        self.out_of_memory |= growth == Growth::OutOfMemory;
    }

    /// Ends a window. The next one already has `flows` flows. Returns true if a flow was refused
    /// because memory was full.
    pub(super) fn close(&mut self, flows: usize) -> bool {
        self.open = flows;
        std::mem::take(&mut self.out_of_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of flows that each interface gets if the interfaces try to create the `wanted`
    /// numbers of flows, one interface after the other.
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
        // Flows that were counted for the next window before the last one was closed take memory
        // too.
        shares.close(390);
        assert_eq!(fill(&mut shares, &[500]), [10]);
    }
}
