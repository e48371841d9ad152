//! Workers that start and stop tasks of one network mode at random.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    docker::Container,
    ecs_host::{BRIDGE_MAC, EcsHost, RunningTask},
    fake_ecs::FakeTask,
    netns::Namespace,
    tally::Tally,
    veth::{Mac, Task, ip_batch},
};

use super::{UDP, carried};

/// Most tasks of each mode.
const SLOTS: usize = 10;

const GATEWAY: &str = "10.77.0.1";

/// Deterministic pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A running task.
pub(super) enum Live {
    Awsvpc(Box<(RunningTask, Task)>),
    Bridge(RunningTask, Namespace),
    Host(RunningTask),
}

/// Total traffic of a task's interface when it was stopped.
pub(super) struct Ended {
    pub(super) ecs: FakeTask,
    pub(super) carried: Tally,
}

/// State shared by the workers.
pub(super) struct Churn<'a> {
    host: &'a EcsHost<'a>,
    ended: Mutex<BTreeMap<String, Ended>>,
    number: AtomicU32,
    started: AtomicUsize,
}

impl<'a> Churn<'a> {
    pub(super) fn new(host: &'a EcsHost<'a>) -> Self {
        Self {
            host,
            ended: Mutex::default(),
            number: AtomicU32::new(0x1000),
            started: AtomicUsize::new(0),
        }
    }

    /// The tasks that were stopped, by ID.
    pub(super) fn into_ended(self) -> BTreeMap<String, Ended> {
        self.ended.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task, with the MAC address and the IP address of its slot.
    pub(super) fn start(&self, mode: &str, mac: Mac) -> Result<Live> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
        let ecs = EcsHost::ecs(mac, &format!("{mode}-{number}"), number);
        Ok(match mode {
            "awsvpc" => {
                let (running, task) = self.host.awsvpc(ecs, mac, 1)?;
                Live::Awsvpc(Box::new((running, task)))
            }
            "bridge" => {
                let running = self.host.bridge(ecs, 1)?;
                let space = self.host.namespace(&running.containers[0])?;
                self.join(&running.containers[0], &space)?;
                Live::Bridge(running, space)
            }
            _ => Live::Host(self.host.without_namespace(ecs, "host")?),
        })
    }

    /// Adds a container and its bridge to each other's neighbour tables, so that there is no ARP.
    fn join(&self, container: &Container, space: &Namespace) -> Result<()> {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}";
        let known = self.host.docker.output(["inspect", "-f", address, &container.id])?;
        let (address, mac) = known.split_once(' ').context("address and MAC")?;
        ip_batch(
            space,
            &format!("neigh replace {GATEWAY} lladdr {BRIDGE_MAC} dev eth0 nud permanent\n"),
        )?;
        ip_batch(
            &self.host.host,
            &format!("neigh replace {address} lladdr {mac} dev ecsbr0 nud permanent\n"),
        )
    }

    pub(super) fn talk(live: &Live) -> Result<()> {
        match live {
            Live::Awsvpc(it) => drop(UDP.send(&it.1.inside, &it.1.outside)?),
            Live::Bridge(_, space) => {
                drop(space.output("ping", &["-c", "3", "-i", "0.01", GATEWAY])?);
            }
            Live::Host(_) => {}
        }
        Ok(())
    }

    pub(super) fn stop(&self, live: Live) -> Result<()> {
        let (running, carried) = match live {
            Live::Awsvpc(it) => {
                let (running, task) = *it;
                let carried = carried(task.inside.namespace())?;
                drop(task.end());
                (running, carried)
            }
            Live::Bridge(running, space) => {
                let carried = carried(&space)?;
                (running, carried)
            }
            Live::Host(running) => (running, Tally::default()),
        };
        self.host.stop(&running)?;
        let ended = Ended { ecs: running.ecs, carried };
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ended.ecs.id.clone(), ended);
        Ok(())
    }

    /// Starts and stops tasks of one mode, and sends traffic, until the time is over.
    pub(super) fn run(&self, mode: &str, seed: u64, until: Instant) -> Result<()> {
        let mut dice = Dice(seed);
        let macs: Vec<Mac> = (0..SLOTS).map(|_| Mac::fresh()).collect();
        let mut slots: Vec<Option<Live>> = (0..SLOTS).map(|_| None).collect();
        while Instant::now() < until {
            let slot = dice.roll(SLOTS);
            slots[slot] = match slots[slot].take() {
                None => Some(self.start(mode, macs[slot])?),
                Some(live) if dice.roll(3) == 0 => {
                    self.stop(live)?;
                    // The next task has the same MAC and IP address at once.
                    Some(self.start(mode, macs[slot])?)
                }
                Some(live) if dice.roll(2) == 0 => {
                    self.stop(live)?;
                    None
                }
                some => some,
            };
            for live in slots.iter().flatten() {
                Self::talk(live)?;
            }
        }
        slots.into_iter().flatten().try_for_each(|live| self.stop(live))
    }
}
