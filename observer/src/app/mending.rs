//! Programs that somebody has removed from an interface, and how they come back.

use std::time::{Duration, Instant};

use super::{
    absent::Absent,
    attached::pause_after,
    interfaces::Interfaces,
    witness::{frames_of, in_accounts},
};
use crate::{
    accounts::Event,
    flow::Traffic,
    kernel::{KernelError, Missing, Reading, carried::carried},
    linux::netlink::{LinkCounters, Netlink},
    tasks::{Interface, InterfaceKey, mac_of},
};

/// An interface whose programs are gone may be leaving itself: that is looked at once more after
/// this time.
const LEAVING: Duration = Duration::from_millis(500);
/// Programs that somebody removes again and again are put back this often: each time the kernel
/// stops the interface's queues for a moment.
const AGAIN: Duration = Duration::from_millis(500);
/// Of such an interface it is logged this often.
const LOGGED: Duration = Duration::from_mins(1);

impl Interfaces {
    /// Looks whether programs are gone from these interfaces.
    pub(super) fn look_at(&mut self, which: impl Fn(&InterfaceKey) -> bool) {
        let present = self.attached.keys().filter(|key| !self.absent.contains_key(key));
        for key in present.filter(|key| which(key)).copied().collect::<Vec<_>>() {
            let missing = self.attached.get(&key).map(|attached| attached.attachment.missing());
            match missing {
                Some(Ok(missing)) if missing.any() => self.removed(key, missing),
                // The namespace is gone, or the next look says more.
                _ => {}
            }
        }
    }

    /// Programs are gone from an interface: somebody has removed them, or the interface leaves,
    /// which the watch says.
    pub(super) fn removed(&mut self, key: InterfaceKey, missing: Missing) {
        if self.absent.contains_key(&key) {
            return;
        }
        let Some(attached) = self.attached.get(&key) else { return };
        let (observed, number) = (attached.observed.clone(), attached.number);
        let interface = &observed.interface;
        let Some(noticed) = still_there(interface) else { return };
        let noticed = Reading { carried: noticed, ledgers: self.ledgers.of(number) };
        let noticed = in_accounts(&noticed);
        let before = self.witness.remove(&key).unwrap_or_else(|| noticed.balance());
        let by_xdp_alone = missing.xdp && attached.loaded.xdp.is_some_and(|plan| !plan.companion);
        let [ingress, egress] = missing.tc;
        self.watch_drops(&observed, |watchlist, key| watchlist.remove(key.netns, key.ifindex));
        self.removals += 1;
        let now = Instant::now();
        let Some(attached) = self.attached.get_mut(&key) else { return };
        let again = attached.restored.at.map_or(now, |at| now.max(at + AGAIN));
        let logged =
            attached.restored.logged.is_none_or(|logged| now.duration_since(logged) >= LOGGED);
        if logged {
            attached.restored.logged = Some(now);
            tracing::warn!(
                interface = &*interface.name,
                mac = interface.mac.map(tracing::field::display),
                netns = %interface.netns.path.display(),
                "somebody has removed the programs from an interface; putting them back"
            );
        }
        let _ = self.tick.send(Event::Removed { number }.into());
        let absent = Absent {
            missing,
            uncounted: [ingress || by_xdp_alone, egress],
            before,
            noticed: noticed.carried,
            attempts: 0,
            again,
            reason: "somebody has removed the programs; putting them back".into(),
            logged,
        };
        self.absent.insert(key, absent);
    }

    /// Puts programs back that are gone.
    pub(super) fn mend(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .absent
            .iter()
            .filter(|(_, absent)| absent.again <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let Some(mut absent) = self.absent.remove(&key) else { continue };
            match self.restore(&key, &absent) {
                Ok(()) => {}
                // It leaves, and the watch will say so.
                Err(KernelError::NamespaceGone { .. } | KernelError::InterfaceGone(_)) => {
                    absent.again = Instant::now() + LEAVING;
                    self.absent.insert(key, absent);
                }
                Err(error) => {
                    if absent.attempts == 0 {
                        tracing::error!(%error, "the programs cannot be put back; trying again");
                    }
                    absent.again = Instant::now() + pause_after(absent.attempts);
                    absent.attempts = absent.attempts.saturating_add(1);
                    absent.reason = error.to_string().into();
                    self.metrics.attach_failed();
                    self.absent.insert(key, absent);
                }
            }
        }
    }

    fn restore(&mut self, key: &InterfaceKey, absent: &Absent) -> Result<(), KernelError> {
        let Some(attached) = self.attached.get_mut(key) else { return Ok(()) };
        let (number, observed) = (attached.number, attached.observed.clone());
        let interface = &observed.interface;
        let (netns, ifindex) = (&interface.netns, interface.ifindex);
        let programs = attached.loaded.load(&mut self.spares.loader(), number)?;
        let ending = carried(netns, ifindex).ok_or(KernelError::InterfaceGone(ifindex))?;
        let refusal = attached.attachment.mend(programs, absent.missing)?;
        let after = Reading::take(netns, ifindex, (&self.ledgers, number));
        let (presence, ingress) = (attached.attachment.presence(), attached.attachment.ingress());
        let missed = after.map_or([Traffic::NONE; 2], |after| {
            absent.missed(frames_of(&ending), in_accounts(&after).balance(), interface.ethernet)
        });
        if let Some(refusal) = refusal {
            self.xdp_refused(&observed, &refusal);
        }
        self.watch_drops(&observed, |watchlist, key| watchlist.add(key.netns, key.ifindex, number));
        self.witness.add(*key, interface, (number, presence), after.as_ref());
        if let Some(attached) = self.attached.get_mut(key) {
            attached.restored.at = Some(Instant::now());
        }
        if absent.logged {
            tracing::info!(
                interface = &*interface.name,
                netns = %netns.path.display(),
                packets = missed.iter().map(|loss| loss.packets).sum::<u64>(),
                "the programs are back on an interface"
            );
        }
        let _ = self.tick.send(Event::Restored { number, hook: ingress.as_str(), missed }.into());
        Ok(())
    }
}

/// The own counters of an interface; `None` where it has left, or another one has its index by now.
fn still_there(interface: &Interface) -> Option<LinkCounters> {
    let link = interface.netns.inside(|| Netlink::new()?.link(interface.ifindex)).ok()?.ok()?;
    (mac_of(&link) == interface.mac).then(|| carried(&interface.netns, interface.ifindex))?
}
