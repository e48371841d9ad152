//! Merges facts from all sources into one identity.

use clap::ValueEnum;
use serde::Serialize;

/// Origin of a fact about an interface or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The Docker Engine: containers of each task
    Docker,
    /// The ECS agent's state on disk: IDs of ENIs, also of branch ENIs
    Agent,
    /// The ECS agent's introspection endpoint: tasks and the container instance
    Introspection,
    /// The task metadata endpoint, version 4: services
    Tmds,
    /// The instance metadata service, version 2: the instance and its ENIs
    Imds,
    /// The Amazon ECS API, if credentials allow: IDs of ENIs, services
    Api,
    /// The file of --tasks-file: saved output of `aws ecs describe-tasks`
    File,
    /// Network namespaces of containers and tasks, found by their files and processes
    Netns,
    /// The host's own interfaces
    Host,
}

impl Source {
    /// All variants.
    pub const ALL: [Self; 9] = [
        Self::Docker,
        Self::Agent,
        Self::Introspection,
        Self::Tmds,
        Self::Imds,
        Self::Api,
        Self::File,
        Self::Netns,
        Self::Host,
    ];

    /// Name of the source, as `--source` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Agent => "agent",
            Self::Introspection => "introspection",
            Self::Tmds => "tmds",
            Self::Imds => "imds",
            Self::Api => "api",
            Self::File => "file",
            Self::Netns => "netns",
            Self::Host => "host",
        }
    }

    /// True if the source may list tasks of other hosts.
    pub(super) const fn is_remote(self) -> bool {
        matches!(self, Self::Api | Self::File)
    }
}

macro_rules! attributes {
    ($($variant:ident $name:literal,)*) => {
        /// Field of an identity, in addition to the kernel's description of the interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the fields of VPC Flow Logs, described in `record::fields`")]
        pub enum Attribute { $($variant,)* }

        impl Attribute {
            /// All variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name of the field in VPC Flow Logs, or a name of the same form.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

attributes! {
    AccountId "account-id",
    InterfaceId "interface-id",
    VpcId "vpc-id",
    SubnetId "subnet-id",
    InstanceId "instance-id",
    Region "region",
    AzId "az-id",
    SublocationType "sublocation-type",
    SublocationId "sublocation-id",
    ClusterArn "ecs-cluster-arn",
    ClusterName "ecs-cluster-name",
    ContainerInstanceArn "ecs-container-instance-arn",
    ContainerInstanceId "ecs-container-instance-id",
    ContainerId "ecs-container-id",
    SecondContainerId "ecs-second-container-id",
    ServiceName "ecs-service-name",
    TaskDefinitionArn "ecs-task-definition-arn",
    TaskArn "ecs-task-arn",
    TaskId "ecs-task-id",
    Family "ecs-task-family",
    NetworkMode "network-mode",
    ContainerName "container-name",
    EniIpv4 "eni-ipv4",
    EniIpv6 "eni-ipv6",
}

impl Attribute {
    const COUNT: usize = Self::ALL.len();

    /// Sources of this attribute by priority, highest first. All others follow in the order of [`Source::ALL`].
    const fn precedence(self) -> &'static [Source] {
        use Source::{Agent, Api, Docker, File, Imds, Introspection, Tmds};
        match self {
            Self::InterfaceId => &[Agent, Imds, Api, File],
            Self::VpcId | Self::AzId => &[Imds, Tmds, Api, File],
            Self::AccountId
            | Self::SubnetId
            | Self::InstanceId
            | Self::Region
            | Self::SublocationType
            | Self::SublocationId
            | Self::EniIpv4
            | Self::EniIpv6 => &[Imds, Agent, Api, File],
            Self::ClusterArn
            | Self::ClusterName
            | Self::ServiceName
            | Self::TaskDefinitionArn
            | Self::Family => &[Tmds, Agent, Api, File],
            Self::ContainerInstanceArn | Self::ContainerInstanceId => &[Introspection, Agent, Api, File],
            // Docker shows the pause container of a task with an ENI as one without a network.
            Self::NetworkMode => &[Agent, Tmds, Docker],
            Self::TaskArn
            | Self::TaskId
            | Self::ContainerId
            | Self::SecondContainerId
            | Self::ContainerName => &[Docker, Agent, Tmds],
        }
    }

    /// Rank of a source for this attribute; 0 is the highest priority.
    pub(super) fn rank(self, source: Source) -> usize {
        let order = self.precedence();
        order.iter().position(|other| *other == source).unwrap_or(order.len() + source as usize)
    }

    /// True if the value may change while the interface exists.
    const fn changes(self) -> bool {
        matches!(self, Self::ServiceName | Self::ContainerId | Self::SecondContainerId | Self::ContainerName)
    }

    /// True for an attribute of a task, false for one of an ENI or an instance.
    pub(super) const fn is_of_task(self) -> bool {
        !matches!(
            self,
            Self::AccountId
                | Self::InterfaceId
                | Self::VpcId
                | Self::SubnetId
                | Self::InstanceId
                | Self::Region
                | Self::AzId
                | Self::EniIpv4
                | Self::EniIpv6
        )
    }
}

/// A value that a source gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Field.
    pub attribute: Attribute,
    /// Value.
    pub value: Box<str>,
    /// Source.
    pub source: Source,
}

/// A value that was rejected because another source gave a different one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Field.
    pub attribute: Attribute,
    /// Source of the rejected value.
    pub source: Source,
    /// Rejected value.
    pub value: Box<str>,
}

