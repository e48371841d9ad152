//! Signed requests to a JSON API of AWS.
//!
//! Credentials are searched in the order of the AWS SDKs: environment, profile files, web identity,
//! the task's role, the instance's role. Of profiles only keys are used; `role_arn`, SSO and
//! `credential_process` are not supported.

use std::{
    env,
    time::{Duration, SystemTime},
};

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, Response,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use reqsign_aws_v4::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    EnvCredentialProvider, IMDSv2CredentialProvider, ProfileCredentialProvider, RequestSigner,
};
use reqsign_core::{
    Context, HttpSend, OsEnv, ProvideCredential, ProvideCredentialDyn, Signer, hash::hex_sha256,
    time::Timestamp,
};
use reqsign_file_read_tokio::TokioFileRead;
use reqwest::Url;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{sleep, timeout};

use super::options::Endpoint;
use crate::http::HttpClient;

/// Timeout of a call, including its retry and the requests for credentials.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before the single retry of a call with a temporary error.
const PAUSE: Duration = Duration::from_millis(200);
/// Lifetime of credentials without an expiry time. They are read again then, because an agent may
/// renew their file, as SSM does on hosts outside of AWS.
const REREAD: Duration = Duration::from_mins(15);
/// Largest answer, in bytes. A hundred tasks take a few per cent of it.
const MAX_BODY: usize = 16 << 20;

/// Error of a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum AwsError {
    #[error("{code}: {message}")]
    Refused { status: u16, code: String, message: String },
    #[error("{}", described(.0))]
    Credentials(reqsign_core::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("{}", deepest(.0))]
    Http(#[from] reqwest::Error),
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer cannot be parsed: {0}")]
    Parse(#[from] serde_json::Error),
    #[error("{0} is not the URL of an API")]
    Url(String),
}

impl AwsError {
    /// True if the same call may succeed a moment later.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                *status >= 500 || *status == 429 || code.contains("Throttl")
            }
            Self::Http(_) | Self::Body(_) => true,
            _ => false,
        }
    }
}

/// A client of one service in one region.
#[derive(Debug)]
pub(super) struct Aws {
    client: HttpClient,
    signer: Signer<Credential>,
    url: String,
}

impl Aws {
    /// A client of a service. [`Endpoint::At`] replaces the public endpoint.
    pub(super) fn new(
        client: HttpClient,
        service: &str,
        region: &str,
        endpoint: &Endpoint,
    ) -> Self {
        let url = match endpoint {
            Endpoint::Aws => url_of(service, region),
            Endpoint::At(url) => url.clone(),
        };
        let sender = Sender(client.clone());
        let context =
            Context::new().with_file_read(TokioFileRead).with_http_send(sender).with_env(OsEnv);
        let signer =
            Signer::new(context, Providers::new(region), RequestSigner::new(service, region));
        Self { client, signer, url }
    }

    /// Calls an operation, named as in `X-Amz-Target`.
    pub(super) async fn call<A: DeserializeOwned>(
        &self,
        target: &'static str,
        question: &impl Serialize,
    ) -> Result<A, AwsError> {
        let body = Bytes::from(serde_json::to_vec(question)?);
        let attempts = async {
            match self.attempt(target, &body).await {
                Err(error) if error.is_temporary() => {
                    sleep(PAUSE).await;
                    self.attempt(target, &body).await
                }
                answer => answer,
            }
        };
        let answer = timeout(PATIENCE, attempts).await.map_err(|_| AwsError::Slow)??;
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn attempt(&self, target: &'static str, body: &Bytes) -> Result<Bytes, AwsError> {
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", target)
            .header("x-amz-content-sha256", hex_sha256(body))
            .body(body.clone())
            .map_err(|_| AwsError::Url(self.url.clone()))?;
        let (mut head, body) = request.into_parts();
        self.signer.sign(&mut head, None).await.map_err(AwsError::Credentials)?;
        let answer = send(&self.client, Request::from_parts(head, body)).await?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(refusal(&answer)) }
    }
}

