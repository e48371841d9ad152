//! An object store, and the URL that selects it.

use std::{
    env, fmt, fs,
    fs::File,
    io::{self, Read as _},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{self, AmazonS3Builder, AmazonS3ConfigKey},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem,
    multipart::MultipartStore,
    path::Path as Key,
};

use clap::ValueEnum;
use serde::Serialize;

use super::{
    put_error::PutError,
    service::Strict,
    upload::{PART, next_part, put_parts},
};
use crate::http::{HttpClient, Trust};

/// Settings of a store.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// URL of an S3 service other than Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket, if the environment has none.
    pub region: Option<String>,
    /// KMS key for the encryption of objects, in place of the bucket's default.
    pub kms_key: Option<String>,
    /// Checksum of objects; by default SHA-256, or the setting of the environment.
    pub checksum: Option<Checksum>,
    /// Trusted CA certificates.
    pub trust: Trust,
}

/// Checksum sent to S3 with each object. Buckets with Object Lock and a default retention require
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// SHA-256, which the signature needs anyway
    Sha256,
    /// CRC-64/NVME
    Crc64nvme,
    /// None, for services that refuse them
    None,
}

impl Checksum {
    /// Value of `--deliver-checksum`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Crc64nvme => "crc64nvme",
            Self::None => "none",
        }
    }
}

/// A destination: a bucket and a prefix, or a folder.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// The same store, if its uploads in parts persist after the process ends.
    parts: Option<Arc<dyn MultipartStore>>,
    prefix: Key,
    url: Box<str>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.url).finish()
    }
}

/// Error of opening a store. The text is one line of advice.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Unknown kind of URL.
    #[error(
        "{0:?} is not a destination for files: give s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or \
         file:///FOLDER"
    )]
    Url(String),
    /// A user name or a password in the URL, which the error does not repeat.
    #[error("the URL has a user name or a password: give credentials by the environment")]
    Credentials,
    /// Invalid name of a bucket.
    #[error(
        "{0:?} is no bucket's name: give 3 to 63 lower-case letters, digits, hyphens and single dots"
    )]
    Bucket(String),
    /// Invalid prefix.
    #[error(
        "the prefix {0:?} is invalid: give folders with a single / between them, and leave AWSLogs out"
    )]
    Prefix(String),
    /// A setting for S3 was given for another store.
    #[error("--{0} is for s3:// alone: leave it out")]
    S3Alone(&'static str),
    /// Invalid name of a KMS key.
    #[error(
        "--deliver-kms-key {0:?}: give the id or the ARN of a key of KMS, or of an alias of one"
    )]
    KmsKey(String),
    /// TLS cannot be set up.
    #[error("{0}: needs the system's CA certificates, or a file of some with --ca-bundle")]
    Tls(reqwest::Error),
    /// Invalid endpoint URL. Credentials come from the environment, as for all AWS tools.
    #[error("--deliver-endpoint {0:?}: give a URL such as http://127.0.0.1:9000")]
    EndpointUrl(String),
    /// The folder cannot be created.
    #[error("{path}: {source}: give a folder that can be written")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Invalid settings in the environment.
    #[error("{0}: look at the variables that begin with AWS_, GOOGLE_ or AZURE_")]
    Settings(#[from] object_store::Error),
}

/// Largest file sent in one request, in bytes.
const WHOLE: u64 = 2 * PART;

