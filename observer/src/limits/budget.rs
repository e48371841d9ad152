//! Division of the limits among the parts of the daemon. Pure.

use std::{fmt, path::Path};

use serde::Serialize;

use super::{
    Limit, Limits, SetBy, bytes,
    tight::{BudgetError, Tight},
};
use crate::{flow::Table, kernel::Sizes, sink::Output};

/// Sizes that the user gives, and the settings that affect memory.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Kernel memory for flows in bytes; `None` for the default.
    pub flow_memory: Option<u64>,
    /// Largest number of flows in one window; `None` for the default.
    pub max_flows: Option<u32>,
    /// Outputs.
    pub outputs: &'a [Output],
    /// Number of possible CPUs of the host. Each has its share of the kernel memory.
    pub cpus: u32,
    /// Folder of the output files, if it is in memory.
    pub files_in_memory: Option<&'a Path>,
}

/// Sizes of the daemon's parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Kernel memory for flows in bytes.
    pub flow_memory: u64,
    /// Largest number of flows in one window.
    pub max_flows: usize,
    /// Largest number of flows in memory, in the open window and in closed ones that are not
    /// written yet.
    pub flows_in_memory: usize,
    /// Largest number of connections of HTTP clients.
    pub connections: usize,
    /// Number of interfaces that programs are attached to at the same time, and for which they are
    /// loaded in advance.
    pub attach_at_once: usize,
    /// Settings and needs that exceed a limit.
    pub tight: Vec<Tight>,
}

const MIB: u64 = 1 << 20;

/// Kernel memory for flows without a limit, in bytes.
const FLOW_MEMORY: u64 = 64 * MIB;
/// Divisor: with a limit, this part of the memory is for flows in the kernel.
const FLOW_MEMORY_PART: u64 = 8;
/// Largest number of flows in a window without a limit.
const MAX_FLOWS: usize = 2_000_000;
/// Smallest useful number of flows in memory.
const LEAST_FLOWS: u64 = 10_000;
/// Divisor: flows may take this part of the host's memory; the rest is for the tasks.
const HOST_PART: u64 = 4;
/// Divisor: the allocator leaves this part of the memory for flows unused.
const ALLOCATOR_PART: u64 = 8;

/// Memory of the daemon without flows and outputs, in bytes: heap, stacks, programs, sockets,
/// answers of sources and scrapes.
const BASE: u64 = 32 * MIB;

/// Memory of an output's buffers, in bytes.
const fn of_output(output: Output) -> u64 {
    MIB * match output {
        Output::Jsonl => 12,
        Output::Text => 8,
        Output::Parquet => 32,
        Output::Stdout => 1,
    }
}

/// Number of descriptors without interfaces and clients: maps, sockets, files.
const DESCRIPTORS: u64 = 64;
/// Descriptors of an interface: two programs and two links.
const DESCRIPTORS_PER_INTERFACE: u64 = 4;
/// A limit that allows fewer interfaces is reported.
const FEW_INTERFACES: u64 = 32;
/// Divisor: this part of the descriptors may be connections of clients.
const CONNECTION_PART: u64 = 16;

/// Number of threads with all outputs, without those that attach programs.
const THREADS: u64 = 24;
/// Number of interfaces that can appear at once and be observed without delay. Each needs the
/// descriptors of an interface in advance.
const ATTACH_AT_ONCE: u64 = 8;

