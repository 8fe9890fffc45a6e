//! What one worker hears from ARP, for the others.
//!
//! A device hands an ARP packet to one queue, whatever worker asked: without this, the others would ask for ever. Of the stack this takes a list; carrying
//! the words from worker to worker is `runtime`'s.

use super::Stack;
use crate::{
    proto::{IfaceId, neighbour::Learned},
    time::Instant,
    wire::MacAddr,
};
use std::net::Ipv4Addr;

/// Words kept in one turn; more are a flood, and who is meant will say it again.
const WORDS_MAX: usize = 64;

/// A station's word about itself: it has `ip` and is at `mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourWord {
    /// The link; all workers number theirs alike.
    pub iface: IfaceId,
    /// The station's address, in one of the link's networks and not our own.
    pub ip: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// How it was said.
    pub how: Learned,
}

impl Stack {
    /// From now on keeps what ARP says for [`take_neighbour_words`](Self::take_neighbour_words).
    pub fn share_neighbours(&mut self) {
        self.words.get_or_insert_default();
    }

    /// Something was heard since the last [`take_neighbour_words`](Self::take_neighbour_words).
    #[inline]
    pub fn has_neighbour_words(&self) -> bool {
        self.words.as_ref().is_some_and(|words| !words.is_empty())
    }

    /// What was heard since the last call, oldest first.
    pub fn take_neighbour_words(&mut self) -> Vec<NeighbourWord> {
        self.words.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Learns what another worker's stack heard, as if it had come in here.
    pub fn hear_neighbours(&mut self, now: Instant, words: &[NeighbourWord]) {
        self.set_now(now);
        for &word in words {
            if usize::from(word.iface.0) < self.ifaces.len() {
                self.learn_neighbour(word);
            }
        }
    }

    pub(super) fn learn_neighbour(&mut self, NeighbourWord { iface, ip, mac, how }: NeighbourWord) {
        let mut resolved = Vec::new();
        self.ifaces[usize::from(iface.0)].neighbours.learn(ip, mac, how, self.now, &mut resolved);
        self.arm_neighbours(iface);
        self.send_parked(resolved);
    }

    pub(super) fn pass_on(&mut self, word: NeighbourWord) {
        if let Some(words) = self.words.as_mut().filter(|words| words.len() < WORDS_MAX) {
            words.push(word);
        }
    }
}
