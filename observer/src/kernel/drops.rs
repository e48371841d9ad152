//! What the kernel drops of observed interfaces, and why: one program for the whole host, on `skb:kfree_skb`.
//!
//! Owns: what must be known of a kernel for that, the program, and its maps. In: which interfaces are watched. Out: a
//! [`Delta`](crate::flow::Delta) for each flow that the host's policy dropped, how many packets of others nobody took, and
//! counts of all drops by reason.
//!
//! A host where it cannot be had is observed without it.

use std::{
    collections::BTreeMap,
    fmt,
    mem::{self, offset_of},
    os::fd::AsFd,
    sync::Arc,
};

use aya::{
    Btf as AyaBtf, Ebpf, VerifierLogLevel,
    maps::{Map, MapData},
    programs::{BtfTracePoint, ProgramError, ProgramFd},
};
use observer_ebpf::abi::{
    DROP_VERDICTS, Direction, DropCount, DropCountKey, DropKey, DropReasons, DropSlot, DropState, FlowSlot,
    KernelLayout, UNKNOWN_REASON, WatchKey, names,
};

use super::{
    KernelError, Loader,
    btf::{Btf, BtfError},
    drop_reasons::verdicts,
    mapping::Mapping,
    object::{drops_object_apart, map_fd},
    syscall::{After, Elements, delete, misses, update},
    ticks::Ticks,
};
use crate::flow::{Action, Delta, DropReason, FlowKey, InterfaceNumber};

const TRACEPOINT: &str = "kfree_skb";
const PREFIX: &str = "SKB_DROP_REASON_";
/// The upper half of a reason names the subsystem whose own reason the lower half is.
const SUBSYSTEM_SHIFT: u32 = 16;

/// Why drops cannot be seen here.
#[derive(Debug, thiserror::Error)]
pub enum DropsError {
    /// The kernel does not say where things are.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The same, as far as loading is concerned.
    #[error("reading the kernel's types: {0}")]
    Types(#[from] aya::BtfError),
    /// The program does not load, or cannot be put on the tracepoint.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// How much of drops this host shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// How many, and why: what policy drops becomes `REJECT`.
    Reasons,
    /// How many (before Linux 5.18, which brought the reason of netfilter).
    Counts,
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reasons => "drops are seen with their reasons",
            Self::Counts => {
                "drops are counted, and none becomes REJECT: this kernel does not say why it drops (Linux 5.18 does)"
            }
        })
    }
}

/// What must be known of a kernel to see what it drops.
#[derive(Debug)]
pub(super) struct Terrain {
    pub(super) layout: KernelLayout,
    pub(super) reasons: DropReasons,
    /// By the kernel's numbers of all reasons.
    pub(super) verdicts: [u8; DROP_VERDICTS],
    /// Arguments of the tracepoint.
    pub(super) arguments: u32,
    /// Names of reasons by their numbers.
    names: BTreeMap<u32, Arc<str>>,
    policies: Vec<(u32, DropReason)>,
}

impl Terrain {
    fn of_this_kernel() -> Result<Self, BtfError> {
        Self::new(&Btf::of_this_kernel()?)
    }

