//! Interfaces that differ only by namespace and MAC address.

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
        // Flows, ports and addresses are the same on all interfaces; only the counts differ.
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

/// A systemd service gets 1,024 descriptors, and may raise that limit. A task must cost only a few.
#[test]
fn descriptors_suffice_for_many_interfaces() -> Result<()> {
    const TASKS: usize = 30;
    let lab = lab!();
    let tasks = lab.tasks((0..TASKS).map(|number| format!("task-{number}")))?;
    let daemon = lab.daemon().descriptors(64, 256).start()?;
    let udp = Udp { family: Family::V4, flows: 3, packets: 2, payload: 100 };
    let mut sent = Vec::new();
    for task in &tasks {
        sent.push(Crossed::egress(udp.send(&task.inside, &task.outside)?));
    }
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    for (task, sent) in tasks.iter().zip(sent) {
        books.assert_exact(&task.inside, sent);
    }
    Ok(())
}
