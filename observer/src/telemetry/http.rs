use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{Health, Metrics};
use crate::clock;

/// What the handlers need.
#[derive(Clone, Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

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
}

/// Serves until the runtime ends.
pub async fn serve(server: Server, metrics: Arc<Metrics>, health: Arc<Health>) -> io::Result<()> {
    let app = Router::new()
        .route("/", get(index))
        .route("/metrics", get(render))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .with_state(Shared { metrics, health });
    axum::serve(TcpListener::from_std(server.listener)?, app).await
}

async fn index() -> &'static str {
    "observer\n\n/metrics  Prometheus metrics\n/healthz  whether it lives\n/readyz   whether all that was found is attached\n"
}

async fn render(State(shared): State<Shared>) -> Response {
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn live(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if shared.health.is_live(clock::unix_ms()) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no tick for 10 s\n")
    }
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    if shared.health.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "attaching\n")
    }
}
