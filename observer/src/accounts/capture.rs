//! Windows of a capture. Pure.
//!
//! Each interface of a capture has its own clock. Its packets may be slightly out of order, so a
//! packet before a window's boundary may follow one after it. A window therefore stays open for
//! some seconds of capture time. An even later packet opens its window again: the flow has a second
//! record, and no packet is left out.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::flow::{Delta, InterfaceNumber, Table, Traffic, Window};

/// Seconds of capture time for which a window stays open after its end.
const PATIENCE: i64 = 10;

/// A closed window of one interface, with everything to record.
#[derive(Debug)]
pub struct ClosedWindow {
    /// The interface.
    pub interface: InterfaceNumber,
    /// The window.
    pub window: Window,
    /// Flows of the window.
    pub flows: Table,
    /// Traffic of the window that is in no record.
    pub lost: Traffic,
}

/// Windows of all interfaces of a capture.
#[derive(Debug)]
pub struct CaptureWindows {
    seconds: i64,
    /// Index: interface number minus 1.
    interfaces: Vec<Clocked>,
    reopened: u64,
}

/// Windows of one interface.
#[derive(Debug, Default)]
struct Clocked {
    /// Start of the window that packets are counted for.
    current: Option<i64>,
    /// Open windows, by start.
    open: BTreeMap<i64, Open>,
    /// Latest end of the closed windows.
    closed_to: Option<i64>,
}

#[derive(Debug, Default)]
struct Open {
    flows: Table,
    lost: Traffic,
}

impl CaptureWindows {
    /// Creates windows of this length in seconds.
    pub fn new(seconds: u32) -> Self {
        Self { seconds: seconds.into(), interfaces: Vec::new(), reopened: 0 }
    }

    /// True if a packet of this time belongs to another window than the previous packet. All counts
    /// must then be added before [`enter`](Self::enter).
    pub fn changes_window(&self, interface: InterfaceNumber, unix_ms: i64) -> bool {
        self.place(interface).is_none_or(|clocked| clocked.current != Some(self.start(unix_ms)))
    }

    /// Enters the window of this time. Returns the windows that are over.
    pub fn enter(&mut self, interface: InterfaceNumber, unix_ms: i64) -> Vec<ClosedWindow> {
        let (start, seconds) = (self.start(unix_ms), self.seconds);
        let index = usize::from(interface.get()) - 1;
        if self.interfaces.len() <= index {
            self.interfaces.resize_with(index + 1, Clocked::default);
        }
        let clocked = &mut self.interfaces[index];
        clocked.current = Some(start);
        if let Entry::Vacant(place) = clocked.open.entry(start) {
            place.insert(Open::default());
            self.reopened += u64::from(clocked.closed_to.is_some_and(|end| start < end));
        }
        // Over: far behind, or far ahead because the clock was set back.
        let is_over =
            |other: i64| other + seconds + PATIENCE <= start || other >= start + seconds + PATIENCE;
        let over: Vec<i64> = clocked.open.keys().copied().filter(|other| is_over(*other)).collect();
        over.into_iter().filter_map(|start| clocked.close(interface, start, seconds)).collect()
    }

    /// Adds counts to a flow of the current window. The times in `delta` are milliseconds modulo
    /// 2^32.
    pub fn add(&mut self, mut delta: Delta) {
        let Some((start, open)) = self.current(delta.key.interface()) else { return };
        let start_ms = start * 1000;
        let complete = |ms: i64| start_ms + i64::from((ms as u32).wrapping_sub(start_ms as u32));
        delta.counters.first_ms = complete(delta.counters.first_ms);
        delta.counters.last_ms = complete(delta.counters.last_ms);
        open.flows.add(&delta);
    }

    /// Adds lost traffic to the current window.
    pub fn lose(&mut self, interface: InterfaceNumber, lost: Traffic) {
        if let Some((_, open)) = self.current(interface) {
            open.lost += lost;
        }
    }

