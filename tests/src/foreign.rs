//! eBPF programs of third parties, a few instructions each. They drop packets longer than a limit.

use std::{
    cell::Cell,
    ffi::CString,
    fs,
    io::{self, Write as _},
    net::{SocketAddr, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd as _, IntoRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};

use crate::{lab::Lab, netns::Namespace, tally::Direction, veth::Interface};

const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const PROG_ATTACH: libc::c_long = 8;
const LINK_DETACH: libc::c_long = 34;

/// The hook of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A TC filter on ingress.
    TcIngress,
    /// A TC filter on egress.
    TcEgress,
    /// XDP, generic or in the driver.
    Xdp {
        /// The mode for `ip link`: `xdpgeneric` or `xdpdrv`.
        mode: &'static str,
    },
}

/// Encodes an instruction: operation, registers, offset, constant.
const fn instruction(operation: u8, registers: u8, offset: i16, constant: i32) -> u64 {
    let (offset, constant) = (offset as u16 as u64, constant as u32 as u64);
    operation as u64 | (registers as u64) << 8 | offset << 16 | constant << 32
}

/// A program that returns `length > limit ? over : below`. The instructions `length` load the
/// length into `r2`.
fn program(length: &[u64], limit: i32, over: i32, below: i32) -> Vec<u64> {
    const MOVE: u8 = 0xb7;
    const JUMP_GREATER: u8 = 0x25;
    const EXIT: u8 = 0x95;
    let verdict = [
        instruction(MOVE, 0, 0, over),
        instruction(JUMP_GREATER, 2, 1, limit),
        instruction(MOVE, 0, 0, below),
        instruction(EXIT, 0, 0, 0),
    ];
    [length, &verdict].concat()
}

/// `r2 = *(u32 *)(r1 + 0)`: the length in a `struct __sk_buff`.
const BUFFER_LENGTH: [u64; 1] = [instruction(0x61, 0x12, 0, 0)];
/// `r2 = data_end - data` in a `struct xdp_md`.
const FRAME_LENGTH: [u64; 3] =
    [instruction(0x61, 0x12, 4, 0), instruction(0x61, 0x13, 0, 0), instruction(0x1f, 0x32, 0, 0)];

