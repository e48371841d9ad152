//! Interfaces that nothing but their namespaces and MACs tell apart.

use anyhow::Result;
use observer_tests::{books::Books, lab, tally::Crossed, traffic::Udp, veth::Family};

#[test]
fn twenty_interfaces_with_one_name_index_and_5_tuple_stay_apart() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks((0..20).map(|number| format!("task-{number}")))?;
    for task in &tasks {
        assert_eq!((task.inside.name(), task.inside.index()), ("eth0", tasks[0].inside.index()));
    }
    let daemon = lab.daemon().start()?;
    let mut sent = Vec::new();
    for (number, task) in (1..).zip(&tasks) {
        // Flows, ports and addresses are the same everywhere; only how much differs.
        let ingress = Udp { family: Family::V4, flows: 3, packets: number, payload: 100 };
        let egress = Udp { family: Family::V6, flows: 3, packets: 2 * number, payload: 50 };
        sent.push(Crossed {
            ingress: ingress.send(&task.outside, &task.inside)?,
            egress: egress.send(&task.inside, &task.outside)?,
        });
    }
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    for (task, sent) in tasks.iter().zip(sent) {
        books.assert_exact(&task.inside, sent);
        for record in books.records.of(task.inside.mac()) {
            assert_eq!(record.text("interface_id"), task.inside.id());
            assert_eq!(record.number("netns"), Some(task.inside.namespace().inode()));
        }
    }
    let told = books.metrics.all("observer_interface_info", &[]).count();
    assert_eq!(told, tasks.len(), "interfaces on the metrics page");
    Ok(())
}
