//! Records of each task compared with the traffic of its interface.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use observer_tests::{records::Records, tally::Tally, veth::Mac};

use super::workers::Ended;
use crate::docker::assert_names;

/// Asserts that all records except the instance's have their task's names, and that records and
/// losses add up to the traffic of the task's interface.
pub(super) fn assert_accounts(
    records: &Records,
    instance: Mac,
    ended: &BTreeMap<String, Ended>,
) -> Result<()> {
    let mut accounts = BTreeMap::<&str, Tally>::new();
    let mut reports = BTreeMap::<&str, u64>::new();
    for record in records.all.iter().filter(|record| record.text("mac") != instance.to_string()) {
        let task = ended.get(record.text("ecs_task_id"));
        let task = task.with_context(|| format!("a record of no task: {:?}", record.fields))?;
        assert_names(record, &task.ecs);
        // A window may end before its container starts.
        let container = record.text("ecs_container_id");
        assert!(
            ["", &task.ecs.containers[0]].contains(&container),
            "{container} in {}",
            task.ecs.id
        );
        // A new bridge reports its groups by IGMP, 40 bytes each, possibly after its task's
        // interface counters were read.
        if record.text("dstaddr") == "224.0.0.22" {
            *reports.entry(&task.ecs.id).or_default() += record.tally.packets;
        } else {
            *accounts.entry(&task.ecs.id).or_default() += record.tally;
        }
    }
    for (id, task) in ended {
        let account = accounts.get(id.as_str()).copied().unwrap_or_default();
        let reports = reports.get(id.as_str()).copied().unwrap_or_default();
        let account = (0..=reports)
            .map(|read| account + Tally::new(read, 40 * read))
            .find(|account| *account == task.carried)
            .unwrap_or(account);
        let of_it: Vec<_> = records
            .all
            .iter()
            .filter(|record| record.text("ecs_task_id") == id)
            .map(|it| &it.fields)
            .collect();
        assert_eq!(
            account, task.carried,
            "records and losses of task {id} ({}), and its interface; {of_it:?}",
            task.ecs.mode
        );
    }
    Ok(())
}
