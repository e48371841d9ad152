//! Drops of a task's forwarded packets.

use std::{fs, net::Ipv4Addr};

use anyhow::Result;
use observer_tests::{
    books::Books,
    firewall::set_rules,
    lab,
    lab::Lab,
    need, requires,
    tally::{Crossed, Direction},
    traffic::Udp,
    veth::{Addresses, Family, Task, ip_batch, quiet},
};

use crate::drops::{NETFILTER, all_rejected, rejected};

/// A task that forwards IPv4 between two interfaces, and the task that it forwards for.
fn router(lab: &Lab) -> Result<[Task; 2]> {
    let router = lab.observed_namespace("router")?;
    router.run(|| Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
    let again = router.also(&lab.path("peers").join("router"))?;
    let west = Addresses { ipv6: false, ..Addresses::default() };
    let east = Addresses {
        inside: (Ipv4Addr::new(10, 0, 5, 128), west.inside.1),
        outside: (Ipv4Addr::new(10, 0, 5, 9), west.outside.1),
        name: "eth1",
        ..west
    };
    let tasks = [
        Task::join(router, lab.other_namespace("west")?, west)?,
        Task::join(again, lab.other_namespace("east")?, east)?,
    ];
    for (task, there) in tasks.iter().zip(["10.0.5.0/24", "10.0.4.0/24"]) {
        let via = task.inside.address(Family::V4);
        ip_batch(task.outside.namespace(), &format!("route add {there} via {via}\n"))?;
    }
    quiet(&tasks)?;
    Ok(tasks)
}

#[test]
fn what_is_forwarded_is_rejected_by_the_interface_where_it_was_dropped() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let [west, east] = router(&lab)?;
    let [first, second] = [0, 1].map(|number| Udp::FIRST_PORT + number);
    let namespace = west.inside.namespace();
    set_rules(
        namespace,
        &format!(
            "table inet test {{
                chain forward {{ type filter hook forward priority filter; udp sport {first} drop; }}
                chain postrouting {{ type filter hook postrouting priority filter; udp sport {second} drop; }}
            }}\n"
        ),
    )?;
    let daemon = lab.daemon().start()?;
    let udp = Udp { family: Family::V4, flows: 3, packets: 20, payload: 100 };
    let (sent, each) = (udp.send(&west.outside, &east.outside)?, udp.per_flow());
    let books = Books::close(daemon, [&west.inside, &east.inside])?;
    books.assert_exact(&west.inside, Crossed::ingress(sent));
    books.assert_exact(&east.inside, Crossed::egress(each));
    assert_eq!(books.stopped(&west.inside), Crossed::default());
    assert_eq!(books.stopped(&east.inside), Crossed::egress(each));
    for (task, direction, port) in
        [(&west, Direction::Ingress, first), (&east, Direction::Egress, second)]
    {
        let interface = &task.inside;
        assert_eq!(rejected(&books.records, interface, direction, NETFILTER), each);
        assert_eq!(all_rejected(&books.records, interface), each);
        for (((_, flow), _), _) in books.records.rejected(interface.mac()) {
            assert_eq!(flow.source_port, port);
        }
    }
    Ok(())
}
