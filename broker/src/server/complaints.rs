//! [`Complaints`]: which of many lines about peers go to the log.
//!
//! A peer that connects a thousand times with garbage is told of a few times a minute, and so is each
//! kind of complaint over all peers; metrics count every one. The next line that is let through says
//! how many were not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a line counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of one kind about one peer in that time.
const OF_PEER: u32 = 3;
/// Lines of one kind about all peers in that time.
const OF_KIND: u32 = 20;
/// Peers that are told apart; about more there are no lines until others are forgotten.
const PEERS_MAX: usize = 1024;
/// Stands for all peers.
const ANYBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Of one process.
#[derive(Debug, Default)]
pub(in crate::server) struct Complaints {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: HashMap<(&'static str, IpAddr), Told>,
    suppressed: u64,
}

#[derive(Debug)]
struct Told {
    since: Instant,
    lines: u32,
}

impl Complaints {
    /// Whether a line of a kind about a peer goes to the log: if so, with how many there were since the
    /// last one that did not.
    pub(in crate::server) fn admit(&self, kind: &'static str, peer: IpAddr) -> Option<u64> {
        self.admit_at(kind, peer, Instant::now())
    }

    fn admit_at(&self, kind: &'static str, peer: IpAddr, now: Instant) -> Option<u64> {
        let state = &mut *self.state.lock();
        let peer = (kind, network(peer));
        if state.told.len() >= PEERS_MAX && !state.told.contains_key(&peer) {
            state.told.retain(|_, told| now.duration_since(told.since) < WINDOW);
        }
        let is_known = state.told.contains_key(&peer) || state.told.len() < PEERS_MAX;
        let is_told = is_known
            && state.count(peer, now) <= OF_PEER
            && state.count((kind, ANYBODY), now) <= OF_KIND;
        if !is_told {
            state.suppressed += 1;
            return None;
        }
        Some(std::mem::take(&mut state.suppressed))
    }
}

impl State {
    /// Lines in this window, this one included.
    fn count(&mut self, key: (&'static str, IpAddr), now: Instant) -> u32 {
        let told = self.told.entry(key).or_insert(Told { since: now, lines: 0 });
        if now.duration_since(told.since) >= WINDOW {
            *told = Told { since: now, lines: 0 };
        }
        told.lines = told.lines.saturating_add(1);
        told.lines
    }
}

/// What one peer can choose its address from.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn one_peer_is_told_of_a_few_times_a_minute() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let admit = |kind, peer, seconds| {
            complaints.admit_at(kind, peer, start + Duration::from_secs(seconds))
        };
        let told = (0..3_000).filter(|_| admit("malformed", peer(1), 0).is_some()).count();
        assert_eq!(told, 3);
        assert_eq!(admit("stalled", peer(1), 1), Some(2_997), "another kind is told, and how many");
        assert_eq!(admit("malformed", peer(2), 1), Some(0), "and another peer");
        assert_eq!(admit("malformed", peer(1), 59), None);
        assert_eq!(admit("malformed", peer(1), 60), Some(1), "a minute later again");
    }

    #[test]
    fn all_peers_together_have_a_limit_and_take_bounded_memory() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let many = |from: u32, now| {
            let peers = (from..from + 5_000).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
            peers.filter(|&peer| complaints.admit_at("size", peer, now).is_some()).count()
        };
        assert_eq!(many(1, start), OF_KIND as usize);
        assert!(complaints.state.lock().told.len() <= PEERS_MAX + 1);
        assert_eq!(many(90_000, start + WINDOW), OF_KIND as usize, "others are forgotten");
        // One network of IPv6 is one peer.
        let addresses = (0..100).map(|bits| IpAddr::V6(Ipv6Addr::from_bits((7 << 64) | bits)));
        let admit = |&address: &IpAddr| complaints.admit_at("cut", address, start).is_some();
        assert!(addresses.filter(admit).count() <= OF_PEER as usize);
    }
}
