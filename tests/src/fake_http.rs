//! A small HTTP server with configurable responses, which records all requests.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::daemon::free_address;

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method: `GET`, `PUT`.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Length of the body, in bytes.
    pub content: u64,
    /// Time of arrival.
    pub at: Instant,
}

/// The response to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A response with this status and body.
    Answer(u16, String),
    /// No response, for longer than any timeout.
    Silence,
}

impl Reply {
    /// A response with status 200.
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Answer(200, body.into())
    }

    /// A response with this status and no body.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, String::new())
    }
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct FakeHttp {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeHttp {
    /// Starts a server on a free address.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let address = free_address()?;
        let listener = TcpListener::bind(address)?;
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, ended, answer) = (Arc::clone(&asked), Arc::clone(&stop), Arc::new(answer));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (log, ended, answer) =
                    (Arc::clone(&log), Arc::clone(&ended), Arc::clone(&answer));
                thread::spawn(move || serve(&stream, &log, &ended, &*answer));
            }
        });
        Ok(Self { address, asked, stop, thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests received so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FakeHttp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<Request>>,
    ended: &AtomicBool,
    answer: &dyn Fn(&Request) -> Reply,
) -> Option<()> {
    let mut input = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    // Reads the whole body: a response before its end, followed by a close, would be lost.
    let content = io::copy(&mut input.take(length), &mut io::sink()).ok()?;
    let request = Request { method, path, headers, content, at: Instant::now() };
    let reply = answer(&request);
    log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    match reply {
        Reply::Answer(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\nETag: \"0\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let mut stream = stream;
            stream.write_all((head + &body).as_bytes()).ok()
        }
        Reply::Silence => {
            for _ in 0..100 {
                if ended.load(Ordering::Relaxed) {
                    return None;
                }
                thread::sleep(Duration::from_millis(100));
            }
            None
        }
    }
}
