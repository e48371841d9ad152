//! veth pairs that stand for a task's ENI, with chosen addresses, and silent except for generated
//! traffic.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

pub use crate::address::{Addresses, Family, Mac};
use crate::{
    counters::Counters,
    netns::{self, Namespace},
    offloads::{Offloads, is_running},
    poll::{self, PATIENCE},
    traffic::{frames::LINK_HEADER, sink::Sink},
};

/// One end of a veth pair.
#[derive(Debug)]
pub struct Interface {
    namespace: Namespace,
    name: &'static str,
    mac: Mac,
    index: u32,
    addresses: (Ipv4Addr, Ipv6Addr),
    offloads: Offloads,
    #[expect(dead_code, reason = "they are open as long as the interface lives")]
    sinks: Vec<Sink>,
    /// The namespace of the other end.
    other: PathBuf,
    /// True if its packets leave through another interface.
    is_tunnel: bool,
}

impl Interface {
    pub(crate) fn new(
        namespace: Namespace,
        name: &'static str,
        addresses: (Ipv4Addr, Ipv6Addr),
        mac: Mac,
        other: PathBuf,
    ) -> Result<Self> {
        let index = namespace.run(|| Ok(nix::net::if_::if_nametoindex(name)?))?;
        let offloads = Offloads::VETH;
        let sinks = Vec::new();
        Ok(Self {
            namespace,
            name,
            mac,
            index,
            addresses,
            offloads,
            sinks,
            other,
            is_tunnel: false,
        })
    }

    /// Marks it as one end of a tunnel.
    pub(crate) fn into_tunnel(self) -> Self {
        Self { is_tunnel: true, ..self }
    }

    /// True if its packets leave through another interface, so that its counters are not those of a
    /// wire.
    pub fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its MAC address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Interface ID of its records if no ENI is known.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.mac)
    }

    /// Its address.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.addresses.0.into(),
            Family::V6 => self.addresses.1.into(),
        }
    }

    /// Its offloads.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Its counters since creation.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::read(&self.namespace, self.name)?;
        counters.frames.ingress.bytes += polled(self.namespace.path(), self.name)? * LINK_HEADER;
        counters.frames.egress.bytes += polled(&self.other, self.name)? * LINK_HEADER;
        Ok(counters)
    }

    /// True if an XDP program runs in its driver.
    pub fn has_native_xdp(&self) -> Result<bool> {
        let text = self.namespace.output("ip", &["-json", "link", "show", "dev", self.name])?;
        let links: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        // `XDP_ATTACHED_DRV`
        Ok(links[0]["xdp"]["mode"] == 1)
    }
}

/// Frames that a veth received in its poll. With GRO or native XDP it counts their bytes without
/// link headers, on both ends (`veth_xdp_rcv`).
fn polled(namespace: &Path, name: &str) -> Result<u64> {
    let text = match netns::output(namespace, "ethtool", &["-S", name]) {
        // Not a veth.
        Err(error) if error.to_string().contains("no stats available") => return Ok(0),
        text => text?,
    };
    let counts = text.lines().filter_map(|line| line.trim().split_once(": "));
    let counts =
        counts.filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_xdp_packets"));
    counts.map(|(_, count)| Ok(count.parse::<u64>()?)).sum()
}

/// A stand-in for a task: a namespace with an interface, and a second namespace with the other end.
#[derive(Debug)]
pub struct Task {
    /// The task's own end, which is observed.
    pub inside: Interface,
    /// The other end.
    pub outside: Interface,
}

impl Task {
    /// Connects two namespaces by a veth pair.
    pub fn join(inside: Namespace, outside: Namespace, addresses: Addresses) -> Result<Self> {
        for namespace in [&inside, &outside] {
            namespace.run(|| hush(addresses.ipv6))?;
        }
        let name = addresses.name;
        let macs = (Mac::fresh(), Mac::fresh());
        let peer = outside.path().display();
        let (mac, peer_mac) = macs;
        let make = format!(
            "link add name {name} address {mac} type veth peer name {name} address {peer_mac} netns {peer}\n"
        );
        ip_batch(&inside, &make)?;
        Self::joined(inside, outside, macs, addresses)
    }

    /// Attaches an ENI with this MAC address to a task in the steps of the CNI plugin: the
    /// interface exists under another name, is moved into the namespace, and is renamed and
    /// configured.
    pub fn attach(
        inside: Namespace,
        outside: Namespace,
        mac: Mac,
        addresses: Addresses,
    ) -> Result<Self> {
        for namespace in [&inside, &outside] {
            namespace.run(|| hush(addresses.ipv6))?;
        }
        let name = addresses.name;
        let peer_mac = Mac::fresh();
        let target = inside.path().display();
        let make = format!(
            "link add name ens6 address {mac} type veth peer name {name} address {peer_mac}\n\
             link set ens6 netns {target} name {name}\n"
        );
        ip_batch(&outside, &make)?;
        Self::joined(inside, outside, (mac, peer_mac), addresses)
    }

