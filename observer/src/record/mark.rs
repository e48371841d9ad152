use std::{fmt, sync::Arc};

/// A handle shared by all batches of a window. It signals when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Mark {
    _tell: Arc<Tell>,
}

struct Tell(Box<dyn Fn() + Send + Sync>);

impl Mark {
    /// Creates a mark that calls `tell` once, on the thread that drops the last clone.
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self { _tell: Arc::new(Tell(Box::new(tell))) }
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        (self.0)();
    }
}
