use std::{fmt, sync::Arc};

/// A handle shared by all batches of a window. It signals when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Mark {
    _signal: Arc<Signal>,
}

struct Signal(Box<dyn Fn() + Send + Sync>);

impl Mark {
    /// Creates a mark that calls `signal` once, on the thread that drops the last clone.
    pub fn new(signal: impl Fn() + Send + Sync + 'static) -> Self {
        Self { _signal: Arc::new(Signal(Box::new(signal))) }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signal")
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        (self.0)();
    }
}
