//! The id of a container at the task metadata endpoint, read from the container's environment.

/// Variable of a container's environment: `http://169.254.170.2/v4/<id>`.
const VARIABLE: &[u8] = b"ECS_CONTAINER_METADATA_URI_V4=";

/// The endpoint id in an environment variable; `None` for any other variable and for an id with
/// unexpected characters.
pub(in crate::tasks) fn endpoint_id(variable: &[u8]) -> Option<Box<str>> {
    let id = variable.strip_prefix(VARIABLE)?.rsplit(|byte| *byte == b'/').next()?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    // The id becomes part of a URL.
    (!id.is_empty() && id.iter().all(plain)).then(|| String::from_utf8_lossy(id).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_one_plain_word() {
        let id = |url: &str| endpoint_id(format!("ECS_CONTAINER_METADATA_URI_V4={url}").as_bytes());
        assert_eq!(id("http://169.254.170.2/v4/0123-ab").as_deref(), Some("0123-ab"));
        for url in [
            "",
            "http://169.254.170.2/v4/",
            "http://x/v4/../..",
            "http://x/v4/a?b",
            "http://x/v4/a b",
        ] {
            assert_eq!(id(url), None, "{url:?}");
        }
        assert_eq!(endpoint_id(b"ECS_CONTAINER_METADATA_URI=http://169.254.170.2/v3/0123"), None);
    }
}
