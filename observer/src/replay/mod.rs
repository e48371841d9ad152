//! `observer replay`: a capture through the same eBPF bytecode, to the same records.
//!
//! Owns: reading captures, and what is known of a packet only while it is captured: its time, its length, which way it
//! went, for how many packets it stands. In: a pcap or pcapng file. Out: [`Batch`]es for the sinks, and a report in
//! which every packet of the file is found again.
//!
//! - `capture`: files to packets
//! - `link`: packets to Ethernet frames; `link_names`: what others are called
//! - `side`: which way a frame went
//! - `segments`: super-packets
//! - `report`: what became of every packet

mod capture;
mod link;
mod link_names;
mod report;
mod segments;
mod side;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, IsTerminal, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipnet::IpNet;
use observer_ebpf::{
    abi::Direction,
    packet::{self, Link, Offload},
};
use signal_hook::consts::{SIGINT, SIGTERM};

pub use self::capture::CaptureError;
use self::{
    capture::{Capture, Packet, Source},
    link::{Frame, LinkType, interface_index},
    report::Report,
    segments::{Segments, Shape},
    side::{Side, Sides},
};
use crate::{
    accounts::{Account, CaptureWindows, ClosedWindow},
    app::{self, Failure},
    config::Config,
    flow::{InterfaceNumber, Traffic},
    kernel::{
        preflight,
        test_run::{Captured, Taken, TestRuns},
    },
    record::{Batch, Subject},
    sink::{Counts, Output, Recovered, SinkLoss, SinkObserver, Sinks},
    tasks::{Identity, Mac, TasksFile},
    worker::Deadline,
};

/// What is replayed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The capture; `-` for standard input.
    pub file: PathBuf,
    /// Networks on the interface's side.
    pub local: Vec<IpNet>,
    /// The interface's address.
    pub local_mac: Option<Mac>,
    /// The interface's MTU.
    pub mtu: Option<u32>,
    /// The report as JSON.
    pub json: bool,
}

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Open { .. } | CaptureError::Foreign { .. } => Self::Usage(error.to_string()),
            CaptureError::Broken { .. } => Self::Running(format!("{error} (what is before it is recorded)")),
        }
    }
}

/// Replays a capture; the report goes to standard error.
pub fn run(options: &Options, config: &Config) -> Result<(), Failure> {
    let mut capture = Capture::open(&options.file)?;
    let identity = identity(options, config)?;
    preflight::check()?;
    app::writable_outputs(config)?;
    let stop = stop_signals(&options.file)?;
    let sink_options = app::sink_options(config);
    let written = Arc::new(Written::by(sink_options.outputs[0]));
    let sinks = Sinks::start(&sink_options, Arc::clone(&written) as Arc<dyn SinkObserver>)
        .map_err(|error| Failure::Running(format!("starting the sinks: {error}")))?;
    let mut replay = Replay::new(options, config, identity, sinks, capture.name())?;

    let progress = progress(&capture, config);
    let read = replay.read(&mut capture, &progress, &stop, &written);
    let finished = replay.finish(&capture, &written);
    progress.finish_and_clear();
    if let Err(failure @ (Failure::Usage(_) | Failure::Host(_))) = read {
        return Err(failure);
    }
    let (report, written) = finished?;
    let report = if options.json { report.to_json() + "\n" } else { report.to_string() };
    // A standard error that is closed is no reason to fail.
    let _ = io::stderr().write_all(report.as_bytes());
    read.and(written)
}

/// What the tasks file says of the interface.
fn identity(options: &Options, config: &Config) -> Result<Arc<Identity>, Failure> {
    let file = config.tasks_file.as_deref().map(TasksFile::open).transpose()?;
    Ok(Arc::new(match (&file, options.local_mac) {
        (Some(file), Some(mac)) => file.identity(mac),
        _ => Identity::default(),
    }))
}

/// A flag that the first signal to stop sets; the second one ends the process.
///
/// Who interrupts a pipe interrupts both ends of it: there the capture ends by itself, and is read to that end.
fn stop_signals(file: &Path) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = if file == Path::new("-") { Arc::default() } else { Arc::clone(&stop) };
    for (signal, flag) in [(SIGINT, interrupted), (SIGTERM, Arc::clone(&stop))] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, flag))
            .map_err(|error| Failure::Running(format!("listening to signals: {error}")))?;
    }
    Ok(stop)
}

