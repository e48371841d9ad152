use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd as _,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Pace, bind};
use crate::{
    netns::Namespace,
    poll::stretched,
    tally::Tally,
    veth::{Family, Interface},
};

/// The port of every sink.
pub const SINK: u16 = 9000;
/// The port of [`Echo`].
const ECHO: u16 = 9001;
const HEADER: u64 = 8;

/// A bound socket that nobody reads: whoever sends to it gets no answer, not even that the port is closed. Every
/// interface has one for each family as long as it lives, because the last datagrams arrive when their sender is done.
#[derive(Debug)]
pub struct Sink(#[expect(dead_code, reason = "it is open as long as the sink lives")] UdpSocket);

impl Sink {
    /// Opens one at an address of the namespace.
    pub fn open(namespace: &Namespace, address: IpAddr) -> Result<Self> {
        Ok(Self(namespace.run(|| Ok(UdpSocket::bind((address, SINK))?))?))
    }
}

/// Datagrams of one size in flows that differ in their source port.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// Over which IP.
    pub family: Family,
    /// Flows, from source port [`Udp::FIRST_PORT`] on.
    pub flows: u16,
    /// Datagrams in each: as many packets, unless they are fragmented.
    pub packets: u64,
    /// Bytes in each datagram.
    pub payload: usize,
}

impl Udp {
    /// The source port of the first flow.
    pub const FIRST_PORT: u16 = 20_000;

    /// What one datagram amounts to: one packet, or the fragments that it takes.
    const fn per_datagram(&self) -> Tally {
        const MTU: u64 = 1500;
        const IPV6_FRAGMENT_HEADER: u64 = 8;
        let header = self.family.header();
        let bytes = HEADER + self.payload as u64;
        if header + bytes <= MTU {
            return Tally::new(1, header + bytes);
        }
        let header = match self.family {
            Family::V4 => header,
            Family::V6 => header + IPV6_FRAGMENT_HEADER,
        };
        // All but the last carry a multiple of 8 bytes.
        let fragments = bytes.div_ceil((MTU - header) / 8 * 8);
        Tally::new(fragments, bytes + fragments * header)
    }

    /// What one flow amounts to.
    pub const fn per_flow(&self) -> Tally {
        let Tally { packets, bytes } = self.per_datagram();
        Tally::new(self.packets * packets, self.packets * bytes)
    }

    /// Sends all of it to the [`Sink`] at `to`, the flows taking turns.
    pub fn send(&self, from: &Interface, to: &Interface) -> Result<Tally> {
        self.send_each(from, to, |socket, payload| {
            let sent = socket.send(payload)?;
            ensure!(sent == payload.len(), "sent {sent} of {} bytes", payload.len());
            Ok(())
        })
    }

    /// [`send`](Self::send) where the sender's own host drops every datagram, whether or not it says so.
    pub fn send_refused(&self, from: &Interface, to: &Interface) -> Result<Tally> {
        self.send_each(from, to, |socket, payload| match socket.send(payload) {
            Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error.into()),
            _ => Ok(()),
        })
    }

    fn send_each(
        &self,
        from: &Interface,
        to: &Interface,
        send: impl Fn(&UdpSocket, &[u8]) -> Result<()>,
    ) -> Result<Tally> {
        let target = (to.address(self.family), SINK);
        let own = from.address(self.family);
        open_files(u64::from(self.flows) + 1000)?;
        let sockets = from.namespace().run(|| {
            let ports = Self::FIRST_PORT..Self::FIRST_PORT + self.flows;
            let bound = ports.map(|port| {
                let socket = bind(|| UdpSocket::bind((own, port)))?;
                socket.connect(target)?;
                Ok(socket)
            });
            bound.collect::<Result<Vec<_>>>()
        })?;
        let payload = vec![0xa5; self.payload];
        let mut pace = Pace::of(from)?;
        for _ in 0..self.packets {
            for socket in &sockets {
                send(socket, &payload)?;
                pace.after(self.per_datagram().packets)?;
            }
        }
        Ok((0..self.flows).map(|_| self.per_flow()).sum())
    }
}

