//! An ECS container instance: a Docker Engine whose task containers are started and labelled as by
//! the ECS agent.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use crate::{
    docker::{Container, Docker},
    fake_ecs::FakeTask,
    lab::Lab,
    netns::Namespace,
    veth::{Addresses, Mac, Task, hush, ip_batch, quiet},
};

/// Name of the pause container, which holds a task's network namespace.
const PAUSE: &str = "~internal~ecs~pause";
/// Name of the bridge of tasks in bridge mode.
const BRIDGE: &str = "ecsbr0";
/// Its MAC address.
pub const BRIDGE_MAC: &str = "02:39:77:00:00:01";

/// A container instance.
#[derive(Debug)]
pub struct EcsHost<'lab> {
    /// Its Docker Engine.
    pub docker: Docker,
    /// The network namespace of its host.
    pub host: Namespace,
    lab: &'lab Lab,
}

/// A running task.
#[derive(Debug)]
pub struct RunningTask {
    /// The task's metadata at the agent and EC2.
    pub ecs: FakeTask,
    /// Its containers without the pause container.
    pub containers: Vec<Container>,
    pause: Option<Container>,
}

impl<'lab> EcsHost<'lab> {
    /// Starts an instance without tasks.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        let host = lab.other_namespace("ecs-host")?;
        // Without this, a bridge port would send packets of its own to all containers.
        host.run(|| hush(false))?;
        ip_batch(&host, "link set lo up\n")?;
        Ok(Self { docker: Docker::start(&host)?, host, lab })
    }

    /// Starts a container of a task.
    pub fn container(&self, ecs: &FakeTask, name: &str, more: &[String]) -> Result<Container> {
        let mut args: Vec<String> = Vec::new();
        for (label, value) in [
            ("task-arn", ecs.arn_of_task()),
            ("container-name", name.to_owned()),
            ("task-definition-family", ecs.family.clone()),
            ("task-definition-version", ecs.revision.to_string()),
            ("cluster", ecs.cluster.clone()),
        ] {
            args.extend(["--label".into(), format!("com.amazonaws.ecs.{label}={value}")]);
        }
        args.extend_from_slice(more);
        self.docker.run(&args)
    }

    /// Starts the app containers of a task in a Docker network mode.
    fn apps(&self, ecs: &mut FakeTask, count: usize, network: &str) -> Result<Vec<Container>> {
        ecs.containers.clear();
        let mut containers = Vec::new();
        for number in 0..count {
            let endpoint = format!(
                "ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/{}",
                ecs.endpoint_id(number)
            );
            let more =
                ["--network", network, "-e", "PASSWORD=s3cret", "-e", &endpoint].map(String::from);
            let container = self.container(ecs, &FakeTask::container_name(number), &more)?;
            ecs.containers.push(container.id.clone());
            containers.push(container);
        }
        Ok(containers)
    }

    /// Starts the pause container of a task.
    pub fn pause(&self, ecs: &FakeTask) -> Result<Container> {
        self.container(ecs, PAUSE, &["--network", "none"].map(String::from))
    }

    /// Starts a task in awsvpc mode with `count` containers: the pause container first, then the
    /// ENI, then the others.
    pub fn awsvpc(&self, mut ecs: FakeTask, mac: Mac, count: usize) -> Result<(RunningTask, Task)> {
        let pause = self.pause(&ecs)?;
        let task =
            self.attach(&ecs, &pause, mac, Addresses { ipv6: false, ..Addresses::default() })?;
        let containers = self.apps(&mut ecs, count, &format!("container:{}", pause.id))?;
        Ok((RunningTask { ecs, containers, pause: Some(pause) }, task))
    }

    /// Moves an ENI into the namespace of a pause container.
    pub fn attach(
        &self,
        ecs: &FakeTask,
        pause: &Container,
        mac: Mac,
        addresses: Addresses,
    ) -> Result<Task> {
        let inside = Namespace::of_process(
            pause.pid,
            &self.lab.path("peers").join(format!("in-{}", pause.id)),
        )?;
        let outside = self.lab.other_namespace(&format!("out-{}-{}", ecs.id, pause.id))?;
        let task = Task::attach(inside, outside, mac, addresses)?;
        quiet(std::slice::from_ref(&task))?;
        Ok(task)
    }

    /// Metadata of a task whose ENI has this MAC address.
    pub fn ecs(mac: Mac, service: &str, number: u32) -> FakeTask {
        FakeTask::with(mac, IpAddr::V4(Addresses::default().inside.0), service, number)
    }

    /// Starts a task in bridge mode.
    pub fn bridge(&self, mut ecs: FakeTask, count: usize) -> Result<RunningTask> {
        if self.docker.output(["network", "inspect", BRIDGE]).is_err() {
            let name = format!("com.docker.network.bridge.name={BRIDGE}");
            self.docker.output([
                "network",
                "create",
                "--subnet",
                "10.77.0.0/24",
                "-o",
                &name,
                BRIDGE,
            ])?;
            // A fixed address; otherwise it changes with the bridge's ports.
            ip_batch(&self.host, &format!("link set {BRIDGE} address {BRIDGE_MAC}\n"))?;
        }
        ecs.mode = "bridge".into();
        let containers = self.apps(&mut ecs, count, BRIDGE)?;
        Ok(RunningTask { ecs, containers, pause: None })
    }

    /// Starts a task that uses the host's network, or none.
    pub fn without_namespace(&self, mut ecs: FakeTask, mode: &str) -> Result<RunningTask> {
        ecs.mode = mode.into();
        let containers = self.apps(&mut ecs, 1, mode)?;
        Ok(RunningTask { ecs, containers, pause: None })
    }

    /// The namespace of a container, bound to a file until it is dropped.
    pub fn namespace(&self, container: &Container) -> Result<Namespace> {
        Namespace::of_process(
            container.pid,
            &self.lab.path("peers").join(format!("of-{}", container.id)),
        )
    }

    /// Kills the pause container of a task.
    pub fn kill_pause(&self, task: &RunningTask) -> Result<()> {
        let pause = task.pause.as_ref().context("the pause container")?;
        self.docker.output(["kill", "--signal", "KILL", &pause.id])?;
        Ok(())
    }

    /// Stops a task, the pause container last.
    pub fn stop(&self, task: &RunningTask) -> Result<()> {
        self.docker.remove(&task.containers)?;
        task.pause.iter().try_for_each(|pause| self.docker.remove([pause]))
    }
}
