use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    panic, thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{frames::LINK_HEADER, sink::bind};
use crate::{
    counters::{Counters, TcpCounters, tcp_is_silent},
    cpus,
    poll::{self, PATIENCE, stretched},
    tally::Tally,
    veth::{Family, Interface},
};

/// Bytes of the IP header, the TCP header and the timestamps, which all segments carry except the
/// first.
const fn header(family: Family) -> u64 {
    family.header() + 20 + 12
}

/// Additional option bytes of a SYN.
const SYN: u64 = 8;

/// The amount of data of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// IP version.
    pub family: Family,
    /// Bytes that the client sends first.
    pub request: u64,
    /// Bytes of the server's response.
    pub response: u64,
}

/// Result of a finished connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port of the server.
    pub server: SocketAddr,
    /// Traffic of the client: segments as TCP counted them, bytes as on the wire.
    pub from_client: Tally,
    /// Traffic of the server.
    pub from_server: Tally,
}

/// Runs a complete connection, from SYN to the last ACK.
pub fn exchange(client: &Interface, server: &Interface, transfer: Transfer) -> Result<Connection> {
    let mut conversation = Conversation::open(client, server, transfer.family)?;
    conversation.ask(transfer.request, transfer.response)?;
    conversation.close()
}

/// Runs a connection that carries `bytes` from the server `from` to the client `to`.
pub fn bulk(from: &Interface, to: &Interface, family: Family, bytes: u64) -> Result<Connection> {
    exchange(to, from, Transfer { family, request: 1, response: bytes })
}

/// An open connection. There may be no other TCP traffic between its ends.
#[derive(Debug)]
pub struct Conversation<'a> {
    account: Account<'a>,
    addresses: [SocketAddr; 2],
    asking: TcpStream,
    answering: TcpStream,
}

impl<'a> Conversation<'a> {
    /// Opens a connection.
    pub fn open(client: &'a Interface, server: &'a Interface, family: Family) -> Result<Self> {
        let mut account = Account::open([client, server], family)?;
        let listener = listen(server, family)?;
        let address = listener.local_addr()?;
        let asking = connect(client, address)?;
        let (answering, _) = listener.accept()?;
        patient(&answering)?;
        account.opened += 1;
        Ok(Self { account, addresses: [asking.local_addr()?, address], asking, answering })
    }

    /// Excludes the traffic so far from the result. Call it when nothing is in flight, such as
    /// after opening.
    pub fn forget(&mut self) -> Result<()> {
        let Account { ends, family, .. } = self.account;
        self.account = Account::open(ends, family)?;
        Ok(())
    }

    /// Sends `request` bytes to the server and `response` bytes back.
    pub fn ask(&mut self, request: u64, response: u64) -> Result<()> {
        let Self { asking, answering, .. } = self;
        thread::scope(|scope| {
            let serving = scope.spawn(move || -> Result<()> {
                receive(answering, request)?;
                send(answering, response)
            });
            send(asking, request)?;
            receive(asking, response)?;
            serving.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })?;
        self.account.payload[0] += request;
        self.account.payload[1] += response;
        Ok(())
    }

    /// Closes it, the server first, and waits for the last ACK.
    pub fn close(self) -> Result<Connection> {
        let Self { account, addresses: [client, server], mut asking, mut answering } = self;
        answering.shutdown(Shutdown::Write)?;
        receive_end(&mut asking)?;
        drop(asking);
        receive_end(&mut answering)?;
        drop(answering);
        let [from_client, from_server] = account.close()?;
        Ok(Connection { client, server, from_client, from_server })
    }
}

/// Measurement of TCP traffic in both directions, from its start on.
#[derive(Debug)]
struct Account<'a> {
    ends: [&'a Interface; 2],
    family: Family,
    before: [Witness; 2],
    payload: [u64; 2],
    /// Number of connections opened since the start.
    opened: u64,
}

impl<'a> Account<'a> {
    fn open(ends: [&'a Interface; 2], family: Family) -> Result<Self> {
        Ok(Self { ends, family, before: witnesses(ends)?, payload: [0; 2], opened: 0 })
    }

    fn close(self) -> Result<[Tally; 2]> {
        let Self { ends, family, before, payload, opened } = self;
        for end in ends {
            poll::until_true("TCP is silent", PATIENCE, || tcp_is_silent(end.namespace()))?;
        }
        let after = witnesses(ends)?;
        let retransmitted =
            (0..2).any(|end| after[end].tcp.retransmitted != before[end].tcp.retransmitted);
        let sent = |end: usize| -> Result<Tally> {
            let derived = |packets: u64| payload[end] + packets * header(family) + opened * SYN;
            if ends[end].is_tunnel() {
                let packets = after[end].tcp.since(&before[end].tcp).total();
                ensure!(!retransmitted, SentTwice);
                return Ok(Tally::new(packets, derived(packets)));
            }
            let tally = after[end].sent_since(&before[end], family)?;
            let derived = derived(tally.packets);
            ensure!(
                retransmitted || tally.bytes == derived,
                "{} bytes in {tally} should be {derived} bytes with their headers",
                payload[end]
            );
            Ok(tally)
        };
        Ok([sent(0)?, sent(1)?])
    }
}

/// Error: segments in a tunnel were retransmitted, so their lengths are unknown.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("segments were sent twice, and no wire tells how long they were")]
pub struct SentTwice;

/// Traffic of several connections.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    /// Traffic of the clients, which only acknowledge.
    pub from_clients: Tally,
    /// Traffic of the server.
    pub from_server: Tally,
}