    fn joined(
        inside: Namespace,
        outside: Namespace,
        (mac, peer_mac): (Mac, Mac),
        addresses: Addresses,
    ) -> Result<Self> {
        let name = addresses.name;
        let ours = (addresses.inside, mac);
        let theirs = (addresses.outside, peer_mac);
        let configured = |ours, theirs| configure(name, addresses.ipv6, ours, theirs);
        ip_batch(&inside, &configured(ours, theirs))?;
        ip_batch(&outside, &configured(theirs, ours))?;
        let ipv6 = addresses.ipv6;
        let paths = [outside.path().to_path_buf(), inside.path().to_path_buf()];
        let end = |namespace: Namespace,
                   addresses: (Ipv4Addr, Ipv6Addr),
                   mac,
                   other|
         -> Result<Interface> {
            let (v4, v6) = addresses;
            let bound = [Some(v4.into()), ipv6.then(|| v6.into())].into_iter().flatten();
            let sinks =
                bound.map(|address| Sink::open(&namespace, address)).collect::<Result<_>>()?;
            Ok(Interface { sinks, ..Interface::new(namespace, name, addresses, mac, other)? })
        };
        let [others, ours] = paths;
        Ok(Self {
            inside: end(inside, addresses.inside, mac, others)?,
            outside: end(outside, addresses.outside, peer_mac, ours)?,
        })
    }

    /// Both ends.
    pub fn ends(&self) -> [&Interface; 2] {
        [&self.inside, &self.outside]
    }

    /// Sets the offloads of both ends.
    pub fn set_offloads(&mut self, offloads: Offloads) -> Result<()> {
        for end in [&mut self.inside, &mut self.outside] {
            offloads.apply(&end.namespace, end.name)?;
            end.offloads = offloads;
        }
        Ok(())
    }

    /// Ends the task: removes its namespace and the pair. The other namespace stays.
    pub fn end(self) -> Namespace {
        let Self { inside, outside } = self;
        drop(inside);
        outside.namespace
    }
}

/// Configures a namespace so that future interfaces send nothing by themselves, and limits the TCP
/// window, so that segments in flight fit into a receiver's packet queue.
pub(crate) fn hush(ipv6: bool) -> Result<()> {
    let settings = [
        ("ipv6/conf/default/disable_ipv6", if ipv6 { "0" } else { "1" }),
        // no link-local address
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv4/tcp_rmem", "4096 262144 262144"),
        // options for reordering would make some headers longer than others
        ("ipv4/tcp_sack", "0"),
    ];
    for (name, value) in settings {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}

/// Lines that set the addresses of one end, with the other end as permanent neighbour: no ARP and
/// no neighbour discovery.
fn configure(
    name: &str,
    ipv6: bool,
    ((v4, v6), _): ((Ipv4Addr, Ipv6Addr), Mac),
    ((other_v4, other_v6), other_mac): ((Ipv4Addr, Ipv6Addr), Mac),
) -> String {
    let first = format!(
        "{}\
         addr add {v4}/24 dev {name}\n\
         link set lo up\n\
         link set {name} up\n\
         neigh replace {other_v4} lladdr {other_mac} dev {name} nud permanent\n",
        silence(name)
    );
    let second = format!(
        "addr add {v6}/64 dev {name} nodad\n\
         neigh replace {other_v6} lladdr {other_mac} dev {name} nud permanent\n"
    );
    if ipv6 { first + &second } else { first }
}

/// A line for `ip` that keeps an interface from sending anything by itself. It must come before all
/// others.
///
/// An IPv6 address joins a multicast group for neighbour discovery, which sends a report that
/// cannot be switched off (`mld_ifc_event`). With `arp off` there is no such group
/// (`addrconf_join_solict`).
pub fn silence(name: &str) -> String {
    format!("link set {name} arp off\n")
}

/// Runs lines of `ip -batch` in a namespace.
pub fn ip_batch(namespace: &Namespace, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    namespace.place(&mut command)?;
    let mut child = command.spawn().context("starting ip")?;
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "ip: {}, in lines that begin with:\n{lines:.1000}",
        said.trim()
    );
    Ok(())
}

/// Waits until the interfaces run. Returns an error if packets have crossed them.
pub fn quiet(tasks: &[Task]) -> Result<()> {
    for end in tasks.iter().flat_map(Task::ends) {
        poll::until_true("the link runs", PATIENCE, || end.namespace.run(|| is_running(end.name)))?;
        let counters = end.counters()?;
        ensure!(
            counters == Counters::default(),
            "{} is new, and has counted {counters:?}",
            end.id()
        );
    }
    Ok(())
}
