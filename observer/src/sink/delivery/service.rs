//! HTTP to a store that says what it has taken.

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use object_store::{
    ClientConfigKey, ClientOptions, Result,
    client::{
        HttpClient as StoreClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use reqwest::Url;

use super::failure::Answer;
use crate::http::HttpClient;

/// Connects to a store of which an object counts as put only when it answers with nothing but headers, as those of
/// Amazon, Google and Azure do. A body is an error that comes as a success, or the page of a proxy to which the client was
/// redirected: a client that takes that for a store removes a file that is nowhere else.
#[derive(Clone, Debug)]
pub(super) struct Strict(pub(super) HttpClient);

impl HttpConnector for Strict {
    fn connect(&self, options: &ClientOptions) -> Result<StoreClient> {
        let may_be_plain = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        Ok(StoreClient::new(Service { http: self.0.clone(), may_be_plain }))
    }
}

/// Bytes of an answer that are worth a line of the log.
const SHOWN: usize = 200;
/// Bytes of an error that are read; those of stores have some hundred.
const MOST: usize = 64 << 10;

#[derive(Debug)]
struct Service {
    http: HttpClient,
    /// Whether HTTP without TLS is allowed.
    may_be_plain: bool,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = Url::parse(&request.uri().to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        if url.scheme() != "https" && !self.may_be_plain {
            return Err(unexpected(format!("{url}: a store is asked by HTTPS alone")));
        }
        // A request with no content is one for a token.
        let puts = request.method().as_str() == "PUT" && request.body().content_length() > 0;
        let response = self.http.towards(&url).call(request).await?;
        // Every key of ours has this folder, and no URL of a service that gives credentials.
        let of_object = url.path().contains("/AWSLogs/");
        let status = response.status();
        if of_object && !status.is_success() {
            return Err(HttpError::new(HttpErrorKind::Unknown, answer(response).await));
        }
        if !puts || !status.is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let body = read(body).await?;
        if body.is_empty() {
            return Ok(HttpResponse::from_parts(head, body.into()));
        }
        let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
        Err(unexpected(format!("no store answers so to PUT: {status} {shown:?}")))
    }
}

/// What a store says of a request that it does not grant.
async fn answer(response: HttpResponse) -> Answer {
    let (head, body) = response.into_parts();
    // An answer that breaks off says what its status does.
    let body = read(body).await.unwrap_or_default();
    Answer::new(head.status.as_u16(), &String::from_utf8_lossy(&body))
}

async fn read(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let body = Limited::new(body, MOST).collect().await;
    Ok(body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Decode, error))?.to_bytes().into())
}

fn unexpected(text: String) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Unknown, text.into())
}
