//! nftables rules in a namespace.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::netns::Namespace;

/// Adds rules in the syntax of `nft`. They are removed with the namespace.
pub fn set_rules(namespace: &Namespace, rules: &str) -> Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    namespace.place(&mut command)?;
    let mut child = command.spawn().context("starting nft")?;
    drop(command);
    child.stdin.take().context("stdin")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {}, in the rules:\n{rules}", said.trim());
    Ok(())
}

/// Adds a rule to a hook of both IPv4 and IPv6: `prerouting`, `input`, `output`, `postrouting`.
pub fn add_rule(namespace: &Namespace, hook: &str, rule: &str) -> Result<()> {
    let chain = format!("type filter hook {hook} priority filter; policy accept; {rule}");
    set_rules(namespace, &format!("table inet test {{ chain {hook} {{ {chain}; }}\n}}\n"))
}

/// Adds a rule to a device hook: `ingress`, or `egress` (Linux 5.16).
pub fn add_device_rule(namespace: &Namespace, hook: &str, device: &str, rule: &str) -> Result<()> {
    let chain =
        format!("type filter hook {hook} device {device} priority filter; policy accept; {rule}");
    set_rules(namespace, &format!("table netdev test {{ chain {hook} {{ {chain}; }}\n}}\n"))
}