    fn new(btf: &Btf) -> Result<Self, BtfError> {
        let missing = |what: &str| BtfError::Missing(what.into());
        let arguments = btf.tracepoint(TRACEPOINT)?;
        let skb = arguments.first().and_then(|buffer| btf.target(*buffer));
        let skb = skb.ok_or_else(|| missing("buffer in the tracepoint kfree_skb"))?;
        let behind = |of, path: &str| {
            let member = btf.member(of, path)?;
            let target = btf.target(member.of).ok_or_else(|| missing(path))?;
            Ok::<_, BtfError>((member.offset, target))
        };
        let (skb_dev, device) = behind(skb, "dev")?;
        let (skb_sk, socket) = behind(skb, "sk")?;
        let (dev_net, net) = behind(device, "nd_net.net")?;
        let shared = btf.structure("skb_shared_info")?;
        let route = btf.structure("dst_entry")?;
        let at = |of, path: &str| btf.member(of, path).map(|member| member.offset);
        let cb = at(skb, "cb")?;
        let layout = KernelLayout {
            skb_dev,
            skb_sk,
            skb_iif: at(skb, "skb_iif")?,
            skb_dst: at(skb, "_skb_refdst")?,
            skb_len: at(skb, "len")?,
            skb_data_len: at(skb, "data_len")?,
            skb_head: at(skb, "head")?,
            skb_data: at(skb, "data")?,
            skb_end: at(skb, "end")?,
            skb_network_header: at(skb, "network_header")?,
            skb_protocol: at(skb, "protocol")?,
            skb_fragment: cb + at(btf.structure("inet_skb_parm")?, "frag_max_size")?,
            // There is none where the kernel has no IPv6, or has it as a module.
            skb_fragment6: btf
                .structure("inet6_skb_parm")
                .and_then(|parm| at(parm, "frag_max_size"))
                .map_or(cb, |offset| cb + offset),
            shared_gso_size: at(shared, "gso_size")?,
            shared_gso_segs: at(shared, "gso_segs")?,
            dev_ifindex: at(device, "ifindex")?,
            dev_mtu: at(device, "mtu")?,
            dev_net,
            net_inum: at(net, "ns.inum")?,
            dst_dev: at(route, "dev")?,
            sock_net: at(socket, "__sk_common.skc_net.net")?,
            sock_family: at(socket, "__sk_common.skc_family")?,
            sock_filter: at(socket, "sk_filter")?,
        };

        let known = btf.enumerators("skb_drop_reason");
        let number = |name: &str| {
            let found = known.iter().find(|(known, _)| known.strip_prefix(PREFIX) == Some(name));
            found.map_or(UNKNOWN_REASON, |(_, number)| *number)
        };
        let of = |reason: DropReason| number(reason.as_str());
        let reasons = DropReasons {
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
        names.extend(
            known.iter().filter_map(|(name, number)| Some((*number, Arc::from(name.strip_prefix(PREFIX)?)))),
        );
        names.extend(btf.enumerators("skb_drop_reason_subsys").into_iter().filter_map(|(name, number)| {
            // 0 is the kernel's core, whose reasons have names of their own.
            let number = number.checked_shl(SUBSYSTEM_SHIFT).filter(|number| *number != 0)?;
            Some((number, Arc::from(name.strip_prefix(PREFIX)?)))
        }));
        let verdicts =
            verdicts(known.iter().filter_map(|(name, number)| Some((name.strip_prefix(PREFIX)?, *number))));
        Ok(Self {
            layout,
            reasons,
            verdicts,
            arguments: arguments.len() as u32,
            names,
            policies: policies.into_iter().filter(|(number, _)| *number != UNKNOWN_REASON).collect(),
        })
    }

    fn sight(&self) -> Sight {
        let tells = self.arguments >= 3 && self.reasons.netfilter != UNKNOWN_REASON;
        if tells { Sight::Reasons } else { Sight::Counts }
    }

    /// The one reason that a number stands for; `None` for what is no policy.
    fn policy(&self, number: u32) -> Option<DropReason> {
        self.policies.iter().find(|(known, _)| *known == number).map(|(_, reason)| *reason)
    }
}

/// Finds out what this host shows, by doing it for a moment.
pub fn probe() -> Result<Sight, DropsError> {
    let terrain = Terrain::of_this_kernel()?;
    attach(|log| drops_object_apart(&terrain, log))?;
    Ok(terrain.sight())
}

/// Loads the program of an object and puts it on the tracepoint, which it leaves with the object.
fn attach(
    mut make: impl FnMut(VerifierLogLevel) -> Result<Ebpf, KernelError>,
) -> Result<(Ebpf, ProgramFd), DropsError> {
    let types = AyaBtf::from_sys_fs()?;
    let mut object = make(VerifierLogLevel::DISABLE)?;
    match attach_program(&mut object, &types) {
        Ok(program) => Ok((object, program)),
        // Once more, for what the verifier has to say.
        Err(KernelError::Program { .. }) => {
            let mut object = make(VerifierLogLevel::DEBUG)?;
            let program = attach_program(&mut object, &types)?;
            Ok((object, program))
        }
        Err(error) => Err(error.into()),
    }
}

fn attach_program(object: &mut Ebpf, types: &AyaBtf) -> Result<ProgramFd, KernelError> {
    const NAME: &str = names::OBSERVE_DROP;
    let program: &mut BtfTracePoint = match object.program_mut(NAME).map(TryInto::try_into) {
        Some(Ok(program)) => program,
        _ => return Err(KernelError::Missing { kind: "program", name: NAME }),
    };
    let refused = |action| move |source| KernelError::Program { action, program: NAME, source };
    program.load(TRACEPOINT, types).map_err(|source| match source {
        ProgramError::LoadError { verifier_log, .. } if !verifier_log.to_string().is_empty() => {
            KernelError::verifier(NAME, &verifier_log.to_string())
        }
        source => refused("loading")(source),
    })?;
    program.attach().map_err(refused("attaching"))?;
    let fd = program.fd().map_err(refused("holding"))?;
    fd.try_clone().map_err(|error| KernelError::call("holding the drops program", error))
}

/// Puts the program on the tracepoint. It sees nothing before the first interface is watched.
pub fn watch(loader: &mut Loader) -> Result<(Drops, Watchlist), DropsError> {
    let terrain = Terrain::of_this_kernel()?;
    let (mut object, program) = attach(|log| loader.drops_object(&terrain, log))?;
    let mut take = |name: &'static str| match object.take_map(name) {
        Some(Map::Array(data) | Map::HashMap(data)) => Ok(data),
        _ => Err(KernelError::Missing { kind: "map", name }),
    };
    let state = take(names::DROP_STATE)?;
    let watchlist = Watchlist { map: take(names::WATCHED)?, namespaces: BTreeMap::new() };
    let drops = Drops {
        halves: [take(names::DROPS[0])?, take(names::DROPS[1])?],
        undelivered_halves: [take(names::UNDELIVERED[0])?, take(names::UNDELIVERED[1])?],
        undelivered: Vec::new(),
        count_map: take(names::DROP_COUNTS)?,
        state: Mapping::new(map_fd(&state), size_of::<DropState>() / size_of::<u64>(), names::DROP_STATE)?,
        program,
        terrain,
        flows: Elements::new(),
        elements: Elements::new(),
        counts: BTreeMap::new(),
        _object: object,
    };
    Ok((drops, watchlist))
}

