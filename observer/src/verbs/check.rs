//! `observer check`: reports if this host can be observed, without changing it.

use std::fmt;

use serde::Serialize;

use super::{print::print, tasks::observed};
use crate::{
    app::options::{budget_request, hook, xdp_wish},
    config::Config,
    failure::Failure,
    kernel::{
        IngressHook, XdpWish, drops,
        preflight::{self, KernelVersion},
        xdp,
    },
    limits::{Budget, Limits},
    tasks::Observed,
};

#[derive(Serialize)]
struct Report {
    kernel: String,
    drops: String,
    limits: Limits,
    sizes: Budget,
    /// Only if XDP is requested, because TC works on every interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    interfaces: Option<Vec<Interface>>,
}

#[derive(Serialize)]
struct Interface {
    #[serde(rename = "interface")]
    name: String,
    mac: Option<String>,
    netns: String,
    /// Hook that would count ingress.
    hook: &'static str,
    /// Reason why XDP cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Prints the conditions that `run` would find. Returns an error if `run` would not start.
pub(super) fn check(config: &Config, json: bool) -> Result<(), Failure> {
    preflight::check()?;
    let interfaces = xdp_wish(config).map(|wish| interfaces(config, wish)).transpose()?;
    let drops = drops::probe().map_or_else(
        |error| format!("drops cannot be observed, so no record becomes REJECT: {error}"),
        |detail| detail.to_string(),
    );
    let limits = Limits::read();
    let sizes = Budget::of(&limits, budget_request(config))?;
    let report =
        Report { kernel: KernelVersion::running().to_string(), drops, limits, sizes, interfaces };
    if json {
        let text = serde_json::to_string(&report);
        print(&(text.map_err(|error| Failure::during("writing JSON", error))? + "\n"))
    } else {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = table(&report, &mut text);
        print(&text)
    }
}

fn table(report: &Report, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "this host can be observed: Linux {}", report.kernel)?;
    writeln!(out, "{}", report.drops)?;
    writeln!(out, "limits: {}", report.limits)?;
    writeln!(out, "sizes: {}", report.sizes)?;
    for tight in &report.sizes.tight {
        writeln!(out, "{tight}")?;
    }
    for Interface { name, mac, netns, hook, why } in report.interfaces.iter().flatten() {
        let mac = mac.as_deref().unwrap_or("-");
        write!(out, "{name}  {mac}  {netns}  {hook}")?;
        match why {
            Some(why) => writeln!(out, ": {why}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn interfaces(config: &Config, wish: XdpWish) -> Result<Vec<Interface>, Failure> {
    let tc = IngressHook::Tc(hook(config));
    let describe = |Observed { interface, .. }: &Observed| {
        let (hook, why) =
            match xdp::plan(wish, &interface.netns, interface.ifindex, interface.ethernet, None) {
                Ok(Ok(plan)) => (IngressHook::Xdp(plan.mode), None),
                Ok(Err(refusal)) => (tc, Some(refusal.to_string())),
                Err(error) => (tc, Some(error.to_string())),
            };
        Interface {
            name: interface.name.to_string(),
            mac: interface.mac.map(|mac| mac.to_string()),
            netns: interface.netns.path.display().to_string(),
            hook: hook.as_str(),
            why,
        }
    };
    Ok(observed(config)?.iter().map(describe).collect())
}
