//! Rules that decide whether XDP counts the ingress of an interface, and in which mode.

use super::{
    device::{Device, DeviceKind, GRO, Peer},
    mode::{XdpChanges, XdpMode, XdpPlan, XdpWish},
    refusal::{Objection, Reason, Refusal},
};
use crate::{ethtool::Channels, kernel::preflight::KernelVersion};

/// Hardware merging. Generic mode switches these off and not on again (`generic_xdp_install`). In
/// native mode it depends on the driver.
const HARDWARE_MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// `ENA_XDP_MAX_MTU` in bytes: a page without the headers and the room that XDP and the kernel
/// reserve in it.
const ENA_MAX_MTU: u32 = 3498;

impl Device {
    /// Chooses the first wanted mode without objections.
    pub(super) fn plan(&self, wish: XdpWish, kernel: KernelVersion) -> Result<XdpPlan, Refusal> {
        let mut refused = Vec::new();
        for &mode in wish.mode.modes() {
            let mut objections = self.objections(mode, kernel);
            if wish.changes == XdpChanges::Accept {
                objections.retain(|objection| !objection.is_change);
            }
            if objections.is_empty() {
                let companion = !(mode == XdpMode::Native && self.kind == DeviceKind::Card);
                return Ok(XdpPlan { mode, companion });
            }
            refused.extend(objections);
        }
        Err(Refusal::of(refused))
    }

