//! DNS queries and responses (RFC 1035, section 4).

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
};

use anyhow::{Result, anyhow, ensure};

use super::timeout::TIMEOUT;
use crate::demo::namespace::Namespace;

const NAMES: [&str; 3] = ["orders.demo.internal", "users.demo.internal", "example.com"];
/// Length of the DNS header, in bytes.
const HEADER: usize = 12;
/// Record types to query: A and AAAA.
const TYPES: [u16; 2] = [1, 28];

/// Starts a server for a few queries and sends them to it.
pub(super) fn ask(client: &Namespace, server: &Namespace, at: SocketAddr) -> Result<()> {
    let server = server.run(|| Ok(UdpSocket::bind(at)?))?;
    let client = client.run(|| {
        let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(at)?;
        Ok(socket)
    })?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(TIMEOUT))?;
    }
    let questions: Vec<_> =
        (1..).zip(NAMES.iter().flat_map(|name| TYPES.map(|kind| (*name, kind)))).collect();
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&server, questions.len()));
        let asked =
            questions.iter().try_for_each(|&(id, (name, kind))| ask_one(&client, id, name, kind));
        let answered = answering.join().map_err(|_| anyhow!("the server panicked"))?;
        asked.and(answered)
    })
}

fn ask_one(client: &UdpSocket, id: u16, name: &str, kind: u16) -> Result<()> {
    client.send(&question(id, name, kind))?;
    let mut answer = [0; 512];
    let length = client.recv(&mut answer)?;
    ensure!(length > HEADER && answer[..2] == id.to_be_bytes(), "an answer to something else");
    Ok(())
}

fn answer(server: &UdpSocket, questions: usize) -> Result<()> {
    let mut question = [0; 512];
    for _ in 0..questions {
        let (length, client) = server.recv_from(&mut question)?;
        server.send_to(&answer_to(&question[..length]), client)?;
    }
    Ok(())
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    // Recursion desired; one question.
    let mut message = [id, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    // Class: Internet.
    message.extend([kind, 1].map(u16::to_be_bytes).concat());
    message
}

/// The response: the query, followed by one address.
fn answer_to(question: &[u8]) -> Vec<u8> {
    let mut message = question.to_vec();
    // Flags: response, recursion, no error. One answer follows.
    message[2..4].copy_from_slice(&0x8180_u16.to_be_bytes());
    message[6..8].copy_from_slice(&1_u16.to_be_bytes());
    let kind = [message[message.len() - 4], message[message.len() - 3]];
    let length = if u16::from_be_bytes(kind) == TYPES[0] { 4 } else { 16 };
    // The query's name as a pointer, its type and class, and a time to live of 60 s.
    message.extend([0xc0, HEADER as u8, kind[0], kind[1], 0, 1, 0, 0, 0, 60, 0, length]);
    message.resize(message.len() + usize::from(length), 1);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_in_the_standard() {
        let question = question(7, "ab.c", 1);
        assert_eq!(question[..HEADER], [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(question[HEADER..], *b"\x02ab\x01c\0\0\x01\0\x01");
        let answer = answer_to(&question);
        assert_eq!(answer[..HEADER], [0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(
            answer[question.len()..],
            *b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x01\x01\x01"
        );
    }
}
