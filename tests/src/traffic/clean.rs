//! Complete exchanges without packet loss, of several kinds and in any number.
//!
//! Each connection is closed when nothing is in flight, so that neither end rejects or ignores a
//! packet.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    panic, thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

use crate::{
    poll::stretched,
    veth::{Family, Interface},
};

/// The course of an exchange and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One HTTP request and response with `Connection: close`: the server closes first.
    Closing,
    /// Several requests on one connection, which the client closes.
    KeptAlive,
    /// One request and response, then a reset by the client.
    ResetByClient,
    /// One request and response, then a reset by the server.
    ResetByServer,
    /// The client sends all its data and half-closes; then the server responds.
    HalfClosed,
    /// A datagram and a response.
    Datagram,
}

impl Manner {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Closing,
        Self::KeptAlive,
        Self::ResetByClient,
        Self::ResetByServer,
        Self::HalfClosed,
        Self::Datagram,
    ];
}

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: service\r\n\r\n";
const FAREWELL: &[u8] = b"!";
/// One exchange in this many has a response of several segments.
const LONG_EVERY: u64 = 16;
const KEPT_FOR: usize = 3;

fn response(number: u64) -> &'static [u8] {
    static RESPONSE: [u8; 20_000] = [b'x'; 20_000];
    if number.is_multiple_of(LONG_EVERY) { &RESPONSE } else { &RESPONSE[..200] }
}

/// Runs `count` exchanges of each kind over both IP versions, all kinds at once.
pub fn exchanges(client: &Interface, server: &Interface, count: u64) -> Result<()> {
    prepare(client)?;
    thread::scope(|scope| {
        let mut ends = Vec::new();
        for family in Family::ALL {
            for manner in Manner::ALL {
                let address = server.address(family);
                let serving = server.namespace().run(|| Server::bind(manner, address))?;
                let place = serving.address()?;
                ends.push(scope.spawn(move || serving.serve(manner, count)));
                ends.push(scope.spawn(move || {
                    client.namespace().run(|| {
                        (0..count).try_for_each(|number| {
                            ask(manner, place, number).with_context(|| {
                                format!("{manner:?} over {family:?}, exchange {number}")
                            })
                        })
                    })
                }));
            }
        }
        let ended = ends
            .into_iter()
            .map(|end| end.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        ended.collect::<Result<()>>()
    })
}

/// Allows any number of connections from a namespace: all ports, and ports in `TIME_WAIT`.
fn prepare(client: &Interface) -> Result<()> {
    client.namespace().run(|| {
        for (name, value) in [("ip_local_port_range", "1024 65535"), ("tcp_tw_reuse", "1")] {
            let path = format!("/proc/sys/net/ipv4/{name}");
            std::fs::write(&path, value).with_context(|| path.clone())?;
        }
        Ok(())
    })
}

enum Server {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Server {
    fn bind(manner: Manner, address: IpAddr) -> Result<Self> {
        Ok(match manner {
            Manner::Datagram => {
                let socket = UdpSocket::bind((address, 0))?;
                socket.set_read_timeout(Some(patience()))?;
                Self::Udp(socket)
            }
            _ => Self::Tcp(TcpListener::bind((address, 0))?),
        })
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?,
            Self::Udp(socket) => socket.local_addr()?,
        })
    }

    fn serve(self, manner: Manner, count: u64) -> Result<()> {
        for number in 0..count {
            match &self {
                Self::Tcp(listener) => {
                    let (stream, _) = listener.accept()?;
                    answer(manner, stream, number)
                        .with_context(|| format!("{manner:?}, answer {number}"))?;
                }
                Self::Udp(socket) => {
                    let mut room = [0; 64];
                    let (length, from) = socket.recv_from(&mut room)?;
                    socket.send_to(&room[..length], from)?;
                }
            }
        }
        Ok(())
    }
}

fn patience() -> Duration {
    stretched(Duration::from_secs(20))
}

fn settle(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(patience()))?;
    stream.set_write_timeout(Some(patience()))?;
    stream.set_nodelay(true)?;
    Ok(())
}

/// Closes a connection by a reset.
fn reset(stream: TcpStream) -> Result<()> {
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(stream);
    Ok(())
}

/// Waits for the other end's reset.
fn see_reset(mut stream: TcpStream) -> Result<()> {
    let ended = stream.read(&mut [0]).map_err(|error| error.kind());
    ensure!(ended == Err(ErrorKind::ConnectionReset), "{ended:?}, and no reset");
    Ok(())
}

/// The server's side of a connection.
fn answer(manner: Manner, mut stream: TcpStream, number: u64) -> Result<()> {
    settle(&stream)?;
    let mut request = [0; REQUEST.len()];
    let times = if manner == Manner::KeptAlive { KEPT_FOR } else { 1 };
    for _ in 0..times {
        stream.read_exact(&mut request)?;
        if manner == Manner::HalfClosed {
            ensure!(stream.read(&mut request)? == 0, "more than a request");
        }
        stream.write_all(response(number))?;
    }
    match manner {
        Manner::KeptAlive => ensure!(stream.read(&mut request)? == 0, "more than its requests"),
        Manner::ResetByClient => see_reset(stream)?,
        Manner::ResetByServer => {
            stream.read_exact(&mut request[..FAREWELL.len()])?;
            reset(stream)?;
        }
        Manner::Closing | Manner::HalfClosed | Manner::Datagram => {}
    }
    Ok(())
}

/// The client's side of an exchange.
fn ask(manner: Manner, server: SocketAddr, number: u64) -> Result<()> {
    if manner == Manner::Datagram {
        let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(patience()))?;
        socket.connect(server)?;
        socket.send(REQUEST)?;
        ensure!(socket.recv(&mut [0; 64])? == REQUEST.len(), "another answer");
        return Ok(());
    }
    let mut stream = TcpStream::connect(server)?;
    settle(&stream)?;
    let expected = response(number);
    let mut room = vec![0; expected.len()];
    let times = if manner == Manner::KeptAlive { KEPT_FOR } else { 1 };
    for _ in 0..times {
        stream.write_all(REQUEST)?;
        if manner == Manner::HalfClosed {
            stream.shutdown(Shutdown::Write)?;
        }
        stream.read_exact(&mut room)?;
    }
    match manner {
        Manner::Closing | Manner::HalfClosed => {
            ensure!(stream.read(&mut room)? == 0, "more than a response");
        }
        Manner::ResetByClient => reset(stream)?,
        Manner::ResetByServer => {
            stream.write_all(FAREWELL)?;
            see_reset(stream)?;
        }
        Manner::KeptAlive | Manner::Datagram => {}
    }
    Ok(())
}
