//! CPU time of a million records, from the flow table to bytes on disk, compared with writing the
//! same bytes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Result, ensure};
use flate2::read::GzDecoder;
use nix::time::{ClockId, clock_gettime};
use observer::{
    flow::{Counters, Delta, Direction, Family, FlowKey, Icmp, InterfaceNumber, Table, Window},
    linux::access::Access,
    record::{Batch, Context, Format, Subject},
    sink::{
        Counts, ObserverRef, Output, Partition, Recovered, SinkLoss, SinkObserver, SinkOptions,
    },
    tasks::{Attribute, Fact, Identity, Source},
};
use tempfile::TempDir;

use crate::report::{Report, Target};

const RECORDS: u32 = 1_000_000;
const INTERFACES: u16 = 20;
const ROUNDS: usize = 5;
const WINDOW: Window = Window { start: 1_700_000_160, end: 1_700_000_220 };

pub(crate) fn run() -> Result<Report> {
    let place = tempfile::tempdir_in(disk()?)?;
    let (host, tasks) = (batch(false), batch(true));
    let mut report = Report::default();
    for (name, output, format, batch, most) in [
        ("JSON lines, interfaces of a host", Output::Jsonl, Format::v2(), &host, 800.0),
        ("JSON lines, ECS tasks", Output::Jsonl, Format::v2(), &tasks, 800.0),
        ("text v2, before gzip", Output::Text, Format::v2(), &tasks, 800.0),
        ("text ecs, before gzip", Output::Text, Format::ecs(), &tasks, 800.0),
        ("Parquet v2", Output::Parquet, Format::v2(), &tasks, 1500.0),
        ("Parquet ecs", Output::Parquet, Format::ecs(), &tasks, 1500.0),
    ] {
        let (mut own, mut all, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let took = write(&place, output, &format, batch)?;
            own.push(took.own);
            all.push(took.all);
            floor.push(no_work(&place, took.bytes)?);
        }
        let target = Some(Target::Value(most));
        report.row(format!("{name} · the same bytes"), "ms", &own, &floor, target);
        if output == Output::Text {
            report.row("   with gzip, on its thread · the same bytes", "ms", &all, &floor, None);
        }
    }
    Ok(report)
}

/// A folder for files that is on a disk instead of in memory.
fn disk() -> Result<PathBuf> {
    let target = std::env::var_os("OBSERVER_BENCH_DIR")
        .map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    fs::create_dir_all(&target)?;
    Ok(target)
}

/// CPU time in milliseconds, and the bytes written.
struct Took {
    /// CPU time of the sink's thread.
    own: f64,
    /// CPU time of the process.
    all: f64,
    /// Bytes written, before compression of text.
    bytes: u64,
}

fn write(place: &TempDir, output: Output, format: &Format, batch: &Batch) -> Result<Took> {
    let directory = place.path().join("records");
    let written = Arc::new(Written::default());
    let options = SinkOptions {
        outputs: vec![output],
        directory: directory.clone(),
        access: Access::records(None),
        partition: Partition::Daily,
        flow_log_id: "fl-0123456789abcdef0".into(),
        file_size: 75_000_000,
        context: Arc::new(Context::new(format.clone())),
        state: None,
        delivery: None,
    };
    let mut sink = options.open(output, &ObserverRef::new(Arc::<Written>::clone(&written)))?;
    let clocks = || {
        Ok::<_, io::Error>(
            [ClockId::CLOCK_THREAD_CPUTIME_ID, ClockId::CLOCK_PROCESS_CPUTIME_ID].map(cpu),
        )
    };
    let before = clocks()?;
    sink.write(batch);
    sink.close().map_err(anyhow::Error::msg)?;
    let after = clocks()?;
    ensure!(written.0.load(Ordering::Relaxed) == u64::from(RECORDS), "records are missing");
    let bytes = size(&directory, output)?;
    fs::remove_dir_all(&directory)?;
    Ok(Took { own: after[0] - before[0], all: after[1] - before[1], bytes })
}

fn cpu(clock: ClockId) -> f64 {
    clock_gettime(clock)
        .map_or(f64::NAN, |time| time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6)
}

/// Writes the same number of bytes in pieces of the same size through the page cache, as the
/// baseline.
fn no_work(place: &TempDir, bytes: u64) -> Result<f64> {
    let piece = vec![b'x'; 1 << 20];
    let path = place.path().join("floor");
    let before = cpu(ClockId::CLOCK_THREAD_CPUTIME_ID);
    let mut file = File::create(&path)?;
    let mut left = bytes as usize;
    while left > 0 {
        let now = left.min(piece.len());
        file.write_all(&piece[..now])?;
        left -= now;
    }
    file.sync_all()?;
    let took = cpu(ClockId::CLOCK_THREAD_CPUTIME_ID) - before;
    fs::remove_file(path)?;
    Ok(took)
}

