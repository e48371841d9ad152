//! Whose an interface is: facts with their sources in, one identity out.

/// Who says something about an interface or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Namespaces of containers and tasks, found by their files and processes.
    Netns,
    /// The host's own namespace.
    Host,
    /// Saved output of `aws ecs describe-tasks`.
    File,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Netns, Self::Host, Self::File];

    /// The name that `--source` takes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netns => "netns",
            Self::Host => "host",
            Self::File => "file",
        }
    }
}

/// What can be known of an interface beyond what the kernel says. The names are those of VPC Flow Logs, where they
/// have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the fields of VPC Flow Logs, described in `record::fields`")]
pub enum Attribute {
    AccountId,
    InterfaceId,
    VpcId,
    SubnetId,
    InstanceId,
    Region,
    AzId,
    SublocationType,
    SublocationId,
    ClusterArn,
    ClusterName,
    ContainerInstanceArn,
    ContainerInstanceId,
    ContainerId,
    SecondContainerId,
    ServiceName,
    TaskDefinitionArn,
    TaskArn,
    TaskId,
    /// The task definition's family, without its revision.
    Family,
    /// `awsvpc`, `bridge`, `host` or `none`.
    NetworkMode,
}

impl Attribute {
    const COUNT: usize = Self::NetworkMode as usize + 1;
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

/// All that is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    known: [Option<(Box<str>, Source)>; Attribute::COUNT],
}

impl Identity {
    /// Merges facts, the weightiest first: the first that says something about an attribute is believed, and nothing
    /// is overwritten by an empty value.
    pub fn merge(facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut identity = Self::default();
        for fact in facts {
            let known = &mut identity.known[fact.attribute as usize];
            if known.is_none() && !fact.value.is_empty() {
                *known = Some((one_word(fact.value), fact.source));
            }
        }
        identity
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

/// Text records are split at spaces and lines, so a value must hold neither, whatever a source may say.
fn one_word(value: Box<str>) -> Box<str> {
    let breaks = |c: char| c.is_whitespace() || c.is_control();
    if value.contains(breaks) { value.replace(breaks, "_").into() } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(value: &str, source: Source) -> Fact {
        Fact { attribute: Attribute::InterfaceId, value: value.into(), source }
    }

    #[test]
    fn the_first_word_stands_and_emptiness_is_no_word() {
        let identity = Identity::merge([
            fact("", Source::Host),
            fact("eni-1", Source::File),
            fact("eni-2", Source::Netns),
        ]);
        assert_eq!(identity.get(Attribute::InterfaceId), Some("eni-1"));
        assert_eq!(identity.source(Attribute::InterfaceId), Some(Source::File));
        assert_eq!(identity.get(Attribute::TaskArn), None);
    }

    #[test]
    fn a_value_stays_one_word() {
        let identity = Identity::merge([fact("eni-1 2\n3", Source::File)]);
        assert_eq!(identity.get(Attribute::InterfaceId), Some("eni-1_2_3"));
    }
}
