//! An S3 server on the loopback interface, and a proxy that injects faults.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    daemon::{Guard, free_address},
    http::request,
    poll::{self, PATIENCE},
    python::Python,
};

/// Name of the bucket.
pub const BUCKET: &str = "flow-logs";

/// An S3 server that keeps objects in memory.
#[derive(Debug)]
pub struct Store {
    _process: Guard,
    address: SocketAddr,
}

impl Store {
    /// Starts a server with an empty bucket.
    pub fn start(python: &Python, log: &Path) -> Result<Self> {
        Self::start_at(python, log, free_address()?)
    }

    /// Starts a server at the address of an earlier one.
    pub fn start_at(python: &Python, log: &Path, address: SocketAddr) -> Result<Self> {
        let words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()];
        let mut command = python.command(words.map(OsString::from));
        command.stdout(Stdio::null()).stderr(File::create(log)?);
        let process = Guard::spawn(&mut command)?;
        let made = poll::until("S3 answers", PATIENCE * 2, || {
            Ok(request("PUT", address, &format!("/{BUCKET}"), b"").ok())
        });
        let (status, _) = made.with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        ensure!(status == 200, "making a bucket: {status}");
        Ok(Self { _process: process, address })
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The keys of all objects, sorted.
    pub fn keys(&self) -> Result<Vec<String>> {
        let (status, body) =
            request("GET", self.address, &format!("/{BUCKET}?list-type=2&max-keys=1000"), b"")?;
        ensure!(status == 200, "listing: {status}");
        let body = String::from_utf8(body)?;
        ensure!(
            body.contains("<IsTruncated>false</IsTruncated>"),
            "more than a page of objects: {body}"
        );
        let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        keys.sort();
        Ok(keys)
    }

    /// Number of parts of a multipart upload; `None` for an object uploaded as a whole.
    pub fn parts(&self, key: &str) -> Result<Option<usize>> {
        let (_, body) =
            request("GET", self.address, &format!("/{BUCKET}?list-type=2&prefix={key}"), b"")?;
        let body = String::from_utf8(body)?;
        // The ETag of a multipart upload is a hash, a hyphen and the number of parts.
        let tag = body
            .split_once("<ETag>")
            .and_then(|(_, rest)| rest.split_once("</ETag>"))
            .context("a tag")?;
        let number = tag
            .0
            .rsplit_once('-')
            .map(|(_, number)| number.trim_end_matches("&quot;").trim_matches('"'));
        Ok(number.map(str::parse).transpose()?)
    }

    /// Number of multipart uploads that are not completed.
    pub fn unfinished(&self) -> Result<usize> {
        let (_, body) = request("GET", self.address, &format!("/{BUCKET}?uploads"), b"")?;
        Ok(String::from_utf8_lossy(&body).matches("<Upload>").count())
    }

    /// Copies all objects to a directory, with their keys as paths.
    pub fn download(&self, to: &Path) -> Result<Vec<String>> {
        let keys = self.keys()?;
        for key in &keys {
            let (status, body) = request("GET", self.address, &format!("/{BUCKET}/{key}"), b"")?;
            ensure!(status == 200, "{key}: {status}");
            let path = to.join(key);
            fs::create_dir_all(path.parent().unwrap_or(to))?;
            fs::write(path, body)?;
        }
        Ok(keys)
    }
}

/// A fault that the proxy injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    None,
    /// Close every connection at once.
    Refuse,
    /// Close the next connection at once; pass the others.
    RefuseOne,
    /// Respond with 500.
    Error,
    /// Respond with a login page, as a captive proxy does.
    Page,
    /// Accept the request and never respond.
    Hang,
    /// Cut the connection after this many bytes.
    Cut(usize),
    /// Pass 2 KiB every 10 ms.
    Slow,
}

/// A proxy in front of a store.
#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    open: Vec<TcpStream>,
    requests: u64,
    /// True once the proxy is dropped: the listener ends.
    closed: bool,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    /// Starts a proxy to `store`.
    pub fn to(store: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(free_address()?)?;
        let address = listener.local_addr()?;
        let state = State { fault: Fault::None, open: Vec::new(), requests: 0, closed: false };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let mut state = locked(&shared);
                if state.closed {
                    return;
                }
                state.requests += 1;
                let fault = state.fault;
                if fault == Fault::RefuseOne {
                    state.fault = Fault::None;
                }
                if let Ok(copy) = connection.try_clone() {
                    state.open.push(copy);
                }
                drop(state);
                thread::spawn(move || carry(connection, store, fault));
            }
        });
        Ok(Self { address, state })
    }

    /// The value for `--deliver-endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the fault; open connections are cut.
    pub fn set(&self, fault: Fault) {
        let mut state = locked(&self.state);
        state.fault = fault;
        for connection in state.open.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Number of connections so far.
    pub fn connections(&self) -> u64 {
        locked(&self.state).requests
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.set(Fault::Refuse);
        locked(&self.state).closed = true;
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut from: TcpStream, store: SocketAddr, fault: Fault) {
    const LONG: Duration = Duration::from_mins(5);
    match fault {
        Fault::Refuse | Fault::RefuseOne => {
            let _ = from.shutdown(Shutdown::Both);
        }
        Fault::Hang => {
            // Until the other side or `set` closes it.
            let _ = from.set_read_timeout(Some(LONG));
            while matches!(from.read(&mut [0; 4096]), Ok(1..)) {}
        }
        Fault::Error => {
            let _ = from.read(&mut [0; 4096]);
            let answer = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = from.write_all(answer.as_bytes());
            let _ = from.shutdown(Shutdown::Both);
        }
        Fault::Page => {
            // Reads the whole request: a response before its end, followed by a close, would be
            // lost.
            let _ = from.set_read_timeout(Some(Duration::from_millis(200)));
            while matches!(from.read(&mut [0; 4096]), Ok(1..)) {}
            let page = "<html>sign in</html>";
            let length = page.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
            );
            let _ = from.write_all(answer.as_bytes());
            let _ = from.shutdown(Shutdown::Both);
        }
        Fault::None | Fault::Cut(_) | Fault::Slow => {
            let Ok(to) = TcpStream::connect(store) else { return };
            let (Ok(answers), Ok(back)) = (to.try_clone(), from.try_clone()) else { return };
            let (done, ended) = mpsc::channel::<()>();
            thread::spawn(move || {
                pass(answers, back, usize::MAX, None);
                drop(done);
            });
            let (most, pause) = match fault {
                Fault::Cut(most) => (most, None),
                Fault::Slow => (usize::MAX, Some(Duration::from_millis(10))),
                _ => (usize::MAX, None),
            };
            pass(from, to, most, pause);
            let _ = ended.recv_timeout(LONG);
        }
    }
}

/// Passes up to `most` bytes, then cuts both connections.
fn pass(mut from: TcpStream, mut to: TcpStream, mut most: usize, pause: Option<Duration>) {
    let mut buffer = [0; 2048];
    while most > 0 {
        let room = buffer.len().min(most);
        let Ok(read @ 1..) = from.read(&mut buffer[..room]) else { break };
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        most -= read;
        if let Some(pause) = pause {
            thread::sleep(pause);
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
