//! As much of an HTTP client as link-local endpoints need: no TLS, no proxy, no redirects.

use std::{error::Error as _, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// A longer answer is none of those that are asked for here.
const MAX_BODY: usize = 16 << 20;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why there is none, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{url}: {reason}")]
    Failed { url: String, reason: String },
    #[error("{url}: no answer within {} s", PATIENCE.as_secs())]
    Slow { url: String },
    #[error("{url}: answers with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: answers with what is not understood: {source}")]
    Parse { url: String, source: serde_json::Error },
}

/// A client. Connections are not kept: requests are rare, and an agent that restarts must not be talked to through
/// its old socket.
#[derive(Clone, Debug)]
pub(super) struct Http(Client<HttpConnector, Empty<Bytes>>);

impl Http {
    pub(super) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http())
    }

    /// Asks.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, HttpError> {
        let failed = |reason: String| HttpError::Failed { url: url.to_owned(), reason };
        let mut request = Request::builder().method(method).uri(url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new()).map_err(|error| failed(error.to_string()))?;
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| {
                // "client error (Connect)" alone tells nobody anything.
                let cause = error.source().and_then(|cause| cause.source().or(Some(cause)));
                failed(cause.map_or_else(|| error.to_string(), ToString::to_string))
            })?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            Ok(Answer { status, body })
        };
        let slow = |_| HttpError::Slow { url: url.to_owned() };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(slow)?
    }

    /// `GET` of a JSON document.
    pub(super) async fn json<T: DeserializeOwned>(&self, url: &str) -> Result<T, HttpError> {
        let answer = self.ask(Method::GET, url, None).await?;
        if answer.status != 200 {
            return Err(HttpError::Status { url: url.to_owned(), status: answer.status });
        }
        serde_json::from_slice(&answer.body)
            .map_err(|source| HttpError::Parse { url: url.to_owned(), source })
    }
}
