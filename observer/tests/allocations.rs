//! Rendering and writing records takes memory by the window and the file, and none by the record.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    net::Ipv6Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use observer::{
    flow::{Counters, Delta, Direction, Family, FlowKey, Icmp, InterfaceNumber, Table, Window},
    linux::access::Access,
    record::{Batch, Context, Format, JsonLines, Subject, TextLines},
    sink::{
        Counts, ObserverRef, Output, Partition, Recovered, SinkLoss, SinkObserver, SinkOptions,
    },
};

/// Counts what it is asked for, by all threads.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: likewise.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<T>(what: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    what();
    ALLOCATIONS.load(Relaxed) - before
}

const WINDOW: Window = Window { start: 1_700_000_160, end: 1_700_000_220 };
const INTERFACES: u32 = 3;

/// A window of as many flows: of TCP, UDP and ICMP, over IPv4 and IPv6, on several interfaces.
fn batch(flows: u32) -> Batch {
    let mut table = Table::new();
    for number in 0..flows {
        let interface = InterfaceNumber::new(1 + (number % INTERFACES) as u16);
        let family = if number.is_multiple_of(2) { Family::V6 } else { Family::V4 };
        let address = |host: u32| {
            let v6 = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(host));
            let mapped = Ipv6Addr::from(0xffff_u128 << 32 | u128::from(host));
            let octets = if family == Family::V6 { v6 } else { mapped }.octets();
            [0, 8].map(|at| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap()))
        };
        let (protocol, icmp) = match number % 5 {
            0 => (1, Icmp::One { kind: 8, code: 0 }),
            1 | 2 => (17, Icmp::None),
            _ => (6, Icmp::None),
        };
        let ends = (address(0x0a00_0005), address(0x0a01_0000 + number));
        let direction = Direction::ALL[(number % 2) as usize];
        let ports = if protocol == 1 { (0, 0) } else { (number as u16, 443) };
        table.add(&Delta {
            key: FlowKey::new(interface, direction, family, protocol, ends, ports),
            counters: Counters {
                packets: u64::from(number) + 1,
                bytes: 1500 * (u64::from(number) + 1),
                first_ms: WINDOW.start * 1000,
                last_ms: WINDOW.start * 1000 + 999,
                tcp_flags_all: 0x1b,
                tcp_flags_aws: 3,
                icmp,
                undelivered: u64::from(number % 7),
            },
        });
    }
    let subject = |number: u32| {
        let interface_id = format!("eni-{number:017x}").into();
        let subject = Subject { interface_id, interface_name: "eth0".into(), ..Subject::default() };
        (InterfaceNumber::new(number as u16), Arc::new(subject))
    };
    let subjects: BTreeMap<_, _> = (1..=INTERFACES).map(subject).collect();
    Batch { flows: table, subjects, ..Batch::new(WINDOW) }
}

/// Listens, and needs no memory for it.
struct Nobody;

impl SinkObserver for Nobody {
    fn written(&self, _: Output, _: &Counts) {}
    fn lost(&self, output: Output, _: &Counts, reason: SinkLoss) {
        panic!("{output:?}: {reason:?}");
    }
    fn left_out(&self, _: &Counts) {}
    fn failing(&self, _: Output, _: bool) {}
    fn finished(&self, _: Output) {}
    fn recovered(&self, _: Recovered) {}
}

/// One test, as two would count each other's.
#[test]
fn records_take_no_memory_each() {
    let (few, many) = (batch(1_000), batch(200_000));
    for format in [Format::v2(), Format::ecs(), Format::all()] {
        let context = Context::new(format);
        // All lines fit, so that the room for them does not grow.
        let mut out = Vec::with_capacity(4096);
        let mut rendered = |batch: &Batch| {
            let (mut json, mut text) = (JsonLines::default(), TextLines::default());
            counted(|| {
                for (interface, record) in batch.records(&context) {
                    out.clear();
                    json.write(interface, &record, &mut out);
                    text.write(interface, &record, &mut out);
                }
            })
        };
        assert_eq!(rendered(&many), rendered(&few), "{:?}", context.format);
    }

    for output in [Output::Jsonl, Output::Text] {
        let directory = tempfile::tempdir().unwrap();
        let options = SinkOptions {
            outputs: vec![output],
            directory: directory.path().to_path_buf(),
            access: Access::records(None),
            partition: Partition::Daily,
            flow_log_id: "fl-0123456789abcdef0".into(),
            file_size: u64::MAX,
            context: Arc::new(Context::new(Format::ecs())),
            state: None,
            delivery: None,
        };
        let written = |batch: &Batch| {
            counted(|| {
                let mut sink = options.open(output, &ObserverRef::new(Arc::new(Nobody))).unwrap();
                sink.write(batch);
                sink.close().unwrap();
            })
        };
        let (few, many) = (written(&few), written(&many));
        // Buffers that are filled and handed on, some for every megabyte; not for every one of
        // 199,000 records.
        assert!(
            many < few + 100,
            "{output:?}: {few} allocations for 1,000 records, {many} for 200,000"
        );
    }
}