impl Budget {
    /// Divides the limits.
    ///
    /// # Errors
    ///
    /// If memory or locked memory is too low, or the given kernel memory does not fit.
    pub fn of(limits: &Limits, request: Request<'_>) -> Result<Self, BudgetError> {
        let memory = &limits.memory;
        let fixed = BASE + request.outputs.iter().copied().map(of_output).sum::<u64>();
        let flow_memory = flow_memory(memory, fixed, request)?;
        if let Some(limit) = limits.locked_memory.filter(|limit| *limit < flow_memory) {
            return Err(BudgetError::LockedMemory { limit, needed: flow_memory });
        }
        let room = match memory.set_by {
            SetBy::Host => memory.value / HOST_PART,
            SetBy::Group(_) => memory.value.saturating_sub(fixed + flow_memory),
        };
        let flows_in_memory = (room - room / ALLOCATOR_PART) / Table::BYTES_PER_FLOW;
        let flows_in_memory = usize::try_from(flows_in_memory).unwrap_or(usize::MAX);
        let connections = (limits.descriptors / CONNECTION_PART).clamp(4, 64);
        let mut tight = Vec::new();
        if let Some(given) = request.max_flows.filter(|given| *given as usize > flows_in_memory) {
            tight.push(Tight::MaxFlows { given, memory: memory.clone(), fit: flows_in_memory });
        }
        if let (Some(directory), SetBy::Group(_)) = (request.files_in_memory, &memory.set_by) {
            tight
                .push(Tight::FilesInMemory { directory: directory.into(), memory: memory.clone() });
        }
        let mut attach_at_once = ATTACH_AT_ONCE.min(limits.descriptors / 32).max(1);
        let spare = connections + attach_at_once * DESCRIPTORS_PER_INTERFACE;
        let interfaces =
            limits.descriptors.saturating_sub(DESCRIPTORS + spare) / DESCRIPTORS_PER_INTERFACE;
        if interfaces < FEW_INTERFACES {
            tight.push(Tight::Descriptors { limit: limits.descriptors, interfaces });
        }
        if let Some(limit) =
            limits.threads.as_ref().filter(|limit| limit.value < THREADS + attach_at_once)
        {
            tight.push(Tight::Threads { limit: limit.clone(), needed: THREADS + attach_at_once });
            attach_at_once = attach_at_once.min(limit.value.saturating_sub(THREADS)).max(1);
        }
        Ok(Self {
            flow_memory,
            max_flows: request
                .max_flows
                .map_or(MAX_FLOWS, |given| given as usize)
                .min(flows_in_memory),
            flows_in_memory,
            connections: connections as usize,
            attach_at_once: attach_at_once as usize,
            tight,
        })
    }
}

