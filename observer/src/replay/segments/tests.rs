use observer_ebpf::packet::parse;

use super::*;

/// The headers of a TCP segment between two hosts, and its length. Host 1 announces 1,460, host 2
/// announces 8,960.
fn segment(from: u8, to: u8, flags: u8, options: &[u8], payload: u32) -> (Vec<u8>, u32) {
    let header = 20 + options.len() as u8;
    let total = (20 + u32::from(header) + payload).min(65535) as u16;
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, TCP, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    bytes.extend([
        0,
        from,
        0,
        to,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        (header / 4) << 4,
        flags,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    bytes.extend(options);
    let len = 14 + 20 + u32::from(header) + payload;
    (bytes, len)
}

const INTERFACE: InterfaceNumber = InterfaceNumber::new(1);

fn shape(segments: &mut Segments, own: bool, (bytes, len): &(Vec<u8>, u32)) -> Shape {
    let frame =
        Frame { len: *len, link: Link::Ethernet, tags_beside: 0, offload: Offload::default() };
    let packet = parse(&bytes[..], frame).unwrap();
    segments.shape(INTERFACE, own, &packet, bytes, *len)
}

fn connected() -> Segments {
    let mut segments = Segments::new(None);
    // The MSS option follows a window scale and two fillers.
    let options = [3, 3, 7, 1, 1, 2, 4, 5, 180, 0, 0, 0];
    shape(&mut segments, true, &segment(1, 2, SYN, &options, 0));
    shape(&mut segments, false, &segment(2, 1, SYN | 16, &[2, 4, 35, 0], 0));
    segments
}

#[test]
fn segments_are_as_large_as_both_ends_allow() {
    let mut segments = connected();
    for (from, to) in [(1, 2), (2, 1)] {
        let mut of = |options: &[u8], payload| {
            shape(&mut segments, from == 1, &segment(from, to, 16, options, payload))
        };
        assert_eq!(of(&[], 1460), Shape::Single);
        assert_eq!(of(&[], 1461), Shape::Negotiated(1460));
        assert_eq!(of(&[1; 12], 20_000), Shape::Negotiated(1448), "options take from the payload");
        assert_eq!(of(&[1; 12], 1449), Shape::Negotiated(1448), "shorter than the MTU");
    }
}

/// The MSS option limits the segments that its sender receives (RFC 9293, 3.7.1), not those that it
/// sends.
#[test]
fn an_announcement_does_not_bind_its_own_sender() {
    let mut segments = Segments::new(None);
    shape(&mut segments, true, &segment(1, 2, SYN, &[2, 4, 2, 24], 0));
    shape(&mut segments, false, &segment(2, 1, SYN | 16, &[2, 4, 5, 180], 0));
    assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 1460)), Shape::Single);
    assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 1461)), Shape::Negotiated(1460));
    assert_eq!(shape(&mut segments, false, &segment(2, 1, 16, &[], 537)), Shape::Negotiated(536));
}

#[test]
fn bytes_after_a_packet_are_no_payload() {
    let mut segments = connected();
    for trailer in [1, 4, 46, 60_000] {
        let (bytes, len) = segment(2, 1, 16, &[], 1460);
        assert_eq!(
            shape(&mut segments, false, &(bytes, len + trailer)),
            Shape::Single,
            "{trailer}"
        );
        let (bytes, len) = segment(1, 9, 17, &[], 0);
        assert_eq!(shape(&mut segments, true, &(bytes, len + trailer)), Shape::Single, "{trailer}");
    }
}

#[test]
fn small_segments_are_found_below_the_mtu() {
    let mut segments = Segments::new(None);
    shape(&mut segments, true, &segment(1, 2, SYN, &[2, 4, 2, 24], 0));
    shape(&mut segments, false, &segment(2, 1, SYN | 16, &[2, 4, 2, 24], 0));
    assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 537)), Shape::Negotiated(536));
    assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 536)), Shape::Single);
}

