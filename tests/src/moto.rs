//! AWS simulated by moto: a cluster with one container instance, and tasks with ENIs.

use std::{ffi::OsString, fs::File, net::SocketAddr};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::{
    daemon::{Guard, free_address},
    http,
    lab::Lab,
    poll::{self, PATIENCE},
    python::Python,
    requires::Missing,
    veth::Mac,
};

/// Programs that it needs.
pub fn required() -> Result<(), Missing> {
    Python::find().map(drop)
}

const REGION: &str = "eu-west-1";
const CLUSTER: &str = "shop";
/// An image that moto has from the start.
const IMAGE: &str = "ami-03cf127a";
const FAMILY: &str = "web-family";

/// A moto server.
#[derive(Debug)]
pub struct Moto {
    address: SocketAddr,
    subnet: String,
    /// The EC2 instance of the cluster's container instance.
    pub instance: String,
    _server: Guard,
}

/// Temporary credentials of a role that may use the API.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
    /// `AWS_SESSION_TOKEN`.
    pub token: String,
}

/// A task, as the API describes it.
#[derive(Clone, Debug)]
pub struct MotoTask {
    /// Its ARN.
    pub arn: String,
    /// Its ENI's MAC address.
    pub mac: Mac,
    /// Its ENI's id.
    pub eni: String,
    /// Its ENI's subnet.
    pub subnet: String,
}

