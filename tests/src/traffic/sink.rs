//! Sockets that receive datagrams, and binding of addresses that were in use a moment ago.

use std::{
    io,
    net::{IpAddr, UdpSocket},
};

use anyhow::Result;

use crate::{
    netns::Namespace,
    poll::{self, PATIENCE},
};

/// The port of every sink.
pub const SINK: u16 = 9000;

/// A bound UDP socket that is never read, so that a sender gets no answer and no ICMP "port
/// unreachable".
///
/// Every interface keeps one for each family, because the last datagrams arrive after their sender
/// has finished.
#[derive(Debug)]
pub struct Sink(#[expect(dead_code, reason = "it is open for the lifetime of the sink")] UdpSocket);

impl Sink {
    /// Binds a socket at an address of the namespace.
    pub fn open(namespace: &Namespace, address: IpAddr) -> Result<Self> {
        Ok(Self(namespace.run(|| Ok(UdpSocket::bind((address, SINK))?))?))
    }
}

/// Binds an address, and waits while it is in use.
///
/// A child that another thread is starting holds copies of closed sockets until its `exec`.
pub(super) fn bind<T>(mut attempt: impl FnMut() -> io::Result<T>) -> Result<T> {
    poll::until("the address is free", PATIENCE, || match attempt() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        bound => Ok(Some(bound?)),
    })
}
