//! Whose an interface is: facts with their sources in, one identity out.

/// Who says something about an interface or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The Docker Engine.
    Docker,
    /// The state that the ECS agent keeps on disk.
    Agent,
    /// The ECS agent's introspection endpoint.
    Introspection,
    /// The task metadata endpoint, version 4.
    Tmds,
    /// The instance metadata service, version 2.
    Imds,
    /// The Amazon ECS API.
    Api,
    /// Saved output of `aws ecs describe-tasks`.
    File,
    /// Namespaces of containers and tasks, found by their files and processes.
    Netns,
    /// The host's own namespace.
    Host,
}

impl Source {
    /// All of them.
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

    /// The name that `--source` takes.
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

    /// Whether it may tell of tasks that are on other hosts.
    pub(super) const fn is_remote(self) -> bool {
        matches!(self, Self::Api | Self::File)
    }
}

macro_rules! attributes {
    ($($variant:ident $name:literal,)*) => {
        /// What can be known of an interface beyond what the kernel says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the fields of VPC Flow Logs, described in `record::fields`")]
        pub enum Attribute { $($variant,)* }

        impl Attribute {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in VPC Flow Logs, or one in their manner.
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

    /// Who is believed about it, the weightiest first; then all others, in the order of [`Source::ALL`].
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

    /// How much a source weighs here; less is more.
    pub(super) fn rank(self, source: Source) -> usize {
        let order = self.precedence();
        order.iter().position(|other| *other == source).unwrap_or(order.len() + source as usize)
    }

    /// Whether it may change while its interface lives.
    const fn changes(self) -> bool {
        matches!(self, Self::ServiceName | Self::ContainerId | Self::SecondContainerId | Self::ContainerName)
    }

    /// Whether it is of a task, not of an ENI or an instance.
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

/// Something that a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub attribute: Attribute,
    /// What it says.
    pub value: Box<str>,
    /// Who says so.
    pub source: Source,
}

/// Two sources that say different things.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// About what.
    pub attribute: Attribute,
    /// Who was not believed.
    pub source: Source,
    /// What it said.
    pub value: Box<str>,
}

/// What stands for a value that is not there in the text of VPC Flow Logs.
const ABSENT: &str = "-";

/// All that is known of an interface.
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
    /// What is known when these facts come to what was known before, and what contradicts it.
    ///
    /// The weightiest source is believed, whatever the order of the facts; of several facts of one source the first.
    /// What was known gives way to a weightier source alone; where an attribute may change, also to a new word of
    /// the same source. Nothing is overwritten by an empty value or a hyphen, which is AWS's word for none, nor forgotten.
    #[must_use]
    pub fn merge(&self, facts: impl IntoIterator<Item = Fact>) -> (Self, Vec<Conflict>) {
        let mut said = [const { Vec::<Fact>::new() }; Attribute::COUNT];
        for mut fact in facts {
            let of_attribute = &mut said[fact.attribute as usize];
            if !matches!(&*fact.value, "" | ABSENT)
                && of_attribute.iter().all(|other| other.source != fact.source)
            {
                fact.value = one_word(fact.value);
                of_attribute.push(fact);
            }
        }
        let mut identity = self.clone();
        let mut conflicts = Vec::new();
        for (attribute, facts) in Attribute::ALL.iter().zip(said) {
            let known = &mut identity.known[*attribute as usize];
            let rank = |source| attribute.rank(source);
            if let Some(best) = facts.iter().min_by_key(|fact| rank(fact.source)) {
                let gives_way = known.as_ref().is_none_or(|(_, source)| {
                    rank(best.source) < rank(*source)
                        || attribute.changes() && rank(best.source) == rank(*source)
                });
                if gives_way {
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

    /// All that is known.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let known = Attribute::ALL.iter().zip(&self.known);
        known.filter_map(|(attribute, known)| {
            let (value, source) = known.as_ref()?;
            Some(Fact { attribute: *attribute, value: value.clone(), source: *source })
        })
    }

    /// What is known of an attribute.
    pub fn get(&self, attribute: Attribute) -> Option<&str> {
        self.known[attribute as usize].as_ref().map(|(value, _)| &**value)
    }

    /// Who said it.
    pub fn source(&self, attribute: Attribute) -> Option<Source> {
        self.known[attribute as usize].as_ref().map(|(_, source)| *source)
    }
}

/// Bytes of a value at most; the rest is cut off. An ARN has up to 2,048 characters, and all other names fewer.
const LONGEST: usize = 2048;

/// A value of a text record. Such records are split at spaces and lines, and some readers take what is between quotation
/// marks for one word: a value must hold none of these, whatever a source may say.
pub(crate) fn one_word(value: Box<str>) -> Box<str> {
    let value = printable(value);
    if value.contains('"') { value.replace('"', "_").into() } else { value }
}

/// A name without spaces, line breaks and control characters, and not longer than a value may be.
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
mod tests {
    use super::*;

    fn fact(attribute: Attribute, value: &str, source: Source) -> Fact {
        Fact { attribute, value: value.into(), source }
    }

    fn eni(value: &str, source: Source) -> Fact {
        fact(Attribute::InterfaceId, value, source)
    }

    #[test]
    fn each_pair_of_sources_in_conflict_is_decided_by_weight_and_shown() {
        for attribute in Attribute::ALL.iter().copied() {
            for one in Source::ALL {
                for other in Source::ALL.into_iter().filter(|other| *other != one) {
                    let facts = [fact(attribute, "1", one), fact(attribute, "2", other)];
                    let (identity, conflicts) = Identity::default().merge(facts.clone());
                    let believed = if attribute.rank(one) < attribute.rank(other) { one } else { other };
                    assert_eq!(
                        identity.source(attribute),
                        Some(believed),
                        "{attribute:?}: {one:?}, {other:?}"
                    );
                    let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
                    assert_eq!(conflict.attribute, attribute);
                    assert_ne!(conflict.source, believed);
                    // In whatever order they come.
                    let (again, _) = Identity::default().merge(facts.into_iter().rev());
                    assert_eq!(again, identity);
                }
            }
        }
    }

    #[test]
    fn each_source_alone_is_believed() {
        for attribute in Attribute::ALL.iter().copied() {
            for source in Source::ALL {
                let (identity, conflicts) = Identity::default().merge([fact(attribute, "it", source)]);
                assert_eq!(identity.get(attribute), Some("it"));
                assert_eq!(identity.source(attribute), Some(source));
                assert_eq!(conflicts, []);
            }
        }
    }

    #[test]
    fn the_order_of_weight_is_the_documented_one() {
        use Source::{Agent, Api, Docker, File, Imds, Introspection, Tmds};
        for (attribute, order) in [
            (Attribute::InterfaceId, [Agent, Imds, Api]),
            (Attribute::SubnetId, [Imds, Api, File]),
            (Attribute::VpcId, [Imds, Tmds, Api]),
            (Attribute::AzId, [Imds, Tmds, Api]),
            (Attribute::ServiceName, [Tmds, Agent, Api]),
            (Attribute::TaskArn, [Docker, Agent, Tmds]),
            (Attribute::ContainerInstanceArn, [Introspection, Agent, Api]),
            (Attribute::NetworkMode, [Agent, Tmds, Docker]),
        ] {
            assert!(order.is_sorted_by_key(|source| attribute.rank(*source)), "{attribute:?}");
        }
    }

    #[test]
    fn emptiness_is_no_word_and_silence_forgets_nothing() {
        let (identity, conflicts) = Identity::default().merge([
            eni("", Source::Agent),
            eni("-", Source::Imds),
            eni("eni-1", Source::File),
        ]);
        assert_eq!(identity.get(Attribute::InterfaceId), Some("eni-1"));
        assert_eq!(conflicts, []);
        let (later, conflicts) = identity.merge([eni("", Source::File)]);
        assert_eq!((&later, conflicts.len()), (&identity, 0));
        assert_eq!(identity.merge([]).0, identity);
    }

    #[test]
    fn what_never_changes_is_set_once() {
        let (first, _) = Identity::default().merge([eni("eni-1", Source::Imds)]);
        for (source, believed, conflicts) in [
            (Source::Imds, "eni-1", 1),
            (Source::Api, "eni-1", 1),
            // A weightier source has the last word.
            (Source::Agent, "eni-2", 0),
        ] {
            let (identity, against) = first.merge([eni("eni-2", source)]);
            assert_eq!(identity.get(Attribute::InterfaceId), Some(believed), "{source:?}");
            assert_eq!(against.len(), conflicts, "{source:?}");
        }
    }

    #[test]
    fn what_may_change_follows_its_source_and_no_lesser_one() {
        let service = |value, source| fact(Attribute::ServiceName, value, source);
        let (first, _) = Identity::default().merge([service("a", Source::Agent)]);
        for (source, believed) in [(Source::Agent, "b"), (Source::Tmds, "b"), (Source::Api, "a")] {
            let (identity, _) = first.merge([service("b", source)]);
            assert_eq!(identity.get(Attribute::ServiceName), Some(believed), "{source:?}");
        }
    }

    #[test]
    fn a_value_stays_one_word() {
        let (identity, _) = Identity::default().merge([eni("\"eni-1 2\n3", Source::File)]);
        assert_eq!(identity.get(Attribute::InterfaceId), Some("_eni-1_2_3"));
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = "é".repeat(5000);
        let (identity, _) = Identity::default().merge([eni(&long, Source::File)]);
        assert_eq!(identity.get(Attribute::InterfaceId), Some(&*"é".repeat(LONGEST / 2)));
    }
}