impl Store {
    /// Opens the store of a URL. Sends no request. Credentials and similar settings come from the
    /// environment and the instance, as for every AWS tool.
    pub fn new(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let unknown = || StoreError::Url(url.into());
        let (scheme, place) = url.split_once("://").ok_or_else(unknown)?;
        if scheme != "s3" {
            options.must_be_empty()?;
        }
        if scheme == "file" {
            return Self::folder(url, place);
        }
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') {
            return Err(StoreError::Credentials);
        }
        if !is_bucket(bucket, scheme) {
            return Err(StoreError::Bucket(bucket.into()));
        }
        let prefix = key_prefix(prefix)?;
        let strict = || HttpClient::new(&options.trust).map(Strict).map_err(StoreError::Tls);
        match scheme {
            "s3" => Ok(Self::bucket(
                url,
                prefix,
                s3(bucket, options)?.with_http_connector(strict()?).build()?,
            )),
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                let builder = builder.with_http_connector(strict()?);
                let builder = builder.with_client_options(patient(false)).with_retry(once());
                Ok(Self::bucket(url, prefix, builder.build()?))
            }
            "az" => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                let builder = builder.with_http_connector(strict()?);
                let builder = builder.with_client_options(patient(false)).with_retry(once());
                Ok(Self::bucket(url, prefix, builder.build()?))
            }
            _ => Err(unknown()),
        }
    }

    fn bucket(url: &str, prefix: Key, objects: impl ObjectStore + MultipartStore) -> Self {
        let objects = Arc::new(objects);
        let parts = Arc::clone(&objects);
        Self { objects, parts: Some(parts as Arc<dyn MultipartStore>), prefix, url: url.into() }
    }

    fn folder(url: &str, place: &str) -> Result<Self, StoreError> {
        let path = Path::new(place);
        if !path.is_absolute() {
            return Err(StoreError::Url(url.into()));
        }
        fs::create_dir_all(path)
            .map_err(|source| StoreError::Folder { path: path.to_path_buf(), source })?;
        let objects = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
        Ok(Self {
            objects: Arc::new(objects),
            parts: None,
            prefix: Key::default(),
            url: url.into(),
        })
    }

    /// URL of the store.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Uploads a file completely or not at all. Its key is the prefix and `below`, the file's path
    /// below the output directory.
    pub(super) async fn put(&self, file: &Path, below: &Path) -> Result<(), PutError> {
        let mut content = File::open(file)?;
        let size = content.metadata()?.len();
        let folders = below.iter().map(|part| part.to_string_lossy());
        let key = folders.fold(self.prefix.clone(), |key, part| key.join(&*part));
        if size <= WHOLE {
            let mut bytes = Vec::with_capacity(size as usize);
            content.read_to_end(&mut bytes)?;
            self.objects.put(&key, bytes.into()).await?;
            return Ok(());
        }
        if let Some(store) = &self.parts {
            return put_parts(&**store, &key, file, &mut content).await;
        }
        // An upload to a folder removes its temporary files when it is dropped.
        let mut upload = self.objects.put_multipart(&key).await?;
        while let Some(part) = next_part(&mut content)? {
            upload.put_part(part.into()).await?;
        }
        upload.complete().await?;
        Ok(())
    }
}

impl StoreOptions {
    /// Fails if a setting for S3 is given.
    fn must_be_empty(&self) -> Result<(), StoreError> {
        for (flag, given) in [
            ("deliver-endpoint", self.endpoint.is_some()),
            ("deliver-kms-key", self.kms_key.is_some()),
            ("deliver-checksum", self.checksum.is_some()),
        ] {
            if given {
                return Err(StoreError::S3Alone(flag));
            }
        }
        Ok(())
    }
}

fn s3(bucket: &str, options: &StoreOptions) -> Result<AmazonS3Builder, StoreError> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(once());
    if let Some(region) = &options.region
        && builder.get_config_value(&AmazonS3ConfigKey::Region).is_none()
    {
        builder = builder.with_region(region);
    }
    let mut may_be_plain = false;
    if let Some(endpoint) = &options.endpoint {
        let address =
            ["http://", "https://"].into_iter().find_map(|scheme| endpoint.strip_prefix(scheme));
        if address.is_none_or(|address| address.is_empty() || address.contains(['/', ' ', '@'])) {
            return Err(StoreError::EndpointUrl(endpoint.into()));
        }
        may_be_plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = &options.kms_key {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StoreError::KmsKey(key.clone()));
        }
        builder = builder.with_sse_kms_encryption(key);
    }
    let is_set = builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_some();
    match options.checksum {
        Some(Checksum::Sha256) => builder = builder.with_checksum_algorithm(aws::Checksum::SHA256),
        Some(Checksum::Crc64nvme) => {
            builder = builder.with_checksum_algorithm(aws::Checksum::CRC64NVME);
        }
        None if !is_set && wants_checksums() => {
            builder = builder.with_checksum_algorithm(aws::Checksum::SHA256);
        }
        Some(Checksum::None) | None => {}
    }
    Ok(builder.with_client_options(patient(may_be_plain)))
}

/// True unless AWS's own variable disables checksums that a request does not require.
fn wants_checksums() -> bool {
    let setting = env::var("AWS_REQUEST_CHECKSUM_CALCULATION").unwrap_or_default();
    !setting.eq_ignore_ascii_case("when_required")
}

