//! The programs and their maps, loaded before any interface is attached.

use observer_ebpf::abi::Clock;

use super::options;
use crate::{
    config::Config,
    failure::Failure,
    kernel::{
        Drain, DropsMode, Hook, Loader, LoaderOptions, Sizes, XdpMode, XdpPlan, XdpWish,
        bpffs::PinDirectory,
        diagnostics,
        drops::{self, DropDetail, Drops, Watchlist},
        grace::Grace,
        preflight,
    },
    linux::cgroup::Cgroups,
};

/// The loader, and the readers of the maps.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) loader: Loader,
    pub(super) drain: Drain,
    pub(super) sizes: Sizes,
    /// Detail in which the kernel reports drops; `None` if drops are not watched.
    pub(super) drops: Option<DropDetail>,
    pub(super) watchlist: Option<Watchlist>,
    pub(super) hook: Hook,
    pub(super) xdp: Option<XdpWish>,
    /// Control groups of version 2, if the programs can report the sender's. They identify tasks in
    /// host mode.
    pub(super) cgroups: Option<Cgroups>,
}

impl Engine {
    /// Loads programs of each kind once, for no interface. This creates the maps, and shows that
    /// this kernel's verifier accepts the programs.
    pub(super) fn load(
        config: &Config,
        pins: &PinDirectory,
        flow_memory: u64,
    ) -> Result<Self, Failure> {
        let sizes = Sizes::from_budget(flow_memory, preflight::possible_cpus())?;
        let log_level = options::programs_level(config.settings.host.log_level);
        let mut loader =
            Loader::new(LoaderOptions { sizes, log_level, clock: Clock::Ticks }, pins.path())?;
        loader.set_mark(pins.mark()?);
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
        let seen = drops.as_ref().map(Drops::detail);
        if let Some(drops) = drops {
            drain.see_drops(drops);
        }
        if log_level != 0 {
            diagnostics::start(&mut first)?;
        }
        Ok(Self {
            loader,
            drain,
            sizes,
            drops: seen,
            watchlist,
            hook: options::hook(config),
            xdp,
            cgroups,
        })
    }

    /// Name of the preferred hook for packets towards a task.
    pub(super) const fn preferred(&self) -> &'static str {
        if self.xdp.is_some() { "xdp" } else { self.hook.as_str() }
    }
}

/// Starts watching drops, unless drops are disabled or this kernel does not report them.
fn watch_drops(wanted: DropsMode, loader: &mut Loader) -> Option<(Drops, Watchlist)> {
    if wanted == DropsMode::Off {
        return None;
    }
    match drops::watch(loader) {
        Ok((drops, watchlist)) => {
            if drops.detail() == DropDetail::Counts {
                tracing::warn!("{}", drops.detail());
            }
            Some((drops, watchlist))
        }
        Err(error) => {
            tracing::warn!(%error, "drops cannot be seen here, so no record becomes REJECT (--drops off disables this warning)");
            None
        }
    }
}