    /// Closes all windows that are still open.
    pub fn close(&mut self) -> Vec<ClosedWindow> {
        let seconds = self.seconds;
        let numbered = self.interfaces.iter_mut().zip(1..);
        numbered
            .flat_map(|(clocked, number)| {
                let starts: Vec<i64> = clocked.open.keys().copied().collect();
                let interface = InterfaceNumber::new(number);
                starts
                    .into_iter()
                    .filter_map(|start| clocked.close(interface, start, seconds))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Number of windows that were opened again.
    pub fn reopened(&self) -> u64 {
        self.reopened
    }

    fn start(&self, unix_ms: i64) -> i64 {
        let now = unix_ms.div_euclid(1000);
        now - now.rem_euclid(self.seconds)
    }

    fn place(&self, interface: InterfaceNumber) -> Option<&Clocked> {
        self.interfaces.get(usize::from(interface.get()).checked_sub(1)?)
    }

    fn current(&mut self, interface: InterfaceNumber) -> Option<(i64, &mut Open)> {
        let clocked = self.interfaces.get_mut(usize::from(interface.get()).checked_sub(1)?)?;
        let start = clocked.current?;
        Some((start, clocked.open.get_mut(&start)?))
    }
}

impl Clocked {
    fn close(
        &mut self,
        interface: InterfaceNumber,
        start: i64,
        seconds: i64,
    ) -> Option<ClosedWindow> {
        let Open { flows, lost } = self.open.remove(&start)?;
        let window = Window { start, end: start + seconds };
        self.closed_to = self.closed_to.max(Some(window.end));
        Some(ClosedWindow { interface, window, flows, lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Counters, Direction, Family, FlowKey, Icmp};

    const ONE: InterfaceNumber = InterfaceNumber::new(1);
    const TWO: InterfaceNumber = InterfaceNumber::new(2);
    /// A multiple of 60 s, in milliseconds.
    const T: i64 = 1_700_000_040_000;

    fn packet(windows: &mut CaptureWindows, interface: InterfaceNumber, unix_ms: i64) -> Vec<i64> {
        let closed = if windows.changes_window(interface, unix_ms) {
            windows.enter(interface, unix_ms)
        } else {
            vec![]
        };
        let now = i64::from(unix_ms as u32);
        windows.add(Delta {
            key: FlowKey::new(
                interface,
                Direction::Ingress,
                Family::V6,
                17,
                ([0, 1], [0, 2]),
                (1, 2),
            ),
            counters: Counters {
                packets: 1,
                bytes: 100,
                first_ms: now,
                last_ms: now,
                tcp_flags_all: 0,
                tcp_flags_aws: 0,
                icmp: Icmp::None,
                undelivered: 0,
            },
        });
        closed.iter().map(|closed| (closed.window.start * 1000 - T) / 1000).collect()
    }

    fn times(closed: &ClosedWindow) -> (i64, i64, u64) {
        let flows: Vec<_> = closed.flows.flows().collect();
        assert_eq!(flows.len(), 1);
        let counters = flows[0].counters;
        (counters.first_ms, counters.last_ms, counters.packets)
    }

    #[test]
    fn windows_stay_open_for_late_packets_and_close_in_order() {
        let mut windows = CaptureWindows::new(60);
        assert!(packet(&mut windows, ONE, T + 59_999).is_empty());
        assert!(packet(&mut windows, ONE, T + 60_000).is_empty());
        assert!(packet(&mut windows, ONE, T + 59_000).is_empty(), "late");
        assert!(packet(&mut windows, ONE, T + 119_000).is_empty());
        assert_eq!(packet(&mut windows, ONE, T + 120_000), [0]);
        let closed = windows.close();
        assert_eq!(closed.len(), 2);
        assert_eq!(times(&closed[0]), (T + 60_000, T + 119_000, 2));
        assert_eq!(windows.reopened(), 0);
    }

    #[test]
    fn times_are_completed_across_the_wrap_of_32_bits() {
        let wrap = (T >> 32 << 32) + (1 << 32);
        let mut windows = CaptureWindows::new(600);
        packet(&mut windows, ONE, wrap + 5);
        packet(&mut windows, ONE, wrap - 5);
        assert_eq!(times(&windows.close()[0]), (wrap - 5, wrap + 5, 2));
    }

    #[test]
    fn short_windows_wait_as_long() {
        let mut windows = CaptureWindows::new(1);
        let mut over = Vec::new();
        for second in 0..20 {
            over.extend(packet(&mut windows, ONE, T + second * 1000));
        }
        assert_eq!(over, (0..9).collect::<Vec<_>>());
        assert_eq!(windows.close().len(), 11);
    }

    #[test]
    fn a_clock_set_back_opens_windows_again_and_loses_nothing() {
        let mut windows = CaptureWindows::new(60);
        packet(&mut windows, ONE, T);
        packet(&mut windows, ONE, T + 3_600_000);
        assert_eq!(packet(&mut windows, ONE, T + 1), [3600], "an hour back");
        assert_eq!(windows.reopened(), 1);
        assert!(packet(&mut windows, ONE, T + 2).is_empty());
        assert_eq!(times(&windows.close()[0]), (T + 1, T + 2, 2));
    }

    #[test]
    fn interfaces_have_clocks_of_their_own() {
        let mut windows = CaptureWindows::new(60);
        for minute in 0..3 {
            assert!(packet(&mut windows, ONE, T + minute).is_empty());
            assert!(packet(&mut windows, TWO, T - 3_600_000 + minute).is_empty());
        }
        windows.lose(TWO, Traffic { packets: 2, bytes: 80 });
        let closed = windows.close();
        assert_eq!(closed.iter().map(|closed| closed.interface).collect::<Vec<_>>(), [ONE, TWO]);
        assert_eq!(closed[1].lost, Traffic { packets: 2, bytes: 80 });
        assert_eq!(times(&closed[0]).2 + times(&closed[1]).2, 6);
    }
}
