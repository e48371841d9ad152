//! The part of HTTP/1.1 that a few requests on one connection need.

use std::{
    io::{BufRead, BufReader, Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::timeout::TIMEOUT;
use crate::demo::namespace::Namespace;

/// Starts a server for a few requests, and sends one request for each length in `answers`.
pub(super) fn fetch(
    client: &Namespace,
    server: &Namespace,
    at: SocketAddr,
    answers: &[usize],
) -> Result<()> {
    let listener = server.run(|| Ok(TcpListener::bind(at)?))?;
    let stream = client.run(|| Ok(TcpStream::connect_timeout(&at, TIMEOUT)?))?;
    thread::scope(|scope| {
        // The connection waits to be accepted, so this never blocks.
        let serving = scope.spawn(|| serve(listener.accept()?.0, answers.len()));
        let asked = ask(stream, at, answers);
        let answered = serving.join().map_err(|_| anyhow!("the server panicked"))?;
        asked.and(answered)
    })
}

fn serve(stream: TcpStream, requests: usize) -> Result<()> {
    let mut reader = patient(stream)?;
    for _ in 0..requests {
        let head = read_head(&mut reader)?;
        // The path gives the length of the response body.
        let path = head.split(' ').nth(1).context("a request without a path")?;
        let bytes: usize =
            path.trim_start_matches('/').parse().context("a path that is no number")?;
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + bytes, b'.');
        reader.get_mut().write_all(&answer)?;
    }
    Ok(())
}

fn ask(stream: TcpStream, at: SocketAddr, answers: &[usize]) -> Result<()> {
    let mut reader = patient(stream)?;
    for &bytes in answers {
        // Formatted before writing, because each write would be a segment.
        let request = format!("GET /{bytes} HTTP/1.1\r\nHost: {at}\r\n\r\n");
        reader.get_mut().write_all(request.as_bytes())?;
        ensure!(read_head(&mut reader)?.starts_with("HTTP/1.1 200 "), "the server refuses");
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body)?;
    }
    Ok(())
}

fn patient(stream: TcpStream) -> Result<BufReader<TcpStream>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Reads up to and including the empty line.
fn read_head(reader: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the connection ended within a head");
    }
    Ok(head)
}
