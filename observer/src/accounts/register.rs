use observer_ebpf::abi::Ledger;

use super::{
    Named,
    interface::{Interface, Stage},
    shares::{Growth, Shares},
};
use crate::{
    flow::{Added, Delta, InterfaceNumber, Table, Traffic, Window},
    tasks::InterfaceKey,
};

/// Interfaces by number, and the room that they share in a window.
#[derive(Debug)]
pub(super) struct Register {
    places: Vec<Place>,
    /// Counts that arrived before their interface was registered.
    early: Vec<Delta>,
    shares: Shares,
    refused: Refused,
}

/// A number, and the interface that has it.
#[derive(Debug, Default)]
struct Place {
    interface: Option<Box<Interface>>,
    /// Ledger readings when the previous interface gave up the number. Ledgers are never reset.
    base: [Ledger; 2],
}

/// Result of adding a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is in the window.
    Recorded,
    /// It waits for the registration of its interface.
    Early,
    /// The window had no room.
    Refused,
}

/// Counts for which a full window had no room, since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// Refused traffic. It is also in the accounts of the interfaces.
    pub(super) traffic: Traffic,
    /// Refused packets that were dropped after the hook. They stay recorded as accepted.
    pub(super) rejected_packets: u64,
}

impl Register {
    /// Creates a register for numbers up to `numbers`.
    pub(super) fn new(numbers: u16, shares: Shares) -> Self {
        Self {
            places: (0..=numbers).map(|_| Place::default()).collect(),
            early: Vec::new(),
            shares,
            refused: Refused::default(),
        }
    }

    pub(super) fn get(&mut self, number: InterfaceNumber) -> Option<&mut Interface> {
        self.places.get_mut(usize::from(number.get()))?.interface.as_deref_mut()
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Interface> {
        self.places.iter_mut().filter_map(|place| place.interface.as_deref_mut())
    }

    /// Opens an account under a number.
    pub(super) fn put(
        &mut self,
        number: InterfaceNumber,
        key: InterfaceKey,
        named: Named,
        patience_ms: i64,
    ) {
        if let Some(place) = self.places.get_mut(usize::from(number.get())) {
            place.interface =
                Some(Box::new(Interface::new(number, key, named, patience_ms, &place.base)));
        }
    }

    /// Gives up a number. The next account under it starts from the current ledger readings.
    pub(super) fn remove(&mut self, number: InterfaceNumber) {
        if let Some(place) = self.places.get_mut(usize::from(number.get()))
            && let Some(interface) = place.interface.take()
        {
            place.base = interface.account.close();
        }
    }

    /// Number of interfaces whose accounts are not closed.
    pub(super) fn open(&mut self) -> usize {
        self.all().filter(|interface| interface.stage() != Stage::Closed).count()
    }

    /// Divides the room of a window among this many interfaces.
    pub(super) fn share_among(&mut self, count: usize) {
        self.shares.divide(count);
    }

    /// Takes counts that arrived before their interface was registered. The caller adds them again.
    pub(super) fn take_early(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.early)
    }

    /// Ends a window. The next one already has `next_flows` flows. Returns true if a flow was
    /// refused because memory was full.
    pub(super) fn close_window(&mut self, next_flows: usize) -> bool {
        self.shares.close(next_flows)
    }

    pub(super) fn take_refused(&mut self) -> Refused {
        std::mem::take(&mut self.refused)
    }

    /// Adds a count to the flows of a window, and to the account of its interface.
    pub(super) fn add(&mut self, flows: &mut Table, window: Window, mut delta: Delta) -> Placed {
        let place = self.places.get_mut(usize::from(delta.key.interface().get()));
        let Some(interface) = place.and_then(|place| place.interface.as_deref_mut()) else {
            // Each interface is registered before its first packet, but the event is still in the
            // channel.
            self.early.push(delta);
            return Placed::Early;
        };
        // The coarse clock lags by up to 10 ms, so a packet after a window's boundary may have a
        // time before it.
        delta.counters.begin_no_earlier_than(window.start * 1000);
        let traffic = Traffic { packets: delta.counters.packets, bytes: delta.counters.bytes };
        // Also counted as accepted: `Table::settle` divides the packets between the two flows.
        let is_part = delta.key.is_rejected_behind_hook();
        let growth = self.shares.growth(flows.len(), interface.window_flows);
        let added = flows.add_if(&delta, growth == Growth::Allowed);
        match added {
            Added::Known => {}
            Added::New => {
                interface.window_flows += 1;
                self.shares.grew();
            }
            Added::Refused => self.shares.refused(growth),
        }
        match (added, is_part) {
            (Added::Known | Added::New, false) => {
                interface.account.record(delta.key.direction(), delta.key.protocol(), traffic);
                interface.window_traffic[delta.key.direction() as usize] += traffic;
            }
            (Added::Known | Added::New, true) => {}
            (Added::Refused, true) => self.refused.rejected_packets += traffic.packets,
            (Added::Refused, false) => {
                interface.account.refuse(delta.key.direction(), traffic);
                self.refused.traffic += traffic;
            }
        }
        if added == Added::Refused { Placed::Refused } else { Placed::Recorded }
    }

