use crate::flow::Traffic;

/// The reasons of losses that the programs did not count: they were not on the interface, or the
/// frames passed them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// Before the programs were put on a new interface.
    BeforeAttach,
    /// Somebody had removed the programs.
    HookRemoved,
    /// The programs were there, and the frames passed them by.
    Unseen,
}

impl Uncounted {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::BeforeAttach, Self::HookRemoved, Self::Unseen];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeAttach => "before_attach",
            Self::HookRemoved => "hook_removed",
            Self::Unseen => "unseen",
        }
    }
}

/// Losses that the programs did not count, by reason and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UncountedLosses([[Traffic; 2]; Uncounted::ALL.len()]);

impl UncountedLosses {
    /// Adds losses of both directions.
    pub fn add(&mut self, reason: Uncounted, losses: [Traffic; 2]) {
        for (sum, loss) in self.0[reason as usize].iter_mut().zip(losses) {
            *sum += loss;
        }
    }

    /// Those of one reason.
    pub const fn of(&self, reason: Uncounted) -> [Traffic; 2] {
        self.0[reason as usize]
    }

    /// All of them.
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