/// The given kernel memory if it fits, or the default.
fn flow_memory(memory: &Limit, fixed: u64, request: Request<'_>) -> Result<u64, BudgetError> {
    let least = Sizes::least(request.cpus);
    let least_flows = LEAST_FLOWS * Table::BYTES_PER_FLOW;
    let most = match memory.set_by {
        SetBy::Host => memory.value,
        SetBy::Group(_) => memory.value.saturating_sub(fixed + least_flows),
    };
    if most < least {
        return Err(BudgetError::Memory {
            limit: memory.clone(),
            least: fixed + least_flows + least,
        });
    }
    match request.flow_memory {
        Some(given) if given > most => {
            Err(BudgetError::FlowMemory { given, limit: memory.clone(), most })
        }
        Some(given) => Ok(given),
        None => Ok((memory.value / FLOW_MEMORY_PART).min(FLOW_MEMORY).max(least).min(most)),
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow_memory, max_flows, flows_in_memory, connections, .. } = self;
        write!(
            f,
            "flow memory {}, flows in a window {max_flows}, flows in memory {flows_in_memory}, HTTP connections {connections}",
            bytes(*flow_memory)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[Output] = &[Output::Jsonl];

    fn request(outputs: &[Output]) -> Request<'_> {
        Request { flow_memory: None, max_flows: None, outputs, cpus: 2, files_in_memory: None }
    }

    fn host(memory: u64) -> Limits {
        let limit = |value| Limit { value, set_by: SetBy::Host };
        Limits {
            memory: limit(memory),
            cpu: limit(2000),
            threads: None,
            descriptors: 524_288,
            locked_memory: None,
        }
    }

    fn group(memory: u64) -> Limits {
        Limits {
            memory: Limit { value: memory, set_by: SetBy::Group("/g/memory.max".into()) },
            ..host(0)
        }
    }

    #[test]
    fn a_large_host_gives_the_documented_defaults() {
        let budget = Budget::of(&host(16 << 30), request(JSON)).unwrap();
        assert_eq!((budget.flow_memory, budget.max_flows), (64 * MIB, 2_000_000));
        assert!(budget.flows_in_memory > 6 * 2 * budget.max_flows, "{budget}");
        assert_eq!((budget.connections, budget.attach_at_once), (64, 8));
        assert_eq!(budget.tight, []);
    }

    #[test]
    fn everything_fits_into_the_limit_of_a_group_of_any_size() {
        for mebibytes in 1..=2048 {
            for outputs in [JSON, &Output::ALL, &[Output::Stdout]] {
                let limits = group(mebibytes * MIB);
                let used = |budget: &Budget| {
                    let outputs: u64 = outputs.iter().copied().map(of_output).sum();
                    BASE + outputs
                        + budget.flow_memory
                        + budget.flows_in_memory as u64 * Table::BYTES_PER_FLOW
                };
                match Budget::of(&limits, request(outputs)) {
                    Ok(budget) => {
                        assert!(used(&budget) <= limits.memory.value, "{mebibytes} MiB: {budget}");
                        assert!(budget.max_flows <= budget.flows_in_memory);
                        assert!(budget.flow_memory >= Sizes::least(2));
                    }
                    Err(BudgetError::Memory { least, .. }) => {
                        assert!(least > limits.memory.value);
                        Budget::of(&group(least), request(outputs)).unwrap();
                    }
                    Err(error) => panic!("{mebibytes} MiB: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_setting_that_does_not_fit_is_refused_or_reported() {
        let limits = group(128 * MIB);
        let ask = |flow_memory, max_flows| {
            Budget::of(&limits, Request { flow_memory, max_flows, ..request(JSON) })
        };
        let error = ask(Some(128 * MIB), None).unwrap_err();
        let BudgetError::FlowMemory { most, .. } = error else { panic!("{error}") };
        assert!(ask(Some(most), None).is_ok());
        let text = error.to_string();
        assert!(
            text.contains("--flow-memory 128.0 MiB") && text.contains("/g/memory.max"),
            "{text}"
        );

        let budget = ask(None, Some(2_000_000)).unwrap();
        let [Tight::MaxFlows { given: 2_000_000, fit, .. }] = budget.tight[..] else {
            panic!("{budget:?}")
        };
        assert_eq!((budget.max_flows, budget.flows_in_memory), (fit, fit));
        assert_eq!(ask(None, Some(1000)).unwrap().max_flows, 1000);

        let text =
            Budget::of(&host(1 << 30), Request { flow_memory: Some(1 << 40), ..request(JSON) });
        assert!(text.unwrap_err().to_string().contains("more than this host has"));

        let in_memory = Request { files_in_memory: Some(Path::new("/run/out")), ..request(JSON) };
        let [tight] = &Budget::of(&limits, in_memory).unwrap().tight[..] else { panic!() };
        assert!(tight.to_string().starts_with("/run/out is in memory"), "{tight}");
        assert_eq!(Budget::of(&host(1 << 30), in_memory).unwrap().tight, []);
    }

    #[test]
    fn few_descriptors_and_threads_are_divided_and_reported() {
        let threads = Some(Limit { value: 28, set_by: SetBy::Group("/g/pids.max".into()) });
        let limits = Limits { descriptors: 128, threads, ..host(1 << 30) };
        let budget = Budget::of(&limits, request(JSON)).unwrap();
        assert_eq!((budget.connections, budget.attach_at_once), (8, 4));
        let text = budget.tight.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains("128 descriptors are enough for 10 interfaces"), "{text}");
    }

    #[test]
    fn locked_memory_is_checked_where_the_kernel_charges_maps_to_it() {
        let limits = Limits { locked_memory: Some(64 << 10), ..host(1 << 30) };
        let error = Budget::of(&limits, request(JSON)).unwrap_err().to_string();
        assert!(error.contains("LimitMEMLOCK"), "{error}");
    }
}
