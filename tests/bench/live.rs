//! Live traffic on a veth pair, in short alternating windows: with the product's programs and with
//! a baseline. Neighbouring windows are compared instead of runs, because the machine's speed
//! varies by the second.

use std::{
    io::{IoSlice, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    tc::{SchedClassifierLink, TcAttachOptions},
};
use nix::{
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt},
    time::{ClockId, clock_gettime},
};
use observer::{flow::InterfaceNumber, kernel::Programs};
use observer_ebpf::abi::{Direction, names};
use observer_tests::{
    lab::Lab,
    requires,
    veth::{Family, Interface, Task, ip_batch},
};

use crate::{
    place::{FLOW_MEMORY, Place, Reader},
    report::Report,
};

/// Number of pairs of windows.
const PAIRS: usize = 64;
const WINDOW: Duration = Duration::from_millis(40);

/// The programs on the interface during a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Nothing,
    Empty,
    Observer,
}

struct Bench {
    task: Task,
    programs: Programs,
    empty: [Programs; 2],
}

pub(crate) fn run() -> Result<Report> {
    requires::linux(6, 6)
        .map_err(|missing| anyhow::anyhow!("the live benchmark uses TCX: it needs {missing}"))?;
    let lab = Lab::new("bench-live", requires::TURNS)?;
    let task = lab.task("task")?;
    let mut place = Place::new(FLOW_MEMORY)?;
    let mut programs = place.loader.load(1, true)?;
    let reader = Reader::start(place.drain(&mut programs)?);
    let mut empty = [place.loader.load(2, true)?, place.loader.load(2, true)?];
    for programs in &mut empty {
        programs.classifier(names::EMPTY)?.load()?;
    }
    let mut bench = Bench { task, programs, empty };

    let mut report = Report::default();
    bench.small_packets(&mut report)?;
    bench.bulk(&mut report)?;
    bench.connects(&mut report)?;

    drop(bench);
    let (drain, recorded) = reader.finish()?;
    let ledgers = drain.ledger(InterfaceNumber::new(1));
    let seen: u64 = ledgers.iter().map(|ledger| ledger.packets).sum();
    ensure!(seen == recorded, "{seen} packets were seen, {recorded} came out");
    println!("{seen} packets seen, all of them recorded");
    Ok(report)
}

