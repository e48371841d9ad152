//! Options of the rooms, from the configuration.

use std::time::Duration;

use crate::{
    cli::{AttachName, HookName, LogLevel, XdpChanges, XdpModeName},
    config::Config,
    failure::Failure,
    kernel::{Hook, XdpMode, XdpWish, diagnostics, preflight},
    limits::{Wanted, is_in_memory},
    outputs::short_hash,
    tasks::{ApiOptions, SourceOptions, TasksFile, WatchOptions},
};

pub(crate) fn watch_options(config: &Config) -> Result<WatchOptions, Failure> {
    Ok(WatchOptions {
        host: config.host,
        netns_dirs: if config.netns { config.netns_dirs.clone() } else { Vec::new() },
        sources: SourceOptions {
            docker: config.docker_socket.clone(),
            agent: config.agent_data.clone(),
            introspection: config.introspection_url.clone(),
            tmds: config.tmds_url.clone(),
            imds: config.imds_url.clone(),
            api: config.api.clone().map(|endpoint| ApiOptions { endpoint, trust: config.trust.clone() }),
            file: config.tasks_file.as_deref().map(TasksFile::open).transpose()?,
        },
        // A record waits for one window, and the window that it is of may just have begun.
        linger: Duration::from_secs(2 * u64::from(config.window)),
    })
}

pub(crate) fn hook(config: &Config) -> Hook {
    // Two daemons on one host must not take each other's filters for their own.
    let handle = short_hash(&config.state_dir.to_string_lossy()) as u16 | 1;
    match config.attach {
        AttachName::Auto => Hook::best(handle),
        AttachName::Tcx => Hook::Tcx,
        AttachName::Clsact => Hook::Clsact { handle },
    }
}

pub(crate) fn xdp_wish(config: &Config) -> Option<XdpWish> {
    let mode = match config.xdp_mode {
        XdpModeName::Auto => None,
        XdpModeName::Native => Some(XdpMode::Native),
        XdpModeName::Generic => Some(XdpMode::Generic),
    };
    let wish = XdpWish { mode, accept_changes: config.xdp_changes == XdpChanges::Accept };
    (config.hook == HookName::Xdp).then_some(wish)
}

pub(crate) fn wanted(config: &Config) -> Wanted<'_> {
    Wanted {
        flow_memory: config.flow_memory.map(|size| size.as_u64()),
        max_flows: config.max_flows,
        outputs: &config.output.outputs,
        cpus: preflight::possible_cpus(),
        files_in_memory: Some(&*config.output.directory)
            .filter(|directory| config.output.has_files() && is_in_memory(directory)),
    }
}

pub(crate) fn programs_level(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug | LogLevel::Trace => diagnostics::DEBUG,
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => 0,
    }
}