/// The interfaces whose drops are counted.
///
/// An interface is on the list while the hooks are on it: a drop of a packet that no hook has counted would be taken
/// out of another one's flow.
#[derive(Debug)]
pub struct Watchlist {
    map: MapData,
    /// By namespace, the index and number of each.
    namespaces: BTreeMap<u32, BTreeMap<u32, u16>>,
}

impl Watchlist {
    /// Begins to watch the interface with this index in this namespace.
    pub fn add(&mut self, netns: u64, ifindex: u32, number: InterfaceNumber) -> Result<(), KernelError> {
        let netns = netns as u32;
        self.namespaces.entry(netns).or_default().insert(ifindex, number.get());
        update(map_fd(&self.map), &WatchKey { netns, ifindex }, &u32::from(number.get()))?;
        self.set_namespace(netns)
    }

    /// Ends it.
    pub fn remove(&mut self, netns: u64, ifindex: u32) -> Result<(), KernelError> {
        let netns = netns as u32;
        if let Some(interfaces) = self.namespaces.get_mut(&netns) {
            interfaces.remove(&ifindex);
        }
        delete(map_fd(&self.map), &WatchKey { netns, ifindex })?;
        self.set_namespace(netns)
    }

    /// What was to leave a namespace and had no route yet would have left by its only interface.
    fn set_namespace(&mut self, netns: u32) -> Result<(), KernelError> {
        let key = WatchKey { netns, ifindex: 0 };
        let numbers: Vec<u16> =
            self.namespaces.get(&netns).into_iter().flatten().map(|(_, it)| *it).collect();
        match numbers[..] {
            [] => {
                self.namespaces.remove(&netns);
                delete(map_fd(&self.map), &key)
            }
            [only] => update(map_fd(&self.map), &key, &u32::from(only)),
            _ => update(map_fd(&self.map), &key, &0_u32),
        }
    }
}

