//! Whether and how XDP may count ingress on an interface.
//!
//! To take a program, the kernel switches off offloads, restarts queues or lowers limits, of this interface or of the
//! one at the other end, and some of that it does not undo. So it is asked before what would change, and unless the
//! user accepts changes a program is put only where there are none. Everywhere else TC counts ingress, as ever.

use std::{collections::BTreeSet, fmt, io, os::fd::AsFd};

use aya::programs::loaded_programs;

use super::{
    KernelError, Programs,
    attachment::inside,
    link::{self, LinkType},
    preflight::KernelVersion,
};
use crate::{
    ethtool::{self, Channels},
    netlink::{Link, Netlink},
    netns::Netns,
};

/// Where XDP runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before there is a socket buffer.
    Native,
    /// At the beginning of the stack, in front of TC.
    Generic,
}

impl XdpMode {
    /// As messages have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_DRV_MODE` and `XDP_FLAGS_SKB_MODE`: without one of them the kernel would choose.
    const fn flags(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

/// What the user wants of XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpWish {
    /// `None` is the first that changes nothing.
    pub mode: Option<XdpMode>,
    /// Put programs also where offloads, queues or limits change with them.
    pub accept_changes: bool,
}

impl XdpWish {
    fn modes(self) -> &'static [XdpMode] {
        match self.mode {
            None => &[XdpMode::Native, XdpMode::Generic],
            Some(XdpMode::Native) => &[XdpMode::Native],
            Some(XdpMode::Generic) => &[XdpMode::Generic],
        }
    }
}

/// How XDP is to count ingress on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpPlan {
    /// Where it runs.
    pub mode: XdpMode,
    /// A TC program counts what XDP cannot: segments of super-packets, and what is redirected past it. Not behind a
    /// network card's driver, which has neither, and may have no room for marks.
    pub companion: bool,
}

/// Why XDP is not put on an interface: the values of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another XDP program is there.
    Busy,
    /// Frames have no Ethernet header.
    NotEthernet,
    /// The kernel or the driver has it not.
    Unsupported,
    /// Offloads would be switched.
    Offloads,
    /// The MTU is too large, or its limit would be lowered.
    Mtu,
    /// Queues would be restarted, or there are too few.
    Queues,
    /// The kernel refused for another reason.
    Failed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Busy,
        Self::NotEthernet,
        Self::Unsupported,
        Self::Offloads,
        Self::Mtu,
        Self::Queues,
        Self::Failed,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NotEthernet => "not_ethernet",
            Self::Unsupported => "unsupported",
            Self::Offloads => "offloads",
            Self::Mtu => "mtu",
            Self::Queues => "queues",
            Self::Failed => "failed",
        }
    }
}

/// What speaks against one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The mode.
    pub mode: XdpMode,
    /// In a word.
    pub reason: Reason,
    /// In a sentence that goes on after "native XDP".
    text: String,
    /// It can be, but something would change with it.
    is_change: bool,
}

/// Why XDP does not count ingress on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Never empty. By mode, in the order in which they were tried.
    objections: Vec<Objection>,
}

impl Refusal {
    fn new(mode: XdpMode, reason: Reason, text: impl Into<String>) -> Self {
        Self { objections: vec![Objection { mode, reason, text: text.into(), is_change: false }] }
    }