/// Placeholder for a missing value in the text format of VPC Flow Logs.
const ABSENT: &str = "-";

/// Values of all known fields of an interface, each with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    known: [Option<(Box<str>, Source)>; Attribute::COUNT],
}

impl Default for Identity {
    fn default() -> Self {
        Self { known: [const { None }; Attribute::COUNT] }
    }
}

impl Identity {
    /// Merges facts into this identity. Returns the new identity and the rejected values.
    ///
    /// The source of highest priority wins, whatever the order of the facts; of several facts of one source the first
    /// one counts. A known value is replaced only by a source of higher priority or, if the attribute may change, by a
    /// new value of the same source. Empty values and hyphens (AWS's placeholder) are ignored. No value is removed.
    #[must_use]
    pub fn merge(&self, facts: impl IntoIterator<Item = Fact>) -> (Self, Vec<Conflict>) {
        let mut given = [const { Vec::<Fact>::new() }; Attribute::COUNT];
        for mut fact in facts {
            let of_attribute = &mut given[fact.attribute as usize];
            if !matches!(&*fact.value, "" | ABSENT)
                && of_attribute.iter().all(|other| other.source != fact.source)
            {
                fact.value = one_word(fact.value);
                of_attribute.push(fact);
            }
        }
        let mut identity = self.clone();
        let mut conflicts = Vec::new();
        for (attribute, facts) in Attribute::ALL.iter().zip(given) {
            let known = &mut identity.known[*attribute as usize];
            let rank = |source| attribute.rank(source);
            if let Some(best) = facts.iter().min_by_key(|fact| rank(fact.source)) {
                let replaced = known.as_ref().is_none_or(|(_, source)| {
                    rank(best.source) < rank(*source)
                        || attribute.changes() && rank(best.source) == rank(*source)
                });
                if replaced {
                    *known = Some((best.value.clone(), best.source));
                }
            }
            let others =
                facts.into_iter().filter(|fact| known.as_ref().is_none_or(|(value, _)| *value != fact.value));
            conflicts.extend(others.map(|fact| Conflict {
                attribute: fact.attribute,
                source: fact.source,
                value: fact.value,
            }));
        }
        (identity, conflicts)
    }

    /// The known values.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let known = Attribute::ALL.iter().zip(&self.known);
        known.filter_map(|(attribute, known)| {
            let (value, source) = known.as_ref()?;
            Some(Fact { attribute: *attribute, value: value.clone(), source: *source })
        })
    }

    /// The value of an attribute.
    pub fn get(&self, attribute: Attribute) -> Option<&str> {
        self.known[attribute as usize].as_ref().map(|(value, _)| &**value)
    }

    /// The source of an attribute's value.
    pub fn source(&self, attribute: Attribute) -> Option<Source> {
        self.known[attribute as usize].as_ref().map(|(_, source)| *source)
    }
}

/// Longest value, in bytes; the rest is cut off. An ARN has up to 2,048 characters, and all other names fewer.
const LONGEST: usize = 2048;

/// Makes a value safe for text records. Readers split records at spaces and line breaks, and some read text in
/// quotation marks as one word, so a value must contain none of these.
pub(crate) fn one_word(value: Box<str>) -> Box<str> {
    let value = printable(value);
    if value.contains('"') { value.replace('"', "_").into() } else { value }
}

/// Replaces spaces, line breaks and control characters of a name by underscores, and cuts it to the longest value.
pub(crate) fn printable(value: Box<str>) -> Box<str> {
    let breaks = |c: char| c.is_whitespace() || c.is_control();
    let short = &value[..value.floor_char_boundary(LONGEST)];
    if short.contains(breaks) {
        short.replace(breaks, "_").into()
    } else if short.len() < value.len() {
        short.into()
    } else {
        value
    }
}

#[cfg(test)]
mod tests;
