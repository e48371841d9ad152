//! Runs the programs on packets of a capture, and hands records to the sinks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::ProgressBar;
use observer_ebpf::{
    abi::Direction,
    packet::{self, Link, Offload},
};

use super::{
    capture::{Capture, Packet, Source},
    interfaces::Interfaces,
    link::{Frame, LinkType},
    options::Options,
    report::Report,
    segments::{Segments, Shape},
    side::{Side, Sides},
    written::Written,
};
use crate::{
    accounts::{CaptureWindows, ClosedWindow},
    failure::Failure,
    flow::{InterfaceNumber, Traffic},
    kernel::test_run::{Captured, Taken, TestRuns},
    record::Batch,
    sink::Sinks,
    tasks::Identity,
    worker::Deadline,
};

/// State of a replay.
#[derive(Debug)]
pub(super) struct Replay {
    runs: TestRuns,
    sides: Sides,
    segments: Segments,
    windows: CaptureWindows,
    sinks: Option<Sinks>,
    report: Report,
    interfaces: Interfaces,
    /// Number of packets that the programs were run on.
    run: u64,
    /// Number of these since the ring was last read.
    since_ring: u32,
    /// True once the capture has given the direction of a packet.
    has_directions: bool,
}

/// Length of a frame up to the end of its IP packet, in bytes.
fn frame_without_trailer(bytes: &[u8], packet: &packet::Packet) -> Option<u32> {
    packet::layout(bytes, Link::Ethernet).map(|layout| layout.network + packet.wire.bytes as u32)
}

/// Number of packets between updates of the progress bar and checks for signals.
const STRIDE: u64 = 1024;

impl Replay {
    /// Prepares the programs. `name` is the capture's name in messages.
    pub(super) fn new(
        options: &Options,
        identity: Arc<Identity>,
        sinks: Sinks,
        name: &str,
    ) -> Result<Self, Failure> {
        let runs = TestRuns::new()?;
        let interfaces =
            Interfaces::new(&options.file, options.local_mac, identity, runs.max_interfaces());
        Ok(Self {
            runs,
            sides: Sides::new(options.local_mac, &options.local),
            segments: Segments::new(options.mtu),
            windows: CaptureWindows::new(options.output.records.window),
            sinks: Some(sinks),
            report: Report { capture: name.into(), ..Report::default() },
            interfaces,
            run: 0,
            since_ring: 0,
            has_directions: false,
        })
    }

