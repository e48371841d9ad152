use crate::flow::Traffic;

/// Reasons of losses that the programs did not count: they were not attached, or the frames
/// bypassed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// The programs were not attached to a new interface yet.
    BeforeAttach,
    /// The programs had been removed from outside the daemon.
    HookRemoved,
    /// The programs were attached, and the frames bypassed them.
    Unseen,
    /// Counted by a run of the daemon that was killed before it could write its journal.
    Crash,
}

impl Uncounted {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::BeforeAttach, Self::HookRemoved, Self::Unseen, Self::Crash];

    /// Value of the metric label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeAttach => "before_attach",
            Self::HookRemoved => "hook_removed",
            Self::Unseen => "unseen",
            Self::Crash => "crash",
        }
    }
}

/// Losses that the programs did not count, by reason and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UncountedLosses([[Traffic; 2]; Uncounted::ALL.len()]);

impl UncountedLosses {
    /// Adds losses of a reason, by direction.
    pub fn add(&mut self, reason: Uncounted, losses: [Traffic; 2]) {
        for (sum, loss) in self.0[reason as usize].iter_mut().zip(losses) {
            *sum += loss;
        }
    }

    /// Losses of one reason, by direction.
    pub const fn of(&self, reason: Uncounted) -> [Traffic; 2] {
        self.0[reason as usize]
    }

    /// Sum of all losses.
    pub fn total(&self) -> Traffic {
        self.0.into_iter().flatten().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_by_reason_and_direction() {
        let mut losses = UncountedLosses::default();
        let one = Traffic { packets: 1, bytes: 50 };
        losses.add(Uncounted::HookRemoved, [one, Traffic::NONE]);
        losses.add(Uncounted::HookRemoved, [one, one]);
        losses.add(Uncounted::Unseen, [Traffic::NONE, one]);
        assert_eq!(losses.of(Uncounted::HookRemoved), [Traffic { packets: 2, bytes: 100 }, one]);
        assert_eq!(losses.of(Uncounted::BeforeAttach), [Traffic::NONE; 2]);
        assert_eq!(losses.total(), Traffic { packets: 4, bytes: 200 });
    }
}
