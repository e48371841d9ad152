use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{Health, Metrics};
use crate::{
    clock,
    http::plain,
    tasks::{Board, Report},
};

/// What the handlers need.
#[derive(Clone, Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
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
pub async fn serve(
    server: Server,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
) -> io::Result<()> {
    let app = Router::new()
        .route("/", get(index))
        .route("/metrics", get(render))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route(TASKS, get(tasks))
        .with_state(Shared { metrics, health, board });
    axum::serve(TcpListener::from_std(server.listener)?, app).await
}

/// Where `observer tasks` asks.
const TASKS: &str = "/api/v1/tasks";

async fn tasks(State(shared): State<Shared>) -> Response {
    match serde_json::to_string(&shared.board.report()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// What a daemon at this address knows of tasks; `None` where there is none that answers.
pub async fn fetch_tasks(daemon: SocketAddr) -> Option<Report> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let client = plain().ok()?;
    let ask = async {
        let response = client.get(format!("http://{daemon}{TASKS}")).send().await.ok()?;
        serde_json::from_slice(&response.bytes().await.ok()?).ok()
    };
    tokio::time::timeout(PATIENCE, ask).await.ok()?
}

async fn index() -> &'static str {
    "observer\n\n/metrics  Prometheus metrics\n/healthz  whether it lives\n/readyz   whether all that was found is attached\n/api/v1/tasks  what `observer tasks` shows, as JSON\n"
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