/// What the program counted that belongs to no single interface. Monotone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropTotals {
    /// Packets for whose interface, direction and reason there was no room.
    pub uncounted: u64,
    /// Packets that policy dropped behind the hook, for whose flow there was no room.
    pub table_full: u64,
    /// The same, whose headers could not be read.
    pub unread: u64,
    /// Packets that were not delivered, for whose flow there was no room.
    pub undelivered_full: u64,
    /// Buffers for which the program was not run, because it was running on the same CPU already.
    pub missed: u64,
}

/// Drops of one direction and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which way they were going, as far as the buffer told.
    pub direction: Direction,
    /// The kernel's name of the reason; `unknown` where it gives none.
    pub reason: Arc<str>,
    /// How many, since the interface is watched.
    pub count: DropCount,
}

/// The daemon's side of the program's maps.
pub struct Drops {
    halves: [MapData; 2],
    undelivered_halves: [MapData; 2],
    /// Read from there, until the caller takes it.
    undelivered: Vec<(FlowKey, u64)>,
    count_map: MapData,
    /// The words of a [`DropState`]: some are written by both sides.
    state: Mapping<u64>,
    program: ProgramFd,
    terrain: Terrain,
    flows: Elements<DropKey, DropSlot>,
    elements: Elements<DropCountKey, DropCount>,
    counts: BTreeMap<DropCountKey, DropCount>,
    /// Holds the link, which ends with it.
    _object: Ebpf,
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drops").field("terrain", &self.terrain).finish_non_exhaustive()
    }
}

const fn word(offset: usize) -> usize {
    offset / size_of::<u64>()
}

impl Drops {
    /// What this host shows.
    pub fn sight(&self) -> Sight {
        self.terrain.sight()
    }

    /// Hands every flow of a half that no program writes any more to `take`, and clears it. What was not delivered is
    /// left for [`take_undelivered`](Self::take_undelivered).
    pub(super) fn drain(
        &mut self,
        half: usize,
        ticks: Ticks,
        mut take: impl FnMut(Delta),
    ) -> Result<u64, KernelError> {
        let used = word(offset_of!(DropState, used)) + half;
        if self.state.read(used) == 0 {
            return Ok(0);
        }
        self.state.write(used, 0);
        let Self { halves, undelivered_halves, undelivered, flows, terrain, state, .. } = self;
        let read = flows.read(map_fd(&halves[half]), After::Remove, |key, slot| {
            if let Some(reason) = terrain.policy(key.reason) {
                let mut delta = delta(ticks, key, slot);
                delta.key = delta.key.with_action(Action::Reject(reason));
                take(delta);
            }
        });
        let read = read.and_then(|rejected| {
            let rest = flows.read(map_fd(&undelivered_halves[half]), After::Remove, |key, slot| {
                undelivered.push((delta(ticks, key, slot).key, slot.packets));
            });
            rest.map(|rest| rejected + rest)
        });
        // What is left comes when this half is read again.
        read.inspect_err(|_| state.write(used, 1))
    }

    /// Packets of flows that came in and that nobody took, as found by the last drains.
    pub fn take_undelivered(&mut self) -> Vec<(FlowKey, u64)> {
        mem::take(&mut self.undelivered)
    }

