//! The path of every packet: ledger, parser, flow cache.
//!
//! It has two programs. Each interface has a small one, quickly loaded for a new task, that handles
//! plain packets, nearly all of them. For all others it makes a tail call into a program that is
//! loaded once, and passes the packet's origin in a map.

use aya_ebpf::{EbpfContext, helpers::bpf_get_smp_processor_id, maps::ProgramArray};
use aya_log_ebpf::debug;
use observer_ebpf::{
    abi::{Control, Direction, FlowKey, FlowSlot, Ledger, LossReason},
    packet::{Frame, Packet, PacketBytes, Skip, Wire, parse},
};

use super::{
    cache::{self, Count, Row},
    fragments,
    ledger::ledger_index,
    maps::{CONTROL, HEADERS, Headers, LEDGER},
    owners,
    settings::{CPUS, LINK_HEADER, interface},
};

/// The destination of one packet's counts.
pub(super) struct Account {
    ledger: *mut Ledger,
    cpu: u32,
    interface: u16,
    direction: Direction,
    /// See [`owners::of`].
    owner: u64,
}

impl Account {
    /// Counts a frame on the interface of this load.
    #[inline(always)]
    pub(super) fn open(direction: Direction, owner: u64, frame_len: u32) -> Option<Self> {
        let account = Self::reopen(direction, owner)?;
        // SAFETY: a map value, which only this CPU writes while its bottom halves are off.
        let ledger = unsafe { &mut *account.ledger };
        ledger.frames += 1;
        ledger.frame_bytes += u64::from(frame_len);
        Some(account)
    }

    /// The account of a frame on the interface of this load that is counted already.
    #[inline(always)]
    pub(super) fn reopen(direction: Direction, owner: u64) -> Option<Self> {
        Self::of(interface(), direction, owner)
    }

    #[inline(always)]
    fn of(interface: u16, direction: Direction, owner: u64) -> Option<Self> {
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let ledger = LEDGER.get_ptr_mut(ledger_index(interface, direction, cpu))?;
        Some(Self { ledger, cpu, interface, direction, owner })
    }

    /// The account of a frame that [`Self::go_on`] passed on, the buffer for its headers, and the
    /// length of its link header.
    #[inline(always)]
    pub(super) fn handed_over() -> Option<(Self, *mut Headers, u32)> {
        let headers = HEADERS.get_ptr_mut(0)?;
        // SAFETY: this CPU's own room.
        let origin = unsafe { &(*headers).origin };
        // Without a branch, because the verifier would verify the rest once for each side.
        let direction = match origin.direction & 1 {
            0 => Direction::Ingress,
            _ => Direction::Egress,
        };
        let account = Self::of(origin.interface, direction, origin.owner)?;
        Some((account, headers, origin.link_header))
    }

    /// Makes a tail call into the shared program. Returns only if that program is missing.
    ///
    /// The calling program must not call functions: before Linux 6.0, only x86 supports both
    /// (kernel commit d4609a5d8c70).
    #[inline(always)]
    pub(super) fn go_on<C: EbpfContext>(&self, ctx: &C, program: &ProgramArray) {
        let Some(headers) = HEADERS.get_ptr_mut(0) else { return };
        // SAFETY: this CPU's own room, and the arrays hold programs for this kind of context.
        unsafe {
            let origin = &mut (*headers).origin;
            origin.owner = self.owner;
            origin.link_header = LINK_HEADER.load();
            origin.interface = self.interface;
            origin.direction = self.direction as u16;
            program.tail_call(ctx, 0);
        }
    }

    #[inline(always)]
    pub(super) fn copied(&self) {
        self.ledger().copied += 1;
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "the map's value, of which this is the one user on this CPU"
    )]
    #[inline(always)]
    fn ledger(&self) -> &mut Ledger {
        // SAFETY: see `open`.
        unsafe { &mut *self.ledger }
    }

    /// Accounts a frame of any kind.
    #[inline(always)]
    pub(super) fn frame<B: PacketBytes>(&self, bytes: &B, frame: Frame) {
        match parse(bytes, frame) {
            Ok(mut packet) => {
                fragments::resolve(&mut packet, self.interface, self.direction);
                if let Some(note) = packet.note {
                    self.ledger().notes[note as usize] += 1;
                }
                self.packet(&packet);
            }
            Err(Skip::NonIp(kind)) => self.ledger().non_ip[kind as usize] += 1,
            Err(Skip::Lost(reason, wire)) => {
                self.seen(wire);
                self.lost(reason, wire);
                // Only here: a log line becomes a function, and programs that make tail calls may
                // have none.
                debug!(
                    self.ledger,
                    "interface {}: packet lost, reason {}", self.interface, reason as u8
                );
            }
            Err(Skip::Chain) => self.unreadable(frame),
        }
    }

    /// Accounts the segments of a super-packet beyond the one packet that XDP has counted.
    #[inline(always)]
    pub(super) fn segments<B: PacketBytes>(&self, bytes: &B, frame: Frame) {
        match parse(bytes, frame) {
            Ok(mut packet) => {
                packet.wire = packet.beyond_frame;
                if packet.wire.packets != 0 {
                    self.packet(&packet);
                }
            }
            Err(Skip::Lost(reason, wire)) => {
                let wire = Wire { packets: wire.packets - 1, bytes: 0 };
                self.seen(wire);
                self.lost(reason, wire);
            }
            Err(_) => {}
        }
    }

    /// Accounts a frame that could unexpectedly not be read.
    pub(super) fn unreadable(&self, frame: Frame) {
        let wire = Wire { packets: 1, bytes: u64::from(frame.len) };
        self.seen(wire);
        self.lost(LossReason::Internal, wire);
    }

    #[inline(always)]
    pub(super) fn seen(&self, wire: Wire) {
        let ledger = self.ledger();
        ledger.packets += u64::from(wire.packets);
        ledger.bytes += wire.bytes;
    }

    #[inline(always)]
    fn lost(&self, reason: LossReason, wire: Wire) {
        let lost = &mut self.ledger().lost[reason as usize];
        lost.packets += u64::from(wire.packets);
        lost.bytes += wire.bytes;
    }

    /// Accounts a packet.
    #[inline(always)]
    pub(super) fn packet(&self, packet: &Packet) {
        self.seen(packet.wire);
        let Some(control) = control() else { return self.lost(LossReason::Internal, packet.wire) };
        let (key, count) = self.entry(packet, control.generation);
        let half = (control.generation & 1) as u32;
        let row = Row { number: half * CPUS.load() + self.cpu, sets: control.sets };
        match cache::add(&key, count, row, self.ledger) {
            Some(true) if self.owner > owners::ROOT => owners::note(&key, &self.owner),
            Some(_) => {}
            None => self.lost(LossReason::Internal, packet.wire),
        }
    }

    /// The flow of a packet, and the counts that it adds.
    #[inline(always)]
    pub(super) fn entry(&self, packet: &Packet, generation: u64) -> (FlowKey, Count) {
        let key = FlowKey {
            source: packet.source,
            destination: packet.destination,
            source_port_be: packet.source_port_be,
            destination_port_be: packet.destination_port_be,
            protocol: packet.protocol,
            tag: FlowKey::tag(generation, self.direction, packet.family),
            interface: self.interface,
        };
        let count = Count {
            bytes: packet.wire.bytes,
            packets_and_flags: u64::from(packet.wire.packets) | FlowSlot::flags(packet.tcp_flags),
        };
        (key, count)
    }
}

/// The daemon's current parameters.
#[inline(always)]
pub(super) fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}
