//! Packets of the benchmarks.

fn ethernet(ether_type: u16) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    packet.extend(ether_type.to_be_bytes());
    packet
}

fn tcp() -> Vec<u8> {
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    header[12] = 0x50;
    header[13] = 0x10;
    header
}

pub(crate) fn ipv4_tcp() -> Vec<u8> {
    let mut packet = ethernet(0x0800);
    packet.extend([0x45, 0, 0, 50, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(tcp());
    packet.resize(64, 0);
    packet
}

pub(crate) fn ipv6(next: u8, extensions: &[&[u8]]) -> Vec<u8> {
    let mut payload = extensions.concat();
    payload.extend(tcp());
    let mut packet = ethernet(0x86dd);
    packet.extend([0x60, 0, 0, 0, 0, payload.len() as u8, next, 64]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

pub(crate) fn arp() -> Vec<u8> {
    let mut packet = ethernet(0x0806);
    packet.resize(60, 0);
    packet
}
