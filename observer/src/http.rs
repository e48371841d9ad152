//! HTTP clients.
//!
//! Owns: the trusted certificates, and the choice of hosts to reach without a proxy. In: the
//! environment's proxy settings (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), a file of CA
//! certificates. Out: clients.
//!
//! Metadata services of the instance, the task and the ECS agent are never reached through a proxy,
//! as in AWS's own SDKs: a proxy would answer for another host, and would see credentials.

use std::{
    env, fs, io,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Certificate, Client, ClientBuilder, Url,
    redirect::{Action, Attempt, Policy},
};

/// CA certificates to trust in place of the system's.
#[derive(Clone, Debug, Default)]
pub struct Trust(Option<Arc<[Certificate]>>);

/// Error of reading CA certificates.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{path}: {source}: give a file of CA certificates in PEM")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file holds no certificate.
    #[error(
        "{0}: holds no CA certificate in PEM (-----BEGIN CERTIFICATE-----): give a file that does"
    )]
    Empty(PathBuf),
    /// A certificate is invalid.
    #[error("{path}: {source}: give a file of CA certificates in PEM")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The error.
        source: reqwest::Error,
    },
}

impl Trust {
    /// Reads certificates from a PEM file.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let own = || path.to_path_buf();
        let text = fs::read(path).map_err(|source| TrustError::Read { path: own(), source })?;
        let certificates = Certificate::from_pem_bundle(&text)
            .map_err(|source| TrustError::Parse { path: own(), source })?;
        if certificates.is_empty() {
            return Err(TrustError::Empty(own()));
        }
        Ok(Self(Some(certificates.into())))
    }
}

/// Connection timeouts: of other hosts, and of metadata services, which respond quickly or do not
/// exist.
const CONNECT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];
/// Maximum number of redirects, as in browsers.
const REDIRECTS: usize = 10;

/// A client for stores and APIs, through the environment's proxies if there are any.
#[derive(Clone, Debug)]
pub struct HttpClient {
    routed: Client,
    direct: Client,
    /// Hosts of metadata services named in the environment.
    metadata: Arc<[Box<str>]>,
}

impl HttpClient {
    /// Creates a client with these trusted certificates.
    pub fn new(trust: &Trust) -> Result<Self, reqwest::Error> {
        let metadata: Arc<[Box<str>]> = metadata_hosts(|name| env::var(name).ok()).into();
        let near = Arc::clone(&metadata);
        let follow = Policy::custom(move |attempt| follow(attempt, |url| is_direct(url, &near)));
        Ok(Self {
            routed: trusting(trust).connect_timeout(CONNECT[0]).redirect(follow).build()?,
            direct: trusting(trust)
                .connect_timeout(CONNECT[1])
                .redirect(Policy::none())
                .no_proxy()
                .build()?,
            metadata,
        })
    }

    /// Selects the client for a URL.
    pub fn towards(&self, url: &Url) -> &Client {
        if is_direct(url, &self.metadata) { &self.direct } else { &self.routed }
    }
}

/// Creates a client for plain HTTP to endpoints on this host, without a proxy. It does not keep
/// connections: requests are rare, and after an agent's restart the old socket must not be used.
pub fn plain() -> Result<Client, reqwest::Error> {
    // No certificates, so that none are loaded.
    let builder = builder().tls_certs_only([]).no_proxy().redirect(Policy::none());
    builder.pool_max_idle_per_host(0).build()
}

fn builder() -> ClientBuilder {
    // Fails if another client has already installed the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ClientBuilder::new().user_agent(concat!("observer/", env!("CARGO_PKG_VERSION"))).http1_only()
}

fn trusting(trust: &Trust) -> ClientBuilder {
    match &trust.0 {
        Some(certificates) => builder().tls_certs_only(certificates.iter().cloned()),
        None => builder(),
    }
}

