//! Reasons for failed deliveries, and the files that each one affects.

use std::{error::Error as StdError, io};

use object_store::client::{HttpError, HttpErrorKind};

/// Error response of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", [&*status.to_string(), code, message].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" "))]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// Error code of the store, such as `AccessDenied`; empty if there is none.
    pub(super) code: Box<str>,
    /// Error message of the store.
    message: Box<str>,
}

impl Answer {
    /// Reads the XML error document of Amazon, Google and Azure.
    pub(super) fn new(status: u16, document: &str) -> Self {
        Self {
            status,
            code: element(document, "Code").into(),
            message: element(document, "Message").into(),
        }
    }

    /// Finds an error response among the sources of an error.
    pub(super) fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|cause| cause.downcast_ref())
    }
}

/// Text of the first element of this name, on one line.
fn element(document: &str, name: &str) -> String {
    let text =
        document.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
    text.map_or("", |(text, _)| text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error and its sources.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    })
}

/// The files for which a failed attempt would fail again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// This file, until the cause is corrected. Trying other files shows if they fail too.
    File,
    /// All files, until the cause is corrected.
    All,
    /// All files, temporarily.
    Passing,
}

/// Reason for setting a file aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The store denies access to this object.
    Denied,
    /// The store rejects the request as invalid.
    Invalid,
    /// The key holds an object that must not be replaced.
    Conflict,
    /// The file is larger than the store accepts.
    TooLarge,
    /// The file cannot be read.
    Unreadable,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Denied, Self::Invalid, Self::Conflict, Self::TooLarge, Self::Unreadable];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Identity of an error, independent of its text, which may hold times and IDs that differ between
/// attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Answer(u16, Box<str>),
    Http(HttpErrorKind),
    File(io::ErrorKind),
    Slow,
    /// Any other error, identified by the text of its innermost source.
    Other(Box<str>),
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) text: String,
}

impl Failure {
    /// The file could not be read.
    pub(super) fn of_file(error: &io::Error) -> Self {
        Self { cause: Cause::File(error.kind()), text: error.to_string() }
    }

    /// The store did not accept the file.
    pub(super) fn of_store(error: &object_store::Error) -> Self {
        if let Some(answer) = Answer::of(error) {
            let cause = Cause::Answer(answer.status, answer.code.clone());
            return Self { cause, text: answer.to_string() };
        }
        let innermost = chain(error).last().map(ToString::to_string).unwrap_or_default();
        let kind = chain(error).find_map(|cause| Some(cause.downcast_ref::<HttpError>()?.kind()));
        let cause = match kind {
            Some(kind) if kind != HttpErrorKind::Unknown => Cause::Http(kind),
            _ => Cause::Other(innermost.as_str().into()),
        };
        let mut text = error.to_string();
        // HTTP errors name their cause only in the innermost source.
        if !text.contains(&innermost) {
            text = format!("{text}: {innermost}");
        }
        Self { cause, text }
    }

    /// The attempt took too long.
    pub(super) fn slow() -> Self {
        Self { cause: Cause::Slow, text: "it takes too long".into() }
    }

    pub(super) fn scope(&self) -> Scope {
        match &self.cause {
            Cause::Answer(status, code) => scope_of_answer(*status, code),
            Cause::File(kind) => scope_of_file(*kind),
            Cause::Http(_) | Cause::Slow | Cause::Other(_) => Scope::Passing,
        }
    }

    /// Reason to report when the file is set aside.
    pub(super) fn refusal(&self) -> Refusal {
        match &self.cause {
            Cause::File(_) => Refusal::Unreadable,
            Cause::Answer(_, code) if &**code == "EntityTooLarge" => Refusal::TooLarge,
            Cause::Answer(403, _) => Refusal::Denied,
            Cause::Answer(405 | 409 | 412, _) => Refusal::Conflict,
            Cause::Answer(413, _) => Refusal::TooLarge,
            _ => Refusal::Invalid,
        }
    }

    /// Advice for the user, if the error text does not include it.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match &self.cause {
            Cause::Answer(301 | 307, _) => Some("give the bucket's region with --region"),
            Cause::Answer(_, code) => advice_for_code(code),
            _ if self.text.contains("169.254.") => Some(
                "give the host or the task a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            _ if self.text.contains("UnknownIssuer") => Some(
                "give --ca-bundle the certificates of whoever signs the store's, or the proxy's",
            ),
            _ => None,
        }
    }
}

