//! Numbers and names of the running kernel's drop reasons.

use std::{collections::BTreeMap, sync::Arc};

use observer_ebpf::abi::{DROP_VERDICTS, DropReasons, UNKNOWN_REASON};

use super::verdicts::verdicts;
use crate::{flow::DropReason, kernel::btf::Btf};

const PREFIX: &str = "SKB_DROP_REASON_";
/// Position of the subsystem in a reason's number. The lower bits are the subsystem's own reason.
const SUBSYSTEM_SHIFT: u32 = 16;

/// Drop reasons of the running kernel.
#[derive(Debug)]
pub(in crate::kernel) struct ReasonTable {
    /// Numbers of the reasons that the program treats specially; [`UNKNOWN_REASON`] for those that
    /// this kernel lacks.
    pub(in crate::kernel) numbers: DropReasons,
    /// Verdict on each reason, by its number.
    pub(in crate::kernel) verdicts: [u8; DROP_VERDICTS],
    /// Names without prefix, by number.
    names: BTreeMap<u32, Arc<str>>,
    /// Reasons that mean a drop by policy.
    policies: Vec<(u32, DropReason)>,
}

impl ReasonTable {
    /// Reads the reasons from the kernel's BTF. Before Linux 5.17 there are none.
    pub(super) fn read(btf: &Btf) -> Self {
        let reasons = enumerators(btf, "skb_drop_reason");
        let number = |wanted: &str| {
            let found = reasons.iter().find(|(name, _)| *name == wanted);
            found.map_or(UNKNOWN_REASON, |(_, number)| *number)
        };
        let of = |reason: DropReason| number(reason.as_str());
        let numbers = DropReasons {
            netfilter: of(DropReason::Netfilter),
            tc_ingress: of(DropReason::TcIngress),
            tc_egress: of(DropReason::TcEgress),
            xdp: of(DropReason::Xdp),
            cgroup_egress: of(DropReason::CgroupEgress),
            socket_filter: of(DropReason::SocketFilter),
            cpu_backlog: number("CPU_BACKLOG"),
        };
        let policies = DropReason::ALL.map(|reason| (of(reason), reason));
        let mut names = BTreeMap::from([(UNKNOWN_REASON, Arc::from("unknown"))]);
        names.extend(reasons.iter().map(|(name, number)| (*number, Arc::from(*name))));
        let subsystems = enumerators(btf, "skb_drop_reason_subsys").into_iter();
        names.extend(subsystems.filter_map(|(name, number)| {
            // Subsystem 0 is the kernel's core, whose reasons have names of their own.
            let number = number.checked_shl(SUBSYSTEM_SHIFT).filter(|number| *number != 0)?;
            Some((number, Arc::from(name)))
        }));
        Self {
            numbers,
            verdicts: verdicts(reasons.into_iter()),
            names,
            policies: policies
                .into_iter()
                .filter(|(number, _)| *number != UNKNOWN_REASON)
                .collect(),
        }
    }

    /// Returns whether the kernel gives a reason for drops by netfilter.
    pub(super) const fn has_netfilter(&self) -> bool {
        self.numbers.netfilter != UNKNOWN_REASON
    }

    /// Policy that a reason stands for; `None` if the reason is not a policy.
    pub(super) fn policy(&self, number: u32) -> Option<DropReason> {
        self.policies.iter().find(|(known, _)| *known == number).map(|(_, reason)| *reason)
    }

    /// Name of a reason; its number in hexadecimal if it has none.
    pub(super) fn name(&self, number: u32) -> Arc<str> {
        let unnamed = || Arc::from(format!("{number:#x}"));
        self.names.get(&number).cloned().unwrap_or_else(unnamed)
    }
}

/// Names without prefix, and values, of an enumeration.
fn enumerators<'a>(btf: &'a Btf, enumeration: &str) -> Vec<(&'a str, u32)> {
    let all = btf.enumerators(enumeration).into_iter();
    all.filter_map(|(name, number)| Some((name.strip_prefix(PREFIX)?, number))).collect()
}
