//! Interfaces that stand for a task's ENI: veth pairs with addresses of our choice, and silent but for our traffic.

use std::{
    fmt, fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    counters::Counters,
    netns::{self, Namespace},
    offloads::{Offloads, is_running},
    poll::{self, PATIENCE},
    traffic::{Sink, frames::LINK_HEADER},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Length of its header without options.
    pub const fn header(self) -> u64 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// As the `type` field has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A link address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>();
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self(bytes.with_context(|| format!("{text:?} is no link address"))?))
    }
}

impl Mac {
    /// One that no other interface of this run has.
    pub fn fresh() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [a, b, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        // Locally administered, and beginning as those of ENIs do.
        Self([0x06, 0x39, a, b, c, d])
    }
}

/// The addresses of the two ends of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Of the task.
    pub inside: (Ipv4Addr, Ipv6Addr),
    /// Of whom it talks to.
    pub outside: (Ipv4Addr, Ipv6Addr),
    /// The name of both ends.
    pub name: &'static str,
    /// Whether there is IPv6 at all. Without it not even a new interface says anything by itself.
    pub ipv6: bool,
}

impl Default for Addresses {
    fn default() -> Self {
        let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 4, 0, 0, 0, last);
        Self {
            inside: (Ipv4Addr::new(10, 0, 4, 128), v6(0x80)),
            outside: (Ipv4Addr::new(10, 0, 4, 9), v6(9)),
            name: "eth0",
            ipv6: true,
        }
    }
}

/// One end of a pair.
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
    /// Whether what it sends goes through another interface.
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
        Ok(Self { namespace, name, mac, index, addresses, offloads, sinks, other, is_tunnel: false })
    }

    /// The same as one end of a tunnel.
    pub(crate) fn into_tunnel(self) -> Self {
        Self { is_tunnel: true, ..self }
    }

    /// Whether what it sends goes through another interface: its own counters then are not those of a wire.
    pub fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// The namespace it lies in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its name there.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its link address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Its index there.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The id that its records carry where no ENI is known.
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

    /// What its counters say since it was made.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::read(&self.namespace, self.name)?;
        counters.frames.ingress.bytes += polled(self.namespace.path(), self.name)? * LINK_HEADER;
        counters.frames.egress.bytes += polled(&self.other, self.name)? * LINK_HEADER;
        Ok(counters)
    }

    /// Whether a program runs in its driver.
    pub fn has_native_xdp(&self) -> Result<bool> {
        let text = self.namespace.output("ip", &["-json", "link", "show", "dev", self.name])?;
        let links: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        // `XDP_ATTACHED_DRV`
        Ok(links[0]["xdp"]["mode"] == 1)
    }
}

/// The frames that a veth has taken in its poll: one that merges, or has XDP in its driver, does so, and counts their
/// bytes behind the link headers (`veth_xdp_rcv`), for both ends.
fn polled(namespace: &Path, name: &str) -> Result<u64> {
    let text = match netns::output(namespace, "ethtool", &["-S", name]) {
        // No veth.
        Err(error) if error.to_string().contains("no stats available") => return Ok(0),
        text => text?,
    };
    let counts = text.lines().filter_map(|line| line.trim().split_once(": "));
    let counts = counts.filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_xdp_packets"));
    counts.map(|(_, count)| Ok(count.parse::<u64>()?)).sum()
}

/// A stand-in for a task: a namespace with an interface, and another one that holds whom the task talks to.
#[derive(Debug)]
pub struct Task {
    /// The task's own end, which is observed.
    pub inside: Interface,
    /// The other end.
    pub outside: Interface,
}

impl Task {
    /// Joins two namespaces by a veth pair.
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

    /// Puts an ENI with this MAC into a task, as the CNI plugin does: it is there before under another name, is moved
    /// in, and gets its name and its addresses.
    pub fn attach(inside: Namespace, outside: Namespace, mac: Mac, addresses: Addresses) -> Result<Self> {
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
        let end = |namespace: Namespace, addresses: (Ipv4Addr, Ipv6Addr), mac, other| -> Result<Interface> {
            let (v4, v6) = addresses;
            let bound = [Some(v4.into()), ipv6.then(|| v6.into())].into_iter().flatten();
            let sinks = bound.map(|address| Sink::open(&namespace, address)).collect::<Result<_>>()?;
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

    /// Switches the offloads of both ends.
    pub fn set_offloads(&mut self, offloads: Offloads) -> Result<()> {
        for end in [&mut self.inside, &mut self.outside] {
            offloads.apply(end)?;
            end.offloads = offloads;
        }
        Ok(())
    }

    /// Ends the task: its namespace goes, and with it the pair. What it talked to stays.
    pub fn end(self) -> Namespace {
        let Self { inside, outside } = self;
        drop(inside);
        outside.namespace
    }
}

/// Takes from a namespace's future interfaces the addresses that IPv6 makes by itself, with all that is said about
/// them, and from its TCP the wide window: no more segments shall be under way than a receiver's packet queue holds.
pub(crate) fn hush(ipv6: bool) -> Result<()> {
    let settings = [
        ("ipv6/conf/default/disable_ipv6", if ipv6 { "0" } else { "1" }),
        // no link-local address
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv4/tcp_rmem", "4096 262144 262144"),
        // options that come with reordering would make some headers longer than others
        ("ipv4/tcp_sack", "0"),
    ];
    for (name, value) in settings {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}

/// The addresses of one end, and the other's as permanent neighbours: no ARP and no neighbour discovery.
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

/// A line of `ip` that has an interface say nothing by itself, if it comes before all others.
///
/// With an address IPv6 joins the multicast group in which it could be asked for, and reports that; nothing switches
/// the report off (`mld_ifc_event`). Where nobody resolves addresses there is no such group (`addrconf_join_solict`).
pub fn silence(name: &str) -> String {
    format!("link set {name} arp off\n")
}

/// Runs lines of `ip` in a namespace.
pub fn ip_batch(namespace: &Namespace, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    namespace.place(&mut command)?;
    let mut child = command.spawn().context("starting ip")?;
    drop(command);
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip: {}, in lines that begin with:\n{lines:.1000}", said.trim());
    Ok(())
}

/// Waits until the interfaces run. Nothing has crossed them by then.
pub fn quiet(tasks: &[Task]) -> Result<()> {
    for end in tasks.iter().flat_map(Task::ends) {
        poll::until_true("the link runs", PATIENCE, || end.namespace.run(|| is_running(end.name)))?;
        let counters = end.counters()?;
        ensure!(counters == Counters::default(), "{} is new, and has counted {counters:?}", end.id());
    }
    Ok(())
}
