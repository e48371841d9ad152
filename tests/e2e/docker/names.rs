//! Task names in records and metrics.

use anyhow::Result;
use observer_tests::{daemon::Daemon, fake_ecs::FakeTask, records::Record, veth::Task};

/// Asserts the task's fields of a record, from any source.
pub(crate) fn assert_names(record: &Record, ecs: &FakeTask) {
    for (key, expected) in [
        ("ecs_cluster_arn", ecs.cluster_arn()),
        ("ecs_cluster_name", ecs.cluster.clone()),
        ("ecs_task_definition_arn", ecs.definition_arn()),
        ("ecs_task_arn", ecs.arn_of_task()),
        ("ecs_task_id", ecs.id.clone()),
        ("ecs_task_family", ecs.family.clone()),
        ("network_mode", ecs.mode.clone()),
        ("account_id", ecs.account.clone()),
        ("region", ecs.region.clone()),
    ] {
        assert_eq!(record.text(key), expected, "{key} of {}", ecs.id);
    }
}

/// Waits until the metrics page shows the task of an interface.
pub(super) fn wait_named(daemon: &Daemon<'_>, task: &Task, ecs: &FakeTask) -> Result<()> {
    daemon.wait(&format!("{} is named", ecs.id), |page| {
        page.info(&task.inside).is_some_and(|info| info.label("task_id") == ecs.id)
    })?;
    Ok(())
}
