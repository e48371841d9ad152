//! The HTTP server and its limits on connections.
//!
//! Clients must not exhaust the daemon's descriptors and memory. The number of connections is
//! limited; a new client replaces the one that has been idle longest. Requests are limited in size
//! and time, and a client that does not read its response is disconnected.

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

/// Time limit for the head of a request, from the opening of the connection or the end of the
/// previous response.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// Maximum size of the head of a request in bytes.
const HEAD_SIZE: usize = 16 << 10;
/// Time without progress after which a client that reads a response is disconnected.
const READ_TIME: Duration = Duration::from_secs(30);
/// Pause after a failed accept, mostly for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// A bound listening socket. Binding comes first, so that a port in use is found before anything
/// starts.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
}

impl Server {
    /// Binds the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Serves up to `most` clients at a time until the runtime ends.
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

/// The open connections.
struct Connections {
    app: Router,
    most: usize,
    start: Instant,
    running: JoinSet<()>,
    open: Vec<Connection>,
}

/// An open connection.
struct Connection {
    task: AbortHandle,
    id: Id,
    /// Time of the opening or of the last request, in milliseconds since the server's start.
    active_ms: Arc<AtomicU64>,
}

impl Connections {
    fn new(app: Router, most: usize) -> Self {
        Self { app, most, start: Instant::now(), running: JoinSet::new(), open: Vec::new() }
    }

    fn add(&mut self, stream: TcpStream) {
        while self.open.len() >= self.most {
            let idle = |(_, connection): &(usize, &Connection)| {
                connection.active_ms.load(Ordering::Relaxed)
            };
            let Some((longest, _)) = self.open.iter().enumerate().min_by_key(idle) else { break };
            // The descriptor is closed when the runtime polls the task.
            self.open.swap_remove(longest).task.abort();
        }
        let now = move |start: Instant| start.elapsed().as_millis() as u64;
        let (start, active_ms) = (self.start, Arc::new(AtomicU64::new(now(self.start))));
        let (app, active) = (self.app.clone(), Arc::clone(&active_ms));
        let task = self.running.spawn(async move {
            // Fails only for sockets other than TCP, which need only the other limits.
            let _ = setsockopt(
                &stream.as_fd(),
                sockopt::TcpUserTimeout,
                &(READ_TIME.as_millis() as u32),
            );
            let service = service_fn(move |request: Request<Incoming>| {
                active.store(now(start), Ordering::Relaxed);
                let mut app = app.clone();
                async move {
                    Ok::<_, Infallible>(
                        app.call(request).await.unwrap_or_else(|never| match never {}),
                    )
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_header_size(HEAD_SIZE)
                .max_buf_size(2 * HEAD_SIZE)
                .serve_connection(TokioIo::new(stream), service);
            // Errors of a connection concern only its client.
            let _ = connection.await;
        });
        self.open.push(Connection { id: task.id(), task, active_ms });
    }

    fn forget(&mut self, id: Id) {
        self.open.retain(|connection| connection.id != id);
    }
}
