//! A minimal HTTP client for scrapes and for S3.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{netns::Namespace, poll::stretched};

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Headers, unparsed.
    pub headers: String,
    /// The body.
    pub body: String,
}

/// Timeout. Some servers read much before their first response.
const PATIENCE: Duration = Duration::from_secs(30);

/// Signature for S3. Its stand-in requires one and does not verify it.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=observer/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
                      Signature=0";

/// Sends a request with a body from the host; returns status and body of the response.
pub fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>)> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    stream.write_all(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {SIGNED}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        )
        .as_bytes(),
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end =
        answer.windows(4).position(|part| part == b"\r\n\r\n").context("an answer with headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status code")?;
    Ok((status, answer.split_off(end + 4)))
}

/// Sends `GET path` from the host or from a namespace.
pub fn get(address: SocketAddr, path: &str, from: Option<&Namespace>) -> Result<Answer> {
    let connect = || Ok(TcpStream::connect_timeout(&address, stretched(PATIENCE))?);
    let stream = match from {
        Some(namespace) => namespace.run(connect)?,
        None => connect()?,
    };
    exchange(
        stream,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}

/// Sends `POST path` from the host.
pub fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    let _ = write!(request, "Content-Length: {}\r\n\r\n{body}", body.len());
    exchange(TcpStream::connect_timeout(&address, stretched(PATIENCE))?, &request)
}

fn exchange(mut stream: TcpStream, request: &str) -> Result<Answer> {
    stream.set_read_timeout(Some(stretched(PATIENCE)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("an answer in UTF-8")?;
    let (headers, body) = answer.split_once("\r\n\r\n").context("an answer with headers")?;
    let status =
        headers.split(' ').nth(1).and_then(|code| code.parse().ok()).context("a status code")?;
    let body = if headers.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)?
    } else {
        body.to_owned()
    };
    Ok(Answer { status, headers: headers.to_owned(), body })
}

fn unchunked(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk's size")?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or(size).trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let Some(chunk) = after.get(..size) else { bail!("a chunk of {size} bytes is cut short") };
        body.push_str(chunk);
        rest = after[size..].strip_prefix("\r\n").context("the end of a chunk")?;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn chunks_are_put_together() {
        assert_eq!(super::unchunked("3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n").unwrap(), "abcd");
        assert!(super::unchunked("5\r\nabc\r\n").is_err());
    }
}
