//! Attaching the XDP program to an interface.

use std::{fmt, io, os::fd::AsFd, path::Path};

use super::{
    mode::XdpMode,
    refusal::{Reason, Refusal},
};
use crate::kernel::{
    Programs,
    link::{Link, LinkType},
};

/// Attaches the program to an interface of the calling thread's namespace, in place of the one that
/// an earlier run has attached with this pin.
///
/// Not by aya, which falls back to an attachment without a link. Such a program would outlive a
/// killed daemon without a trace.
pub(in crate::kernel) fn attach(
    programs: &mut Programs,
    ifindex: u32,
    mode: XdpMode,
    pin: &Path,
) -> Result<Link, Refusal> {
    let failed =
        |error: &dyn fmt::Display| Refusal::new(mode, Reason::Failed, format!("failed: {error}"));
    let program = programs.xdp_mut().map_err(|error| failed(&error))?;
    let program = program.fd().map_err(|error| failed(&error))?;
    if let Some(link) = Link::replace(program.as_fd(), ifindex, pin) {
        return Ok(link);
    }
    let mut link = Link::create(program.as_fd(), ifindex, LinkType::Xdp, mode.flags())
        .map_err(|error| refused(mode, &error))?;
    link.pin(pin).map_err(|error| failed(&error))?;
    Ok(link)
}

/// Explains an error of `BPF_LINK_CREATE`. The kernel writes a message for each case, but does not
/// return it.
fn refused(mode: XdpMode, error: &io::Error) -> Refusal {
    let (reason, text) = match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            (Reason::Busy, "gives way to another program".to_owned())
        }
        Some(libc::EOPNOTSUPP) => (Reason::Unsupported, "is not offered by the driver".to_owned()),
        Some(libc::ERANGE) => {
            (Reason::Mtu, "is refused by the driver: the MTU is too large".to_owned())
        }
        Some(libc::ENOSPC) => {
            (Reason::Queues, "is refused by the driver: it has too few queues".to_owned())
        }
        _ => (Reason::Failed, format!("is refused by the kernel: {error}")),
    };
    Refusal::new(mode, reason, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_kernel_become_reasons() {
        for (errno, reason, text) in [
            (libc::EBUSY, Reason::Busy, "native XDP gives way to another program"),
            (libc::EOPNOTSUPP, Reason::Unsupported, "native XDP is not offered by the driver"),
            (
                libc::ERANGE,
                Reason::Mtu,
                "native XDP is refused by the driver: the MTU is too large",
            ),
            (
                libc::ENOSPC,
                Reason::Queues,
                "native XDP is refused by the driver: it has too few queues",
            ),
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
}
