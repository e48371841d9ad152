//! The flow cache with colliding flows: which counts stay exact.

use std::{collections::BTreeMap, num::NonZeroUsize, os::fd::AsFd as _, path::Path};

use anyhow::Result;
use aya::{
    maps::MapData,
    programs::{TestRun as _, TestRunOptions},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use observer::kernel::{Sizes, preflight};
use observer_ebpf::abi::{Direction, Loss, LossReason, names};
use observer_tests::{
    cpus, need, requires,
    tally::Tally,
    traffic::frames::{Ipv4, ipv4_at, protocol, udp},
};

use super::loaded::{Load, Loaded};

/// Sizes of a cache with this many sets per CPU and a ring of this many bytes.
fn sizes(sets: u32, ring_bytes: u32) -> Sizes {
    Sizes {
        cpus: preflight::possible_cpus(),
        sets,
        ring_bytes,
        interfaces: 64,
        drops: 1,
        undelivered: 1,
        owners: 1,
    }
}

fn template() -> Vec<u8> {
    Ipv4::new([10, 0, 0, 0].into(), protocol::UDP, udp(53, 53, 10)).frame()
}

/// Bytes of layer 3 in a packet of [`template`].
const LENGTH: u64 = 38;

fn send(loaded: &mut Loaded, frame: &[u8]) {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    loaded.programs.get_mut(Direction::Egress).unwrap().test_run(options).unwrap();
}

#[test]
fn flows_between_two_networks_with_the_same_ports_find_room_beside_each_other() -> Result<()> {
    const SOURCES: u8 = 64;
    const TARGETS: u8 = 128;
    need!(requires::root());
    cpus::pin(cpus::allowed()?[0])?;
    // With any factors: at two flows per set, about 300 of 8,192 find their set full by chance.
    for _ in 0..3 {
        let mut loaded = Loaded::new(Load { sizes: sizes(4096, 1 << 20), ..Load::default() });
        let mut frame = template();
        for (source, target) in
            (0..SOURCES).flat_map(|source| (0..TARGETS).map(move |it| (source, it)))
        {
            frame[ipv4_at::SOURCE].copy_from_slice(&[10, 0, 0, source]);
            frame[ipv4_at::DESTINATION].copy_from_slice(&[10, 0, 1, target]);
            send(&mut loaded, &frame);
        }
        let ledger = loaded.ledger(Direction::Egress);
        assert_eq!(ledger.packets, u64::from(SOURCES) * u64::from(TARGETS));
        assert!(
            ledger.spilled < 616,
            "{} of {} flows found no room",
            ledger.spilled,
            ledger.packets
        );
    }
    Ok(())
}

/// Sends colliding flows, about 47 to each set of four, with 1 to 3 packets in turns; the ring is
/// read after every `stride` packets. Returns sent and recorded counts of each flow.
fn collide(loaded: &mut Loaded, stride: Option<u64>) -> BTreeMap<u16, (Tally, Tally)> {
    const FLOWS: u16 = 3_000;
    let mut flows = BTreeMap::<u16, (Tally, Tally)>::new();
    let mut frame = template();
    let mut sent = 0;
    for round in 0..3 {
        for number in (0..FLOWS).filter(|number| number % 3 >= round) {
            frame[ipv4_at::SOURCE_PORT].copy_from_slice(&number.to_be_bytes());
            send(loaded, &frame);
            flows.entry(number).or_default().0 += Tally::new(1, LENGTH);
            sent += 1;
            if stride.is_some_and(|stride| sent % stride == 0) {
                loaded.drain.read_ring(|_, delta| record(&mut flows, &delta));
                loaded.drain.clear();
            }
        }
    }
    loaded.drain.drain(|_, delta| record(&mut flows, &delta)).unwrap();
    flows
}

fn record(flows: &mut BTreeMap<u16, (Tally, Tally)>, delta: &observer::flow::Delta) {
    let counters = delta.counters;
    flows.get_mut(&delta.key.source_port()).expect("a flow that was sent").1 +=
        Tally::new(counters.packets, counters.bytes);
}

#[test]
fn flows_that_collide_on_purpose_are_exact_while_the_ring_is_read() -> Result<()> {
    need!(requires::root());
    cpus::pin(cpus::allowed()?[0])?;
    let mut loaded = Loaded::new(Load { sizes: sizes(64, 4096), ..Load::default() });
    for (flow, (sent, recorded)) in collide(&mut loaded, Some(40)) {
        assert_eq!(recorded, sent, "flow {flow}");
    }
    let ledger = loaded.ledger(Direction::Egress);
    assert!(
        ledger.spilled > ledger.packets / 2,
        "{} of {} packets",
        ledger.spilled,
        ledger.packets
    );
    assert_eq!(ledger.lost, [Loss::default(); LossReason::ALL.len()]);
    Ok(())
}

#[test]
fn flows_that_collide_on_purpose_are_exact_or_lost_by_number_while_it_is_not() -> Result<()> {
    need!(requires::root());
    cpus::pin(cpus::allowed()?[0])?;
    let mut loaded = Loaded::new(Load { sizes: sizes(64, 4096), ..Load::default() });
    let (mut all_sent, mut all_recorded) = (Tally::default(), Tally::default());
    for (flow, (sent, recorded)) in collide(&mut loaded, None) {
        assert!(recorded.packets <= sent.packets, "flow {flow}: {recorded} of {sent}");
        all_sent += sent;
        all_recorded += recorded;
    }
    let ledger = loaded.ledger(Direction::Egress);
    let lost = ledger.lost[LossReason::TableFull as usize];
    assert_eq!(Tally::new(ledger.packets, ledger.bytes), all_sent, "seen");
    assert_eq!(all_recorded + Tally::new(lost.packets, lost.bytes), all_sent, "recorded and lost");
    assert!(lost.packets > all_sent.packets / 2, "only {} packets are lost", lost.packets);
    Ok(())
}

/// Bytes ever written to a ring: its producer position, in its second page.
fn produced(pin: &Path) -> Result<u64> {
    let map = MapData::from_pin(pin)?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096);
    let len = NonZeroUsize::new(8).unwrap();
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let position = unsafe {
        mmap(None, len, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, map.fd().as_fd(), page)?
    };
    // SAFETY: just mapped, and aligned to a page. It stays mapped until this program ends.
    Ok(unsafe { position.cast::<u64>().read_volatile() })
}

#[test]
fn a_million_packets_of_a_known_flow_touch_no_ring_and_no_log() -> Result<()> {
    need!(requires::root());
    cpus::pin(cpus::allowed()?[0])?;
    let mut loaded = Loaded::new(Load { sizes: sizes(64, 4096), ..Load::default() });
    let rings = [names::SPILL, names::LOGS].map(|name| loaded.pins.path().join(name));
    let frame = template();
    let options =
        TestRunOptions { data_in: Some(&frame), repeat: 1_000_000, ..TestRunOptions::new() };
    loaded.programs.get_mut(Direction::Egress)?.test_run(options)?;
    for ring in &rings {
        assert_eq!(produced(ring)?, 0, "bytes in {}", ring.display());
    }
    assert_eq!(loaded.ledger(Direction::Egress).packets, 1_000_000);

    // Without reading the ring, the same check must detect losses.
    collide(&mut loaded, None);
    assert!(produced(&rings[0])? > 0, "bytes in {}", rings[0].display());
    Ok(())
}
