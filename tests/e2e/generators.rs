//! The generators without a daemon: their counts must equal the interfaces' counters.

use anyhow::Result;
use observer_tests::{
    lab,
    offloads::Offloads,
    tally::{Direction, Tally},
    traffic::{PacketSocket, Transfer, Udp, exchange, frames, ping, segmented},
    veth::{Family, Interface, Task},
};

/// Frames on both ends, converted to layer 3 packets. Only without super-packets.
fn wire(sender: &Interface, receiver: &Interface) -> Result<Tally> {
    let (sent, arrived) = (sender.counters()?, receiver.counters()?);
    let frames = sent.frames.get(Direction::Egress);
    assert_eq!(sent.dropped, 0, "the sender dropped");
    assert_eq!(arrived.frames.get(Direction::Ingress), frames, "arrived, and sent");
    Ok(Tally::new(frames.packets, frames.bytes - frames.packets * frames::LINK_HEADER))
}

#[test]
fn udp_sends_what_it_says() -> Result<()> {
    let lab = lab!();
    for family in Family::ALL {
        let task = lab.task(family.as_str())?;
        let sent = Udp { family, flows: 200, packets: 50, payload: 100 }
            .send(&task.outside, &task.inside)?;
        assert_eq!(sent, Tally::of(10_000, family.header() + 108));
        assert_eq!(wire(&task.outside, &task.inside)?, sent);
        assert_eq!(wire(&task.inside, &task.outside)?, Tally::default(), "nothing comes back");
    }
    Ok(())
}

#[test]
fn large_datagrams_are_fragmented_as_reckoned() -> Result<()> {
    let lab = lab!();
    for family in Family::ALL {
        let task = lab.task(family.as_str())?;
        let mut sent = Tally::default();
        for payload in [1_452, 1_453, 1_472, 1_473, 1_500, 5_000, 60_000] {
            sent +=
                Udp { family, flows: 1, packets: 3, payload }.send(&task.outside, &task.inside)?;
        }
        assert_eq!(wire(&task.outside, &task.inside)?, sent, "{family:?}");
    }
    Ok(())
}

#[test]
fn echo_requests_and_their_answers_are_all_there_is() -> Result<()> {
    let lab = lab!();
    for family in Family::ALL {
        let task = lab.task(family.as_str())?;
        let pings = ping(&task.outside, &task.inside, family, 100, 56)?;
        assert_eq!(wire(&task.outside, &task.inside)?, pings.each_way);
        assert_eq!(wire(&task.inside, &task.outside)?, pings.each_way);
    }
    Ok(())
}

#[test]
fn tcp_knows_its_segments_whatever_is_offloaded() -> Result<()> {
    let lab = lab!();
    let check = |name: &str, family, offloads: Offloads| -> Result<()> {
        let mut task: Task = lab.task(&format!("{name}-{}", family as u8))?;
        task.set_offloads(offloads)?;
        let transfer = Transfer { family, request: 1000, response: 20_000_000 };
        let connection = exchange(&task.outside, &task.inside, transfer)?;
        if !offloads.tso {
            assert_eq!(wire(&task.outside, &task.inside)?, connection.from_client, "{name}");
            assert_eq!(wire(&task.inside, &task.outside)?, connection.from_server, "{name}");
        }
        // A full Ethernet frame over IPv4 has 1,448 bytes of payload.
        assert!(
            connection.from_server.packets > 20_000_000 / 1448,
            "{name}: {}",
            connection.from_server
        );
        Ok(())
    };
    for family in Family::ALL {
        check("veth", family, Offloads::VETH)?;
        check("none", family, Offloads::NONE)?;
        check("software", family, Offloads::SOFTWARE)?;
        check("merged", family, Offloads::MERGED)?;
    }
    Ok(())
}

#[test]
fn udp_segments_are_cut_by_the_kernel() -> Result<()> {
    let lab = lab!();
    for family in Family::ALL {
        let task = lab.task(family.as_str())?;
        let sent = segmented((&task.outside, &task.inside), family, 20, 9_500, 1_000)?;
        assert_eq!(sent, Tally::new(200, 20 * (9_500 + 10 * (family.header() + 8))));
        let whole = Tally::of(20, family.header() + 8 + 9_500);
        let crossed = if Offloads::veth_takes_udp() { whole } else { sent };
        assert_eq!(wire(&task.outside, &task.inside)?, crossed);
    }
    Ok(())
}

#[test]
fn raw_frames_cross_as_they_are() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let frame = frames::ethernet(frames::ether_type::LLDP, &[0; 46]);
    let many = PacketSocket::open(&task.outside)?.send(std::iter::repeat_n(&frame, 10_000))?;
    let few = PacketSocket::open(&task.outside)?.send_not_linear(&vec![&frame; 100])?;
    assert_eq!(many + few, Tally::of(10_100, 60));
    assert_eq!(task.inside.counters()?.frames.ingress, many + few);
    assert_eq!(task.outside.counters()?.frames.egress, many + few);
    Ok(())
}
