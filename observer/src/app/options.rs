//! Options of the rooms, from the configuration.

use std::time::Duration;

use crate::{
    config::Config,
    failure::Failure,
    kernel::{AttachMethod, Hook, IngressChoice, XdpWish, diagnostics, preflight},
    limits::{Request, is_in_memory},
    log::LogLevel,
    outputs::short_hash,
    tasks::{ApiOptions, Source, SourceOptions, TasksFile, WatchOptions},
};

pub(crate) fn watch_options(config: &Config) -> Result<WatchOptions, Failure> {
    let identity = &config.settings.identity;
    Ok(WatchOptions {
        host: identity.queries(Source::Host),
        netns_dirs: identity.netns_dirs().to_vec(),
        sources: SourceOptions {
            docker: identity.docker().map(Into::into),
            agent: identity.agent().map(Into::into),
            introspection: identity.introspection().map(Into::into),
            tmds: identity.tmds().map(Into::into),
            imds: identity.imds().map(Into::into),
            api: identity
                .api()
                .map(|endpoint| ApiOptions { endpoint, trust: config.trust.clone() }),
            file: identity.file().map(TasksFile::open).transpose()?,
        },
        // A record is held for up to one window, and its own window may have just begun.
        linger: Duration::from_secs(2 * u64::from(config.settings.records.window)),
    })
}

/// Handle of this daemon's filters on clsact qdiscs.
pub(crate) fn filter_handle(config: &Config) -> u16 {
    // Two daemons on one host must not mistake each other's filters for their own.
    short_hash(&config.settings.host.state_dir.to_string_lossy()) as u16 | 1
}

pub(crate) fn hook(config: &Config) -> Hook {
    let clsact = Hook::Clsact { handle: filter_handle(config) };
    match config.settings.kernel.attach {
        AttachMethod::Auto => clsact.or_better(),
        AttachMethod::Tcx => Hook::Tcx,
        AttachMethod::Clsact => clsact,
    }
}

pub(crate) fn xdp_wish(config: &Config) -> Option<XdpWish> {
    let kernel = &config.settings.kernel;
    let wish = XdpWish { mode: kernel.xdp_mode, changes: kernel.xdp_changes };
    (kernel.hook == IngressChoice::Xdp).then_some(wish)
}

pub(crate) fn budget_request(config: &Config) -> Request<'_> {
    let (kernel, outputs) = (&config.settings.kernel, &config.output.outputs);
    Request {
        flow_memory: kernel.flow_memory.map(|size| size.as_u64()),
        max_flows: kernel.max_flows,
        outputs: &outputs.formats,
        cpus: preflight::possible_cpus(),
        files_in_memory: Some(&*outputs.directory)
            .filter(|directory| outputs.has_files() && is_in_memory(directory)),
    }
}

pub(crate) fn programs_level(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug | LogLevel::Trace => diagnostics::DEBUG,
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => 0,
    }
}