/// Only where somebody looks, and nothing else is written to the same terminal.
fn progress(capture: &Capture, config: &Config) -> ProgressBar {
    let prints = config.output.outputs.contains(&Output::Stdout) && io::stdout().is_terminal();
    let target = if prints { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(capture.size(), target);
    let template = if capture.size().is_some() {
        "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
    } else {
        "{spinner} {bytes}, {bytes_per_sec}"
    };
    // The templates are sound: without a style the bar would look a little different.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// What the sinks have done.
#[derive(Debug)]
struct Written {
    /// The output whose records are counted: all write the same.
    output: Output,
    records: AtomicU64,
    failed: AtomicBool,
}

impl Written {
    fn by(output: Output) -> Self {
        Self { output, records: AtomicU64::default(), failed: AtomicBool::default() }
    }
}

impl SinkObserver for Written {
    fn written(&self, output: Output, counts: &Counts) {
        if output == self.output {
            self.records.fetch_add(counts.records(), Ordering::Relaxed);
        }
    }

    fn lost(&self, _: Output, _: &Counts, _: SinkLoss) {
        self.failed.store(true, Ordering::Relaxed);
    }

    fn left_out(&self, _: &Counts) {}
    fn failing(&self, _: Output, _: bool) {}
    fn finished(&self, _: Output) {}
    fn recovered(&self, _: Recovered) {}
}

/// An interface that packets of the capture crossed: its section and its number there, its name, and for captures of
/// `any` the index that the packet itself names.
///
/// Sections may be of different hosts: interfaces of the same name in two of them are two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    number: (usize, usize),
    name: Option<String>,
    link_type: u16,
    index: Option<u32>,
}

/// An interface that packets were run for.
#[derive(Debug)]
struct Interface {
    subject: Arc<Subject>,
    account: Account,
}

/// A replay under way.
#[derive(Debug)]
struct Replay {
    runs: TestRuns,
    sides: Sides,
    segments: Segments,
    windows: CaptureWindows,
    sinks: Option<Sinks>,
    report: Report,
    mac: Option<Mac>,
    identity: Arc<Identity>,
    /// What the interfaces of a capture without names are called.
    nameless: String,
    /// By their numbers, from 1.
    interfaces: Vec<Interface>,
    places: HashMap<Place, InterfaceNumber>,
    /// By source, and for captures of `any` by index: what `places` was asked before.
    known: HashMap<(usize, Option<u32>), InterfaceNumber>,
    /// Packets that the kernel took.
    run: u64,
    /// Packets since the ring was read.
    since_ring: u32,
    /// Whether any packet told its direction by itself.
    says_directions: bool,
}

/// Bytes of a frame up to the end of its IP packet.
fn frame_without_trailer(bytes: &[u8], packet: &packet::Packet) -> Option<u32> {
    packet::layout(bytes, Link::Ethernet).map(|layout| layout.network + packet.wire.bytes as u32)
}

/// Packets between two looks at the clock of the progress bar and at signals.
const STRIDE: u64 = 1024;

impl Replay {
    fn new(
        options: &Options,
        config: &Config,
        identity: Arc<Identity>,
        sinks: Sinks,
        name: &str,
    ) -> Result<Self, Failure> {
        let stem = options.file.file_stem().unwrap_or_default().to_string_lossy();
        let nameless = if stem == "-" {
            "stdin".into()
        } else {
            stem.replace(|c: char| c.is_whitespace() || c.is_control() || c == '"', "_")
        };
        Ok(Self {
            runs: TestRuns::new()?,
            sides: Sides::new(options.local_mac, &options.local),
            segments: Segments::new(options.mtu),
            windows: CaptureWindows::new(config.window),
            sinks: Some(sinks),
            report: Report { capture: name.into(), ..Report::default() },
            mac: options.local_mac,
            identity,
            nameless,
            interfaces: Vec::new(),
            places: HashMap::new(),
            known: HashMap::new(),
            run: 0,
            since_ring: 0,
            says_directions: false,
        })
    }

    /// Runs every packet.
    fn read(
        &mut self,
        capture: &mut Capture,
        progress: &ProgressBar,
        stop: &AtomicBool,
        written: &Written,
    ) -> Result<(), Failure> {
        let mut room = Vec::new();
        loop {
            if self.report.packets.is_multiple_of(STRIDE) {
                progress.set_position(capture.position());
                if stop.load(Ordering::Relaxed) {
                    let packets = self.report.packets;
                    return Err(Failure::Running(format!(
                        "stopped behind packet {packets}, which is recorded"
                    )));
                }
            }
            if written.failed.load(Ordering::Relaxed) {
                return Err(Failure::Running("records cannot be written".into()));
            }
            let Some((source, packet)) = capture.next()? else { return self.some_readable() };
            self.report.packets += 1;
            self.packet(source, &packet, &mut room)?;
        }
    }

    /// Whether there was any packet of a link type that is read, where there were packets.
    fn some_readable(&self) -> Result<(), Failure> {
        let others: Vec<_> = self.report.other_link.keys().map(String::as_str).collect();
        if others.is_empty() || self.report.packets != self.report.other_link.values().sum::<u64>() {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "{} is of link type {}: replay reads Ethernet, raw IP, Linux cooked and loopback captures",
            self.report.capture,
            others.join(", ")
        )))
    }

    fn packet<'a>(
        &mut self,
        source: &Source,
        packet: &Packet<'a>,
        room: &'a mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.report.cut += u64::from(packet.data.len() < packet.len as usize);
        let link = match LinkType::of(source.link_type) {
            Ok(link) => link,
            Err(name) => {
                *self.report.other_link.entry(name).or_default() += 1;
                return Ok(());
            }
        };
        let number = self.interface(link, source, packet)?;
        let Some(unix_ms) = packet.unix_ms else {
            self.report.no_time += 1;
            return Ok(());
        };
        self.report.at(unix_ms);
        let frame = Frame::of(link, packet, room);
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

        if self.windows.is_other(number, unix_ms) {
            self.count()?;
            for closed in self.windows.enter(number, unix_ms) {
                self.hand_over(closed);
            }
        }
        let is_own = direction == Direction::Egress;
        let shape = parsed.map_or(Shape::Single, |packet| {
            self.segments.shape(number, is_own, &packet, frame.bytes, frame.len)
        });
        let len = match parsed {
            // The programs take the length of a super-packet from its frame, which here may have a trailer.
            Ok(packet) if shape.segment() != 0 => frame_without_trailer(frame.bytes, &packet),
            _ => None,
        };
        let len = len.unwrap_or(frame.len);
        let captured = Captured { bytes: frame.bytes, len, unix_ms, segment: shape.segment() };
        match (self.runs.run(number, direction, &captured)?, parsed) {
            (Taken::Yes, _) => self.taken(number, shape),
            (Taken::TooShort, Err(skip)) => {
                if let Some(wire) = self.report.refuse(skip) {
                    self.windows.lose(number, Traffic { packets: wire.packets.into(), bytes: wire.bytes });
                }
            }
            (Taken::TooShort, Ok(_)) => {
                return Err(Failure::Running(format!(
                    "BPF_PROG_TEST_RUN does not take packet {}, of {} bytes",
                    self.report.packets, frame.len
                )));
            }
        }
        Ok(())
    }

    /// The number of the interface that a packet crossed.
    fn interface(
        &mut self,
        link: LinkType,
        source: &Source,
        packet: &Packet<'_>,
    ) -> Result<InterfaceNumber, Failure> {
        let index = interface_index(link, packet);
        if let Some(number) = self.known.get(&(packet.source, index)) {
            return Ok(*number);
        }
        let place =
            Place { number: source.number, name: source.name.clone(), link_type: source.link_type, index };
        let number = match self.places.get(&place) {
            Some(number) => *number,
            None => self.new_interface(place)?,
        };
        self.known.insert((packet.source, index), number);
        Ok(number)
    }

    fn new_interface(&mut self, place: Place) -> Result<InterfaceNumber, Failure> {
        let max = self.runs.max_interfaces();
        let number = self.interfaces.len() as u16 + 1;
        if number > max {
            return Err(Failure::Running(format!(
                "{}: packet {} is of one interface more than the {max} that replay tells apart: split the capture",
                self.report.capture, self.report.packets
            )));
        }
        let mut name = place.name.clone().unwrap_or_else(|| self.nameless.clone());
        if let Some(index) = place.index {
            name = format!("{name}:{index}");
        }
        let is_taken = |name: &str| self.interfaces.iter().any(|it| *it.subject.interface_name == *name);
        if is_taken(&name) {
            // More names than there are interfaces: one of them is free.
            let mut names = (2..=self.interfaces.len() + 1).map(|count| format!("{name}:{count}"));
            name = names.find(|name| !is_taken(name)).unwrap_or(name);
        }
        let subject = Arc::new(Subject::named(&name, self.mac, Arc::clone(&self.identity)));
        self.interfaces.push(Interface { subject, account: Account::default() });
        let number = InterfaceNumber::new(number);
        self.places.insert(place, number);
        Ok(number)
    }

    /// Which way a packet went; `None` where neither end is local.
    fn direction(
        &mut self,
        frame: &Frame<'_>,
        parsed: &Result<packet::Packet, packet::Skip>,
    ) -> Result<Option<Direction>, Failure> {
        self.says_directions |= frame.direction.is_some();
        match self.sides.of(frame, parsed) {
            Side::Known(direction) => Ok(Some(direction)),
            Side::BothLocal => {
                self.report.both_local += 1;
                Ok(Some(Direction::Egress))
            }
            Side::Unsaid if !self.says_directions => Err(Failure::Usage(format!(
                "{} does not say which way its packets went: give --local with the addresses on the interface's \
                 side, or --local-mac with its MAC address",
                self.report.capture
            ))),
            Side::Neither | Side::Unsaid => Ok(None),
        }
    }

    /// A packet was run.
    fn taken(&mut self, number: InterfaceNumber, shape: Shape) {
        self.run += 1;
        let report = &mut self.report.super_packets;
        match shape {
            Shape::Single => {}
            Shape::Agreed(_) => report.by_mss += 1,
            Shape::Guessed(_) | Shape::Jumbo => {
                let counter = if shape == Shape::Jumbo { &mut report.jumbo } else { &mut report.by_mtu };
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

    /// Adds all that the programs have counted to the current windows.
    fn count(&mut self) -> Result<(), Failure> {
        let Self { runs, windows, interfaces, .. } = self;
        self.since_ring = 0;
        runs.drain(|delta| windows.add(delta))?;
        for (interface, number) in
            interfaces.iter_mut().zip(1..).map(|(it, number)| (it, InterfaceNumber::new(number)))
        {
            interface.account.read(&runs.ledger(number));
            windows.lose(number, interface.account.report_losses());
        }
        Ok(())
    }

    /// Hands the records of a window to the sinks, when they have room.
    fn hand_over(&mut self, closed: ClosedWindow) {
        let ClosedWindow { interface, window, flows, lost } = closed;
        for flow in flows.flows() {
            self.report.recorded.packets += flow.counters.packets;
            self.report.recorded.bytes += flow.counters.bytes;
        }
        let subject = Arc::clone(&self.interfaces[usize::from(interface.get()) - 1].subject);
        let lossy = if lost.is_none() { Vec::new() } else { vec![(interface, lost)] };
        let subjects = BTreeMap::from([(interface, subject)]);
        let batch = Batch { flows, subjects, lossy, ..Batch::new(window) };
        if !batch.is_empty()
            && let Some(sinks) = &self.sinks
        {
            sinks.send(batch);
        }
    }

    /// Records what is left. The second result is whether all of it was written.
    fn finish(
        mut self,
        capture: &Capture,
        written: &Written,
    ) -> Result<(Report, Result<(), Failure>), Failure> {
        self.count()?;
        for closed in self.windows.close() {
            self.hand_over(closed);
        }
        let closed = self.sinks.take().map_or(Ok(()), |sinks| sinks.close(&Deadline::never()));
        let report = &mut self.report;
        report.interfaces = self.interfaces.len();
        report.dropped_by_capture = capture.dropped();
        report.reopened_windows = self.windows.reopened();
        report.recorded.records = written.records.load(Ordering::Relaxed);
        report.complete(self.run, self.interfaces.iter().flat_map(|interface| *interface.account.ledger()));
        let result = match closed {
            Err(error) => Err(Failure::Running(format!("the last records were not written: {error}"))),
            Ok(()) if written.failed.load(Ordering::Relaxed) => {
                Err(Failure::Running("records were not written".into()))
            }
            Ok(()) => Ok(()),
        };
        Ok((self.report, result))
    }
}
