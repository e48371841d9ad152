//! HTTP to a store, with strict checks of its responses.

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use object_store::{
    ClientConfigKey, ClientOptions, Result,
    client::{
        HttpClient as StoreClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
        HttpResponse, HttpResponseBody, HttpService,
    },
};
use reqwest::Url;

use super::failure::Answer;
use crate::http::HttpClient;

/// HTTP connector that accepts an upload only if the response has no body, as those of Amazon,
/// Google and Azure. A response with a body is an error with a success status, or a proxy's page
/// after a redirect. Taking it for success would remove a file that is stored nowhere else.
#[derive(Clone, Debug)]
pub(super) struct Strict(pub(super) HttpClient);

impl HttpConnector for Strict {
    fn connect(&self, options: &ClientOptions) -> Result<StoreClient> {
        let may_be_plain =
            options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        Ok(StoreClient::new(Service { http: self.0.clone(), may_be_plain }))
    }
}

/// Bytes of an unexpected response to show in the log.
const SHOWN: usize = 200;
/// Maximum size of a response in bytes; error documents have some hundred.
const MAX_RESPONSE: usize = 64 << 10;

#[derive(Debug)]
struct Service {
    http: HttpClient,
    /// True if HTTP without TLS is allowed.
    may_be_plain: bool,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = Url::parse(&request.uri().to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        if url.scheme() != "https" && !self.may_be_plain {
            return Err(unexpected(format!("{url}: requests to a store need HTTPS")));
        }
        // A PUT without content requests a token.
        let puts = request.method().as_str() == "PUT" && request.body().content_length() > 0;
        let response = self.http.towards(&url).call(request).await?;
        // Only object URLs contain this folder; URLs of credential services do not.
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
        Err(unexpected(format!("unexpected response to PUT: {status} {shown:?}")))
    }
}

/// Reads an error response.
async fn answer(response: HttpResponse) -> Answer {
    let (head, body) = response.into_parts();
    // If reading fails, the status is still known.
    let body = read(body).await.unwrap_or_default();
    Answer::new(head.status.as_u16(), &String::from_utf8_lossy(&body))
}

async fn read(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let body = Limited::new(body, MAX_RESPONSE).collect().await;
    Ok(body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Decode, error))?.to_bytes().into())
}

fn unexpected(text: String) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Unknown, text.into())
}
