//! Private network namespaces, bound to private files that `ip netns` and other runs do not see.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{fs::MetadataExt as _, process::CommandExt as _},
    },
    panic,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// A network namespace that lives as long as this value or another holder.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
    inode: u64,
}

impl Namespace {
    /// Creates a namespace and binds it to a new file, in the two steps of `ip netns add`.
    pub fn create(path: &Path) -> Result<Self> {
        File::create_new(path).with_context(|| format!("creating {}", path.display()))?;
        let born = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare(CLONE_NEWNET)")?;
            let this = "/proc/thread-self/ns/net";
            mount(Some(this), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("binding a namespace to {}", path.display()))?;
            Ok(fs::metadata(path)?.ino())
        });
        if born.is_err() {
            let _ = fs::remove_file(path);
        }
        Ok(Self { path: path.to_path_buf(), inode: born? })
    }

    /// The namespace of a process, bound to a private file. It lives as long as this value or the
    /// process.
    pub fn of_process(pid: u32, path: &Path) -> Result<Self> {
        File::create_new(path).with_context(|| format!("creating {}", path.display()))?;
        let of = format!("/proc/{pid}/ns/net");
        mount(Some(of.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("binding {of} to {}", path.display()))?;
        Ok(Self { path: path.to_path_buf(), inode: fs::metadata(path)?.ino() })
    }

    /// Binds the namespace to a further file, which is removed with the returned value.
    pub fn again(&self, path: &Path) -> Result<Self> {
        self.bind(path)?;
        Ok(Self { path: path.to_path_buf(), inode: self.inode })
    }

    /// Path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode, which identifies it in the kernel.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` inside, on a temporary thread. Sockets created there stay in the namespace and
    /// keep it alive.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file =
            File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        on_a_thread(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("setns")?;
            drop(file);
            work()
        })
    }

    /// Binds it to a further file, which stays until it is unmounted.
    pub fn bind(&self, path: &Path) -> Result<()> {
        File::create_new(path).with_context(|| format!("creating {}", path.display()))?;
        mount(Some(&self.path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("binding a namespace to {}", path.display()))
    }

    /// A second handle of the namespace with its own file, for a further interface in it.
    pub fn also(&self, path: &Path) -> Result<Self> {
        self.bind(path)?;
        Ok(Self { path: path.to_path_buf(), inode: self.inode })
    }

    /// Removes such a file.
    pub fn unbind(path: &Path) -> Result<()> {
        umount2(path, MntFlags::MNT_DETACH)?;
        Ok(fs::remove_file(path)?)
    }

    /// Assigns `id` to another namespace as seen from this one (`RTM_NEWNSID`).
    pub fn number(&self, other: &Self, id: i32) -> Result<()> {
        const RTM_NEWNSID: u16 = 88;
        const NETNSA_NSID: u16 = 1;
        const NETNSA_FD: u16 = 3;
        let file = File::open(&other.path)?;
        let attribute = |kind: u16, value: [u8; 4]| {
            [&8_u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value].concat()
        };
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let message = [
            &36_u32.to_ne_bytes()[..],
            &RTM_NEWNSID.to_ne_bytes(),
            &flags.to_ne_bytes(),
            // sequence, port, and a `struct rtgenmsg` with its padding
            &[0; 12],
            &attribute(NETNSA_NSID, id.to_ne_bytes()),
            &attribute(NETNSA_FD, file.as_raw_fd().to_ne_bytes()),
        ]
        .concat();
        self.run(|| {
            let (kind, protocol) = (SockType::Raw, SockProtocol::NetlinkRoute);
            let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
            send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
            let mut answer = [0; 64];
            let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            // Error 0 behind the header is an acknowledgement.
            ensure!(
                len >= 20 && answer[16..20] == [0; 4],
                "RTM_NEWNSID is answered by {:?}",
                &answer[..len]
            );
            Ok(())
        })
    }

    /// Makes `command` start inside. The command keeps the namespace alive until it is dropped.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        place_at(&self.path, command)
    }

    /// Runs a program inside to completion and returns its output.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        output(&self.path, program, args)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes `command` start inside the namespace with this file.
pub(crate) fn place_at(namespace: &Path, command: &mut Command) -> Result<()> {
    let file = File::open(namespace)?;
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(move || Ok(setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?)) };
    Ok(())
}

/// Runs a program in the namespace with this file to completion and returns its output.
pub(crate) fn output(path: &Path, program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    place_at(path, &mut command)?;
    let output = command.output().with_context(|| format!("starting {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs `work` on a thread, which may leave its namespace and end; the test's own thread must not.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}