impl Moto {
    /// Starts a server with an empty cluster.
    pub fn start(lab: &Lab) -> Result<Self> {
        let address = free_address()?;
        let log = File::create(lab.path("moto.log"))?;
        let python = Python::find().map_err(|missing| anyhow!("{missing}"))?;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command =
            python.script("ecs_api.py", ["-H", &host, "-p", &port].map(OsString::from));
        command.stdout(log.try_clone()?).stderr(log);
        let server = Guard::spawn(&mut command)?;
        let mut moto =
            Self { address, subnet: String::new(), instance: String::new(), _server: server };
        poll::until_true("moto answers", PATIENCE, || {
            Ok(http::get(address, "/moto-api/", None).is_ok_and(|answer| answer.status == 200))
        })?;
        let vpc = moto.ec2("Action=CreateVpc&CidrBlock=10.0.0.0/16", "vpcId")?;
        moto.ec2(
            &format!("Action=ModifyVpcAttribute&VpcId={vpc}&EnableDnsHostnames.Value=true"),
            "requestId",
        )?;
        moto.subnet = moto
            .ec2(&format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.0.4.0/24"), "subnetId")?;
        let run = format!(
            "Action=RunInstances&ImageId={IMAGE}&MinCount=1&MaxCount=1&SubnetId={}",
            moto.subnet
        );
        moto.instance = moto.ec2(&run, "instanceId")?;
        moto.ecs("CreateCluster", &json!({"clusterName": CLUSTER}))?;
        let document = json!({"instanceId": moto.instance}).to_string();
        moto.ecs(
            "RegisterContainerInstance",
            &json!({"cluster": CLUSTER, "instanceIdentityDocument": document}),
        )?;
        moto.ecs(
            "RegisterTaskDefinition",
            &json!({
                "family": FAMILY, "networkMode": "awsvpc",
                "containerDefinitions": [{"name": "container-0", "image": "busybox", "memoryReservation": 16}]
            }),
        )?;
        Ok(moto)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a task of a service.
    pub fn run_task(&self, service: &str) -> Result<MotoTask> {
        let network =
            json!({"awsvpcConfiguration": {"subnets": [self.subnet], "securityGroups": []}});
        let answer = self.ecs(
            "RunTask",
            &json!({
                "cluster": CLUSTER, "taskDefinition": FAMILY, "count": 1, "launchType": "EC2",
                "group": format!("service:{service}"), "networkConfiguration": network
            }),
        )?;
        let task = &answer["tasks"][0];
        let detail = |name: &str| -> Result<String> {
            let details = task["attachments"][0]["details"].as_array().context("an ENI")?;
            let detail =
                details.iter().find(|detail| detail["name"] == name).context("a detail")?;
            Ok(detail["value"].as_str().context("a value")?.to_owned())
        };
        Ok(MotoTask {
            arn: task["taskArn"].as_str().context("a task")?.to_owned(),
            mac: detail("macAddress")?.parse()?,
            eni: detail("networkInterfaceId")?,
            subnet: detail("subnetId")?,
        })
    }

    /// Number of API requests that the server has received from the daemon.
    pub fn asked(&self, lab: &Lab) -> Result<usize> {
        let log = std::fs::read_to_string(lab.path("moto.log"))?;
        Ok(log.lines().filter(|line| line.contains("\"POST / HTTP")).count())
    }

    /// Freezes the tasks' status. By default each query moves a task towards its end.
    pub fn keep_tasks(&self) -> Result<()> {
        let stay = json!({"model_name": "ecs::task", "transition": {"progression": "manual", "times": 1000}});
        let kind = ("Content-Type", "application/json");
        let path = "/moto-api/state-manager/set-transition";
        let answer = http::post(self.address, path, &[kind], &stay.to_string())?;
        ensure!(answer.status / 100 == 2, "moto answers {}: {}", answer.status, answer.body);
        Ok(())
    }

    /// Makes the server verify signatures from now on, as AWS does; returns the keys to sign with.
    pub fn require_signatures(&self) -> Result<Keys> {
        const POLICY: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
                              %22Action%22%3A%22ecs%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
        let role = self.iam(
            &format!("Action=CreateRole&RoleName=observer&AssumeRolePolicyDocument={POLICY}"),
            "Arn",
        )?;
        let policy = format!(
            "Action=PutRolePolicy&RoleName=observer&PolicyName=ecs&PolicyDocument={POLICY}"
        );
        self.iam(&policy, "RequestId")?;
        let assume = format!("Action=AssumeRole&RoleSessionName=observer&RoleArn={role}");
        let answer = self.query("sts", "2011-06-15", &assume)?;
        let keys = Keys {
            id: element(&answer, "AccessKeyId")?,
            secret: element(&answer, "SecretAccessKey")?,
            token: element(&answer, "SessionToken")?,
        };
        let answer = http::post(self.address, "/moto-api/reset-auth", &[], "0")?;
        ensure!(answer.status == 200, "moto answers {}: {}", answer.status, answer.body);
        Ok(keys)
    }

    fn ecs(&self, call: &str, body: &Value) -> Result<Value> {
        let target = format!("AmazonEC2ContainerServiceV20141113.{call}");
        let kind = ("Content-Type", "application/x-amz-json-1.1");
        let text = self.post("ecs", &[kind, ("X-Amz-Target", &target)], &body.to_string())?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// Sends a query and returns the text of this XML element.
    fn ec2(&self, query: &str, name: &str) -> Result<String> {
        element(&self.query("ec2", "2016-11-15", query)?, name)
    }

    fn iam(&self, query: &str, name: &str) -> Result<String> {
        element(&self.query("iam", "2010-05-08", query)?, name)
    }

    fn query(&self, service: &str, version: &str, query: &str) -> Result<String> {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        self.post(service, &[kind], &format!("{query}&Version={version}"))
    }

    fn post(&self, service: &str, headers: &[(&str, &str)], body: &str) -> Result<String> {
        // Without verification, the credential scope only selects region and service.
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let mut all = vec![("Authorization", scope.as_str())];
        all.extend(headers);
        let answer = http::post(self.address, "/", &all, body)?;
        ensure!(answer.status == 200, "moto answers {}: {}", answer.status, answer.body);
        Ok(answer.body)
    }
}

fn element(text: &str, name: &str) -> Result<String> {
    let inner = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
    Ok(inner.with_context(|| format!("no {name} in {text}"))?.0.to_owned())
}