    /// Sets the ledger readings from which the next accounts start.
    pub(super) fn set_bases(&mut self, ledgers_of: impl Fn(InterfaceNumber) -> [Ledger; 2]) {
        for (number, place) in (0..).zip(&mut self.places) {
            place.base = ledgers_of(InterfaceNumber::new(number));
        }
    }

    /// Continues the account of an earlier run under its number.
    pub(super) fn put_continued(&mut self, interface: Interface) {
        if let Some(place) = self.places.get_mut(usize::from(interface.number.get())) {
            place.interface = Some(Box::new(interface));
        }
    }

    /// Counts flows that were added without [`add`](Self::add).
    pub(super) fn restored(&mut self, flows: &Table) {
        for flow in flows.flows() {
            if let Some(interface) = self.get(flow.key.interface()) {
                interface.window_flows += 1;
            }
            self.shares.grew();
        }
    }
}

#[cfg(test)]
mod tests {
    use observer_ebpf::abi::Direction;

    use super::*;
    use crate::{
        accounts::examples::{delta, key, named, number},
        flow::Room,
    };

    const WINDOW: Window = Window { start: 60, end: 120 };

    fn register(max_flows: usize) -> Register {
        let mut register = Register::new(3, Shares::new(max_flows, Room::new(1 << 20)));
        for one in [1, 2] {
            register.put(number(one), key(one.into()), named("eth0"), 0);
        }
        register.share_among(2);
        register
    }

    #[test]
    fn counts_before_the_registration_are_kept() {
        let (mut register, mut flows) = (register(10), Table::new());
        register.add(&mut flows, WINDOW, delta(3, 1, 5));
        assert!(flows.is_empty());
        register.put(number(3), key(3), named("eth0"), 0);
        for delta in register.take_early() {
            register.add(&mut flows, WINDOW, delta);
        }
        assert_eq!(flows.flows().map(|flow| flow.counters.packets).sum::<u64>(), 5);
    }

    #[test]
    fn a_full_window_refuses_flows_beyond_the_share_and_counts_them() {
        let (mut register, mut flows) = (register(4), Table::new());
        for flow in 0..4 {
            register.add(&mut flows, WINDOW, delta(1, flow, 1));
        }
        // The window is full. An interface beyond its share is refused, another one is not.
        register.add(&mut flows, WINDOW, delta(1, 4, 3));
        register.add(&mut flows, WINDOW, delta(2, 0, 1));
        // Counts of a known flow are still added.
        register.add(&mut flows, WINDOW, delta(1, 0, 1));
        assert_eq!(flows.len(), 5);
        let refused = register.take_refused();
        assert_eq!(refused.traffic, Traffic { packets: 3, bytes: 300 });
        assert_eq!(register.take_refused(), Refused::default());
        let account = &register.get(number(1)).unwrap().account;
        assert_eq!(account.refused()[Direction::Ingress as usize].packets, 3);
    }

    #[test]
    fn an_account_starts_where_the_one_before_it_under_its_number_ended() {
        let mut register = register(4);
        let ledgers = [Ledger { packets: 5, bytes: 500, ..Ledger::default() }, Ledger::default()];
        register.get(number(1)).unwrap().account.read(&ledgers);
        register.remove(number(1));
        assert!(register.get(number(1)).is_none());
        register.put(number(1), key(9), named("eth1"), 0);
        let account = &mut register.get(number(1)).unwrap().account;
        assert_eq!(account.read(&ledgers)[0], Ledger::default());
    }
}
