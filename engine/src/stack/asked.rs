//! Whom the stack has asked by ARP, for who decides where the answers go.
//!
//! Where the kernel has our address too it gets the answers, unless the steering program is told to expect one. Of the stack this takes a list; telling the
//! program is `runtime`'s.

use super::Stack;
use std::net::Ipv4Addr;

/// What happened to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It goes out with the next packets: who has this address?
    Waiting(Ipv4Addr),
    /// Who has this address has answered.
    Answered(Ipv4Addr),
}

impl Stack {
    /// From now on keeps what it asks for [`take_asked`](Self::take_asked).
    pub fn tell_asked(&mut self) {
        self.asked.get_or_insert_default();
    }

    /// Something was asked or answered since the last [`take_asked`](Self::take_asked).
    #[inline]
    pub fn has_asked(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| !asked.is_empty())
    }

    /// What was asked and answered since the last call, oldest first. To be called before the port gets what the stack sends.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        self.asked.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Kept, unless nobody wants to know. Each goes with an ARP packet, so a turn's packets bound it.
    pub(super) fn note_asked(&mut self, asked: Asked) {
        if let Some(list) = &mut self.asked {
            list.push(asked);
        }
    }
}