async fn send(client: &HttpClient, request: Request<Bytes>) -> Result<Response<Bytes>, AwsError> {
    let url: Url =
        request.uri().to_string().parse().map_err(|_| AwsError::Url(request.uri().to_string()))?;
    let answer = Response::from(client.towards(&url).execute(request.try_into()?).await?);
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(AwsError::Body)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// The error that AWS returns: in the body, or in a header if a proxy in front of the service has
/// answered.
fn refusal(answer: &Response<Bytes>) -> AwsError {
    #[derive(Default, Deserialize)]
    struct Refusal {
        #[serde(rename = "__type", default)]
        code: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let mut refusal: Refusal = serde_json::from_slice(answer.body()).unwrap_or_default();
    if refusal.code.is_empty() {
        let header = answer.headers().get("x-amzn-errortype").map(HeaderValue::to_str);
        header.and_then(Result::ok).unwrap_or_default().clone_into(&mut refusal.code);
    }
    // `com.amazonaws.ecs#ClusterNotFoundException`, or a code followed by a URL.
    let code =
        refusal.code.rsplit('#').next().and_then(|code| code.split(':').next()).unwrap_or_default();
    let code = if code.is_empty() {
        format!("status {}", answer.status().as_u16())
    } else {
        code.to_owned()
    };
    let message =
        if refusal.message.is_empty() { "no reason is given".to_owned() } else { refusal.message };
    AwsError::Refused { status: answer.status().as_u16(), code, message: one_line(&message) }
}

/// The public endpoint, or the one in the environment variables that all AWS SDKs read.
fn url_of(service: &str, region: &str) -> String {
    let given =
        [format!("AWS_ENDPOINT_URL_{}", service.to_uppercase()), "AWS_ENDPOINT_URL".to_owned()];
    if let Some(url) =
        given.iter().filter_map(|name| env::var(name).ok()).find(|url| !url.is_empty())
    {
        return url;
    }
    let fips = is_true("AWS_USE_FIPS_ENDPOINT");
    endpoint(service, region, fips, is_true("AWS_USE_DUALSTACK_ENDPOINT"))
}

fn endpoint(service: &str, region: &str, fips: bool, dual_stack: bool) -> String {
    let partition = PARTITIONS.iter().find(|partition| region.starts_with(partition.regions));
    let Partition { suffix, dual_suffix, .. } = partition.unwrap_or(&COMMERCIAL);
    let fips = if fips { "-fips" } else { "" };
    let suffix = if dual_stack { dual_suffix } else { suffix };
    format!("https://{service}{fips}.{region}.{suffix}/")
}

/// An AWS partition, which has its own domains.
struct Partition {
    /// Prefix of its regions' names.
    regions: &'static str,
    suffix: &'static str,
    /// Suffix of endpoints with IPv4 and IPv6.
    dual_suffix: &'static str,
}

const COMMERCIAL: Partition =
    Partition { regions: "", suffix: "amazonaws.com", dual_suffix: "api.aws" };

/// As in `partitions.json` of the SDKs; `GovCloud` uses the domains of the commercial regions.
const PARTITIONS: [Partition; 6] = [
    Partition {
        regions: "cn-",
        suffix: "amazonaws.com.cn",
        dual_suffix: "api.amazonwebservices.com.cn",
    },
    Partition { regions: "us-iso-", suffix: "c2s.ic.gov", dual_suffix: "api.aws.ic.gov" },
    Partition { regions: "us-isob-", suffix: "sc2s.sgov.gov", dual_suffix: "api.aws.scloud" },
    Partition {
        regions: "eu-isoe-",
        suffix: "cloud.adc-e.uk",
        dual_suffix: "api.cloud-aws.adc-e.uk",
    },
    Partition { regions: "us-isof-", suffix: "csp.hci.ic.gov", dual_suffix: "api.aws.hci.ic.gov" },
    Partition { regions: "eusc-", suffix: "amazonaws.eu", dual_suffix: "api.amazonwebservices.eu" },
];

fn is_true(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Credential providers, in order.
#[derive(Debug)]
struct Providers(Vec<Box<dyn ProvideCredentialDyn<Credential = Credential>>>);

impl Providers {
    fn new(region: &str) -> Self {
        let session = env::var("AWS_ROLE_SESSION_NAME").unwrap_or_else(|_| "observer".to_owned());
        let web_identity = AssumeRoleWithWebIdentityCredentialProvider::new()
            .with_region(region.to_owned())
            .with_regional_sts_endpoint()
            .with_role_session_name(session);
        let mut providers: Vec<Box<dyn ProvideCredentialDyn<Credential = Credential>>> = vec![
            Box::new(EnvCredentialProvider::new()),
            Box::new(ProfileCredentialProvider::new()),
            Box::new(web_identity),
            Box::new(ECSCredentialProvider::new()),
        ];
        if !is_true("AWS_EC2_METADATA_DISABLED") {
            providers.push(Box::new(IMDSv2CredentialProvider::new()));
        }
        Self(providers)
    }
}

impl ProvideCredential for Providers {
    type Credential = Credential;

    /// The first provider that has credentials decides, even if it fails: falling back to another
    /// identity would hide the mistake.
    async fn provide_credential(
        &self,
        context: &Context,
    ) -> reqsign_core::Result<Option<Credential>> {
        for provider in &self.0 {
            if let Some(mut credential) = provider.provide_credential_dyn(context).await? {
                credential.expires_in =
                    credential.expires_in.or_else(|| in_a_while(SystemTime::now()));
                return Ok(Some(credential));
            }
        }
        Err(reqsign_core::Error::credential_invalid(
            "no credentials in the environment, the profile files, the task's role or the instance's role",
        ))
    }
}

fn in_a_while(now: SystemTime) -> Option<Timestamp> {
    let then = now.duration_since(SystemTime::UNIX_EPOCH).ok()? + REREAD;
    Timestamp::from_second(then.as_secs().try_into().ok()?).ok()
}

/// Sends the requests of credential providers.
#[derive(Debug)]
struct Sender(HttpClient);

impl HttpSend for Sender {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let answer = timeout(PATIENCE, send(&self.0, request)).await.unwrap_or(Err(AwsError::Slow));
        answer
            .map_err(|error| reqsign_core::Error::unexpected(error.to_string()).set_retryable(true))
    }
}

/// The error and its innermost cause, if the two differ.
fn described(error: &reqsign_core::Error) -> String {
    let (top, bottom) = (error.to_string(), deepest(error));
    if top.contains(&bottom) { top } else { format!("{top}: {bottom}") }
}

/// The innermost cause of an error, on one line.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    one_line(&cause.to_string())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_those_of_the_region_s_partition() {
        let check = |region: &str, fips: bool, dual_stack: bool, expected: &str| {
            assert_eq!(endpoint("ecs", region, fips, dual_stack), expected);
        };
        check("eu-west-1", false, false, "https://ecs.eu-west-1.amazonaws.com/");
        check("us-gov-west-1", true, false, "https://ecs-fips.us-gov-west-1.amazonaws.com/");
        check("us-east-2", true, true, "https://ecs-fips.us-east-2.api.aws/");
        check("cn-north-1", false, false, "https://ecs.cn-north-1.amazonaws.com.cn/");
        check("us-isob-east-1", false, false, "https://ecs.us-isob-east-1.sc2s.sgov.gov/");
        check("eusc-de-east-1", false, false, "https://ecs.eusc-de-east-1.amazonaws.eu/");
    }

    #[test]
    fn a_refusal_is_the_code_and_the_reason_that_the_service_gives() {
        let check = |body: &str, header: Option<&str>, expected: &str, temporary: bool| {
            let mut answer = Response::builder().status(400);
            if let Some(header) = header {
                answer = answer.header("x-amzn-ErrorType", header);
            }
            let refusal = refusal(&answer.body(Bytes::copy_from_slice(body.as_bytes())).unwrap());
            assert_eq!(
                (refusal.to_string().as_str(), refusal.is_temporary()),
                (expected, temporary)
            );
        };
        let body = r#"{"__type":"com.amazonaws.ecs#ClusterNotFoundException","message":"Cluster\n not found."}"#;
        check(body, None, "ClusterNotFoundException: Cluster not found.", false);
        let body = r#"{"__type":"ThrottlingException","Message":"Rate exceeded"}"#;
        check(body, None, "ThrottlingException: Rate exceeded", true);
        check("{}", Some("AccessDenied:http://x/"), "AccessDenied: no reason is given", false);
        check("<html>", None, "status 400: no reason is given", false);
    }

    #[test]
    fn credentials_without_an_end_are_read_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(in_a_while(now), Timestamp::from_second(1_000_900).ok());
    }
}
