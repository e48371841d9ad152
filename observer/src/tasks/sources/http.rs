//! HTTP client for link-local endpoints: no TLS, no proxy, no redirects, answers of limited size.

use std::{error::Error as _, time::Duration};

use hyper::{Method, body::Bytes};
use reqwest::Client;
use serde::de::DeserializeOwned;

use crate::http::plain;

/// Timeout of a request.
const PATIENCE: Duration = Duration::from_secs(2);
/// Largest answer, in bytes.
const MAX_BODY: usize = 16 << 20;

/// Status and body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Error of a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{url}: {reason}")]
    Failed { url: String, reason: String },
    #[error("{url}: no answer within {} s", PATIENCE.as_secs())]
    Slow { url: String },
    #[error("{url}: the answer is longer than {} MiB", MAX_BODY >> 20)]
    Long { url: String },
    #[error("{url}: answers with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url}: the answer cannot be parsed: {source}")]
    Parse { url: String, source: serde_json::Error },
}

impl HttpError {
    fn failed(url: &str, error: &reqwest::Error) -> Self {
        // The outermost error is only "error sending request"; the cause is the innermost.
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = cause.to_string();
            source = cause.source();
        }
        Self::Failed { url: url.to_owned(), reason }
    }
}

/// A client, or the error of creating it, which every request returns.
#[derive(Clone, Debug)]
pub(super) struct Http(Result<Client, Box<str>>);

impl Http {
    pub(super) fn new() -> Self {
        Self(plain().map_err(|error| error.to_string().into()))
    }

    /// Sends a request.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, HttpError> {
        let client = self.0.as_ref().map_err(|reason| HttpError::Failed {
            url: url.to_owned(),
            reason: reason.to_string(),
        })?;
        let mut request = client.request(method, url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let exchange = async {
            let mut response = request.send().await?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() + chunk.len() > MAX_BODY {
                    return Ok(None);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Some(Answer { status, body: body.into() }))
        };
        let slow = |_| HttpError::Slow { url: url.to_owned() };
        match tokio::time::timeout(PATIENCE, exchange).await.map_err(slow)? {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(HttpError::Long { url: url.to_owned() }),
            Err(error) => Err(HttpError::failed(url, &error)),
        }
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
