use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Memory for flows, shared by all windows. A closed window holds its claim until all outputs have
/// written it. The open window has the rest.
#[derive(Clone, Debug)]
pub struct Room {
    flows: usize,
    taken: Arc<AtomicUsize>,
}

/// Claimed memory, released on drop.
#[derive(Debug)]
pub struct Claim {
    flows: usize,
    taken: Arc<AtomicUsize>,
}

impl Room {
    /// Creates room for this number of flows.
    pub fn new(flows: usize) -> Self {
        Self { flows, taken: Arc::default() }
    }

    /// Claims memory for `flows` flows, even if less is left: flows that are in memory are counted
    /// in any case.
    pub fn claim(&self, flows: usize) -> Claim {
        self.taken.fetch_add(flows, Ordering::Relaxed);
        Claim { flows, taken: Arc::clone(&self.taken) }
    }

    /// Number of flows that still fit.
    pub fn left(&self) -> usize {
        self.flows.saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.flows, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_until_the_claim_is_dropped() {
        let room = Room::new(10);
        let first = room.claim(4);
        assert_eq!(room.left(), 6);
        let second = room.clone().claim(8);
        assert_eq!(room.left(), 0);
        drop(first);
        assert_eq!(room.left(), 2);
        drop(second);
        assert_eq!(room.left(), 10);
    }
}
