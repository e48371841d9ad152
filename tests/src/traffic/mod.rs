//! Traffic generators that know exactly how much they sent.
//!
//! In: the two ends of a link. Out: a [`Tally`](crate::tally::Tally) that the sender's egress and
//! the receiver's ingress must equal. No generator sends faster than the receiving CPU reads: a
//! veth with a full packet queue drops frames, which its generator would not notice.

mod checksum;
mod clean;
pub mod frames;
mod icmp;
mod pace;
mod packet;
pub(crate) mod sink;
mod tcp;
mod udp;

pub use clean::{Manner, exchanges};
pub use icmp::{Pings, ping};
pub use packet::PacketSocket;
pub use sink::{SINK, Sink};
pub use tcp::{Connection, Conversation, SentTwice, Streams, Transfer, bulk, exchange, streams};
pub use udp::{Echo, Trickle, Udp, segmented};