    /// Reads the counts anew, if there are any new ones.
    pub(super) fn read_counts(&mut self) -> Result<(), KernelError> {
        const COUNTED: usize = word(offset_of!(DropState, counted));
        if self.state.read(COUNTED) == 0 {
            return Ok(());
        }
        // First this, then the counts: what is added in between is read twice rather than not at all.
        self.state.write(COUNTED, 0);
        let Self { elements, count_map, counts, state, .. } = self;
        let read = elements.read(map_fd(count_map), After::Keep, |key, count| {
            counts.insert(*key, *count);
        });
        read.map(drop).inspect_err(|_| state.write(COUNTED, 1))
    }

    /// What was dropped of an interface since it is watched.
    pub fn of(&self, interface: InterfaceNumber) -> impl Iterator<Item = Dropped> {
        self.of_number(interface.get())
    }

    /// What was dropped in namespaces with several observed interfaces, before it had one.
    pub fn of_none(&self) -> impl Iterator<Item = Dropped> {
        self.of_number(0)
    }

    fn of_number(&self, number: u16) -> impl Iterator<Item = Dropped> {
        let first = DropCountKey { interface: number, ..DropCountKey::default() };
        let its = self.counts.range(first..).take_while(move |(key, _)| key.interface == number);
        its.map(|(key, count)| {
            let unnamed = || Arc::from(format!("{:#x}", key.reason));
            Dropped {
                direction: if key.direction == 0 { Direction::Ingress } else { Direction::Egress },
                reason: self.terrain.names.get(&key.reason).cloned().unwrap_or_else(unnamed),
                count: *count,
            }
        })
    }

    /// Forgets the counts of an interface that is no longer watched: its number will be another one's.
    pub fn forget(&mut self, interface: InterfaceNumber) -> Result<(), KernelError> {
        let number = interface.get();
        let its: Vec<_> = self.counts.keys().filter(|key| key.interface == number).copied().collect();
        for key in its {
            self.counts.remove(&key);
            delete(map_fd(&self.count_map), &key)?;
        }
        Ok(())
    }

    /// What belongs to no interface.
    pub fn totals(&self) -> DropTotals {
        DropTotals {
            uncounted: self.state.read(word(offset_of!(DropState, uncounted))),
            table_full: self.state.read(word(offset_of!(DropState, table_full))),
            unread: self.state.read(word(offset_of!(DropState, unread))),
            undelivered_full: self.state.read(word(offset_of!(DropState, undelivered_full))),
            // Who raises a counter to 0 does not lower it.
            missed: misses(self.program.as_fd()).unwrap_or(0),
        }
    }
}

fn delta(ticks: Ticks, key: &DropKey, slot: &DropSlot) -> Delta {
    // The last time was written without order.
    let (early, late) = if slot.last.wrapping_sub(slot.first) as i32 >= 0 {
        (slot.first, slot.last)
    } else {
        (slot.last, slot.first)
    };
    ticks.delta(&FlowSlot {
        key: key.flow,
        bytes: slot.bytes,
        packets_and_flags: slot.packets | FlowSlot::flags(key.tcp_flags as u8),
        first: early,
        last: late,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_understood() {
        let terrain = match Terrain::of_this_kernel() {
            Ok(terrain) => terrain,
            Err(BtfError::Read(error)) => {
                println!("SKIP this_kernel_is_understood: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!((2..=4).contains(&terrain.arguments), "{terrain:?}");
        let words = terrain.layout.words();
        assert!(words.iter().all(|offset| *offset < 64 << 10), "{terrain:?}");
        // 0 is a sound offset of few members.
        assert!(words.iter().filter(|offset| **offset == 0).count() < 4, "{terrain:?}");
        if terrain.sight() == Sight::Reasons {
            assert_eq!(terrain.policy(terrain.reasons.netfilter), Some(DropReason::Netfilter));
            assert_eq!(&*terrain.names[&terrain.reasons.netfilter], "NETFILTER_DROP");
            assert_eq!(terrain.policy(UNKNOWN_REASON), None);
        }
    }
}