#[test]
fn without_a_syn_the_mtu_is_the_guess() {
    let mut segments = Segments::new(None);
    let long = segment(3, 4, 16, &[1; 12], 5000);
    assert_eq!(shape(&mut segments, true, &long), Shape::Guessed(1448));
    assert_eq!(shape(&mut segments, true, &segment(3, 4, 16, &[1; 12], 1448)), Shape::Single);
    assert_eq!(shape(&mut Segments::new(Some(9001)), true, &long), Shape::Single);
    assert_eq!(
        shape(&mut Segments::new(Some(9001)), true, &segment(3, 4, 16, &[], 9000)),
        Shape::Guessed(8961)
    );
}

/// A TCP segment in GRE, or in VXLAN.
fn tunnelled(protocol: u8, payload: u32) -> (Vec<u8>, u32) {
    let (inside, inside_len) = segment(1, 2, 16, &[1; 12], payload);
    let (header, inside, inside_len) = if protocol == UDP {
        (vec![0, 9, 18, 181, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0], &inside[..], inside_len)
    } else {
        (vec![0, 0, 8, 0], &inside[14..], inside_len - 14)
    };
    let len = 14 + 20 + header.len() as u32 + inside_len;
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0, 0x45, 0]);
    bytes.extend(((len - 14) as u16).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(header);
    bytes.extend(inside);
    (bytes, len)
}

#[test]
fn segments_in_a_tunnel_leave_room_for_all_headers() {
    const GRE: u8 = 47;
    let mut segments = Segments::new(None);
    let mut of = |protocol, payload| shape(&mut segments, true, &tunnelled(protocol, payload));
    let (in_vxlan, in_gre) = (1500 - 20 - 16 - 14 - 52, 1500 - 20 - 4 - 52);
    assert_eq!(of(UDP, in_vxlan), Shape::Single);
    assert_eq!(of(UDP, 20_000), Shape::Guessed(in_vxlan));
    assert_eq!(of(GRE, in_gre), Shape::Single);
    assert_eq!(of(GRE, 20_000), Shape::Guessed(in_gre));
    assert_eq!(of(50, 20_000), Shape::Jumbo, "what is encrypted is one packet");
}

/// A program that implements a tunnel sends UDP datagrams, each with a packet inside.
#[test]
fn a_tunnel_of_a_program_has_segments_of_udp() {
    let mut segments = Segments::new(None);
    let (mut bytes, _) = tunnelled(UDP, 1000);
    let l3_bytes: u16 = 28 + 5 * 1122;
    bytes[16..18].copy_from_slice(&l3_bytes.to_be_bytes());
    let datagrams = (bytes, 14 + u32::from(l3_bytes));
    assert_eq!(shape(&mut segments, true, &datagrams), Shape::Guessed(1472));
}

#[test]
fn an_interface_that_announces_large_segments_has_a_large_mtu() {
    let mut segments = Segments::new(None);
    shape(&mut segments, false, &segment(9, 1, SYN, &[2, 4, 35, 0], 0));
    assert_eq!(segments.mtu_of(INTERFACE), 1500, "the other end's is no matter");
    shape(&mut segments, true, &segment(1, 9, SYN | 16, &[2, 4, 35, 0], 0));
    assert_eq!(segments.mtu_of(INTERFACE), 9000);
    assert_eq!(shape(&mut segments, true, &segment(3, 4, 16, &[], 8960)), Shape::Single);
}

#[test]
fn the_given_mtu_limits_the_learned_one() {
    let mut segments = Segments { mtu: Some(1400), ..connected() };
    assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 5000)), Shape::Negotiated(1360));
}

#[test]
fn options_that_are_cut_or_unsound_announce_nothing() {
    for options in
        [&[2, 4, 5][..], &[3, 0, 2, 4, 5, 180], &[0, 2, 4, 5, 180], &[2, 4, 0, 0], &[8, 10, 0]]
    {
        let mut segments = Segments::new(None);
        let mut padded = options.to_vec();
        padded.resize(options.len().next_multiple_of(4), 0);
        let (mut bytes, len) = segment(1, 2, SYN, &padded, 0);
        bytes.truncate(54 + options.len());
        shape(&mut segments, true, &(bytes, len));
        assert!(segments.announced.is_empty(), "{options:?}");
    }
}
