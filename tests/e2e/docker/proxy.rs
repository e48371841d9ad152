//! A proxy in front of the Docker Engine's socket.

use std::{
    io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use observer_tests::lab::Lab;

/// A proxy between the daemon and the Docker Engine that can cut connections.
pub(super) struct Proxy {
    pub(super) socket: PathBuf,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    pub(super) fn start(lab: &Lab, to: PathBuf) -> Result<Self> {
        let socket = lab.path("proxy");
        let listener = UnixListener::bind(&socket)?;
        let open = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&open);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = UnixStream::connect(&to) else { continue };
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let (Ok(mut from), Ok(mut into), Ok(kept)) =
                        (from.try_clone(), into.try_clone(), from.try_clone())
                    else {
                        continue;
                    };
                    shared.push(kept);
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Ok(Self { socket, open })
    }

    /// Cuts all open connections.
    pub(super) fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
