//! Amazon Resource Names, as Amazon ECS writes them.

/// The parts of an ARN; a missing part is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    partition: &'a str,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    /// `task/lab/0123`: kind, perhaps a cluster, name.
    resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses `arn:partition:ecs:region:account:kind/…/name`; `None` if the text is not an ARN of
    /// Amazon ECS.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (arn, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        (arn == "arn" && service == "ecs" && !resource.is_empty()).then_some(Self {
            partition,
            region,
            account,
            resource,
        })
    }

    /// Kind of the resource: `task`, `cluster`, …
    pub(super) fn kind(&self) -> &'a str {
        self.resource.split_once('/').map_or(self.resource, |(kind, _)| kind)
    }

    /// Text after the last slash: the task's id, the cluster's name.
    pub(super) fn name(&self) -> &'a str {
        self.resource.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// Name of the cluster in the ARN of a task or container instance. The short form from before
    /// 2018 has none.
    pub(super) fn cluster(&self) -> Option<&'a str> {
        let mut parts = self.resource.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("task" | "container-instance"), Some(cluster), Some(_), None) => Some(cluster),
            _ => None,
        }
    }

    /// The ARN of another resource of the same account and region.
    pub(super) fn sibling(&self, resource: &str) -> String {
        format!("arn:{}:ecs:{}:{}:{resource}", self.partition, self.region, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_leads_to_its_cluster_and_siblings() {
        let arn = Arn::parse("arn:aws-cn:ecs:cn-north-1:111122223333:task/lab/0123").unwrap();
        assert_eq!((arn.region, arn.account), ("cn-north-1", "111122223333"));
        assert_eq!((arn.kind(), arn.name(), arn.cluster()), ("task", "0123", Some("lab")));
        assert_eq!(
            arn.sibling("cluster/lab"),
            "arn:aws-cn:ecs:cn-north-1:111122223333:cluster/lab"
        );
    }

    #[test]
    fn the_short_form_has_no_cluster() {
        let arn = Arn::parse("arn:aws:ecs:eu-west-1:111122223333:task/0123").unwrap();
        assert_eq!((arn.kind(), arn.name(), arn.cluster()), ("task", "0123", None));
    }

    #[test]
    fn a_cluster_may_be_named_like_anything() {
        let arn = Arn::parse("arn:aws:ecs:eu-west-1:1:cluster/task").unwrap();
        assert_eq!((arn.kind(), arn.name(), arn.cluster()), ("cluster", "task", None));
    }

    #[test]
    fn other_texts_are_no_arn_of_ecs() {
        for text in [
            "",
            "lab",
            "arn:aws:ec2:eu-west-1:1:instance/i-1",
            "arn:aws:ecs:eu-west-1:1",
            "a:b:ecs:d:e:f",
        ] {
            assert_eq!(Arn::parse(text), None, "{text:?}");
        }
    }
}
