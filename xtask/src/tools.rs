//! The programs that the demo and the tests need, and the packages that contain them.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Result, bail};

use crate::{
    apt, host,
    object::Object,
    paths::{Paths, join, libraries, prepend},
    progress::Step,
    readers,
};

/// A purpose of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Demo,
    Tests,
}

/// A program. It is looked for by name before anything is installed.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    pub(crate) uses: &'static [Use],
    pub(crate) why: &'static str,
    from: From,
}

/// The way to install a missing program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Installed into the system: small, and useful on every Linux host.
    System,
    /// Unpacked below the target directory, with its missing libraries.
    Private,
    /// Unpacked without libraries: the package depends on much that this program does not use.
    PrivateAlone,
}

pub(crate) const TOOLS: [Tool; 13] = [
    Tool {
        program: "ip",
        package: "iproute2",
        uses: &[Use::Demo, Use::Tests],
        why: "makes the network namespaces that stand for tasks",
        from: From::System,
    },
    Tool {
        program: "ping",
        package: "iputils-ping",
        uses: &[Use::Tests],
        why: "sends the ICMP of the tests",
        from: From::System,
    },
    Tool {
        program: "ethtool",
        package: "ethtool",
        uses: &[Use::Tests],
        why: "switches offloads, so that GSO and plain packets are both tested",
        from: From::System,
    },
    Tool {
        program: "iperf3",
        package: "iperf3",
        uses: &[Use::Tests],
        why: "sends the bulk traffic of the tests",
        from: From::Private,
    },
    Tool {
        program: "bpftool",
        package: "bpftool",
        uses: &[Use::Tests],
        why: "shows what is attached from the kernel's side",
        from: From::Private,
    },
    Tool {
        program: "pip3",
        package: "python3-pip",
        uses: &[Use::Tests],
        why: "brings DuckDB, pyarrow and flowlogs-reader, which read the records of the tests, and a stand-in for S3",
        from: From::System,
    },
    // Unpacked, because installing its package asks who may capture packets.
    Tool {
        program: "tshark",
        package: "tshark",
        uses: &[Use::Tests],
        why: "says of packets what the parser must say",
        from: From::Private,
    },
    Tool {
        program: "nft",
        package: "nftables",
        uses: &[Use::Tests],
        why: "drops and rejects packets of the tests",
        from: From::Private,
    },
    // Unpacked, because installing its package starts a service.
    Tool {
        program: "promtool",
        package: "prometheus",
        uses: &[Use::Tests],
        why: "judges the metrics page",
        from: From::PrivateAlone,
    },
    // Unpacked for the same reason. Each test starts it with its own folders and socket.
    Tool {
        program: "dockerd",
        package: "docker.io",
        uses: &[Use::Tests],
        why: "runs the containers of the tests of task discovery",
        from: From::PrivateAlone,
    },
    Tool {
        program: "containerd",
        package: "containerd",
        uses: &[Use::Tests],
        why: "is what dockerd runs containers with",
        from: From::PrivateAlone,
    },
    Tool {
        program: "runc",
        package: "runc",
        uses: &[Use::Tests],
        why: "is what containerd runs containers with",
        from: From::PrivateAlone,
    },
    Tool {
        program: "busybox",
        package: "busybox-static",
        uses: &[Use::Tests],
        why: "is the image of these containers",
        from: From::PrivateAlone,
    },
];

/// Path of a tool; the system's own comes first.
pub(crate) fn find(paths: &Paths, tool: &Tool) -> Option<PathBuf> {
    host::find_program(tool.program).or_else(|| host::find_program_in(&paths.tools(), tool.program))
}

/// Installs missing tools into the system.
pub(crate) fn install_system(uses: &[Use]) -> Result<()> {
    let missing: Vec<&Tool> = wanted(uses)
        .filter(|tool| tool.from == From::System && host::find_program(tool.program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !apt::is_here() {
        bail!("install {} with this system's package manager", packages.join(", "));
    }
    let step = Step::begin(&format!("installing {}", packages.join(", ")));
    apt::install(&step, &packages)?;
    step.end();
    Ok(())
}

/// True if a tool of the system is missing.
pub(crate) fn lacks_system(uses: &[Use]) -> bool {
    wanted(uses).any(|tool| tool.from == From::System && host::find_program(tool.program).is_none())
}

/// True if a private tool is missing.
pub(crate) fn lacks_private(paths: &Paths, uses: &[Use]) -> bool {
    wanted(uses).any(|tool| tool.from != From::System && find(paths, tool).is_none())
}

/// Unpacks the tools that the system lacks, all into one new tree.
pub(crate) fn install_private(paths: &Paths, uses: &[Use]) -> Result<()> {
    let missing: Vec<&Tool> = wanted(uses)
        .filter(|tool| tool.from != From::System && host::find_program(tool.program).is_none())
        .collect();
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !apt::is_here() {
        bail!("install {} with this system's package manager", packages.join(", "));
    }
    let step = Step::begin(&format!("fetching {} tools of the tests", missing.len()));
    if !apt::learn(&step, &packages)? {
        bail!("apt does not know all of {}: look at its sources", packages.join(", "));
    }
    let with_libraries: Vec<&str> =
        missing.iter().filter(|tool| tool.from == From::Private).map(|tool| tool.package).collect();
    let libraries = apt::missing_libraries(&with_libraries)?;
    packages.extend(libraries.iter().map(String::as_str));
    let packages: Vec<String> = packages.into_iter().map(str::to_owned).collect();
    apt::unpack(&step, &packages, &paths.tools())?;
    step.end();
    Ok(())
}

/// Variables by which tests and benchmarks find the daemon, the object and the tools.
pub(crate) fn environment(paths: &Paths) -> Result<Vec<(&'static str, OsString)>> {
    let tools = paths.tools();
    let mut variables = vec![
        ("OBSERVER_BIN", paths.daemon().into()),
        ("OBSERVER_OBJECT", Object::Product.path(paths).into()),
        ("PATH", join(host::program_folders(&tools).into_iter().chain(host::search_path()))?),
    ];
    variables
        .extend(readers::found(paths).map(|folder| ("OBSERVER_READERS", folder.into_os_string())));
    let libraries: Vec<PathBuf> =
        libraries(&tools).into_iter().filter(|folder| folder.exists()).collect();
    if !libraries.is_empty() {
        variables.push(("LD_LIBRARY_PATH", prepend(&libraries, "LD_LIBRARY_PATH")?));
    }
    Ok(variables)
}

fn wanted(uses: &[Use]) -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(|tool| tool.uses.iter().any(|it| uses.contains(it)))
}
