//! Cost of reading the cache: per used entry, and for unused entries.

use std::{hint::black_box, time::Instant};

use anyhow::{Result, ensure};
use observer::flow::Table;
use observer_ebpf::abi::{FlowSlot, names};

use crate::{
    packets::ipv4_tcp,
    place::{FLOW_MEMORY, Place, bench_object, pin, time},
    report::{Report, Target},
};

const ROUNDS: usize = 9;
/// Fits into the half of one CPU with the default memory.
const FLOWS: u32 = 1 << 16;

pub(crate) fn run() -> Result<Report> {
    pin(0)?;
    let mut report = Report::default();
    used(&mut report)?;
    unused(&mut report)?;
    Ok(report)
}

fn used(report: &mut Report) -> Result<()> {
    static FLOW_MASK: u32 = FLOWS - 1;
    let mut place = Place::new(FLOW_MEMORY)?;
    place
        .loader
        .replace_object(bench_object()?)
        .override_global(names::FLOW_MASK, &FLOW_MASK, true)
        .map_max_entries(names::TWIN, 1);
    let mut programs = place.loader.load(1, true)?;
    programs.classifier(names::VARIED_CACHE)?.load()?;
    let mut drain = place.drain(&mut programs)?;
    let packet = ipv4_tcp();
    let (mut alone, mut merged, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        time(&mut programs, names::VARIED_CACHE, &packet, 16 * FLOWS)?;
        let mut packets = 0;
        let drained = drain.drain(|_, delta| packets += black_box(&delta).counters.packets)?;
        ensure!(
            drained.entries > u64::from(FLOWS) / 2,
            "{} entries of {FLOWS} flows",
            drained.entries
        );
        let entries = (drained.entries + drained.spilled) as f64;
        alone.push(drained.read.as_nanos() as f64 / entries);
        ensure!(packets == u64::from(16 * FLOWS), "{packets} packets came out");

        time(&mut programs, names::VARIED_CACHE, &packet, 16 * FLOWS)?;
        let mut table = Table::new();
        let drained = drain.drain(|_, delta| table.add(&delta))?;
        let entries = (drained.entries + drained.spilled) as f64;
        merged.push(drained.read.as_nanos() as f64 / entries);

        // The baseline: reading and clearing the same number of cache lines in order.
        let mut lines = vec![[1_u64; size_of::<FlowSlot>() / 8]; FLOWS as usize];
        let start = Instant::now();
        let mut sum = 0_u64;
        for line in black_box(&mut lines) {
            sum = sum.wrapping_add(line.iter().sum());
            line[0] = 0;
        }
        black_box(sum);
        copied.push(start.elapsed().as_nanos() as f64 / f64::from(FLOWS));
    }
    report.row(
        "used entry, read and cleared · plain memory",
        "ns",
        &alone,
        &copied,
        Some(Target::Value(30.0)),
    );
    report.row(
        "used entry, merged into a new flow table · plain memory",
        "ns",
        &merged,
        &copied,
        None,
    );
    Ok(())
}

/// An empty cache of the default size, and one 16 times as large.
fn unused(report: &mut Report) -> Result<()> {
    let empty = |flow_memory: u64| -> Result<Vec<f64>> {
        let mut place = Place::new(flow_memory)?;
        let entries = 2.0 * place.loader.sizes().flows() as f64;
        let mut programs = place.loader.load(1, true)?;
        let mut drain = place.drain(&mut programs)?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let drained = drain.drain(|_, _| ())?;
            rounds.push(drained.read.as_nanos() as f64 * 2.0 / entries);
        }
        Ok(rounds)
    };
    let (small, large) = (empty(FLOW_MEMORY)?, empty(16 * FLOW_MEMORY)?);
    report.row(
        "unused entry, of 1 GiB · of 64 MiB",
        "ns",
        &large,
        &small,
        Some(Target::Value(0.1)),
    );
    Ok(())
}
