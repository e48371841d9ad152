use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{health::Health, metrics::Metrics, server::Server};
use crate::{
    http::plain,
    linux::clock,
    tasks::{Board, Report},
};

/// Data of the HTTP pages.
#[derive(Clone, Debug)]
pub struct Pages {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
    /// Limits the number of large pages in memory.
    large: Arc<Semaphore>,
}

/// Maximum number of large pages in memory; more clients get status 503.
const LARGE_PAGES: usize = 4;

impl Pages {
    /// Creates the pages.
    pub fn new(metrics: Arc<Metrics>, health: Arc<Health>, board: Arc<Board>) -> Self {
        Self { metrics, health, board, large: Arc::new(Semaphore::new(LARGE_PAGES)) }
    }

    /// Responds with a page of possibly several megabytes, or with status 503 if too many are being
    /// sent.
    fn large<E: fmt::Display>(
        &self,
        content_type: &'static str,
        render: impl FnOnce(&Self) -> Result<String, E>,
    ) -> Response {
        let Ok(permit) = Arc::clone(&self.large).try_acquire_owned() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "busy with other clients\n").into_response();
        };
        match render(self) {
            Ok(text) => {
                let body = Bytes::from_owner(Page { text, _permit: permit });
                ([(header::CONTENT_TYPE, content_type)], body).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }
}

/// A page that holds its permit until it is sent.
struct Page {
    text: String,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// Serves up to `connections` clients at a time until the runtime ends.
pub async fn serve(server: Server, pages: Pages, connections: usize) -> io::Result<()> {
    let app = Router::new()
        .route("/", get(index))
        .route("/metrics", get(render))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route(TASKS, get(tasks))
        .with_state(pages);
    server.serve(app, connections).await
}

/// Path that `observer tasks` requests.
const TASKS: &str = "/api/v1/tasks";

async fn tasks(State(pages): State<Pages>) -> Response {
    pages.large("application/json", |pages| serde_json::to_string(&pages.board.report()))
}

/// Fetches the tasks from the daemon at this address; `None` if none responds.
pub async fn fetch_tasks(daemon: SocketAddr) -> Option<Report> {
    const PATIENCE: Duration = Duration::from_secs(3);
    /// Maximum size of the response in bytes.
    const MAX_RESPONSE: usize = 64 << 20;
    let client = plain().ok()?;
    let ask = async {
        let mut response = client.get(format!("http://{daemon}{TASKS}")).send().await.ok()?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.ok()? {
            body.extend_from_slice(&part);
            if body.len() > MAX_RESPONSE {
                return None;
            }
        }
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(PATIENCE, ask).await.ok()?
}

async fn index() -> &'static str {
    "observer\n\n/metrics  Prometheus metrics\n/healthz  liveness\n/readyz   readiness; lists each interface that is not observed, with the reason\n/api/v1/tasks  the tasks that `observer tasks` shows, as JSON\n"
}

async fn render(State(pages): State<Pages>) -> Response {
    pages.large(prometheus::TEXT_FORMAT, |pages| pages.metrics.render())
}

async fn live(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if pages.health.is_live(clock::unix_ms()) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no tick for 10 s\n")
    }
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, String) {
    match pages.health.readiness() {
        Ok(()) => (StatusCode::OK, "ok\n".into()),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
    }
}
