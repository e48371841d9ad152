//! XDP on an interface: the decision whether to use it, and the attachment.
//!
//! Owns: XDP modes, the rules for using them, and the attachment of the XDP program. In: the user's
//! wish and an interface. Out: an [`XdpPlan`] or a [`Refusal`].
//!
//! To attach a program, the kernel may switch off offloads, restart queues or lower MTU limits, on
//! this interface or on its veth peer. It does not undo all of that on detach. So the daemon
//! predicts the changes first. Unless the user accepts changes, it uses XDP only where nothing
//! changes. On all other interfaces TC counts ingress.

mod device;
mod link;
mod mode;
mod refusal;
mod rules;

pub(super) use link::attach;
pub use mode::{XdpChanges, XdpMode, XdpPlan, XdpSelection, XdpWish, has_frags};
pub use refusal::{Objection, Reason, Refusal};

use self::device::Device;
use super::{KernelError, preflight::KernelVersion};
use crate::linux::netns::Netns;

/// Decides how XDP counts the ingress of one interface. `own` is the ID of the program that an
/// earlier run has attached there, and this one replaces.
///
/// The outer error means that the interface could not be examined. The inner one means that XDP is
/// not to be used.
pub fn plan(
    wish: XdpWish,
    netns: &Netns,
    ifindex: u32,
    ethernet: bool,
    own: Option<u32>,
) -> Result<Result<XdpPlan, Refusal>, KernelError> {
    Ok(Device::read(netns, ifindex, ethernet, own)?.plan(wish, KernelVersion::running()))
}
