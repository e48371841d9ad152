//! Pauses between attempts.

use std::time::Duration;

/// Exponential backoff with jitter, so that hosts that failed together do not retry together.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at pause `first`; later pauses double up to `last`.
    pub(super) const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// The next pause: a random part of it, at least half.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.last.min(pause * 2);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Restarts at the first pause, after a success.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_last_and_vary() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        for whole in [200, 400, 800, 1000, 1000] {
            let whole = Duration::from_millis(whole);
            let pause = backoff.pause();
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(200));
    }
}
