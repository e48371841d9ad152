//! Delivery in real networks: through proxies, which are not used for metadata services, and with
//! private CAs.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    daemon::{Guard, Setup, free_address, run_to_end},
    fake_http::{FakeHttp, Reply},
    lab,
    lab::Lab,
    metrics::Metrics,
    need, poll,
    python::Python,
};
use serde_json::json;

/// A finished file of an earlier run.
fn file(lab: &Lab) -> Result<PathBuf> {
    let folder =
        lab.path("daemon-out").join("AWSLogs/111122223333/vpcflowlogs/eu-west-1/2026/11/20");
    fs::create_dir_all(&folder)?;
    let name =
        "111122223333_vpcflowlogs_eu-west-1_fl-0123456789abcdef0_20261120T1200Z_00000000.jsonl";
    fs::write(folder.join(name), "{\"version\":2}\n")?;
    Ok(folder.join(name))
}

fn deliver<'lab>(lab: &'lab Lab, endpoint: &str) -> Setup<'lab> {
    let setup =
        lab.daemon().window(600).set("deliver", "s3://flow-logs/fleet").set("region", "eu-west-1");
    setup.set("deliver-endpoint", endpoint)
}

fn delivered(page: &Metrics) -> bool {
    page.sum("observer_delivered_files_total", &[]) == 1
}

/// Response of a task's credentials endpoint.
fn credentials() -> Reply {
    let expiration = "2099-01-01T00:00:00Z";
    let body = json!({
        "AccessKeyId": "AKIDFROMROLE", "SecretAccessKey": "secret", "Token": "token", "Expiration": expiration,
        "RoleArn": "arn:aws:iam::111122223333:role/host"
    });
    Reply::ok(body.to_string())
}

/// A daemon configured with a proxy for all requests.
fn proxied<'lab>(setup: Setup<'lab>, proxy: &FakeHttp) -> Setup<'lab> {
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .fold(setup, |setup, name| setup.env(name, proxy.url()))
}

#[test]
fn a_store_is_reached_by_the_proxy_and_the_tasks_credentials_are_not() -> Result<()> {
    let lab = lab!();
    let file = file(&lab)?;
    let role = FakeHttp::start(|_| credentials())?;
    let token = lab.path("token");
    fs::write(&token, "a token")?;
    // It is both the proxy and the store.
    let proxy = FakeHttp::start(|_| Reply::ok(""))?;
    let setup = deliver(&lab, "http://store.test.invalid")
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
    let setup =
        setup.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", role.url()));
    let daemon = proxied(setup, &proxy).start()?;
    daemon.wait("the file is delivered", delivered)?;
    daemon.stop()?;
    assert!(!file.exists());
    assert!(
        role.asked().iter().all(|request| request.path == "/v1/credentials"),
        "{:?}",
        role.asked()
    );
    assert!(!role.asked().is_empty(), "nobody asked for credentials");
    let asked = proxy.asked();
    assert!(
        asked.iter().all(|request| request.path.starts_with("http://store.test.invalid/")),
        "{asked:?}"
    );
    let put = asked.iter().find(|request| request.method == "PUT").context("a PUT")?;
    assert!(put.headers["authorization"].contains("AKIDFROMROLE"), "{put:?}");
    Ok(())
}

#[test]
fn the_instance_metadata_service_is_never_asked_by_a_proxy() -> Result<()> {
    let lab = lab!();
    let file = file(&lab)?;
    let proxy = FakeHttp::start(|_| Reply::status(403))?;
    // The instance's credentials are the only possible ones, and this is no instance.
    let daemon = proxied(deliver(&lab, "http://store.test.invalid"), &proxy).start()?;
    daemon.wait("the delivery fails", |page| {
        page.get("observer_delivery_failing", &[]) == Some(1.0)
    })?;
    assert!(daemon.said().contains("give the host or the task a role"), "{}", daemon.said());
    daemon.stop()?;
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
    assert!(file.exists());
    Ok(())
}