/// Makes a program drop frames longer than `limit` on an interface.
pub fn drop_longer(lab: &Lab, on: &Interface, hook: Hook, limit: i32) -> Result<()> {
    const SCHED_CLS: u32 = 3;
    const XDP: u32 = 6;
    const SHOT: i32 = 2;
    const UNSPECIFIED: i32 = -1;
    const XDP_DROP: i32 = 1;
    const XDP_PASS: i32 = 2;
    let (kind, code) = match hook {
        Hook::TcIngress | Hook::TcEgress => {
            (SCHED_CLS, program(&BUFFER_LENGTH, limit, SHOT, UNSPECIFIED))
        }
        Hook::Xdp { .. } => (XDP, program(&FRAME_LENGTH, limit, XDP_DROP, XDP_PASS)),
    };
    let folder = lab.path("foreign");
    if !folder.exists() {
        fs::create_dir(&folder)?;
        mount(Some("bpf"), &folder, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("mounting a BPF file system")?;
    }
    let pin = folder.join(format!("{hook:?}").replace(|c: char| !c.is_alphanumeric(), ""));
    load(kind, 0, &code)?.pin(&pin)?;
    let pin = pin.to_str().context("a name in UTF-8")?;
    let name = on.name();
    let run = |program, args: &[&str]| on.namespace().output(program, args).map(drop);
    match hook {
        Hook::TcIngress | Hook::TcEgress => {
            let side = if hook == Hook::TcIngress { "ingress" } else { "egress" };
            // The qdisc may exist already.
            let _ = run("tc", &["qdisc", "add", "dev", name, "clsact"]);
            let filter =
                ["filter", "add", "dev", name, side, "prio", "9", "bpf", "da", "pinned", pin];
            run("tc", &filter)
        }
        Hook::Xdp { mode } => run("ip", &["link", "set", "dev", name, mode, "pinned", pin]),
    }
}

/// Detaches all TCX links from an interface, whoever attached them.
pub fn detach_tcx(interface: &Interface, directions: &[Direction]) -> Result<()> {
    let ids = interface.namespace().run(|| {
        let ids = directions.iter().map(|direction| tcx_links(interface.index(), *direction));
        Ok(ids.collect::<Result<Vec<_>>>()?.concat())
    })?;
    ensure!(!ids.is_empty(), "{} has no links of TCX", interface.id());
    for id in ids {
        bpf(LINK_DETACH, &[link(id)?.as_raw_fd() as u32])?;
    }
    Ok(())
}

/// Detaches the XDP link from an interface, whoever attached it.
pub fn detach_xdp(interface: &Interface) -> Result<()> {
    const LINK_GET_NEXT_ID: libc::c_long = 31;
    const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    /// Leading words of `struct bpf_link_info`: type, ID, program.
    const WORDS: usize = 3;
    const PROGRAM: usize = 2;
    let text =
        interface.namespace().output("ip", &["-json", "link", "show", "dev", interface.name()])?;
    let links: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let wanted = links[0]["xdp"]["prog"]["id"]
        .as_u64()
        .with_context(|| format!("no XDP program: {text}"))?;
    // `start_id`, and `next_id`, which the kernel writes.
    let next = [const { Cell::new(0_u32) }; 3];
    while bpf(LINK_GET_NEXT_ID, &next).is_ok() {
        next[0].set(next[1].get());
        // The link may have gone in the meantime.
        let Ok(link) = link(next[0].get()) else { continue };
        let mut info = [0_u32; WORDS + 1];
        let len = u64::from(link.as_raw_fd() as u32) | (size_of_val(&info) as u64) << 32;
        bpf(OBJ_GET_INFO_BY_FD, &[len, (&raw mut info) as u64])?;
        if u64::from(info[PROGRAM]) == wanted {
            bpf(LINK_DETACH, &[link.as_raw_fd() as u32])?;
            return Ok(());
        }
    }
    bail!("no link has the XDP program {wanted}")
}

fn link(id: u32) -> Result<OwnedFd> {
    const LINK_GET_FD_BY_ID: libc::c_long = 30;
    let fd = bpf(LINK_GET_FD_BY_ID, &[id, 0, 0])?;
    // SAFETY: a descriptor that the kernel has just given us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// IDs of the TCX links on an interface in the thread's namespace.
fn tcx_links(index: u32, direction: Direction) -> Result<Vec<u32>> {
    const PROG_QUERY: libc::c_long = 16;
    const TCX_INGRESS: u32 = 46;
    const ROOM: usize = 64;
    /// `union bpf_attr` of the query command.
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target: u32,
        attach_type: u32,
        flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let (mut programs, mut links) = ([0_u32; ROOM], [0_u32; ROOM]);
    let query = Query {
        target: index,
        attach_type: TCX_INGRESS + direction as u32,
        programs: (&raw mut programs) as u64,
        links: (&raw mut links) as u64,
        count: ROOM as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &query).context("asking for the links of an interface")?;
    Ok(links.into_iter().filter(|id| *id != 0).collect())
}

/// A control group of version 2 with a program.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

impl Group {
    /// Creates an empty group with this name.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let root = lab.path("groups");
        if !root.exists() {
            fs::create_dir(&root)?;
            mount(Some("none"), &root, Some("cgroup2"), MsFlags::empty(), None::<&str>)
                .context("mounting the control groups")?;
        }
        let folder = root.join(name);
        fs::create_dir(&folder)?;
        Ok(Self { folder })
    }

    /// Creates a group that drops packets longer than `limit` in one direction.
    pub fn that_drops_longer(lab: &Lab, direction: Direction, limit: i32) -> Result<Self> {
        const CGROUP_SKB: u32 = 8;
        let attach_type = direction as u32;
        let group = Self::new(lab, &format!("observer-e2e-{}-{direction}", process::id()))?;
        let program = load(CGROUP_SKB, attach_type, &program(&BUFFER_LENGTH, limit, 0, 1))?.0;
        let file = fs::File::open(&group.folder)?;
        let attributes = [file.as_raw_fd() as u32, program.as_raw_fd() as u32, attach_type, 0];
        bpf(PROG_ATTACH, &attributes).context("attaching a program to a control group")?;
        Ok(group)
    }

    /// Makes `command` start in it.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        let mut members =
            fs::OpenOptions::new().write(true).open(self.folder.join("cgroup.procs"))?;
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(move || members.write_all(b"0")) };
        Ok(())
    }

    /// Starts a process in the group that keeps a UDP port open and reads nothing.
    pub fn listen(&self, namespace: &Namespace, address: SocketAddr) -> Result<Listener> {
        // It waits for events that never come.
        let mut command = Command::new("ip");
        command.args(["monitor", "prefix"]).stdin(Stdio::null()).stdout(Stdio::null());
        namespace.place(&mut command)?;
        self.place(&mut command)?;
        let open = move || {
            let socket = UdpSocket::bind(address)?;
            // SAFETY: a descriptor of our own, which is to stay open.
            let kept = unsafe { libc::fcntl(socket.into_raw_fd(), libc::F_SETFD, 0) };
            if kept == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(open) };
        Ok(Listener(command.spawn().context("starting ip")?))
    }
}

/// A process with an open port. It ends with this value.
#[derive(Debug)]
pub struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Makes a socket drop everything that it receives.
pub fn deafen(socket: &impl AsRawFd) -> Result<()> {
    const RETURN: u16 = 0x06;
    let mut nothing = libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: 0 };
    let filter = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    // SAFETY: the option is a `sock_fprog`, which outlives the call, and so does what it points to.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "SO_ATTACH_FILTER: {}", io::Error::last_os_error());
    Ok(())
}

struct Loaded(OwnedFd);

impl Loaded {
    fn pin(&self, path: &Path) -> Result<()> {
        let text = CString::new(path.as_os_str().as_bytes())?;
        let attributes = [text.as_ptr() as u64, u64::from(self.0.as_raw_fd() as u32)];
        bpf(OBJ_PIN, &attributes)
            .with_context(|| format!("pinning a program to {}", path.display()))?;
        Ok(())
    }
}

fn load(kind: u32, expected_attach_type: u32, code: &[u64]) -> Result<Loaded> {
    /// Index of `expected_attach_type` in 64-bit words of `union bpf_attr`.
    const EXPECTED: usize = 8;
    let license = c"GPL";
    let mut attributes = [0_u64; EXPECTED + 1];
    attributes[0] = u64::from(kind) | (code.len() as u64) << 32;
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    attributes[EXPECTED] = u64::from(expected_attach_type) << 32;
    let fd = bpf(PROG_LOAD, &attributes).context("loading a program of a few instructions")?;
    // SAFETY: a descriptor that the kernel has just given us.
    Ok(Loaded(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<libc::c_int> {
    // SAFETY: the attributes are those of the command, and what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    ensure!(result >= 0, "bpf({command}): {}", io::Error::last_os_error());
    Ok(result as libc::c_int)
}
