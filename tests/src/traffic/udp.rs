use std::{
    io::ErrorKind,
    net::UdpSocket,
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

use super::{
    pace::Pace,
    sink::{SINK, bind},
};
use crate::{
    poll::stretched,
    tally::Tally,
    veth::{Family, Interface},
};

/// The port of [`Echo`].
const ECHO: u16 = 9001;
const HEADER: u64 = 8;

/// Datagrams of one size, in flows with different source ports.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// IP version.
    pub family: Family,
    /// Number of flows; source ports start at [`Udp::FIRST_PORT`].
    pub flows: u16,
    /// Datagrams per flow. Each is one packet unless it is fragmented.
    pub packets: u64,
    /// Payload bytes per datagram.
    pub payload: usize,
}

impl Udp {
    /// The source port of the first flow.
    pub const FIRST_PORT: u16 = 20_000;

    /// The packets and bytes of one datagram, fragments included.
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
        // Fragments other than the last carry a multiple of 8 bytes.
        let fragments = bytes.div_ceil((MTU - header) / 8 * 8);
        Tally::new(fragments, bytes + fragments * header)
    }

    /// The packets and bytes of one flow.
    pub const fn per_flow(&self) -> Tally {
        let Tally { packets, bytes } = self.per_datagram();
        Tally::new(self.packets * packets, self.packets * bytes)
    }

    /// Sends all datagrams to the [`Sink`] at `to`, one from each flow in turn.
    pub fn send(&self, from: &Interface, to: &Interface) -> Result<Tally> {
        self.send_each(from, to, |socket, payload| {
            let sent = socket.send(payload)?;
            ensure!(sent == payload.len(), "sent {sent} of {} bytes", payload.len());
            Ok(())
        })
    }

    /// [`send`](Self::send), if the sender's host drops every datagram. Permission errors are
    /// ignored.
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

/// Raises this process's limit of open files, which is too low on many hosts.
fn open_files(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))?;
    }
    Ok(())
}

/// Sends `messages` of `payload` bytes that the kernel cuts into datagrams of `segment` bytes
/// (`UDP_SEGMENT`).
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

/// A thread that sends datagrams until it is stopped, whether or not they arrive.
#[derive(Debug)]
pub struct Trickle {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Trickle {
    const PAYLOAD: usize = 100;
    const PAUSE: Duration = Duration::from_micros(500);

    /// Starts the thread, with the [`Sink`] at `to` as destination.
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
                // An interface drops datagrams while its queues are stopped, for instance during
                // reconfiguration.
                let _ = socket.send(&[2; Self::PAYLOAD]);
                thread::sleep(Self::PAUSE);
            }
        });
        Ok(Self { stop, thread })
    }

    /// Stops the thread.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
    }
}

/// A thread that sends a datagram and waits for its echo, until it is stopped. A missing echo is an
/// error.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Echo {
    const PAYLOAD: usize = 100;

    /// Starts the thread.
    pub fn start(client: &Interface, server: &Interface, family: Family) -> Result<Self> {
        let answering =
            server.namespace().run(|| bind(|| UdpSocket::bind((server.address(family), ECHO))))?;
        let asking = client.namespace().run(|| {
            let socket = UdpSocket::bind((client.address(family), 0))?;
            socket.connect((server.address(family), ECHO))?;
            Ok(socket)
        })?;
        let patience = Some(stretched(Duration::from_secs(20)));
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

    /// Stops the thread and returns the number of datagrams per direction. Returns an error if one
    /// was lost.
    pub fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// True while the thread runs: it ends by itself only if a datagram is lost.
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