#[test]
fn sources_on_this_host_are_never_asked_by_a_proxy() -> Result<()> {
    let lab = lab!();
    let proxy = FakeHttp::start(|_| Reply::status(403))?;
    let host = FakeHttp::start(|_| Reply::status(404))?;
    let setup = lab.daemon().sources(&["netns", "imds", "introspection", "tmds"]);
    let setup = setup.set("imds-url", host.url()).set("introspection-url", host.url());
    let daemon = proxied(setup.set("tmds-url", host.url()), &proxy).start()?;
    poll::until_true("the sources are asked", poll::PATIENCE, || {
        let asked = host.asked();
        let has = |path: &str| asked.iter().any(|request| request.path.starts_with(path));
        Ok(has("/latest/api/token") && has("/v1/metadata"))
    })?;
    daemon.stop()?;
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
    Ok(())
}

/// A store with TLS and a certificate of an unknown CA.
struct TlsStore {
    _process: Guard,
    address: SocketAddr,
    ca: PathBuf,
    log: PathBuf,
}

impl TlsStore {
    fn start(lab: &Lab, python: &Python) -> Result<Self> {
        let address = free_address()?;
        let (ca, log) = (lab.path("ca.pem"), lab.path("paths"));
        let arguments =
            [OsString::from(address.port().to_string()), ca.clone().into(), log.clone().into()];
        let mut command = python.script("tls_store.py", arguments);
        let errors = lab.path("tls-store.log");
        command.stdout(Stdio::null()).stderr(fs::File::create(&errors)?);
        let process = Guard::spawn(&mut command)?;
        poll::until_true("the store listens", poll::PATIENCE * 2, || Ok(ca.exists()))
            .with_context(|| fs::read_to_string(&errors).unwrap_or_default())?;
        Ok(Self { _process: process, address, ca, log })
    }

    fn deliver<'lab>(&self, lab: &'lab Lab) -> Setup<'lab> {
        let setup = deliver(lab, &format!("https://{}", self.address));
        setup.env("AWS_ACCESS_KEY_ID", "observer").env("AWS_SECRET_ACCESS_KEY", "observer")
    }
}

#[test]
fn a_private_ca_is_trusted_where_a_flag_or_awss_variable_names_it() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let store = TlsStore::start(&lab, &python)?;
    let file = file(&lab)?;
    let daemon = store.deliver(&lab).start()?;
    daemon.wait("the delivery fails", |page| {
        page.get("observer_delivery_failing", &[]) == Some(1.0)
    })?;
    assert!(daemon.said().contains("--ca-bundle"), "{}", daemon.said());
    daemon.stop()?;
    assert!(file.exists() && !store.log.exists());
    for setup in [
        store.deliver(&lab).set("ca-bundle", &store.ca),
        store.deliver(&lab).env("AWS_CA_BUNDLE", &store.ca),
    ] {
        self::file(&lab)?;
        let _ = fs::remove_file(&store.log);
        let daemon = setup.start()?;
        daemon.wait("the file is delivered", delivered)?;
        daemon.stop()?;
        assert!(fs::read_to_string(&store.log)?.starts_with("/flow-logs/fleet/AWSLogs/"));
    }
    Ok(())
}

#[test]
fn a_bundle_that_is_none_is_refused_by_the_name_that_was_used() -> Result<()> {
    let lab = lab!();
    let broken = lab.path("broken.pem");
    fs::write(&broken, "no certificate")?;
    let by_flag = lab.daemon().set("ca-bundle", &broken);
    let by_variable = lab.daemon().env("AWS_CA_BUNDLE", &broken);
    let missing = lab.daemon().env("AWS_CA_BUNDLE", Path::new("/nowhere.pem"));
    for (setup, words) in [
        (by_flag, ["--ca-bundle", "broken.pem"]),
        (by_variable, ["AWS_CA_BUNDLE", "broken.pem"]),
        (missing, ["AWS_CA_BUNDLE", "/nowhere.pem"]),
    ] {
        let exit = run_to_end(&mut setup.command()?.0, Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
        assert!(words.iter().all(|word| exit.stderr.contains(word)), "{}", exit.stderr);
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    }
    Ok(())
}
