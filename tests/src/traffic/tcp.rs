use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    panic, thread,
    time::Duration,
};

use anyhow::{Result, ensure};

use super::{bind, frames::LINK_HEADER};
use crate::{
    counters::{Counters, TcpCounters, tcp_is_silent},
    poll::{self, PATIENCE, stretched},
    tally::Tally,
    veth::{Family, Interface},
};

/// IP header, TCP header and the timestamps that every segment but the first carries.
const fn header(family: Family) -> u64 {
    family.header() + 20 + 12
}

/// The options of a SYN are this much longer.
const SYN: u64 = 8;

/// Two ends that talk, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Over which IP.
    pub family: Family,
    /// Bytes that the client says first.
    pub request: u64,
    /// Bytes that the server answers with.
    pub response: u64,
}

/// A connection that is over.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Where the client was.
    pub client: SocketAddr,
    /// Where the server was.
    pub server: SocketAddr,
    /// What the client sent: segments as TCP counted them, bytes as they lay on the wire.
    pub from_client: Tally,
    /// What the server sent.
    pub from_server: Tally,
}

/// A whole connection, from SYN to the last ACK.
pub fn exchange(client: &Interface, server: &Interface, transfer: Transfer) -> Result<Connection> {
    const PORT: u16 = 443;
    let family = transfer.family;
    let before = [Witness::of(client)?, Witness::of(server)?];
    let listener = server.namespace().run(|| bind(|| TcpListener::bind((server.address(family), PORT))))?;
    let address = listener.local_addr()?;
    let mut asking =
        client.namespace().run(|| Ok(TcpStream::connect_timeout(&address, stretched(PATIENCE))?))?;
    let ends = (asking.local_addr()?, address);
    thread::scope(|scope| {
        let serving = scope.spawn(move || -> Result<()> {
            let (mut answering, _) = listener.accept()?;
            patient(&answering)?;
            receive(&mut answering, transfer.request)?;
            send(&mut answering, transfer.response)?;
            answering.shutdown(Shutdown::Write)?;
            receive_end(&mut answering)
        });
        patient(&asking)?;
        send(&mut asking, transfer.request)?;
        receive(&mut asking, transfer.response)?;
        receive_end(&mut asking)?;
        drop(asking);
        serving.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })?;
    for end in [client, server] {
        poll::until_true("TCP is silent", PATIENCE, || tcp_is_silent(end.namespace()))?;
    }
    let after = [Witness::of(client)?, Witness::of(server)?];
    let retransmitted = (0..2).any(|end| after[end].tcp.retransmitted != before[end].tcp.retransmitted);
    let sent = |end: usize, payload: u64| -> Result<Tally> {
        let tally = after[end].sent_since(&before[end], family)?;
        let derived = payload + tally.packets * header(family) + SYN;
        ensure!(
            retransmitted || tally.bytes == derived,
            "{payload} bytes in {tally} should be {derived} bytes with their headers"
        );
        Ok(tally)
    };
    Ok(Connection {
        client: ends.0,
        server: ends.1,
        from_client: sent(0, transfer.request)?,
        from_server: sent(1, transfer.response)?,
    })
}

/// A connection that carries `bytes` from `from`, which is the server, to `to`.
pub fn bulk(from: &Interface, to: &Interface, family: Family, bytes: u64) -> Result<Connection> {
    exchange(to, from, Transfer { family, request: 1, response: bytes })
}

/// What TCP and the interface of one end say at one moment.
struct Witness {
    tcp: TcpCounters,
    interface: Counters,
}

impl Witness {
    fn of(interface: &Interface) -> Result<Self> {
        Ok(Self { tcp: TcpCounters::read(interface.namespace())?, interface: interface.counters()? })
    }

    /// Segments by TCP's own count; bytes by the interface's, less the link headers, and with the headers of those
    /// segments that left within a super-packet.
    fn sent_since(&self, before: &Self, family: Family) -> Result<Tally> {
        let interface = self.interface.since(&before.interface);
        let frames = interface.frames.egress;
        ensure!(interface.dropped == 0, "the interface dropped {} frames", interface.dropped);
        let packets = self.tcp.since(&before.tcp).total();
        ensure!(packets >= frames.packets, "{packets} segments in {frames}");
        let inner = packets - frames.packets;
        Ok(Tally::new(packets, frames.bytes - frames.packets * LINK_HEADER + inner * header(family)))
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

fn receive_end(stream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}