/// No timeout for requests, because the caller has one.
fn patient(may_be_plain: bool) -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_allow_http(may_be_plain)
}

/// No retries here: the pauses apply to all files together.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, backoff: BackoffConfig::default(), ..RetryConfig::default() }
}

/// Checks a bucket's name. Amazon S3, "Bucket naming rules"; Google also allows underscores.
fn is_bucket(name: &str, scheme: &str) -> bool {
    let others: &[u8] = if scheme == "gs" { b"-._" } else { b"-." };
    let letter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(&byte);
    let ends = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().copied().all(letter)
        && ends(bytes.first())
        && ends(bytes.last())
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err()
}

/// Parses a prefix. AWS's readers look for the first folder named `AWSLogs`, so a prefix must not
/// contain it.
fn key_prefix(text: &str) -> Result<Key, StoreError> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let failed = || StoreError::Prefix(text.into());
    if text.split('/').any(|folder| folder == "AWSLogs") || text.contains(['?', '#', '%', ' ']) {
        return Err(failed());
    }
    Key::parse(text).map_err(|_| failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_destinations_are_rejected_with_one_line() {
        for (url, words) in [
            ("", "s3://BUCKET/PREFIX"),
            ("bucket", "s3://BUCKET/PREFIX"),
            ("ftp://bucket", "\"ftp://bucket\""),
            ("s3:/bucket", "\"s3:/bucket\""),
            ("s3://", "\"\" is no bucket's name"),
            ("s3:///logs", "\"\" is no bucket's name"),
            ("s3://Bucket", "\"Bucket\""),
            ("s3://bu", "\"bu\""),
            ("s3://user:word@bucket", "a user name or a password"),
            ("s3://bucket:9000/x", "\"bucket:9000\""),
            ("s3://bucket-/x", "\"bucket-\""),
            ("s3://my_bucket", "\"my_bucket\""),
            ("s3://my..bucket", "\"my..bucket\""),
            ("s3://192.168.1.1/x", "\"192.168.1.1\""),
            ("s3://bucket/a//b", "\"a//b\""),
            ("s3://bucket/../b", "\"../b\""),
            ("s3://bucket/AWSLogs", "leave AWSLogs out"),
            ("s3://bucket/logs?x=1", "\"logs?x=1\""),
            ("file://relative", "\"file://relative\""),
            ("file:///proc/nowhere", "/proc/nowhere"),
        ] {
            let error = Store::new(url, &StoreOptions::default()).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains('\n'), "{url:?}: {error}");
        }
        for endpoint in ["127.0.0.1:9000", "http://", "http://x/y", "ftp://x", "http://me:secret@x"]
        {
            let options =
                StoreOptions { endpoint: Some(endpoint.into()), ..StoreOptions::default() };
            let error = Store::new("s3://bucket", &options).unwrap_err().to_string();
            assert!(error.contains("--deliver-endpoint"), "{error}");
        }
        for key in ["", "my key", "k\u{e9}y", "a\nb"] {
            let options = StoreOptions { kms_key: Some(key.into()), ..StoreOptions::default() };
            let error = Store::new("s3://bucket", &options).unwrap_err().to_string();
            assert!(error.contains("--deliver-kms-key") && !error.contains('\n'), "{error}");
        }
        let none = StoreOptions::default;
        for (flag, options) in [
            (
                "--deliver-endpoint",
                StoreOptions { endpoint: Some("http://127.0.0.1:1".into()), ..none() },
            ),
            ("--deliver-kms-key", StoreOptions { kms_key: Some("alias/logs".into()), ..none() }),
            ("--deliver-checksum", StoreOptions { checksum: Some(Checksum::None), ..none() }),
        ] {
            for url in ["gs://bucket", "file:///tmp/x"] {
                let error = Store::new(url, &options).unwrap_err().to_string();
                assert!(error.contains(flag) && error.contains("s3:// alone"), "{error}");
            }
        }
    }

    #[test]
    fn destinations_of_all_kinds_are_accepted() {
        for url in ["s3://bucket", "s3://my.bucket-1/logs/host/", "gs://my_bucket/logs"] {
            assert_eq!(Store::new(url, &StoreOptions::default()).unwrap().url(), url);
        }
        let store = Store::new("s3://bucket/a/b/", &StoreOptions::default()).unwrap();
        assert_eq!(store.prefix.as_ref(), "a/b");
    }
}