    /// What spoke against the mode that was tried last.
    pub fn reason(&self) -> Reason {
        self.objections.last().map_or(Reason::Failed, |objection| objection.reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for Objection { mode, text, .. } in &self.objections {
            match before {
                Some(before) if before == *mode => write!(f, ", and {text}")?,
                Some(_) => write!(f, "; {} XDP {text}", mode.as_str())?,
                None => write!(f, "{} XDP {text}", mode.as_str())?,
            }
            before = Some(*mode);
        }
        let accepting_helps = [XdpMode::Native, XdpMode::Generic].iter().any(|mode| {
            let mut of_mode = self.objections.iter().filter(|it| it.mode == *mode).peekable();
            of_mode.peek().is_some() && of_mode.all(|it| it.is_change)
        });
        if accepting_helps { write!(f, " (--xdp-changes accept allows it)") } else { Ok(()) }
    }
}

/// Whether this kernel knows XDP with packets in several buffers, and the helpers that read them.
pub fn has_frags() -> bool {
    KernelVersion::running().at_least(5, 18)
}

/// Decides for one interface. The outer error is one of looking.
pub fn plan(
    wish: XdpWish,
    netns: &Netns,
    ifindex: u32,
    ethernet: bool,
) -> Result<Result<XdpPlan, Refusal>, KernelError> {
    Ok(Device::look(netns, ifindex, ethernet)?.judge(wish, KernelVersion::running()))
}

/// Puts the program on an interface of the calling thread's namespace.
///
/// Not by aya, which falls back to a way that needs no link: such a program would outlive a killed daemon.
pub(super) fn attach(programs: &mut Programs, ifindex: u32, mode: XdpMode) -> Result<link::Link, Refusal> {
    let failed = |error: &dyn fmt::Display| Refusal::new(mode, Reason::Failed, format!("failed: {error}"));
    let program = programs.xdp_mut().map_err(|error| failed(&error))?;
    let program = program.fd().map_err(|error| failed(&error))?;
    link::Link::create(program.as_fd(), ifindex, LinkType::Xdp, mode.flags())
        .map_err(|error| refused(mode, &error))
}

/// The kernel has a message for each of these, and keeps it to itself.
fn refused(mode: XdpMode, error: &io::Error) -> Refusal {
    let (reason, text) = match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => (Reason::Busy, "gives way to another program".to_owned()),
        Some(libc::EOPNOTSUPP) => (Reason::Unsupported, "is not offered by the driver".to_owned()),
        Some(libc::ERANGE) => (Reason::Mtu, "is refused by the driver: the MTU is too large".to_owned()),
        Some(libc::ENOSPC) => (Reason::Queues, "is refused by the driver: it has too few queues".to_owned()),
        _ => (Reason::Failed, format!("is refused by the kernel: {error}")),
    };
    Refusal::new(mode, reason, text)
}

/// What an interface is, as far as it matters to XDP.
#[derive(Clone, Debug)]
struct Device {
    kind: Kind,
    ethernet: bool,
    driver: String,
    mtu: u32,
    features: BTreeSet<String>,
    channels: Channels,
    /// The XDP programs that are on it, as messages name them.
    programs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A network card, virtual or not.
    Card,
    /// One end of a pair, and the other end where it could be found.
    Veth { other_end: Option<OtherEnd> },
    /// Anything else has no native mode that is worth while.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OtherEnd {
    features: BTreeSet<String>,
    channels: Channels,
}

impl OtherEnd {
    /// In the namespace of the calling thread.
    fn look_here(ifindex: u32) -> io::Result<Self> {
        let name = ethtool::name(ifindex)?;
        Ok(Self { features: ethtool::features(name)?, channels: ethtool::channels(name).unwrap_or_default() })
    }

    /// The super-packets that it sends on as they are, by the names of its offloads.
    fn segmentation(&self) -> Vec<&str> {
        self.features.iter().map(String::as_str).filter(|it| is_segmentation(it)).collect()
    }
}

/// A veth pair has a program see what the other end would else segment itself, and those features go off there:
/// `NETIF_F_GSO_SOFTWARE`.
fn is_segmentation(feature: &str) -> bool {
    feature.starts_with("tx-tcp") && feature.ends_with("segmentation")
        || matches!(feature, "tx-sctp-segmentation" | "tx-udp-segmentation" | "tx-gso-list")
}

const GRO: &str = "rx-gro";
/// Generic mode switches them off and not on again (`generic_xdp_install`), native mode what the driver pleases.
const MERGED_BY_THE_CARD: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// `ENA_XDP_MAX_MTU`: a page, less room for headers and for what XDP and the kernel keep beside a packet.
const ENA_MAX_MTU: u32 = 3498;

impl Device {
    fn look(netns: &Netns, ifindex: u32, ethernet: bool) -> Result<Self, KernelError> {
        let (mut device, other_end) = inside(netns, || Self::look_here(netns, ifindex, ethernet))??;
        if let Some((netns, ifindex)) = other_end
            && let Ok(Ok(end)) = netns.inside(|| OtherEnd::look_here(ifindex))
        {
            device.kind = Kind::Veth { other_end: Some(end) };
        }
        Ok(device)
    }