/// Follows a redirect, except from TLS to plain HTTP, and to a metadata service.
fn follow(attempt: Attempt<'_>, is_direct: impl Fn(&Url) -> bool) -> Action {
    let from_tls = attempt.previous().last().is_some_and(|from| from.scheme() == "https");
    if is_direct(attempt.url()) || from_tls && attempt.url().scheme() != "https" {
        let message = format!("a redirect to {} is not followed", attempt.url());
        return attempt.error(message);
    }
    if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}

/// Hosts of the credential services named in the environment.
fn metadata_hosts(variable: impl Fn(&str) -> Option<String>) -> Vec<Box<str>> {
    const URLS: [&str; 5] = [
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        "AWS_METADATA_ENDPOINT",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AZURE_MSI_ENDPOINT",
        "IDENTITY_ENDPOINT",
    ];
    let urls = URLS.iter().filter_map(|name| variable(name)?.parse::<Url>().ok());
    let hosts = urls.filter_map(|url| Some(url.host_str()?.into()));
    // Google's variable holds a host, not a URL.
    hosts.chain(variable("GCE_METADATA_HOST").map(|host| host.to_lowercase().into())).collect()
}

/// True for this host, link-local addresses, and metadata services.
fn is_direct(url: &Url, metadata: &[Box<str>]) -> bool {
    let Some(host) = url.host_str() else { return false };
    // Without the dot at the end of a fully qualified name.
    let host = host.trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let near = match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || is_amazons(address)
        }
        Err(_) => matches!(host, "localhost" | "metadata" | "metadata.google.internal"),
    };
    near || metadata.iter().any(|other| **other == *host)
}

/// True in `fd00:ec2::/32`, the IPv6 services of an instance: metadata at `::254`, credentials of
/// pods at `::23`.
fn is_amazons(address: Ipv6Addr) -> bool {
    address.segments()[..2] == [0xfd00, 0x0ec2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn metadata_services_are_never_asked_by_a_proxy() {
        for direct in [
            "http://169.254.169.254/latest/api/token",
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/latest/meta-data/",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[::ffff:169.254.169.254]/",
            "http://2852039166/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://127.0.0.1:51678/v1/metadata",
            "http://127.8.9.10/",
            "http://localhost:51679/",
            "http://[::1]:9000/",
            "http://[fe80::1]/",
            "http://metadata.google.internal./computeMetadata/v1/",
        ] {
            assert!(is_direct(&url(direct), &[]), "{direct}");
        }
        for routed in [
            "https://s3.eu-west-1.amazonaws.com/bucket/key",
            "https://sts.eu-west-1.amazonaws.com",
            "http://10.0.0.1:9000/",
            "http://[fd00:ec3::254]/",
            "http://169.253.169.254/",
            "http://localhost.example.com/",
        ] {
            assert!(!is_direct(&url(routed), &[]), "{routed}");
        }
    }

    #[test]
    fn services_that_the_environment_names_are_asked_directly() {
        let set = [
            ("AWS_METADATA_ENDPOINT", "http://imds.internal:8080/"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "no URL"),
            ("GCE_METADATA_HOST", "Metadata.Internal"),
        ];
        let variable = |name: &str| {
            set.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned())
        };
        let hosts = metadata_hosts(variable);
        assert!(is_direct(&url("http://imds.internal/latest"), &hosts));
        assert!(is_direct(&url("http://metadata.internal/x"), &hosts));
        assert!(!is_direct(&url("http://other.internal/x"), &hosts));
    }

    #[test]
    fn a_bundle_without_certificates_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("empty.pem", ""), ("key.pem", "-----BEGIN PRIVATE KEY-----\n")] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let error = Trust::read(&path).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("PEM") && !error.contains('\n'),
                "{error}"
            );
        }
        let error = Trust::read(&folder.path().join("nowhere.pem")).unwrap_err().to_string();
        assert!(error.contains("nowhere.pem"), "{error}");
    }
}
