//! The HTTP server's connections: how many there are, and for how long.
//!
//! Clients are not trusted with the daemon's descriptors and memory. There are so many connections at most; a new client
//! takes the place of the one that has been idle longest. Requests have a limit of size and of time, and a client that
//! does not read its answer is cut off.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, Id, JoinSet},
    time::sleep,
};
use tower_service::Service as _;

/// Time for the head of a request, from the opening of the connection or the end of the answer before it.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes of the head of a request.
const HEAD_SIZE: usize = 16 << 10;
/// Time in which a client reads something of its answer.
const READ_TIME: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted, which is mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// A listening socket that is not served yet, so that a port in use is known before anything starts.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
}

impl Server {
    /// Takes the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Serves up to `most` clients at a time, until the runtime ends.
    pub(super) async fn serve(self, app: Router, most: usize) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let mut connections = Connections::new(app, most);
        let mut failing = false;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        failing = false;
                        connections.add(stream);
                    }
                    Err(error) => {
                        if !failing {
                            tracing::warn!(%error, "HTTP connections cannot be accepted; trying again");
                            failing = true;
                        }
                        sleep(PAUSE).await;
                    }
                },
                Some(ended) = connections.running.join_next_with_id() => {
                    connections.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
            }
        }
    }
}

/// The connections that are open.
struct Connections {
    app: Router,
    most: usize,
    start: Instant,
    running: JoinSet<()>,
    open: Vec<Connection>,
}

/// One of them.
struct Connection {
    task: AbortHandle,
    id: Id,
    /// When it was opened, or its last request came, in milliseconds since the server's start.
    active_ms: Arc<AtomicU64>,
}

impl Connections {
    fn new(app: Router, most: usize) -> Self {
        Self { app, most, start: Instant::now(), running: JoinSet::new(), open: Vec::new() }
    }

    fn add(&mut self, stream: TcpStream) {
        while self.open.len() >= self.most {
            let idle = |(_, connection): &(usize, &Connection)| connection.active_ms.load(Ordering::Relaxed);
            let Some((longest, _)) = self.open.iter().enumerate().min_by_key(idle) else { break };
            // Its descriptor is closed when the runtime gets to it.
            self.open.swap_remove(longest).task.abort();
        }
        let now = move |start: Instant| start.elapsed().as_millis() as u64;
        let (start, active_ms) = (self.start, Arc::new(AtomicU64::new(now(self.start))));
        let (app, active) = (self.app.clone(), Arc::clone(&active_ms));
        let task =
            self.running.spawn(async move {
                // A socket of another kind would not have it, and needs no more than the other limits.
                let _ = setsockopt(&stream.as_fd(), sockopt::TcpUserTimeout, &(READ_TIME.as_millis() as u32));
                let service = service_fn(move |request: Request<Incoming>| {
                    active.store(now(start), Ordering::Relaxed);
                    let mut app = app.clone();
                    async move {
                        Ok::<_, Infallible>(app.call(request).await.unwrap_or_else(|never| match never {}))
                    }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME)
                    .max_header_size(HEAD_SIZE)
                    .max_buf_size(2 * HEAD_SIZE)
                    .serve_connection(TokioIo::new(stream), service);
                // How it ends is the client's business.
                let _ = connection.await;
            });
        self.open.push(Connection { id: task.id(), task, active_ms });
    }

    fn forget(&mut self, id: Id) {
        self.open.retain(|connection| connection.id != id);
    }
}
