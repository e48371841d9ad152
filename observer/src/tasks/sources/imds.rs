//! The instance metadata service, version 2: the instance, and the ENIs that are attached to it.
//!
//! Branch ENIs are not attached to the instance and not listed. The service lists a new ENI some
//! time after its interface appears, so the list is requested again while a MAC address is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Method;
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use super::{
    backoff::Backoff,
    feed::Feed,
    http::{Http, HttpError},
    scene::Scene,
};
use crate::tasks::{
    Attribute, InterfaceKey, Mac,
    view::{Detail, EniView, View, add},
};

/// Lifetime of a token in seconds, the longest possible. A token is renewed after four fifths of
/// it.
const TOKEN_SECONDS: u64 = 21_600;
/// First and longest pause while an interface is not listed.
const UNLISTED: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];
/// Time after which an unlisted interface is taken not to be an ENI of the instance.
const GIVE_UP: Duration = Duration::from_mins(1);
/// First and longest pause while the service does not answer.
const SILENT: [Duration; 2] = [Duration::from_millis(500), Duration::from_mins(1)];

/// Requests the instance once, and each interface of the scene.
pub(super) async fn follow(url: String, feed: Feed, mut scene: watch::Receiver<Arc<Scene>>) {
    let mut service =
        Service { http: Http::new(), url: url.trim_end_matches('/').into(), token: None };
    let mut answers = Answers::default();
    let mut silent = Backoff::new(SILENT[0], SILENT[1]);
    loop {
        let now = Instant::now();
        answers.take(&scene.borrow_and_update());
        let answer = feed.heard(answers.ask(&mut service).await);
        // Answers received before an error are valid.
        if std::mem::take(&mut answers.changed) {
            feed.view(answers.view(), now);
        }
        let pause = match answer {
            Ok(()) => {
                silent.reset();
                feed.up();
                answers.next_pause()
            }
            Err(error) => {
                feed.down(error);
                Some(silent.pause())
            }
        };
        tokio::select! {
            () = sleep(pause.unwrap_or(Duration::from_hours(1))) => {}
            changed = scene.changed() => {
                if changed.is_err() {
                    return;
                }
                // Interfaces appear in groups; one request covers a group.
                sleep(UNLISTED[0]).await;
            }
        }
    }
}

/// Answers received, and interfaces to ask about.
#[derive(Default)]
struct Answers {
    instance: Option<(Vec<Detail>, Option<EniView>)>,
    interfaces: BTreeMap<InterfaceKey, Interface>,
    /// True if the view has changed since it was sent.
    changed: bool,
}

struct Interface {
    mac: Mac,
    /// Time at which the list first lacked it.
    unlisted: Option<Instant>,
    backoff: Backoff,
    eni: Option<EniView>,
}

impl Interface {
    fn is_waiting(&self) -> bool {
        self.eni.is_none() && self.unlisted.is_none_or(|since| since.elapsed() < GIVE_UP)
    }
}

impl Answers {
    fn take(&mut self, scene: &Scene) {
        let before = self.interfaces.len();
        self.interfaces.retain(|key, known| scene.interfaces.contains(&(*key, known.mac)));
        self.changed |= self.interfaces.len() != before;
        for (key, mac) in &scene.interfaces {
            // Each interface is requested anew: another ENI may have had its MAC address before.
            self.interfaces.entry(*key).or_insert_with(|| Interface {
                mac: *mac,
                unlisted: None,
                backoff: Backoff::new(UNLISTED[0], UNLISTED[1]),
                eni: None,
            });
        }
    }

    /// Requests everything that is missing.
    async fn ask(&mut self, service: &mut Service) -> Result<(), HttpError> {
        if self.instance.is_none() {
            self.instance = Some(service.instance().await?);
            self.changed = true;
        }
        if self.waiting().next().is_none() {
            return Ok(());
        }
        let listed = service.macs().await?;
        let now = Instant::now();
        for interface in self.interfaces.values_mut().filter(|it| it.is_waiting()) {
            if listed.contains(&interface.mac) {
                interface.eni = service.eni(interface.mac).await?;
                self.changed |= interface.eni.is_some();
            }
            if interface.eni.is_none() {
                interface.unlisted.get_or_insert(now);
            }
        }
        Ok(())
    }

    fn waiting(&mut self) -> impl Iterator<Item = &mut Interface> {
        self.interfaces.values_mut().filter(|it| it.is_waiting())
    }

    fn next_pause(&mut self) -> Option<Duration> {
        self.waiting().map(|it| it.backoff.pause()).min()
    }