/// Runs `count` parallel connections that carry `bytes` each from `from` to `to`. Both ends of each
/// connection keep moving from CPU to CPU, at different times.
pub fn streams(
    from: &Interface,
    to: &Interface,
    family: Family,
    count: usize,
    bytes: u64,
) -> Result<Streams> {
    const CHUNK: u64 = 32 << 20;
    let cpus = cpus::allowed()?;
    let turn =
        |stream: usize, done: u64| cpus::pin(cpus[(stream + (done / CHUNK) as usize) % cpus.len()]);
    let source = memfd_create("payload", MFdFlags::MFD_CLOEXEC)?;
    let source = File::from(source);
    source.set_len(CHUNK)?;

    let mut account = Account::open([to, from], family)?;
    let listener = listen(from, family)?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        let (listener, source, turn) = (&listener, &source, &turn);
        let mut threads = Vec::new();
        for stream in 0..count {
            let asking = connect(to, address)?;
            let (answering, _) = listener.accept()?;
            patient(&answering)?;
            threads.push(scope.spawn(move || -> Result<()> {
                let mut sent = 0;
                while sent < bytes {
                    turn(stream, sent)?;
                    sent += send_file(&answering, source, CHUNK.min(bytes - sent))?;
                }
                answering.shutdown(Shutdown::Write)?;
                receive_end(&mut &answering)
            }));
            threads.push(scope.spawn(move || -> Result<()> {
                let mut received = 0;
                while received < bytes {
                    turn(stream + 1, received)?;
                    received += discard(&asking, CHUNK.min(bytes - received))?;
                }
                receive_end(&mut &asking)
            }));
        }
        let ended = threads
            .into_iter()
            .map(|it| it.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        ended.collect::<Result<()>>()
    })?;
    account.opened = count as u64;
    account.payload[1] = count as u64 * bytes;
    let [from_clients, from_server] = account.close()?;
    Ok(Streams { from_clients, from_server })
}

/// Sends the first `len` bytes of a file.
fn send_file(stream: &TcpStream, source: &File, len: u64) -> Result<u64> {
    let mut offset = 0;
    while (offset as u64) < len {
        let rest = (len - offset as u64) as usize;
        // SAFETY: the offset outlives the call.
        let sent = unsafe {
            libc::sendfile(stream.as_raw_fd(), source.as_raw_fd(), &raw mut offset, rest)
        };
        ensure!(sent > 0, "sendfile: {}", io::Error::last_os_error());
    }
    Ok(len)
}

/// Receives and discards `len` bytes.
fn discard(stream: &TcpStream, len: u64) -> Result<u64> {
    let mut done = 0;
    while done < len {
        let rest = (len - done) as usize;
        // SAFETY: with `MSG_TRUNC` nothing is written.
        let received =
            unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), rest, libc::MSG_TRUNC) };
        ensure!(received != 0, "the connection ends after {done} of {len} bytes");
        ensure!(received > 0, "receiving: {}", io::Error::last_os_error());
        done += received as u64;
    }
    Ok(done)
}

fn listen(server: &Interface, family: Family) -> Result<TcpListener> {
    const PORT: u16 = 443;
    server.namespace().run(|| bind(|| TcpListener::bind((server.address(family), PORT))))
}

fn connect(client: &Interface, server: SocketAddr) -> Result<TcpStream> {
    let stream =
        client.namespace().run(|| Ok(TcpStream::connect_timeout(&server, stretched(PATIENCE))?))?;
    patient(&stream)?;
    Ok(stream)
}

fn witnesses([first, second]: [&Interface; 2]) -> Result<[Witness; 2]> {
    Ok([Witness::of(first)?, Witness::of(second)?])
}

/// Counters of TCP and of the interface of one end.
#[derive(Debug)]
struct Witness {
    tcp: TcpCounters,
    interface: Counters,
}

impl Witness {
    fn of(interface: &Interface) -> Result<Self> {
        Ok(Self {
            tcp: TcpCounters::read(interface.namespace())?,
            interface: interface.counters()?,
        })
    }

    /// Segments by TCP's own counter. Bytes by the interface's counter, without link headers, plus
    /// the headers of segments that left inside a super-packet.
    fn sent_since(&self, before: &Self, family: Family) -> Result<Tally> {
        let interface = self.interface.since(&before.interface);
        let frames = interface.frames.egress;
        ensure!(interface.dropped == 0, "the interface dropped {} frames", interface.dropped);
        let packets = self.tcp.since(&before.tcp).total();
        ensure!(packets >= frames.packets, "{packets} segments in {frames}");
        let inner = packets - frames.packets;
        Ok(Tally::new(
            packets,
            frames.bytes - frames.packets * LINK_HEADER + inner * header(family),
        ))
    }
}

fn patient(stream: &TcpStream) -> Result<()> {
    let patience = Some(stretched(Duration::from_secs(10)));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    stream.set_nodelay(true)?;
    Ok(())
}

fn send(stream: &mut TcpStream, mut bytes: u64) -> Result<()> {
    let chunk = vec![0x42; 1 << 16];
    while bytes > 0 {
        let len = bytes.min(chunk.len() as u64);
        stream.write_all(&chunk[..len as usize])?;
        bytes -= len;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, mut bytes: u64) -> Result<()> {
    let mut chunk = vec![0; 1 << 16];
    while bytes > 0 {
        let len = bytes.min(chunk.len() as u64);
        stream.read_exact(&mut chunk[..len as usize])?;
        bytes -= len;
    }
    Ok(())
}

fn receive_end(stream: &mut impl Read) -> Result<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}
