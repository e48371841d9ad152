//! Loading and attaching the drops program.

use aya::{
    Btf as AyaBtf, Ebpf, VerifierLogLevel,
    programs::{BtfTracePoint, ProgramError, ProgramFd},
};
use observer_ebpf::abi::names;

use super::{
    counts::{Drops, take_map},
    detail::DropDetail,
    error::DropsError,
    offsets::{KernelOffsets, TRACEPOINT},
    reasons::ReasonTable,
    watchlist::Watchlist,
};
use crate::kernel::{
    KernelError, Loader,
    btf::{Btf, BtfError},
    loader::drops_probe_object,
};

/// Reads the offsets and drop reasons of the running kernel.
fn running_kernel() -> Result<(KernelOffsets, ReasonTable), BtfError> {
    let btf = Btf::of_this_kernel()?;
    Ok((KernelOffsets::read(&btf)?, ReasonTable::read(&btf)))
}

/// Determines the detail of drops on this host, by attaching the program for a moment.
pub fn probe() -> Result<DropDetail, DropsError> {
    let (offsets, reasons) = running_kernel()?;
    attach(|log| drops_probe_object(&offsets, &reasons, log))?;
    Ok(DropDetail::of(&offsets, &reasons))
}

/// Loads and attaches the program of a new object. Dropping the object detaches it.
fn attach(
    mut make: impl FnMut(VerifierLogLevel) -> Result<Ebpf, KernelError>,
) -> Result<(Ebpf, ProgramFd), DropsError> {
    let btf = AyaBtf::from_sys_fs()?;
    let mut object = make(VerifierLogLevel::DISABLE)?;
    match attach_program(&mut object, &btf) {
        Ok(program) => Ok((object, program)),
        // Load again with the verifier's log.
        Err(KernelError::Program { .. }) => {
            let mut object = make(VerifierLogLevel::DEBUG)?;
            let program = attach_program(&mut object, &btf)?;
            Ok((object, program))
        }
        Err(error) => Err(error.into()),
    }
}

/// Loads and attaches the program. Returns a descriptor of it.
fn attach_program(object: &mut Ebpf, btf: &AyaBtf) -> Result<ProgramFd, KernelError> {
    const NAME: &str = names::OBSERVE_DROP;
    let program: &mut BtfTracePoint = match object.program_mut(NAME).map(TryInto::try_into) {
        Some(Ok(program)) => program,
        _ => return Err(KernelError::Missing { kind: "program", name: NAME }),
    };
    let refused = |action| move |source| KernelError::Program { action, program: NAME, source };
    program.load(TRACEPOINT, btf).map_err(|source| match source {
        ProgramError::LoadError { verifier_log, .. } if !verifier_log.to_string().is_empty() => {
            KernelError::verifier(NAME, &verifier_log.to_string())
        }
        source => refused("loading")(source),
    })?;
    program.attach().map_err(refused("attaching"))?;
    let fd = program.fd().map_err(refused("holding"))?;
    fd.try_clone().map_err(|error| KernelError::call("holding the drops program", error))
}

/// Attaches the program. It ignores all drops until the first interface is watched.
pub fn watch(loader: &mut Loader) -> Result<(Drops, Watchlist), DropsError> {
    let (offsets, reasons) = running_kernel()?;
    let (mut object, program) = attach(|log| loader.drops_object(&offsets, &reasons, log))?;
    let watchlist = Watchlist::new(take_map(&mut object, names::WATCHED)?);
    let detail = DropDetail::of(&offsets, &reasons);
    Ok((Drops::new(object, program, reasons, detail)?, watchlist))
}

#[cfg(test)]
mod tests {
    use observer_ebpf::abi::UNKNOWN_REASON;

    use super::*;
    use crate::flow::DropReason;

    #[test]
    fn this_kernel_is_understood() {
        let (offsets, reasons) = match running_kernel() {
            Ok(found) => found,
            Err(BtfError::Read(error)) => {
                println!("SKIP this_kernel_is_understood: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert!((2..=4).contains(&offsets.arguments), "{offsets:?}");
        let words = offsets.layout.words();
        assert!(words.iter().all(|offset| *offset < 64 << 10), "{offsets:?}");
        // Few members have offset 0.
        assert!(words.iter().filter(|offset| **offset == 0).count() < 4, "{offsets:?}");
        if DropDetail::of(&offsets, &reasons) == DropDetail::Reasons {
            assert_eq!(reasons.policy(reasons.numbers.netfilter), Some(DropReason::Netfilter));
            assert_eq!(&*reasons.name(reasons.numbers.netfilter), "NETFILTER_DROP");
            assert_eq!(reasons.policy(UNKNOWN_REASON), None);
        }
    }
}