    /// Reads the capture, and runs the programs on every packet.
    pub(super) fn read(
        &mut self,
        capture: &mut Capture,
        progress: &ProgressBar,
        stop: &AtomicBool,
        written: &Written,
    ) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        loop {
            if self.report.packets.is_multiple_of(STRIDE) {
                progress.set_position(capture.position());
                if stop.load(Ordering::Relaxed) {
                    let packets = self.report.packets;
                    return Err(Failure::running(format!(
                        "stopped behind packet {packets}, which is recorded"
                    )));
                }
            }
            if written.has_failed() {
                return Err(Failure::running("records cannot be written"));
            }
            let Some((source, packet)) = capture.next()? else { return self.some_readable() };
            self.report.packets += 1;
            self.packet(source, &packet, &mut buffer)?;
        }
    }

    /// Fails if all packets have unsupported link types.
    fn some_readable(&self) -> Result<(), Failure> {
        let others: Vec<_> = self.report.other_link.keys().map(String::as_str).collect();
        if others.is_empty() || self.report.packets != self.report.other_link.values().sum::<u64>()
        {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{} is of link type {}: replay reads Ethernet, raw IP, Linux cooked and loopback captures",
            self.report.capture,
            others.join(", ")
        )))
    }

    fn packet<'a>(
        &mut self,
        source: &Source,
        packet: &Packet<'a>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.report.cut += u64::from(packet.data.len() < packet.len as usize);
        let link = match LinkType::of(source.link_type) {
            Ok(link) => link,
            Err(unsupported) => {
                *self.report.other_link.entry(unsupported.to_string()).or_default() += 1;
                return Ok(());
            }
        };
        let number = self.interface(link, source, packet)?;
        let Some(unix_ms) = packet.unix_ms else {
            self.report.no_time += 1;
            return Ok(());
        };
        self.report.at(unix_ms);
        let frame = Frame::of(link, packet, buffer);
        let whole = packet::Frame {
            len: frame.len,
            link: Link::Ethernet,
            tags_beside: 0,
            offload: Offload::default(),
        };
        let parsed = packet::parse(frame.bytes, whole);
        let Some(direction) = self.direction(&frame, &parsed)? else {
            self.report.no_direction += 1;
            return Ok(());
        };

        if self.windows.changes_window(number, unix_ms) {
            self.drain()?;
            for closed in self.windows.enter(number, unix_ms) {
                self.hand_over(closed);
            }
        }
        let is_own = direction == Direction::Egress;
        let shape = parsed.map_or(Shape::Single, |packet| {
            self.segments.shape(number, is_own, &packet, frame.bytes, frame.len)
        });
        let len = match parsed {
            // The programs derive the length of a super-packet from its frame, which must not
            // include a trailer.
            Ok(packet) if shape.segment() != 0 => frame_without_trailer(frame.bytes, &packet),
            _ => None,
        };
        let len = len.unwrap_or(frame.len);
        let captured = Captured { bytes: frame.bytes, len, unix_ms, segment: shape.segment() };
        match (self.runs.run(number, direction, &captured)?, parsed) {
            (Taken::Yes, _) => self.count_run(number, shape),
            (Taken::TooShort, Err(skip)) => {
                if let Some(wire) = self.report.refuse(skip) {
                    self.windows
                        .lose(number, Traffic { packets: wire.packets.into(), bytes: wire.bytes });
                }
            }
            (Taken::TooShort, Ok(_)) => {
                return Err(Failure::running(format!(
                    "BPF_PROG_TEST_RUN does not take packet {}, of {} bytes",
                    self.report.packets, frame.len
                )));
            }
        }
        Ok(())
    }

    fn interface(
        &mut self,
        link: LinkType,
        source: &Source,
        packet: &Packet<'_>,
    ) -> Result<InterfaceNumber, Failure> {
        self.interfaces.number(link, source, packet).ok_or_else(|| {
            Failure::running(format!(
                "{}: packet {} belongs to one more interface than replay supports ({}): split the capture",
                self.report.capture,
                self.report.packets,
                self.interfaces.max()
            ))
        })
    }

    /// Direction of a packet; `None` if neither end is local.
    fn direction(
        &mut self,
        frame: &Frame<'_>,
        parsed: &Result<packet::Packet, packet::Skip>,
    ) -> Result<Option<Direction>, Failure> {
        self.has_directions |= frame.direction.is_some();
        match self.sides.of(frame, parsed) {
            Side::Known(direction) => Ok(Some(direction)),
            Side::BothLocal => {
                self.report.both_local += 1;
                Ok(Some(Direction::Egress))
            }
            Side::Undetermined if !self.has_directions => Err(Failure::usage(format!(
                "{} does not say which way its packets went: give --local with the addresses on the interface's \
                 side, or --local-mac with its MAC address",
                self.report.capture
            ))),
            Side::Neither | Side::Undetermined => Ok(None),
        }
    }

    /// Counts a packet that the programs were run on.
    fn count_run(&mut self, number: InterfaceNumber, shape: Shape) {
        self.run += 1;
        let report = &mut self.report.super_packets;
        match shape {
            Shape::Single => {}
            Shape::Negotiated(_) => report.by_mss += 1,
            Shape::Guessed(_) | Shape::Jumbo => {
                let counter =
                    if shape == Shape::Jumbo { &mut report.jumbo } else { &mut report.by_mtu };
                *counter += 1;
                report.mtu = report.mtu.max(self.segments.mtu_of(number));
            }
        }
        self.since_ring += 1;
        if self.since_ring == self.runs.ring_entries() {
            self.since_ring = 0;
            self.runs.read_ring(|delta| self.windows.add(delta));
        }
    }

    /// Adds all counts of the programs to the current windows.
    fn drain(&mut self) -> Result<(), Failure> {
        let Self { runs, windows, interfaces, .. } = self;
        self.since_ring = 0;
        runs.drain(|delta| windows.add(delta))?;
        for (number, interface) in interfaces.iter_mut() {
            interface.account.read(&runs.ledger(number));
            windows.lose(number, interface.account.report_losses());
        }
        Ok(())
    }

    /// Hands the records of a window to the sinks. Waits until they have room.
    fn hand_over(&mut self, closed: ClosedWindow) {
        let ClosedWindow { interface, window, flows, lost } = closed;
        for flow in flows.flows() {
            self.report.recorded.packets += flow.counters.packets;
            self.report.recorded.bytes += flow.counters.bytes;
        }
        let subject = self.interfaces.subject(interface);
        let lossy = if lost.is_none() { Vec::new() } else { vec![(interface, lost)] };
        let subjects = BTreeMap::from([(interface, subject)]);
        let batch = Batch { flows, subjects, lossy, ..Batch::new(window) };
        if !batch.is_empty()
            && let Some(sinks) = &self.sinks
        {
            sinks.send(batch);
        }
    }

    /// Writes the remaining records. Returns the report, and an error if records were not written.
    pub(super) fn finish(
        mut self,
        capture: &Capture,
        written: &Written,
    ) -> Result<(Report, Result<(), Failure>), Failure> {
        self.drain()?;
        for closed in self.windows.close() {
            self.hand_over(closed);
        }
        let closed = self.sinks.take().map_or(Ok(()), |sinks| sinks.close(&Deadline::never()));
        let report = &mut self.report;
        report.interfaces = self.interfaces.len();
        report.dropped_by_capture = capture.dropped();
        report.reopened_windows = self.windows.reopened();
        report.recorded.records = written.records();
        report.complete(self.run, self.interfaces.accounts().flat_map(|account| *account.ledger()));
        let result = match closed {
            Err(error) => Err(Failure::during("the last records were not written", error)),
            Ok(()) if written.has_failed() => Err(Failure::running("records were not written")),
            Ok(()) => Ok(()),
        };
        Ok((self.report, result))
    }
}
