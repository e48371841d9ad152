//! One interface, from loaded programs to counted packets.

use std::{sync::mpsc::Sender, time::Duration};

use super::{detached::Restored, tick::Message};
use crate::{
    accounts::Event,
    flow::InterfaceNumber,
    kernel::{
        Attachment, Hook, KernelError, LinkPins, Loader, Programs, Reading, XdpPlan, gap::Gap,
        ledger::Ledgers, xdp::Refusal,
    },
    tasks::{Interface, Observed},
    telemetry::Metrics,
};

#[derive(Debug)]
pub(super) struct Attached {
    pub(super) observed: Observed,
    pub(super) number: InterfaceNumber,
    pub(super) attachment: Attachment,
    pub(super) loaded: Loaded,
    pub(super) restored: Restored,
}

/// Kind of programs that an interface needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loaded {
    pub(super) ethernet: bool,
    /// True if the programs report the sender, because several tasks share the interface.
    pub(super) shared: bool,
    pub(super) xdp: Option<XdpPlan>,
}

impl Loaded {
    /// Loads the programs.
    pub(super) fn load(
        self,
        loader: &mut Loader,
        number: InterfaceNumber,
    ) -> Result<Programs, KernelError> {
        let number = number.get();
        let programs = match self.xdp {
            plan if self.shared => loader.load_shared(number, self.ethernet, plan),
            Some(plan) => loader.load_xdp(number, plan),
            None => loader.load(number, self.ethernet),
        };
        programs.map(Programs::without_maps)
    }
}

/// An interface whose programs are loaded.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) number: InterfaceNumber,
    pub(super) programs: Programs,
    pub(super) loaded: Loaded,
    pub(super) pins: LinkPins,
    pub(super) tick: Sender<Message>,
}

/// An interface whose packets are counted.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) number: InterfaceNumber,
    pub(super) attachment: Attachment,
    pub(super) loaded: Loaded,
    pub(super) refusal: Option<Refusal>,
    /// Reading taken just after the programs were attached.
    pub(super) reading: Option<Reading>,
}

impl Begun {
    pub(super) fn attach(
        self,
        observed: &Observed,
        hook: Hook,
        ledgers: &Ledgers,
        metrics: &Metrics,
    ) -> Result<Done, KernelError> {
        let Self { number, programs, loaded, pins, tick } = self;
        let Interface { netns, ifindex, ethernet, .. } = &observed.interface;
        let account = (ledgers, number);
        let gap = observed
            .appeared
            .and_then(|appeared| Gap::open(appeared.carried, netns, *ifindex, account));
        let place = (netns.clone(), *ifindex);
        let (attachment, refusal) = Attachment::attach(programs, hook, place, pins)
            .inspect_err(|_| drop(tick.send(Event::Retire { number }.into())))?;
        if let Some(appeared) = observed.appeared {
            metrics.attached_after(appeared.at.elapsed());
        }
        let missed =
            gap.map_or_else(Default::default, |gap| gap.close(netns, *ifindex, *ethernet, account));
        let hook = attachment.ingress().as_str();
        let _ = tick.send(Event::Attached { number, hook, missed }.into());
        let reading = Reading::take(netns, *ifindex, account);
        Ok(Done { number, attachment, loaded, refusal, reading })
    }
}

/// First and longest pause between attempts. Each pause is twice as long as the previous one.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Pause after this number of failed attempts.
pub(super) fn pause_after(attempts: u32) -> Duration {
    PAUSES[1].min(PAUSES[0] * 2_u32.saturating_pow(attempts))
}