    /// In `netns`, where the calling thread is. Returns also where the other end of a pair lies.
    fn look_here(
        netns: &Netns,
        ifindex: u32,
        ethernet: bool,
    ) -> Result<(Self, Option<(Netns, u32)>), KernelError> {
        let looking = |error| KernelError::call(format!("looking at interface {ifindex}"), error);
        let mut netlink = Netlink::new().map_err(looking)?;
        let gone = |error: io::Error| match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => KernelError::InterfaceGone(ifindex),
            _ => looking(error),
        };
        let link = netlink.link(ifindex).map_err(gone)?;
        let name = ethtool::name(ifindex).map_err(gone)?;
        let kind = match link.kind.as_deref() {
            None => Kind::Card,
            Some("veth") => Kind::Veth { other_end: None },
            Some(_) => Kind::Other,
        };
        let other_end = match kind {
            Kind::Veth { .. } => other_end(&mut netlink, netns, &link),
            Kind::Card | Kind::Other => None,
        };
        let device = Self {
            kind,
            ethernet,
            // A driver need not answer.
            driver: ethtool::driver(name).unwrap_or_default(),
            mtu: link.mtu.unwrap_or(0),
            features: ethtool::features(name).map_err(looking)?,
            channels: ethtool::channels(name).unwrap_or_default(),
            programs: link.xdp.iter().map(|id| program_name(*id)).collect(),
        };
        Ok((device, other_end))
    }

    fn judge(&self, wish: XdpWish, kernel: KernelVersion) -> Result<XdpPlan, Refusal> {
        let mut refusal = Refusal { objections: Vec::new() };
        for &mode in wish.modes() {
            let mut objections = self.objections(mode, kernel);
            if wish.accept_changes {
                objections.retain(|objection| !objection.is_change);
            }
            if objections.is_empty() {
                let companion = !(mode == XdpMode::Native && self.kind == Kind::Card);
                return Ok(XdpPlan { mode, companion });
            }
            refusal.objections.extend(objections);
        }
        Err(refusal)
    }

    fn objections(&self, mode: XdpMode, kernel: KernelVersion) -> Vec<Objection> {
        let mut list = Vec::new();
        let mut add = |is_change, reason, text| list.push(Objection { mode, reason, text, is_change });
        if let Some(program) = self.programs.first() {
            add(false, Reason::Busy, format!("gives way to {program}, which is there already"));
        }
        if !self.ethernet {
            add(false, Reason::NotEthernet, "needs frames with an Ethernet header".into());
        }
        let on = |names: &[&str]| {
            let on: Vec<_> = names.iter().copied().filter(|name| self.features.contains(*name)).collect();
            on.join(", ")
        };
        let by_the_card = on(&MERGED_BY_THE_CARD);
        if !by_the_card.is_empty() {
            add(true, Reason::Offloads, format!("would switch off {by_the_card}, perhaps for good"));
        }
        // Before 5.13 a veth has the flag, and nothing that would merge.
        let merges = match self.kind {
            Kind::Card => true,
            Kind::Veth { .. } => kernel.at_least(5, 13),
            Kind::Other => false,
        };
        if mode == XdpMode::Generic && merges && self.features.contains(GRO) {
            add(true, Reason::Offloads, format!("would keep {GRO} from merging packets"));
        }
        match (mode, &self.kind) {
            (XdpMode::Generic, Kind::Card) => {}
            // The kernel needs room for a whole super-packet at once (`skb_linearize`).
            (XdpMode::Generic, Kind::Other) => {
                let text = "would have packets copied that were merged before they came here, and dropped where \
                            memory is short";
                add(true, Reason::Offloads, text.into());
            }
            (XdpMode::Generic, Kind::Veth { other_end }) => {
                let whose = match other_end {
                    None => Some("super-packets".to_owned()),
                    Some(end) => {
                        let on = end.segmentation();
                        (!on.is_empty())
                            .then(|| format!("super-packets ({} of the other end)", on.join(", ")))
                    }
                };
                if let Some(whose) = whose {
                    let text = format!("would have {whose} copied, and dropped where memory is short");
                    add(true, Reason::Offloads, text);
                }
            }
            (XdpMode::Native, Kind::Card) => self.object_to_card(add),
            (XdpMode::Native, Kind::Veth { other_end }) => {
                self.object_to_veth(other_end.as_ref(), kernel, add);
            }
            (XdpMode::Native, Kind::Other) => {
                add(false, Reason::Unsupported, "is for network cards and veth pairs".into());
            }
        }
        list
    }

    fn object_to_card(&self, mut add: impl FnMut(bool, Reason, String)) {
        if self.driver == "ena" {
            if self.mtu > ENA_MAX_MTU {
                let text = format!("needs an MTU of {ENA_MAX_MTU} at most with ena, and it is {}", self.mtu);
                add(false, Reason::Mtu, text);
            }
            let Channels { combined, max_combined, .. } = self.channels;
            if combined * 2 > max_combined {
                let text = format!(
                    "needs half of the {max_combined} queues to be free with ena, and {combined} are in use"
                );
                add(false, Reason::Queues, text);
            }
        }
        // Every driver makes queues anew for its first program, some with another size of buffers or for XDP's own use.
        let driver = if self.driver.is_empty() { "the driver" } else { &self.driver };
        add(true, Reason::Queues, format!("would have {driver} restart its queues and lower its MTU limit"));
    }

    fn object_to_veth(
        &self,
        other_end: Option<&OtherEnd>,
        kernel: KernelVersion,
        mut add: impl FnMut(bool, Reason, String),
    ) {
        if !kernel.at_least(5, 18) {
            let text = "on veth pairs needs Linux 5.18: before, it lowers the MTU limit of the other end";
            add(false, Reason::Unsupported, text.into());
        }
        // Kernel commit d7db7775ea2e; some older kernels have it too.
        if !kernel.at_least(6, 9) && !self.features.contains(GRO) {
            add(true, Reason::Offloads, format!("would switch on {GRO}"));
        }
        match other_end {
            None => {
                let text =
                    "would switch off the other end's segmentation, if it is on: its namespace is not found";
                add(true, Reason::Offloads, text.into());
            }
            Some(end) => {
                let (receive, send) = (self.channels.rx, end.channels.tx);
                if receive < send {
                    let text = format!(
                        "needs a receive queue for each of the {send} send queues of the other end, and has {receive}"
                    );
                    add(false, Reason::Queues, text);
                }
                let on = end.segmentation();
                if !on.is_empty() {
                    let text = format!("would switch off {} of the other end", on.join(", "));
                    add(true, Reason::Offloads, text);
                }
            }
        }
    }
}

