//! Loaded programs with private maps, which count one packet at a time.

use aya::programs::{TestRun, TestRunOptions};
use observer::{
    flow::{Delta, Icmp, InterfaceNumber},
    kernel::{
        Drain, KernelError, Loader, LoaderOptions, Programs, Sizes, bpffs::PinDirectory,
        grace::Grace, preflight,
    },
};
use observer_ebpf::{
    abi::{Clock, Direction, Ledger, LossReason, NonIpKind, Note},
    packet::Offload,
};

use crate::packets::{Input, Outcome};

pub(crate) const INTERFACE: u16 = 7;

/// Loaded programs with private maps.
pub(crate) struct Loaded {
    pub(crate) programs: Programs,
    pub(crate) drain: Drain,
    pub(crate) pins: PinDirectory,
    _directory: tempfile::TempDir,
}

/// Parameters of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clock: Clock,
    pub(crate) ethernet: bool,
    pub(crate) sizes: Sizes,
}

impl Default for Load {
    fn default() -> Self {
        Self { clock: Clock::Ticks, ethernet: true, sizes: sizes(4 << 20) }
    }
}

/// Sizes of maps with a memory budget of this many bytes.
pub(crate) fn sizes(budget: u64) -> Sizes {
    Sizes::from_budget(budget, preflight::possible_cpus()).unwrap()
}

impl Loaded {
    pub(crate) fn new(load: Load) -> Self {
        Self::by(load, |loader| loader.load(INTERFACE, load.ethernet))
    }

    /// Loads the programs with `programs`, for kinds other than the usual one.
    pub(crate) fn by(
        load: Load,
        programs: impl FnOnce(&mut Loader) -> Result<Programs, KernelError>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pins = PinDirectory::create(&directory.path().join("pins"), directory.path()).unwrap();
        let Load { clock, sizes, .. } = load;
        let options = LoaderOptions { sizes, log_level: 0, clock };
        let mut loader = Loader::new(options, pins.path()).unwrap();
        let mut programs = programs(&mut loader).unwrap();
        let drain = Drain::new(&mut programs, sizes, Grace::new().unwrap()).unwrap();
        Self { programs, drain, pins, _directory: directory }
    }

    /// Runs a program on a packet, and returns the growth of its ledger.
    pub(crate) fn send(&mut self, direction: Direction, input: &Input) -> Ledger {
        let Input { bytes, frame } = input;
        assert!(!input.is_snapped(), "a packet in the kernel is whole");
        let before = self.ledger(direction);
        let context = context(frame.offload);
        let options = TestRunOptions {
            data_in: Some(bytes),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.programs.get_mut(direction).unwrap().test_run(options);
        let result =
            result.unwrap_or_else(|error| panic!("{error}: {} bytes\n{input}", bytes.len()));
        assert_eq!(result.return_value as i32, -1, "the chain must go on\n{input}");
        self.ledger(direction).since(&before)
    }

    /// Runs a program on a packet, and returns its flows and the growth of its ledger.
    pub(crate) fn count(&mut self, direction: Direction, input: &Input) -> (Vec<Delta>, Ledger) {
        let ledger = self.send(direction, input);
        (self.flows(), ledger)
    }

    /// Flows counted since the last call.
    pub(crate) fn flows(&mut self) -> Vec<Delta> {
        let mut flows = Vec::new();
        self.drain.drain(|_, delta| flows.push(delta)).unwrap();
        flows
    }

    /// Total counts of a direction.
    pub(crate) fn ledger(&self, direction: Direction) -> Ledger {
        self.drain.ledger(InterfaceNumber::new(INTERFACE))[direction as usize]
    }
}

/// A `struct __sk_buff` whose buffer is a super-packet.
fn context(offload: Offload) -> [u8; 192] {
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = [0; 192];
    context[GSO_SEGS..GSO_SEGS + 4].copy_from_slice(&offload.segments.to_ne_bytes());
    context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&offload.size.to_ne_bytes());
    context
}

/// The result of a program for one packet, in the terms of the corpus.
pub(crate) fn outcome(flows: &[Delta], ledger: &Ledger) -> Outcome {
    let reason =
        LossReason::ALL.into_iter().find(|reason| ledger.lost[*reason as usize].packets != 0);
    let kind = NonIpKind::ALL.into_iter().find(|kind| ledger.non_ip[*kind as usize] != 0);
    match (flows, reason, kind) {
        ([flow], None, None) => {
            let (key, counters) = (flow.key, flow.counters);
            Outcome::Flow {
                source: key.source(),
                destination: key.destination(),
                protocol: key.protocol(),
                source_port: key.source_port(),
                destination_port: key.destination_port(),
                icmp: match counters.icmp {
                    Icmp::One { kind, code } => Some((kind, code)),
                    Icmp::None | Icmp::Mixed => None,
                },
                tcp_flags: counters.tcp_flags_all,
                packets: counters.packets,
                bytes: counters.bytes,
                note: Note::ALL.into_iter().find(|note| ledger.notes[*note as usize] != 0),
            }
        }
        ([], Some(reason), None) => {
            let loss = ledger.lost[reason as usize];
            Outcome::Lost { reason, packets: loss.packets, bytes: loss.bytes }
        }
        ([], None, Some(kind)) => Outcome::NonIp { kind },
        other => panic!("one packet was counted as {other:?}"),
    }
}