/// Lets this process have so many files open, which is more than many hosts start it with.
fn open_files(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))?;
    }
    Ok(())
}

/// Sends `messages` of `payload` bytes that the kernel cuts into datagrams of `segment` bytes (`UDP_SEGMENT`).
pub fn segmented(
    (from, to): (&Interface, &Interface),
    family: Family,
    messages: u64,
    payload: usize,
    segment: u16,
) -> Result<Tally> {
    let socket = from.namespace().run(|| {
        let socket = bind(|| UdpSocket::bind((from.address(family), Udp::FIRST_PORT)))?;
        socket.connect((to.address(family), SINK))?;
        let size = libc::c_int::from(segment);
        // SAFETY: the option is an `int`, which outlives the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const size).cast(),
                size_of_val(&size) as libc::socklen_t,
            )
        };
        ensure!(set == 0, "UDP_SEGMENT: {}", std::io::Error::last_os_error());
        Ok(socket)
    })?;
    let bytes = vec![0x5a; payload];
    let mut pace = Pace::of(from)?;
    for _ in 0..messages {
        socket.send(&bytes)?;
        pace.after(1)?;
    }
    let datagrams = payload.div_ceil(usize::from(segment)) as u64;
    let each = datagrams * (family.header() + HEADER) + payload as u64;
    Ok(Tally::new(messages * datagrams, messages * each))
}

/// Datagrams one way without end, on a thread, whether or not they arrive.
#[derive(Debug)]
pub struct Trickle {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Trickle {
    const PAYLOAD: usize = 100;
    const PAUSE: Duration = Duration::from_micros(500);

    /// Starts it, to the [`Sink`] at `to`.
    pub fn start(from: &Interface, to: &Interface, family: Family) -> Result<Self> {
        let socket = from.namespace().run(|| {
            let socket = UdpSocket::bind((from.address(family), 0))?;
            socket.connect((to.address(family), SINK))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked_to = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !asked_to.load(Ordering::Relaxed) {
                // An interface whose queues stand still for a moment drops what is sent.
                let _ = socket.send(&[2; Self::PAYLOAD]);
                thread::sleep(Self::PAUSE);
            }
        });
        Ok(Self { stop, thread })
    }

    /// Stops it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
    }
}

/// Question and answer, one at a time without end, on a thread: who misses an answer has lost a datagram.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Echo {
    const PAYLOAD: usize = 100;

    /// Starts it.
    pub fn start(client: &Interface, server: &Interface, family: Family) -> Result<Self> {
        let answering =
            server.namespace().run(|| bind(|| UdpSocket::bind((server.address(family), ECHO))))?;
        let asking = client.namespace().run(|| {
            let socket = UdpSocket::bind((client.address(family), 0))?;
            socket.connect((server.address(family), ECHO))?;
            Ok(socket)
        })?;
        let patience = Some(stretched(Duration::from_secs(5)));
        answering.set_read_timeout(patience)?;
        asking.set_read_timeout(patience)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked_to = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (question, mut answer) = ([1; Self::PAYLOAD], [0; Self::PAYLOAD]);
            let mut rounds = 0;
            while !asked_to.load(Ordering::Relaxed) {
                asking.send(&question)?;
                let (_, from) = lost(answering.recv_from(&mut answer), "question", rounds)?;
                answering.send_to(&answer, from)?;
                lost(asking.recv(&mut answer), "answer", rounds)?;
                rounds += 1;
            }
            Ok(rounds)
        });
        Ok(Self { stop, thread })
    }

    /// Stops it and returns what went each way; an error if a datagram was lost.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Whether it still goes on: it ends by itself only where a datagram is lost.
    pub fn goes_on(&self) -> bool {
        !self.thread.is_finished()
    }
}

fn lost<T>(received: std::io::Result<T>, what: &str, round: u64) -> Result<T> {
    match received {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            bail!("{what} {round} was lost on the way")
        }
        received => Ok(received?),
    }
}
