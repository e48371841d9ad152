//! A synchronous rtnetlink client.
//!
//! Owns: requests, dumps and events of the kernel's routing socket, and the number of messages that
//! could not be read. In: a request, optionally about another namespace. Out: [`Link`]s,
//! [`Address`]es, [`Filter`]s, [`Event`]s.
//!
//! Messages are decoded by hand, for the reason given in `message.rs`. No crate reads the namespace
//! ID of an event, which the kernel sends as ancillary data.

mod address;
mod events;
mod link;
mod message;
mod netns_id;
mod socket;
mod tc;
mod unread;

pub use self::{
    address::Address,
    events::{Change, Event, Events},
    link::{Link, LinkCounters},
    message::printable,
    netns_id::NetnsId,
    socket::Netlink,
    tc::{Filter, FilterId, Side},
    unread::{Kind, unread},
};
