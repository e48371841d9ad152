//! Detection of programs that were removed from an interface, and their reattachment.

use std::time::{Duration, Instant};

use super::{
    attached::pause_after,
    detached::Detached,
    interfaces::Interfaces,
    witness::{frames_of, in_accounts},
};
use crate::{
    accounts::Event,
    flow::Traffic,
    kernel::{KernelError, Missing, Reading, counters::device_counters},
    linux::netlink::{LinkCounters, Netlink},
    tasks::{Interface, InterfaceKey, mac_of},
};

/// Pause before the next attempt at an interface that is gone itself, until the watch reports it.
const LEAVING: Duration = Duration::from_millis(500);
/// Shortest interval between reattachments at an interface whose programs are removed repeatedly.
/// Each reattachment stops the interface's queues for a moment.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest interval between log lines about such an interface.
const LOGGED: Duration = Duration::from_mins(1);

impl Interfaces {
    /// Checks if programs are missing from these interfaces.
    pub(super) fn check_programs(&mut self, which: impl Fn(&InterfaceKey) -> bool) {
        let present = self.attached.keys().filter(|key| !self.detached.contains_key(key));
        for key in present.filter(|key| which(key)).copied().collect::<Vec<_>>() {
            let missing = self.attached.get(&key).map(|attached| attached.attachment.missing());
            match missing {
                Some(Ok(missing)) if missing.any() => self.removed(key, missing),
                // The namespace is gone, or a later check succeeds.
                _ => {}
            }
        }
    }

    /// Handles programs that are missing from an interface. They were removed from outside the
    /// daemon, or the interface is disappearing, which the watch reports.
    pub(super) fn removed(&mut self, key: InterfaceKey, missing: Missing) {
        if self.detached.contains_key(&key) {
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
        let detached = Detached {
            missing,
            uncounted: [ingress || by_xdp_alone, egress],
            before,
            noticed: noticed.carried,
            attempts: 0,
            again,
            reason: "somebody has removed the programs; putting them back".into(),
            logged,
        };
        self.detached.insert(key, detached);
    }

    /// Attaches missing programs again, if an attempt is due.
    pub(super) fn reattach_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .detached
            .iter()
            .filter(|(_, detached)| detached.again <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let Some(mut detached) = self.detached.remove(&key) else { continue };
            match self.restore(&key, &detached) {
                Ok(()) => {}
                // The interface is disappearing. The watch reports that.
                Err(KernelError::NamespaceGone { .. } | KernelError::InterfaceGone(_)) => {
                    detached.again = Instant::now() + LEAVING;
                    self.detached.insert(key, detached);
                }
                Err(error) => {
                    if detached.attempts == 0 {
                        tracing::error!(%error, "the programs cannot be attached again; trying again");
                    }
                    detached.again = Instant::now() + pause_after(detached.attempts);
                    detached.attempts = detached.attempts.saturating_add(1);
                    detached.reason = error.to_string().into();
                    self.metrics.attach_failed();
                    self.detached.insert(key, detached);
                }
            }
        }
    }

    fn restore(&mut self, key: &InterfaceKey, detached: &Detached) -> Result<(), KernelError> {
        let Some(attached) = self.attached.get_mut(key) else { return Ok(()) };
        let (number, observed) = (attached.number, attached.observed.clone());
        let interface = &observed.interface;
        let (netns, ifindex) = (&interface.netns, interface.ifindex);
        let programs = attached.loaded.load(&mut self.spares.loader(), number)?;
        let ending = device_counters(netns, ifindex).ok_or(KernelError::InterfaceGone(ifindex))?;
        let refusal = attached.attachment.attach_missing(programs, detached.missing)?;
        let after = Reading::take(netns, ifindex, (&self.ledgers, number));
        let (presence, ingress) = (attached.attachment.presence(), attached.attachment.ingress());
        let missed = after.map_or([Traffic::NONE; 2], |after| {
            detached.missed(frames_of(&ending), in_accounts(&after).balance(), interface.ethernet)
        });
        if let Some(refusal) = refusal {
            self.xdp_refused(&observed, &refusal);
        }
        self.watch_drops(&observed, |watchlist, key| watchlist.add(key.netns, key.ifindex, number));
        self.witness.add(*key, interface, (number, presence), after.as_ref());
        if let Some(attached) = self.attached.get_mut(key) {
            attached.restored.at = Some(Instant::now());
        }
        if detached.logged {
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

/// The interface's own counters; `None` if it is gone, or another interface has its index by now.
fn still_there(interface: &Interface) -> Option<LinkCounters> {
    let link = interface.netns.inside(|| Netlink::new()?.link(interface.ifindex)).ok()?.ok()?;
    (mac_of(&link) == interface.mac)
        .then(|| device_counters(&interface.netns, interface.ifindex))?
}
