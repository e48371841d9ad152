//! Counters of the kernel, independent of the daemon.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};

use crate::{
    netns::Namespace,
    tally::{Crossed, Tally},
};

/// The counters of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames and bytes per direction: a super-packet counts once, link headers are included.
    pub frames: Crossed,
    /// Number of frames that the interface dropped on sending.
    pub dropped: u64,
}

impl Counters {
    /// Reads the counters of an interface.
    pub fn read(namespace: &Namespace, name: &str) -> Result<Self> {
        // `/proc/net` would be the namespace of the process instead of this thread's.
        let table = namespace.run(|| Ok(fs::read("/proc/thread-self/net/dev")?))?;
        // Names of other interfaces may be any bytes.
        let table = String::from_utf8_lossy(&table);
        Self::in_table(&table, name).with_context(|| format!("no counters of {name} in:\n{table}"))
    }

    /// The difference from `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { frames: self.frames - earlier.frames, dropped: self.dropped - earlier.dropped }
    }

    fn in_table(table: &str, name: &str) -> Option<Self> {
        let line = table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
        let numbers: Vec<u64> =
            line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let number = |at: usize| numbers.get(at).copied();
        Some(Self {
            frames: Crossed {
                ingress: Tally::new(number(1)?, number(0)?),
                egress: Tally::new(number(9)?, number(8)?),
            },
            dropped: number(11)?,
        })
    }
}

/// The TCP counters of a namespace, over IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpCounters {
    /// Number of first transmissions.
    pub sent: u64,
    /// Number of received segments.
    pub received: u64,
    /// Number of retransmissions.
    pub retransmitted: u64,
}

impl TcpCounters {
    /// Reads the counters.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let table = namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) =
            (lines.next().context("no Tcp names")?, lines.next().context("no Tcp values")?);
        let values: BTreeMap<&str, &str> = names.split(' ').zip(values.split(' ')).collect();
        let value = |name| -> Result<u64> {
            let text = values.get(name).with_context(|| format!("no Tcp counter {name}"))?;
            Ok(text.parse()?)
        };
        Ok(Self {
            sent: value("OutSegs")?,
            received: value("InSegs")?,
            retransmitted: value("RetransSegs")?,
        })
    }

    /// Number of transmitted segments, retransmissions included.
    pub fn total(&self) -> u64 {
        self.sent + self.retransmitted
    }

    /// The difference from `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            received: self.received - earlier.received,
            retransmitted: self.retransmitted - earlier.retransmitted,
        }
    }
}

/// True if every TCP connection of a namespace is finished: only listeners and `TIME_WAIT` are
/// left.
pub fn tcp_is_silent(namespace: &Namespace) -> Result<bool> {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let tables = namespace.run(|| {
        let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        // A kernel without IPv6 has one table.
        Ok([read("tcp")?, read("tcp6").unwrap_or_default()])
    })?;
    let mut states = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(|line| line.split_ascii_whitespace().nth(3));
    Ok(states.all(|state| state == TIME_WAIT || state == LISTEN))
}

/// Number of frames in the CPUs' receive queues, host-wide. A veth drops frames if they overflow.
pub fn backlog() -> Result<u64> {
    const BACKLOG: usize = 11;
    let table = fs::read_to_string("/proc/net/softnet_stat")?;
    let mut most = 0;
    for line in table.lines() {
        // Older kernels do not report the length; it counts as 0.
        let length = line.split_ascii_whitespace().nth(BACKLOG).unwrap_or("0");
        most = most.max(u64::from_str_radix(length, 16)?);
    }
    ensure!(!table.is_empty(), "/proc/net/softnet_stat is empty");
    Ok(most)
}

/// Number of frames that each CPU has received, host-wide. Wraps around.
pub fn frames_by_cpu() -> Result<Vec<u32>> {
    let table = fs::read_to_string("/proc/net/softnet_stat")?;
    let first = table.lines().map(|line| line.split_ascii_whitespace().next().unwrap_or(""));
    Ok(first.map(|number| u32::from_str_radix(number, 16)).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0:1234567      89    0    1    0     0          0         0    76543      21    0    3    0     0       0          0
";

    #[test]
    fn counters_are_found_by_the_whole_name() {
        let counters = Counters::in_table(TABLE, "eth0").unwrap();
        assert_eq!(counters.frames.ingress, Tally::new(89, 1_234_567));
        assert_eq!(counters.frames.egress, Tally::new(21, 76_543));
        assert_eq!(counters.dropped, 3);
        assert_eq!(Counters::in_table(TABLE, "eth"), None);
        assert_eq!(Counters::in_table(TABLE, "eth00"), None);
    }
}
