//! HTTP to a store that says what it has taken.

use async_trait::async_trait;
use object_store::{
    ClientOptions, Result,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
        ReqwestConnector,
    },
};

/// Connects to a store of which an object counts as put only when it answers with nothing but headers, as those of
/// Amazon, Google and Azure do. A body is an error that comes as a success, or the page of a proxy to which the client was
/// redirected: whoever takes that for a store removes a file that is nowhere else.
#[derive(Debug)]
pub(super) struct Strict;

impl HttpConnector for Strict {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Service(ReqwestConnector::default().connect(options)?)))
    }
}

/// Bytes of an answer that are worth a line of the log.
const SHOWN: usize = 200;

#[derive(Debug)]
struct Service(HttpClient);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // What is put without content is a request for a token.
        let puts = request.method().as_str() == "PUT" && request.body().content_length() > 0;
        let response = self.0.execute(request).await?;
        if !puts || !response.status().is_success() {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let said = body.bytes().await?;
        if said.is_empty() {
            return Ok(HttpResponse::from_parts(head, said.into()));
        }
        let said = String::from_utf8_lossy(&said[..said.len().min(SHOWN)]);
        let what = format!("no store answers so to PUT: {} {said:?}", head.status);
        Err(HttpError::new_boxed(HttpErrorKind::Unknown, what.into()))
    }
}
