//! A private Docker Engine: its folders, socket and network namespace differ from the machine's
//! own.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    daemon::Guard,
    lab::{PREFIX, remove},
    netns::Namespace,
    poll::{self, PATIENCE},
    requires::{self, Missing},
};

/// Image of every container: busybox, with links for the commands in use.
const IMAGE: &str = "busybox";

/// Programs that it needs on `PATH`.
pub fn required() -> Result<(), Missing> {
    for program in ["dockerd", "docker", "containerd", "containerd-shim-runc-v2", "runc", "busybox"]
    {
        requires::program(program)?;
    }
    Ok(())
}

/// A Docker Engine.
#[derive(Debug)]
pub struct Docker {
    root: PathBuf,
    engine: Option<Guard>,
    host: PathBuf,
}

/// A started container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Container ID.
    pub id: String,
    /// Its first process.
    pub pid: u32,
}

impl Docker {
    /// Starts an engine in the network namespace `host`, and loads the image.
    pub fn start(host: &Namespace) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Short, because socket paths are limited in length.
        let root = std::env::temp_dir().join(format!("{PREFIX}{}-d{number}", std::process::id()));
        fs::create_dir_all(&root)?;
        let mut docker = Self { root, engine: None, host: host.path().to_path_buf() };
        docker.start_engine()?;
        docker.import()?;
        Ok(docker)
    }

    /// Starts the engine with the state of an earlier one.
    pub fn start_engine(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.root.join("log"))?;
        let mut command =
            Command::new(requires::program("dockerd").map_err(|it| anyhow::anyhow!("{it}"))?);
        command
            .arg("--data-root")
            .arg(self.root.join("data"))
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("-p")
            .arg(self.root.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args([
                "--storage-driver",
                "vfs",
                "--iptables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ])
            .args(["--bridge=none", "--userland-proxy=false", "--live-restore"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        crate::netns::place_at(&self.host, &mut command)?;
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        self.engine = Some(Guard::spawn(&mut command)?);
        poll::until_true("the Docker Engine answers", PATIENCE, || {
            Ok(self.command().arg("version").output()?.status.success())
        })
        .with_context(|| self.said())
    }

    /// Kills the engine as a crash would; its containers keep running.
    pub fn kill_engine(&mut self) {
        self.engine = None;
        let _ = fs::remove_file(self.root.join("pid"));
        // Its containerd dies with it. If the zombie is not reaped, a new engine takes it for
        // alive.
        let file = self.exec_root().join("containerd/containerd.pid");
        let pid = fs::read_to_string(&file).unwrap_or_default();
        let ended = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            Ok(stat.is_empty() || stat.contains(") Z "))
        };
        let _ = poll::until_true("containerd is gone", PATIENCE, ended);
        let _ = fs::remove_file(file);
    }

    /// Path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("sock")
    }

    fn exec_root(&self) -> PathBuf {
        self.root.join("exec")
    }

    /// Folder of its network namespaces.
    pub fn netns_dir(&self) -> PathBuf {
        self.exec_root().join("netns")
    }

    fn said(&self) -> String {
        let text = fs::read_to_string(self.root.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("dockerd said:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).stdin(Stdio::null());
        // The client looks for plugins and settings in the home folder.
        command.env("HOME", &self.root).env("DOCKER_CONFIG", self.root.join("config"));
        command
    }

    /// Runs a client command and returns its output.
    pub fn output<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let mut command = self.command();
        command.args(args);
        let output = command.output().context("starting docker")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}\n{}", said.trim(), self.said());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn import(&self) -> Result<()> {
        let tree = self.root.join("image");
        fs::create_dir_all(tree.join("bin"))?;
        let busybox = requires::program("busybox").map_err(|it| anyhow::anyhow!("{it}"))?;
        fs::copy(busybox, tree.join("bin/busybox"))?;
        let packed = Command::new("tar").arg("-C").arg(&tree).args(["-c", "."]).output()?.stdout;
        let mut import = self.command();
        import.args(["import", "-", IMAGE]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut import = import.spawn()?;
        import.stdin.take().context("stdin")?.write_all(&packed)?;
        ensure!(import.wait()?.success(), "docker import failed; {}", self.said());
        Ok(())
    }

    /// Starts a container that sleeps.
    pub fn run(&self, args: &[String]) -> Result<Container> {
        let mut all = vec!["run".to_owned(), "-d".into(), "--init=false".into()];
        all.extend_from_slice(args);
        all.extend([IMAGE, "/bin/busybox", "sleep", "1000"].map(String::from));
        let id = self.output(&all)?;
        let pid = self.output(["inspect", "-f", "{{.State.Pid}}", &id])?.parse()?;
        Ok(Container { id, pid })
    }

    /// Removes containers, running or not.
    pub fn remove<'a>(&self, containers: impl IntoIterator<Item = &'a Container>) -> Result<()> {
        let ids: Vec<&str> =
            containers.into_iter().map(|container| container.id.as_str()).collect();
        self.output(["rm", "-f", "-v"].into_iter().chain(ids))?;
        Ok(())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
        if let Ok(ids) = self.output(["ps", "-aq"])
            && !ids.is_empty()
        {
            let _ = self.output(["rm", "-f", "-v"].into_iter().chain(ids.split_whitespace()));
        }
        // SIGTERM gives the engine time to stop its containerd.
        if let Some(engine) = &mut self.engine {
            engine.end(Signal::SIGTERM);
        }
        self.engine = None;
        // The containerd of a killed engine outlives it.
        let pid = fs::read_to_string(self.exec_root().join("containerd/containerd.pid"));
        if let Some(pid) = pid.ok().and_then(|pid| pid.trim().parse().ok()) {
            let ours = fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.contains(&*self.root.to_string_lossy()));
            if ours {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                let gone = || Ok(!Path::new(&format!("/proc/{pid}")).exists());
                let _ = poll::until_true("containerd is gone", PATIENCE, gone);
            }
        }
        remove(&self.root);
    }
}