    /// Lists everything that speaks against a mode.
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
        let hardware = on(&HARDWARE_MERGING);
        if !hardware.is_empty() {
            add(true, Reason::Offloads, format!("would switch off {hardware}, perhaps for good"));
        }
        // Before Linux 5.13 a veth has the flag, but does not merge packets.
        let merges = match self.kind {
            DeviceKind::Card => true,
            DeviceKind::Veth { .. } => kernel.at_least(5, 13),
            DeviceKind::Other => false,
        };
        if mode == XdpMode::Generic && merges && self.features.contains(GRO) {
            add(true, Reason::Offloads, format!("would keep {GRO} from merging packets"));
        }
        match (mode, &self.kind) {
            (XdpMode::Generic, DeviceKind::Card) => {}
            // The kernel copies a whole super-packet into one buffer (`skb_linearize`).
            (XdpMode::Generic, DeviceKind::Other) => {
                let text = "would have packets copied that were merged before they came here, and dropped where \
                            memory is short";
                add(true, Reason::Offloads, text.into());
            }
            (XdpMode::Generic, DeviceKind::Veth { peer }) => {
                let packets = match peer {
                    None => Some("super-packets".to_owned()),
                    Some(peer) => {
                        let on = peer.segmentation();
                        (!on.is_empty())
                            .then(|| format!("super-packets ({} of the other end)", on.join(", ")))
                    }
                };
                if let Some(packets) = packets {
                    let text = format!("would have {packets} copied, and dropped where memory is short");
                    add(true, Reason::Offloads, text);
                }
            }
            (XdpMode::Native, DeviceKind::Card) => self.object_to_card(add),
            (XdpMode::Native, DeviceKind::Veth { peer }) => {
                self.object_to_veth(peer.as_ref(), kernel, add);
            }
            (XdpMode::Native, DeviceKind::Other) => {
                add(false, Reason::Unsupported, "is for network cards and veth pairs".into());
            }
        }
        list
    }

    /// Objections to native mode on a network card.
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
        // Every driver recreates its queues for the first program; some change buffer sizes or
        // reserve queues for XDP.
        let driver = if self.driver.is_empty() { "the driver" } else { &self.driver };
        add(true, Reason::Queues, format!("would have {driver} restart its queues and lower its MTU limit"));
    }

    /// Objections to native mode on a veth pair.
    fn object_to_veth(
        &self,
        peer: Option<&Peer>,
        kernel: KernelVersion,
        mut add: impl FnMut(bool, Reason, String),
    ) {
        if !kernel.at_least(5, 18) {
            let text = "on veth pairs needs Linux 5.18: before, it lowers the MTU limit of the other end";
            add(false, Reason::Unsupported, text.into());
        }
        // Fixed by kernel commit d7db7775ea2e, which some older kernels have too.
        if !kernel.at_least(6, 9) && !self.features.contains(GRO) {
            add(true, Reason::Offloads, format!("would switch on {GRO}"));
        }
        match peer {
            None => {
                let text =
                    "would switch off the other end's segmentation, if it is on: its namespace is not found";
                add(true, Reason::Offloads, text.into());
            }
            Some(peer) => {
                let (receive, send) = (self.channels.rx, peer.channels.tx);
                if receive < send {
                    let text = format!(
                        "needs a receive queue for each of the {send} send queues of the other end, and has {receive}"
                    );
                    add(false, Reason::Queues, text);
                }
                let on = peer.segmentation();
                if !on.is_empty() {
                    let text = format!("would switch off {} of the other end", on.join(", "));
                    add(true, Reason::Offloads, text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::mode::XdpSelection, *};

    const NEW: KernelVersion = KernelVersion::new(6, 18);

    fn set(features: &[&str]) -> BTreeSet<String> {
        features.iter().map(|feature| (*feature).to_owned()).collect()
    }

    fn device(kind: DeviceKind, driver: &str, features: &[&str]) -> Device {
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

    fn veth(features: &[&str], peer: Option<&[&str]>) -> Device {
        let peer = peer.map(|on| Peer { features: set(on), channels: Channels::default() });
        device(DeviceKind::Veth { peer }, "veth", features)
    }

    fn ena(mtu: u32, combined: u32, max_combined: u32) -> Device {
        let channels = Channels { combined, max_combined, ..Channels::default() };
        Device { mtu, channels, ..device(DeviceKind::Card, "ena", &[GRO]) }
    }

    fn wish(mode: Option<XdpMode>, accept_changes: bool) -> XdpWish {
        let mode = match mode {
            None => XdpSelection::Auto,
            Some(XdpMode::Native) => XdpSelection::Native,
            Some(XdpMode::Generic) => XdpSelection::Generic,
        };
        XdpWish { mode, changes: if accept_changes { XdpChanges::Accept } else { XdpChanges::Refuse } }
    }

    const NATIVE: Option<XdpMode> = Some(XdpMode::Native);
    const GENERIC: Option<XdpMode> = Some(XdpMode::Generic);

    fn mode_of(device: &Device, wish: XdpWish) -> Option<XdpMode> {
        device.plan(wish, NEW).ok().map(|plan| plan.mode)
    }

    #[test]
    fn a_pair_is_left_as_it_is() {
        let usual = veth(&["tx-tcp-segmentation"], Some(&["tx-gso-list", "tx-tcp-segmentation"]));
        let refusal = usual.plan(wish(NATIVE, false), NEW).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Offloads);
        assert_eq!(
            refusal.to_string(),
            "native XDP would switch off tx-gso-list, tx-tcp-segmentation of the other end \
             (--xdp-changes accept allows it)"
        );
        let before = usual.plan(wish(NATIVE, false), KernelVersion::new(6, 1)).unwrap_err();
        assert!(before.to_string().starts_with("native XDP would switch on rx-gro, and would"), "{before}");
        assert_eq!(mode_of(&usual, wish(NATIVE, true)), NATIVE);
        assert_eq!(mode_of(&usual, wish(None, false)), None);
        assert_eq!(mode_of(&usual, wish(None, true)), NATIVE);
        let refusal = usual.plan(wish(GENERIC, false), NEW).unwrap_err();
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
        assert_eq!(lost.plan(wish(NATIVE, false), NEW).unwrap_err().reason(), Reason::Offloads);
        assert_eq!(mode_of(&lost, wish(NATIVE, true)), NATIVE);
    }

    #[test]
    fn a_pair_needs_a_queue_for_each_of_the_peer() {
        let with = |rx, tx| {
            let channels = Channels { tx, ..Channels::default() };
            let peer = Some(Peer { features: set(&[]), channels });
            let channels = Channels { rx, ..Channels::default() };
            Device { channels, ..device(DeviceKind::Veth { peer }, "veth", &[]) }
        };
        assert_eq!(mode_of(&with(2, 2), wish(NATIVE, false)), NATIVE);
        let refusal = with(1, 2).plan(wish(NATIVE, true), NEW).unwrap_err();
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
        assert_eq!(prepared.plan(wish(NATIVE, true), old).unwrap_err().reason(), Reason::Unsupported);
        // On Linux 5.10 the flag has no effect.
        assert_eq!(prepared.plan(wish(None, false), old).unwrap().mode, XdpMode::Generic);
    }

    #[test]
    fn an_ena_is_told_its_limits_and_left_alone_unless_changes_are_accepted() {
        let refusal = ena(9001, 8, 8).plan(wish(NATIVE, true), NEW).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "native XDP needs an MTU of 3498 at most with ena, and it is 9001, \
             and needs half of the 8 queues to be free with ena, and 8 are in use"
        );
        let fits = ena(3498, 4, 8);
        assert_eq!(fits.plan(wish(NATIVE, false), NEW).unwrap_err().reason(), Reason::Queues);
        let plan = fits.plan(wish(NATIVE, true), NEW).unwrap();
        assert_eq!(plan, XdpPlan { mode: XdpMode::Native, companion: false });
        let refusal = fits.plan(wish(None, false), NEW).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Offloads, "{refusal}");
    }

    #[test]
    fn a_card_that_merges_would_not_get_that_back() {
        let card = device(DeviceKind::Card, "virtio_net", &["rx-gro-hw"]);
        let refusal = card.plan(wish(GENERIC, false), NEW).unwrap_err();
        assert!(refusal.to_string().contains("switch off rx-gro-hw"), "{refusal}");
        let card = device(DeviceKind::Card, "virtio_net", &[]);
        let plan = card.plan(wish(GENERIC, false), NEW).unwrap();
        assert_eq!(plan, XdpPlan { mode: XdpMode::Generic, companion: true });
    }

    #[test]
    fn a_vlan_is_generic_whatever_its_flags_say() {
        let vlan = device(DeviceKind::Other, "802.1Q VLAN Support", &[GRO]);
        assert_eq!(vlan.plan(wish(NATIVE, true), NEW).unwrap_err().reason(), Reason::Unsupported);
        assert_eq!(mode_of(&vlan, wish(GENERIC, false)), None, "what its parent has merged would be copied");
        assert_eq!(mode_of(&vlan, wish(None, true)), GENERIC);
    }

    #[test]
    fn another_program_and_another_link_layer_stand_in_the_way_of_both_modes() {
        let taken = Device {
            programs: vec!["XDP program 7 (lb)".into()],
            ..device(DeviceKind::Other, "802.1Q VLAN Support", &[])
        };
        let refusal = taken.plan(wish(GENERIC, true), NEW).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "generic XDP gives way to XDP program 7 (lb), which is there already"
        );
        assert_eq!(refusal.reason(), Reason::Busy);
        let bare = Device { ethernet: false, ..device(DeviceKind::Other, "tun", &[]) };
        assert_eq!(bare.plan(wish(None, true), NEW).unwrap_err().reason(), Reason::NotEthernet);
    }
}