/// An XDP program, by number and name.
fn program_name(id: u32) -> String {
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    let name = program.and_then(|program| program.name_as_str().map(str::to_owned)).unwrap_or_default();
    if name.is_empty() { format!("XDP program {id}") } else { format!("XDP program {id} ({name})") }
}

/// Where the other end of a pair lies; `netlink` is in the namespace of this one.
fn other_end(netlink: &mut Netlink, netns: &Netns, link: &Link) -> Option<(Netns, u32)> {
    let netns = match link.other_netns {
        None => netns.clone(),
        Some(number) => Netns::all().into_iter().find(|netns| {
            let id = netns.open().and_then(|file| netlink.netns_id_if_any(file.as_fd()));
            matches!(id, Ok(Some(id)) if id == number)
        })?,
    };
    Some((netns, link.other?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: KernelVersion = KernelVersion::new(6, 18);

    fn set(features: &[&str]) -> BTreeSet<String> {
        features.iter().map(|feature| (*feature).to_owned()).collect()
    }

    fn device(kind: Kind, driver: &str, features: &[&str]) -> Device {
        Device {
            kind,
            ethernet: true,
            driver: driver.into(),
            mtu: 1500,
            features: set(features),
            channels: Channels::default(),
            programs: Vec::new(),
        }
    }

    fn veth(features: &[&str], other_end: Option<&[&str]>) -> Device {
        let other_end = other_end.map(|on| OtherEnd { features: set(on), channels: Channels::default() });
        device(Kind::Veth { other_end }, "veth", features)
    }

    fn ena(mtu: u32, combined: u32, max_combined: u32) -> Device {
        let channels = Channels { combined, max_combined, ..Channels::default() };
        Device { mtu, channels, ..device(Kind::Card, "ena", &[GRO]) }
    }

    fn wish(mode: Option<XdpMode>, accept_changes: bool) -> XdpWish {
        XdpWish { mode, accept_changes }
    }

    const NATIVE: Option<XdpMode> = Some(XdpMode::Native);
    const GENERIC: Option<XdpMode> = Some(XdpMode::Generic);

    fn mode_of(device: &Device, wish: XdpWish) -> Option<XdpMode> {
        device.judge(wish, NEW).ok().map(|plan| plan.mode)
    }

    #[test]
    fn a_pair_is_left_as_it_is() {
        let usual = veth(&["tx-tcp-segmentation"], Some(&["tx-gso-list", "tx-tcp-segmentation"]));
        let refusal = usual.judge(wish(NATIVE, false), NEW).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Offloads);
        assert_eq!(
            refusal.to_string(),
            "native XDP would switch off tx-gso-list, tx-tcp-segmentation of the other end \
             (--xdp-changes accept allows it)"
        );
        let before = usual.judge(wish(NATIVE, false), KernelVersion::new(6, 1)).unwrap_err();
        assert!(before.to_string().starts_with("native XDP would switch on rx-gro, and would"), "{before}");
        assert_eq!(mode_of(&usual, wish(NATIVE, true)), NATIVE);
        assert_eq!(mode_of(&usual, wish(None, false)), None);
        assert_eq!(mode_of(&usual, wish(None, true)), NATIVE);
        let refusal = usual.judge(wish(GENERIC, false), NEW).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "generic XDP would have super-packets (tx-gso-list, tx-tcp-segmentation of the other end) copied, \
             and dropped where memory is short (--xdp-changes accept allows it)"
        );
        assert_eq!(mode_of(&usual, wish(GENERIC, true)), GENERIC);
        assert_eq!(mode_of(&veth(&[], Some(&[])), wish(GENERIC, false)), GENERIC);

        let prepared = veth(&[GRO, "tx-tcp-segmentation"], Some(&["tx-checksum-ip-generic"]));
        assert_eq!(mode_of(&prepared, wish(NATIVE, false)), NATIVE);
        assert_eq!(mode_of(&prepared, wish(None, false)), NATIVE);
        assert_eq!(mode_of(&prepared, wish(GENERIC, false)), None, "its GRO would rest");
        assert_eq!(mode_of(&prepared, wish(GENERIC, true)), GENERIC);
    }

    #[test]
    fn an_end_that_is_not_found_may_have_offloads() {
        let lost = veth(&[GRO], None);
        assert_eq!(lost.judge(wish(NATIVE, false), NEW).unwrap_err().reason(), Reason::Offloads);
        assert_eq!(mode_of(&lost, wish(NATIVE, true)), NATIVE);
    }

    #[test]
    fn a_pair_needs_a_queue_for_each_of_the_other_end() {
        let with = |rx, tx| {
            let channels = Channels { tx, ..Channels::default() };
            let other_end = Some(OtherEnd { features: set(&[]), channels });
            let channels = Channels { rx, ..Channels::default() };
            Device { channels, ..device(Kind::Veth { other_end }, "veth", &[]) }
        };
        assert_eq!(mode_of(&with(2, 2), wish(NATIVE, false)), NATIVE);
        let refusal = with(1, 2).judge(wish(NATIVE, true), NEW).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Queues);
        assert_eq!(
            refusal.to_string(),
            "native XDP needs a receive queue for each of the 2 send queues of the other end, and has 1"
        );
        assert_eq!(mode_of(&with(1, 2), wish(None, false)), GENERIC);
    }

    #[test]
    fn native_mode_on_a_pair_of_an_old_kernel_is_refused_whatever_is_accepted() {
        let prepared = veth(&[GRO], Some(&[]));
        let old = KernelVersion::new(5, 10);
        assert_eq!(prepared.judge(wish(NATIVE, true), old).unwrap_err().reason(), Reason::Unsupported);
        // There the flag means nothing.
        assert_eq!(prepared.judge(wish(None, false), old).unwrap().mode, XdpMode::Generic);
    }

    #[test]
    fn an_ena_is_told_its_limits_and_left_alone_unless_changes_are_accepted() {
        let refusal = ena(9001, 8, 8).judge(wish(NATIVE, true), NEW).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "native XDP needs an MTU of 3498 at most with ena, and it is 9001, \
             and needs half of the 8 queues to be free with ena, and 8 are in use"
        );
        let fits = ena(3498, 4, 8);
        assert_eq!(fits.judge(wish(NATIVE, false), NEW).unwrap_err().reason(), Reason::Queues);
        let plan = fits.judge(wish(NATIVE, true), NEW).unwrap();
        assert_eq!(plan, XdpPlan { mode: XdpMode::Native, companion: false });
        let refusal = fits.judge(wish(None, false), NEW).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Offloads, "{refusal}");
    }

    #[test]
    fn a_card_that_merges_would_not_get_that_back() {
        let card = device(Kind::Card, "virtio_net", &["rx-gro-hw"]);
        let refusal = card.judge(wish(GENERIC, false), NEW).unwrap_err();
        assert!(refusal.to_string().contains("switch off rx-gro-hw"), "{refusal}");
        let card = device(Kind::Card, "virtio_net", &[]);
        let plan = card.judge(wish(GENERIC, false), NEW).unwrap();
        assert_eq!(plan, XdpPlan { mode: XdpMode::Generic, companion: true });
    }

    #[test]
    fn a_vlan_is_generic_whatever_its_flags_say() {
        let vlan = device(Kind::Other, "802.1Q VLAN Support", &[GRO]);
        assert_eq!(vlan.judge(wish(NATIVE, true), NEW).unwrap_err().reason(), Reason::Unsupported);
        assert_eq!(mode_of(&vlan, wish(GENERIC, false)), None, "what its parent has merged would be copied");
        assert_eq!(mode_of(&vlan, wish(None, true)), GENERIC);
    }

    #[test]
    fn another_program_and_another_link_layer_stand_in_the_way_of_both_modes() {
        let taken = Device {
            programs: vec!["XDP program 7 (lb)".into()],
            ..device(Kind::Other, "802.1Q VLAN Support", &[])
        };
        let refusal = taken.judge(wish(GENERIC, true), NEW).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "generic XDP gives way to XDP program 7 (lb), which is there already"
        );
        assert_eq!(refusal.reason(), Reason::Busy);
        let bare = Device { ethernet: false, ..device(Kind::Other, "tun", &[]) };
        assert_eq!(bare.judge(wish(None, true), NEW).unwrap_err().reason(), Reason::NotEthernet);
    }

    #[test]
    fn what_the_kernel_refuses_after_all_has_its_reason() {
        for (errno, reason, text) in [
            (libc::EBUSY, Reason::Busy, "native XDP gives way to another program"),
            (libc::EOPNOTSUPP, Reason::Unsupported, "native XDP is not offered by the driver"),
            (libc::ERANGE, Reason::Mtu, "native XDP is refused by the driver: the MTU is too large"),
            (libc::ENOSPC, Reason::Queues, "native XDP is refused by the driver: it has too few queues"),
            (
                libc::ENOMEM,
                Reason::Failed,
                "native XDP is refused by the kernel: Cannot allocate memory (os error 12)",
            ),
        ] {
            let refusal = refused(XdpMode::Native, &io::Error::from_raw_os_error(errno));
            assert_eq!((refusal.reason(), refusal.to_string().as_str()), (reason, text));
        }
    }

    #[test]
    fn all_that_a_pair_would_have_switched_off_is_known() {
        for on in ["tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-gso-list"] {
            assert!(is_segmentation(on), "{on}");
        }
        for on in ["tx-generic-segmentation", "tx-gre-segmentation", "tx-checksum-ip-generic"] {
            assert!(!is_segmentation(on), "{on}");
        }
    }
}