/// Classifies an error response by its code, and by its status if the code is unknown. Amazon S3,
/// "Error responses"; Azure, "Blob Storage error codes"; Google, "XML API: HTTP status and error
/// codes".
fn scope_of_answer(status: u16, code: &str) -> Scope {
    match code {
        // Credentials, clock, bucket, region, or the bucket's encryption key.
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "NotSignedUp"
        | "InvalidSecurity"
        | "InvalidPayer"
        | "NoSuchBucket"
        | "InvalidBucketName"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "AuthorizationQueryParametersError"
        | "AuthenticationFailed"
        | "InvalidAuthenticationInfo"
        | "NoAuthenticationInformation"
        | "AccountIsDisabled"
        | "ContainerNotFound"
        | "ContainerDisabled"
        | "UserProjectAccountProblem" => Scope::All,
        _ if code.starts_with("KMS.") => Scope::All,
        // The upload arrived damaged, or another request interfered.
        "RequestTimeout"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "BadDigest"
        | "IncompleteBody"
        | "XAmzContentSHA256Mismatch"
        | "NoSuchUpload"
        | "InvalidPart"
        | "Md5Mismatch"
        | "ConditionalRequestConflict"
        | "ContainerBeingDeleted"
        | "ServerBusy" => Scope::Passing,
        _ if code.contains("Throttl") || code.contains("LimitExceeded") => Scope::Passing,
        _ => match status {
            300..400 | 401 | 402 | 407 => Scope::All,
            400 | 403..=406 | 409..=424 | 431 | 451 => Scope::File,
            _ => Scope::Passing,
        },
    }
}

fn scope_of_file(kind: io::ErrorKind) -> Scope {
    match kind {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidData => Scope::File,
        // EIO has no `ErrorKind`. It may pass, as may a full table of descriptors.
        _ => Scope::Passing,
    }
}

fn advice_for_code(code: &str) -> Option<&'static str> {
    Some(match code {
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => "give the bucket's region with --region",
        "NoSuchBucket" | "ContainerNotFound" => "create the bucket, or correct --deliver",
        "RequestTimeTooSkewed" | "RequestExpired" => "correct the host's clock",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => {
            "give other credentials"
        }
        "AccessDenied" => {
            "allow s3:PutObject on this key, and kms:GenerateDataKey on the key that encrypts it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, code: &str) -> Failure {
        Failure { cause: Cause::Answer(status, code.into()), text: String::new() }
    }

    #[test]
    fn an_error_document_is_parsed_and_other_bodies_leave_the_status() {
        let document = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access\n Denied</Message>\
                        <RequestId>4442587FB7D0A2F9</RequestId></Error>";
        let answer = Answer::new(403, document);
        assert_eq!(answer.to_string(), "403 AccessDenied Access Denied");
        for document in ["", "<html>sign in</html>", "<Code>", "<Code>x"] {
            assert_eq!(Answer::new(500, document).to_string(), "500", "{document}");
        }
    }

    #[test]
    fn failures_of_one_file_are_distinguished_from_failures_of_all_files() {
        for (status, code, scope) in [
            (403, "AccessDenied", Scope::File),
            (403, "", Scope::File),
            (400, "Refused", Scope::File),
            (400, "InvalidRequest", Scope::File),
            (405, "MethodNotAllowed", Scope::File),
            (409, "BlobImmutableDueToPolicy", Scope::File),
            (412, "PreconditionFailed", Scope::File),
            (413, "", Scope::File),
            (400, "EntityTooLarge", Scope::File),
            (403, "InvalidAccessKeyId", Scope::All),
            (403, "SignatureDoesNotMatch", Scope::All),
            (400, "ExpiredToken", Scope::All),
            (403, "RequestTimeTooSkewed", Scope::All),
            (404, "NoSuchBucket", Scope::All),
            (404, "ContainerNotFound", Scope::All),
            (400, "AuthorizationHeaderMalformed", Scope::All),
            (400, "KMS.DisabledException", Scope::All),
            (301, "", Scope::All),
            (401, "", Scope::All),
            (407, "", Scope::All),
            (400, "RequestTimeout", Scope::Passing),
            (503, "SlowDown", Scope::Passing),
            (429, "", Scope::Passing),
            (408, "", Scope::Passing),
            (500, "", Scope::Passing),
            (507, "", Scope::Passing),
            (404, "NoSuchUpload", Scope::Passing),
            (409, "OperationAborted", Scope::Passing),
            (400, "ThrottlingException", Scope::Passing),
        ] {
            assert_eq!(failure(status, code).scope(), scope, "{status} {code}");
        }
        assert_eq!(Failure::slow().scope(), Scope::Passing);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(Failure::of_file(&denied).scope(), Scope::File);
        assert_eq!(Failure::of_file(&io::Error::from_raw_os_error(24)).scope(), Scope::Passing);
    }

    #[test]
    fn the_same_error_with_another_text_is_the_same_cause() {
        let error = |took: &str| {
            let source =
                HttpError::new(HttpErrorKind::Connect, io::Error::other(format!("in {took}")));
            Failure::of_store(&object_store::Error::Generic {
                store: "S3",
                source: Box::new(source),
            })
        };
        let (one, other) = (error("1.2ms"), error("3.4ms"));
        assert_ne!(one.text, other.text);
        assert_eq!(one.cause, other.cause);
        let denied_with = |message: &str| {
            let document = format!("<Code>AccessDenied</Code><Message>{message}</Message>");
            let source = HttpError::new(HttpErrorKind::Unknown, Answer::new(403, &document));
            Failure::of_store(&object_store::Error::Generic {
                store: "S3",
                source: Box::new(source),
            })
        };
        assert_eq!(denied_with("user 1").cause, denied_with("user 2").cause);
        assert_eq!(denied_with("x").text, "403 AccessDenied x");
        assert_eq!(denied_with("x").refusal(), Refusal::Denied);
    }
}