impl Bench {
    /// Datagrams in frames of 64 bytes, in 1,000 flows, to a MAC address that does not exist, so
    /// that the receiving host drops them at once. From a UDP socket, because frames of a packet
    /// socket are not linear.
    fn small_packets(&mut self, report: &mut Report) -> Result<()> {
        const FLOWS: u16 = 1000;
        const PAYLOAD: [u8; 64 - 14 - 20 - 8] = [0; _];
        const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 77);
        let task = &self.task.inside;
        let neighbour = format!(
            "neigh replace {NOBODY} lladdr 02:ff:ff:ff:ff:ff dev {} nud permanent\n",
            task.name()
        );
        ip_batch(task.namespace(), &neighbour)?;
        let socket =
            task.namespace().run(|| Ok(UdpSocket::bind((task.address(Family::V4), 0))?))?;
        let targets =
            (0..FLOWS).map(|flow| SockaddrIn::from(SocketAddrV4::new(NOBODY, 20_000 + flow)));
        let targets: Vec<_> = targets.map(Some).collect();
        let datagrams = vec![[IoSlice::new(&PAYLOAD)]; targets.len()];
        let mut headers = MultiHeaders::preallocate(targets.len(), None);
        let (real, floor) = self.pairs(On::Empty, |_| {
            // CPU time of this thread only: it includes all costs of a packet, and no other load.
            let (start, cpu) = (Instant::now(), thread_time()?);
            let mut sent = 0;
            while start.elapsed() < WINDOW {
                let flags = MsgFlags::empty();
                sent +=
                    sendmmsg(socket.as_raw_fd(), &mut headers, &datagrams, &targets, [], flags)?
                        .count();
            }
            Ok(thread_time()?.saturating_sub(cpu).as_nanos() as f64 / sent as f64)
        })?;
        // at least 0.97 of the rate
        report.paired(
            "64-byte packet, 1,000 flows · empty program",
            "ns",
            &real,
            &floor,
            1.0 / 0.97,
        );
        Ok(())
    }

    /// One TCP stream, with super-packets.
    fn bulk(&mut self, report: &mut Report) -> Result<()> {
        let listener = listen(&self.task.outside)?;
        let address = listener.local_addr()?;
        let mut stream = self.task.inside.namespace().run(|| Ok(TcpStream::connect(address)?))?;
        let (mut receiver, _) = listener.accept()?;
        let receiving = thread::spawn(move || {
            let mut room = vec![0; 1 << 20];
            while receiver.read(&mut room).is_ok_and(|read| read != 0) {}
        });
        let chunk = vec![0_u8; 256 << 10];
        let (real, floor) = self.pairs(On::Nothing, |_| {
            let start = Instant::now();
            let mut sent = 0;
            while start.elapsed() < WINDOW {
                stream.write_all(&chunk)?;
                sent += chunk.len();
            }
            // nanoseconds per 1,000 bytes are microseconds per megabyte
            Ok(start.elapsed().as_nanos() as f64 * 1000.0 / sent as f64)
        })?;
        drop(stream);
        let _ = receiving.join();
        report.paired("bulk TCP, megabyte · unobserved", "us", &real, &floor, 1.0 / 0.98);
        Ok(())
    }

    /// TCP connections, opened and reset one after the other.
    fn connects(&mut self, report: &mut Report) -> Result<()> {
        let listener = listen(&self.task.outside)?;
        let address = listener.local_addr()?;
        let (real, floor) = self.pairs(On::Nothing, |client| {
            client.namespace().run(|| {
                let start = Instant::now();
                let mut done = 0;
                while start.elapsed() < WINDOW {
                    let stream = TcpStream::connect(address)?;
                    let _ = listener.accept()?;
                    // No port may stay in `TIME_WAIT`.
                    setsockopt(&stream.as_fd(), sockopt::Linger, &RESET)?;
                    done += 1;
                }
                Ok(start.elapsed().as_nanos() as f64 / 1000.0 / f64::from(done))
            })
        })?;
        report.paired("TCP connection · unobserved", "us", &real, &floor, 1.0 / 0.98);
        Ok(())
    }

    /// Runs windows in the order real, floor, floor, real, and so on; returns their figures.
    fn pairs(
        &mut self,
        floor: On,
        mut window: impl FnMut(&Interface) -> Result<f64>,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut real, mut floors) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let order = if pair % 2 == 0 { [On::Observer, floor] } else { [floor, On::Observer] };
            for on in order {
                let links = self.attach(on)?;
                // the first packets after a change are slower
                thread::sleep(Duration::from_millis(5));
                let figure = window(&self.task.inside)?;
                drop(links);
                if on == floor { floors.push(figure) } else { real.push(figure) }
            }
        }
        Ok((real, floors))
    }

    fn attach(&mut self, on: On) -> Result<Vec<SchedClassifierLink>> {
        let Self { task, programs, empty } = self;
        let mut links = Vec::new();
        for (direction, empty) in Direction::ALL.into_iter().zip(empty) {
            let program = match on {
                On::Nothing => continue,
                On::Empty => empty.classifier(names::EMPTY)?,
                On::Observer => programs.get_mut(direction)?,
            };
            links.push(task.inside.namespace().run(|| attach(program, &task.inside, direction))?);
        }
        Ok(links)
    }
}

fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Makes closing reset the connection.
const RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

fn listen(at: &Interface) -> Result<TcpListener> {
    at.namespace().run(|| Ok(TcpListener::bind((at.address(Family::V4), 0))?))
}

fn attach(
    program: &mut SchedClassifier,
    interface: &Interface,
    direction: Direction,
) -> Result<SchedClassifierLink> {
    let hook = match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    };
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface.name(), hook, options)?;
    Ok(program.take_link(id)?)
}