/// Total size of the files; for text, before gzip.
fn size(folder: &Path, output: Output) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        sum += if path.is_dir() {
            size(&path, output)?
        } else if output == Output::Text {
            io::copy(&mut GzDecoder::new(File::open(path)?), &mut io::sink())?
        } else {
            path.metadata()?.len()
        };
    }
    Ok(sum)
}

/// Counts records that the sink reports as written.
#[derive(Debug, Default)]
struct Written(AtomicU64);

impl SinkObserver for Written {
    fn written(&self, _: Output, counts: &Counts) {
        self.0.fetch_add(counts.records(), Ordering::Relaxed);
    }
    fn lost(&self, _: Output, _: &Counts, _: SinkLoss) {}
    fn left_out(&self, _: &Counts) {}
    fn failing(&self, _: Output, _: bool) {}
    fn finished(&self, _: Output) {}
    fn recovered(&self, _: Recovered) {}
}

/// A window of clients and servers: TCP and UDP, one flow in eight over IPv6, in a realistic order.
fn batch(of_tasks: bool) -> Batch {
    let mut flows = Table::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..RECORDS {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        flows.add(&delta(number, random));
    }
    let subject = |number: u16| (InterfaceNumber::new(number), Arc::new(subject(number, of_tasks)));
    let subjects: BTreeMap<_, _> = (1..=INTERFACES).map(subject).collect();
    Batch { flows, subjects, ..Batch::new(WINDOW) }
}

fn delta(number: u32, random: u64) -> Delta {
    let interface = InterfaceNumber::new(1 + number as u16 % INTERFACES);
    let direction = Direction::ALL[(random & 1) as usize];
    let tcp = random & 6 != 0;
    let family = if number.is_multiple_of(8) { Family::V6 } else { Family::V4 };
    let address = |host: u32| {
        let octets = if family == Family::V6 {
            (0x2001_0db8_0001_0002_u128 << 64 | u128::from(host)).to_be_bytes()
        } else {
            (0xffff_u128 << 32 | u128::from(host)).to_be_bytes()
        };
        [0, 8].map(|at| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap_or_default()))
    };
    let (own, other) = (0x0a00_0a00 | u32::from(interface.get()), 0x0a00_0000 | number);
    let (client, server) = (32_768 + (random >> 16) as u16 % 28_232, if tcp { 443 } else { 53 });
    let (ends, ports) = match direction {
        Direction::Egress => ((address(own), address(other)), (client, server)),
        Direction::Ingress => ((address(other), address(own)), (server, client)),
    };
    let packets = 1 + (random >> 32) % 1000;
    let first_ms = WINDOW.start * 1000 + (random >> 8) as i64 % 50_000;
    Delta {
        key: FlowKey::new(interface, direction, family, if tcp { 6 } else { 17 }, ends, ports),
        counters: Counters {
            packets,
            bytes: packets * (40 + (random >> 42) % 1460),
            first_ms,
            last_ms: first_ms + (random >> 52) as i64,
            tcp_flags_all: if tcp { 0x1b } else { 0 },
            tcp_flags_aws: if tcp { 3 } else { 0 },
            icmp: Icmp::None,
            undelivered: 0,
        },
    }
}

fn subject(number: u16, of_task: bool) -> Subject {
    let arn = |resource: String| format!("arn:aws:ecs:eu-west-1:111122223333:{resource}");
    let id = format!("{number:032x}");
    let facts = [
        (Attribute::AccountId, "111122223333".into()),
        (Attribute::Region, "eu-west-1".into()),
        (Attribute::InterfaceId, format!("eni-{number:017x}")),
        (Attribute::SubnetId, "subnet-08c4050330714ed3d".into()),
        (Attribute::ClusterArn, arn("cluster/production".into())),
        (Attribute::ClusterName, "production".into()),
        (Attribute::ContainerInstanceArn, arn(format!("container-instance/production/{id}"))),
        (Attribute::ContainerInstanceId, id.clone()),
        (Attribute::ContainerId, id.repeat(2)),
        (Attribute::ServiceName, "checkout".into()),
        (Attribute::TaskDefinitionArn, arn("task-definition/checkout:42".into())),
        (Attribute::TaskArn, arn(format!("task/production/{id}"))),
        (Attribute::TaskId, id.clone()),
        (Attribute::Family, "checkout".into()),
        (Attribute::NetworkMode, "awsvpc".into()),
    ];
    let facts = facts.into_iter().filter(|_| of_task).map(|(attribute, value): (_, String)| Fact {
        attribute,
        value: value.into(),
        source: Source::File,
    });
    let mac = format!("0a:00:00:00:00:{number:02x}");
    Subject {
        interface_id: if of_task { format!("eni-{number:017x}") } else { format!("eth0@{mac}") }
            .into(),
        interface_name: "eth0".into(),
        mac: mac.into(),
        netns: 4_026_532_000 + u64::from(number),
        identity: Arc::new(Identity::default().merge(facts).0),
        ..Subject::default()
    }
}
