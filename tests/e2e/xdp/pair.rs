//! The observable state and the features of a veth pair.

use std::collections::BTreeMap;

use anyhow::Result;
use observer_tests::veth::{Interface, Task};

/// State of a pair that others can observe: the output of `ip`, `ethtool` and `tc`, except the link
/// state, which the kernel reports late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown(Vec<String>);

impl Shown {
    pub(super) fn of(task: &Task) -> Result<Self> {
        let mut shown = Vec::new();
        for end in task.ends() {
            for (program, args) in [
                ("ip", &["-details", "link", "show", "dev"][..]),
                ("ethtool", &["-k"]),
                ("ethtool", &["-l"]),
                ("tc", &["qdisc", "show", "dev"]),
            ] {
                let args = [args, &[end.name()]].concat();
                let said = match end.namespace().output(program, &args) {
                    // A veth has no channels before Linux 5.13.
                    Err(error) if error.to_string().contains("not supported") => error.to_string(),
                    said => said?,
                };
                shown.extend(said.lines().map(|line| line.replace("state UNKNOWN", "state UP")));
            }
        }
        Ok(Self(shown))
    }
}

/// The features of an interface by their `ethtool` names, with their state.
pub(super) fn features(interface: &Interface) -> Result<BTreeMap<String, bool>> {
    let text = interface.namespace().output("ethtool", &["-k", interface.name()])?;
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    Ok(lines.map(|(name, state)| (name.to_owned(), state.starts_with("on"))).collect())
}

pub(super) fn ethtool(interface: &Interface, flag: &str, words: &[&str]) -> Result<()> {
    interface.namespace().output("ethtool", &[&[flag, interface.name()], words].concat())?;
    Ok(())
}

/// Makes an end send no super-packets, which native XDP at the other end requires.
pub(super) fn segment_before(interface: &Interface) -> Result<()> {
    let segments = |name: &str| {
        name.starts_with("tx-tcp") && name.ends_with("segmentation")
            || ["tx-sctp-segmentation", "tx-udp-segmentation", "tx-gso-list"].contains(&name)
    };
    for (name, on) in features(interface)? {
        if on && segments(&name) {
            ethtool(interface, "-K", &[&name, "off"])?;
        }
    }
    Ok(())
}
