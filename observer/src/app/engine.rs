//! The programs and their maps, loaded before any interface has them.

use std::path::Path;

use observer_ebpf::abi::Clock;

use super::options;
use crate::{
    cgroup::Cgroups,
    config::Config,
    failure::Failure,
    kernel::{
        Drain, DropsMode, Hook, Loader, LoaderOptions, Sizes, XdpMode, XdpPlan, XdpWish, diagnostics,
        drops::{self, Drops, Sight, Watchlist},
        grace::Grace,
        preflight,
    },
};

/// The loader, and all that reads the maps.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) loader: Loader,
    pub(super) drain: Drain,
    pub(super) sizes: Sizes,
    /// What the kernel reports of drops; [`None`] if they are not watched.
    pub(super) drops: Option<Sight>,
    pub(super) watchlist: Option<Watchlist>,
    pub(super) hook: Hook,
    pub(super) xdp: Option<XdpWish>,
    /// Control groups of version 2, if the programs can report the sender's: they name tasks in host mode.
    pub(super) cgroups: Option<Cgroups>,
}

impl Engine {
    /// Loads the programs of each kind once, for no interface. That makes the maps, and shows that the verifier of this
    /// kernel accepts the programs.
    pub(super) fn load(config: &Config, pins: &Path, flow_memory: u64) -> Result<Self, Failure> {
        let sizes = Sizes::from_budget(flow_memory, preflight::possible_cpus())?;
        let log_level = options::programs_level(config.settings.host.log_level);
        let mut loader = Loader::new(LoaderOptions { sizes, log_level, clock: Clock::Ticks }, pins)?;
        if config.settings.kernel.drops == DropsMode::Auto {
            loader.make_room_for_drops();
        }
        let mut first = loader.load(1, true)?;
        let mut drain = Drain::new(&mut first, sizes, Grace::new()?)?;
        let (drops, watchlist) = watch_drops(config.settings.kernel.drops, &mut loader).unzip();
        let xdp = options::xdp_wish(config);
        if xdp.is_some() {
            drop(loader.load_xdp(1, XdpPlan { mode: XdpMode::Generic, companion: true })?);
        }
        let cgroups = Cgroups::find().ok().filter(|_| loader.load_shared(1, true, None).is_ok());
        let seen = drops.as_ref().map(Drops::sight);
        if let Some(drops) = drops {
            drain.see_drops(drops);
        }
        if log_level != 0 {
            diagnostics::start(&mut first)?;
        }
        Ok(Self { loader, drain, sizes, drops: seen, watchlist, hook: options::hook(config), xdp, cgroups })
    }

    /// Name of the preferred hook for packets towards a task.
    pub(super) const fn preferred(&self) -> &'static str {
        if self.xdp.is_some() { "xdp" } else { self.hook.as_str() }
    }
}

/// Watches drops, unless they are switched off or this kernel does not report them.
fn watch_drops(wanted: DropsMode, loader: &mut Loader) -> Option<(Drops, Watchlist)> {
    if wanted == DropsMode::Off {
        return None;
    }
    match drops::watch(loader) {
        Ok((drops, watchlist)) => {
            if drops.sight() == Sight::Counts {
                tracing::warn!("{}", drops.sight());
            }
            Some((drops, watchlist))
        }
        Err(error) => {
            tracing::warn!(%error, "drops cannot be seen here, and none becomes REJECT (--drops off says so too)");
            None
        }
    }
}