    fn view(&self) -> View {
        let (host, primary) = self.instance.clone().unwrap_or_default();
        let enis =
            self.interfaces.iter().filter_map(|(key, it)| Some((*key, it.eni.clone()?))).collect();
        View { host, primary, enis, ..View::default() }
    }
}

/// Client of the service, with its session token.
struct Service {
    http: Http,
    url: Box<str>,
    token: Option<(String, Instant)>,
}

/// The fields used of `latest/dynamic/instance-identity/document`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    account_id: String,
    region: String,
    instance_id: String,
}

impl Service {
    /// Value at a path; `None` if the service answers 404.
    async fn get(&mut self, path: &str) -> Result<Option<String>, HttpError> {
        let url = format!("{}/latest/{path}", self.url);
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let answer = self
                .http
                .ask(Method::GET, &url, Some(("x-aws-ec2-metadata-token", &token)))
                .await?;
            match answer.status {
                200 => return Ok(Some(String::from_utf8_lossy(&answer.body).trim().to_owned())),
                404 => return Ok(None),
                // The service no longer accepts the token, for example after its restart.
                401 if !renewed => {
                    renewed = true;
                    self.token = None;
                }
                status => return Err(HttpError::Status { url, status }),
            }
        }
    }

    async fn token(&mut self) -> Result<String, HttpError> {
        let life = Duration::from_secs(TOKEN_SECONDS / 5 * 4);
        if let Some((token, since)) = &self.token
            && since.elapsed() < life
        {
            return Ok(token.clone());
        }
        let url = format!("{}/latest/api/token", self.url);
        let seconds = TOKEN_SECONDS.to_string();
        let since = Instant::now();
        let header = Some(("x-aws-ec2-metadata-token-ttl-seconds", seconds.as_str()));
        let answer = self.http.ask(Method::PUT, &url, header).await?;
        if answer.status != 200 {
            return Err(HttpError::Status { url, status: answer.status });
        }
        let token = String::from_utf8_lossy(&answer.body).trim().to_owned();
        self.token = Some((token.clone(), since));
        Ok(token)
    }

    /// Details of the instance, and its primary ENI.
    async fn instance(&mut self) -> Result<(Vec<Detail>, Option<EniView>), HttpError> {
        let document = self.get("dynamic/instance-identity/document").await?.unwrap_or_default();
        let document: Document = serde_json::from_str(&document).unwrap_or_default();
        let mut host = Vec::new();
        add(&mut host, Attribute::AccountId, &document.account_id);
        add(&mut host, Attribute::Region, &document.region);
        add(&mut host, Attribute::InstanceId, &document.instance_id);
        let zone = self.get("meta-data/placement/availability-zone-id").await?;
        add(&mut host, Attribute::AzId, &zone.unwrap_or_default());
        let mac = self.get("meta-data/mac").await?.and_then(|mac| mac.parse().ok());
        let primary = match mac {
            Some(mac) => self.eni(mac).await?,
            None => None,
        };
        // All ENIs of an instance are in one VPC, including branch ENIs, which are not listed.
        let vpc =
            primary.iter().flat_map(|eni| &eni.details).find(|(name, _)| *name == Attribute::VpcId);
        host.extend(vpc.cloned());
        Ok((host, primary))
    }

    /// MAC addresses of all ENIs that are attached to the instance.
    async fn macs(&mut self) -> Result<BTreeSet<Mac>, HttpError> {
        let list = self.get("meta-data/network/interfaces/macs/").await?.unwrap_or_default();
        Ok(list.lines().filter_map(|line| line.trim().trim_end_matches('/').parse().ok()).collect())
    }

    /// An ENI; `None` while the service does not give its id.
    async fn eni(&mut self, mac: Mac) -> Result<Option<EniView>, HttpError> {
        let mut details = Vec::new();
        for (leaf, attribute) in [
            ("interface-id", Attribute::InterfaceId),
            ("owner-id", Attribute::AccountId),
            ("subnet-id", Attribute::SubnetId),
            ("vpc-id", Attribute::VpcId),
            ("local-ipv4s", Attribute::EniIpv4),
            ("ipv6s", Attribute::EniIpv6),
        ] {
            let value =
                self.get(&format!("meta-data/network/interfaces/macs/{mac}/{leaf}")).await?;
            // The first address is the primary one.
            let value = value.unwrap_or_default();
            add(&mut details, attribute, value.lines().next().unwrap_or(""));
        }
        let named = details.iter().any(|(attribute, _)| *attribute == Attribute::InterfaceId);
        Ok(named.then_some(EniView { mac, details }))
    }
}
