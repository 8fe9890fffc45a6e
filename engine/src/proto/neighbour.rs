//! Who is at which Ethernet address on one link: ARP (RFC 826, RFC 1122 section 2.3.2) with the states of neighbour unreachability detection
//! (RFC 4861 section 7.3.2).
//!
//! ```text
//!             lookup                 answer                    30 s                  use              5 s
//!  (nothing) ───────► Incomplete ──────────────► Reachable ──────────► Stale ───────────────► Delay ────────► Probe ──► answer: Reachable
//!                       │ 3 requests unanswered     ▲                    │ ▲                    │               └─► 3 unanswered: forgotten
//!                       └─► Failed ─3 s─► forgotten └── progress above ──┼─┼────────────────────┘
//!                                                         10 min unused ─┘ └─ somebody asked us, or the address changed
//! ```
//!
//! Packets wait here while their next hop is being asked. All is bounded: entries, packets for one entry, packets in all.

use super::list::{Link, List};
use crate::{
    time::{Duration, Instant},
    wire::MacAddr,
};
use ahash::RandomState;
use hashbrown::HashMap;
use std::{collections::VecDeque, fmt, net::Ipv4Addr};

/// Limits and times of a neighbour cache.
#[derive(Clone, Debug)]
pub struct NeighbourConfig {
    /// Most entries. Too low: neighbours in use push each other out and are asked again and again.
    pub entries_max: usize,
    /// Packets that wait for one neighbour; of more, the oldest is dropped (RFC 1122 asks for at least one, the latest).
    pub parked_per_entry_max: usize,
    /// Packets that wait in all.
    pub parked_total_max: usize,
    /// How long an answer is believed without question.
    pub reachable: Duration,
    /// How long an entry that nobody uses is kept after that.
    pub stale_to_gone: Duration,
    /// How long after a doubtful address is used its owner is asked, if nothing else confirmed it (`DELAY_FIRST_PROBE_TIME`).
    pub delay_first_probe: Duration,
    /// Between requests (RFC 1122: at most one per second).
    pub retransmit: Duration,
    /// Requests without an answer until a neighbour is unreachable.
    pub probes_max: u8,
    /// How long an address that did not answer is not asked again.
    pub failed_hold: Duration,
}

impl Default for NeighbourConfig {
    fn default() -> Self {
        Self {
            entries_max: 1024,
            parked_per_entry_max: 16,
            parked_total_max: 256,
            reachable: Duration::from_secs(30),
            stale_to_gone: Duration::from_secs(600),
            delay_first_probe: Duration::from_secs(5),
            retransmit: Duration::from_secs(1),
            probes_max: 3,
            failed_hold: Duration::from_secs(3),
        }
    }
}

/// What is known of an address to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Send there.
    Known(MacAddr),
    /// It is being asked for: park the packet.
    Pending,
    /// Broadcast a request now, and park the packet.
    Start,
    /// It did not answer just now: the host is unreachable.
    Failed,
    /// No room to remember that it is being asked for.
    Full,
}

/// How a mapping came to our notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// A reply to us. It confirms the mapping if we asked; else it is a hint.
    Reply,
    /// A request to us, whose sender probably gets packets from us soon: an entry is made.
    Request,
    /// Overheard or gratuitous: only changes an entry that exists.
    Gossip,
}

/// What [`Neighbours::learn`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing, or only how fresh the entry is.
    None,
    /// A new entry.
    New,
    /// The neighbour's Ethernet address is another one now.
    MacChanged,
    /// A neighbour that was asked for, or had failed, is known now.
    Resolved,
}

/// What is to be done after a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerAction {
    /// Nothing.
    None,
    /// Broadcast a request.
    Broadcast,
    /// Send a request to this address.
    Unicast(MacAddr),
    /// The neighbour does not answer: what was parked for it was handed back.
    Failed,
    /// The entry was forgotten.
    Expired,
}

/// An entry's state (RFC 4861 section 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Being asked for, by so many requests until now.
    Incomplete(u8),
    /// Confirmed not long ago.
    Reachable,
    /// Confirmed long ago or never; not in use.
    Stale,
    /// In use since it was stale; asked if nothing confirms it soon.
    Delay,
    /// In use and being asked, by so many requests until now.
    Probe(u8),
    /// Did not answer.
    Failed,
    /// Configured.
    Static,
}

/// The cache is full of neighbours in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the neighbour cache is full of entries in use: raise `entries_max`")]
pub struct TableFull;

/// An entry, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourView {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its Ethernet address, if known.
    pub mac: Option<MacAddr>,
    /// Its state.
    pub state: NeighbourState,
    /// Packets that wait for it.
    pub parked: usize,
}

/// What was given up for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourCounters {
    /// Entries forgotten to make room for others.
    pub evicted: u64,
    /// Packets that waited for those, or for an entry that was then configured.
    pub parked_dropped: u64,
    /// Lookups and requests that found no room.
    pub full: u64,
}

/// The list that an entry is in. All in one list have the same time to stay, so each is in the order of deadlines as well as of last use. The first four may
/// be given up for others, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    /// Stale, made for a request and never used: a flood of spoofed requests finds its own entries here.
    Unused,
    /// Stale.
    Idle,
    Incomplete,
    Probe,
    Delay,
    Reachable,
    /// In no list.
    Static,
}

const KINDS: usize = Kind::Static as usize;

struct Entry<P> {
    ip: Ipv4Addr,
    mac: MacAddr,
    state: NeighbourState,
    /// Somebody sent to it.
    used: bool,
    kind: Kind,
    link: Link,
    deadline: Option<Instant>,
    parked: VecDeque<P>,
}

fn link<P>(entry: &mut Entry<P>) -> &mut Link {
    &mut entry.link
}

/// The neighbour cache of one interface; `P` is a packet that waits.
pub struct Neighbours<P> {
    config: NeighbourConfig,
    by_ip: HashMap<Ipv4Addr, usize, RandomState>,
    entries: Vec<Entry<P>>,
    free: Vec<usize>,
    lists: [List; KINDS],
    /// When the caller's timer fires.
    armed: Option<Instant>,
    parked: usize,
    epoch: u64,
    counters: NeighbourCounters,
}

impl<P> Neighbours<P> {
    /// An empty cache; `hash_seeds` are secret.
    pub fn new(config: NeighbourConfig, hash_seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = hash_seeds;
        Self {
            config,
            by_ip: HashMap::with_hasher(RandomState::with_seeds(a, b, c, d)),
            entries: Vec::new(),
            free: Vec::new(),
            lists: [List::EMPTY; KINDS],
            armed: None,
            parked: 0,
            epoch: 0,
            counters: NeighbourCounters::default(),
        }
    }

    /// Where to send a packet for `ip`. Counts as use. [`arm`](Self::arm) afterwards.
    pub fn lookup(&mut self, ip: Ipv4Addr, now: Instant) -> Lookup {
        let Some(&at) = self.by_ip.get(&ip) else {
            let Some(at) = self.create(ip, Kind::Incomplete) else { return Lookup::Full };
            return self.ask(at, now);
        };
        self.entries[at].used = true;
        let Entry { mac, state, deadline, .. } = self.entries[at];
        let due = deadline.is_some_and(|deadline| deadline <= now);
        match state {
            NeighbourState::Incomplete(_) => Lookup::Pending,
            NeighbourState::Failed if due => self.ask(at, now),
            NeighbourState::Failed => Lookup::Failed,
            NeighbourState::Reachable if due => {
                self.epoch += 1;
                self.enter(at, NeighbourState::Delay, now);
                Lookup::Known(mac)
            }
            NeighbourState::Stale => {
                self.enter(at, NeighbourState::Delay, now);
                Lookup::Known(mac)
            }
            NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe(_) | NeighbourState::Static => {
                Lookup::Known(mac)
            }
        }
    }

    /// Keeps a packet until `ip` is known.
    ///
    /// # Errors
    /// The packet to drop: the oldest if too many wait for this neighbour; this one if too many wait in all or `ip` is not being asked for.
    pub fn park(&mut self, ip: Ipv4Addr, packet: P) -> Result<(), P> {
        let Some(&at) = self.by_ip.get(&ip) else { return Err(packet) };
        let Entry { state: NeighbourState::Incomplete(_), parked, .. } = &mut self.entries[at] else {
            return Err(packet);
        };
        if parked.len() >= self.config.parked_per_entry_max {
            let Some(oldest) = parked.pop_front() else { return Err(packet) };
            parked.push_back(packet);
            return Err(oldest);
        }
        if self.parked >= self.config.parked_total_max {
            return Err(packet);
        }
        parked.push_back(packet);
        self.parked += 1;
        Ok(())
    }

    /// Takes note that `ip` says it is at `mac`; what waited for it goes to `out`, oldest first. [`arm`](Self::arm) afterwards.
    ///
    /// The caller has checked that `ip` is on this link and not its own.
    pub fn learn(&mut self, ip: Ipv4Addr, mac: MacAddr, how: Learned, now: Instant, out: &mut Vec<P>) -> Change {
        if mac.is_multicast()
            || mac == MacAddr::default()
            || ip.is_unspecified()
            || ip.is_multicast()
            || ip.is_broadcast()
        {
            return Change::None;
        }
        let Some(&at) = self.by_ip.get(&ip) else {
            return match how {
                Learned::Request => match self.create(ip, Kind::Idle) {
                    Some(at) => {
                        self.entries[at].mac = mac;
                        self.enter(at, NeighbourState::Stale, now);
                        Change::New
                    }
                    None => Change::None,
                },
                Learned::Reply | Learned::Gossip => Change::None,
            };
        };
        let old = std::mem::replace(&mut self.entries[at].mac, mac);
        let changed = old != mac;
        match (self.entries[at].state, how) {
            (NeighbourState::Static, _) => {
                self.entries[at].mac = old;
                Change::None
            }
            (NeighbourState::Incomplete(_), _) => {
                let state = if how == Learned::Reply { NeighbourState::Reachable } else { NeighbourState::Delay };
                self.enter(at, state, now);
                self.take_parked(at, out);
                Change::Resolved
            }
            (NeighbourState::Failed, _) => {
                let state = if how == Learned::Reply { NeighbourState::Reachable } else { NeighbourState::Stale };
                self.enter(at, state, now);
                Change::Resolved
            }
            (NeighbourState::Probe(_), Learned::Reply) => {
                self.enter(at, NeighbourState::Reachable, now);
                self.note_change(changed)
            }
            // We did not ask, so it proves nothing: a new address is used (it may have moved to a standby host), but asked for before long.
            _ if changed => {
                self.enter(at, NeighbourState::Stale, now);
                self.note_change(true)
            }
            (NeighbourState::Stale, Learned::Reply | Learned::Request) => {
                self.enter(at, NeighbourState::Stale, now);
                Change::None
            }
            _ => Change::None,
        }
    }

    fn note_change(&mut self, changed: bool) -> Change {
        self.epoch += u64::from(changed);
        if changed { Change::MacChanged } else { Change::None }
    }

    /// Takes note that something was received which proves that packets to `ip` arrive, such as an acknowledgement (RFC 4861 section 7.3.1).
    pub fn confirm(&mut self, ip: Ipv4Addr, now: Instant) {
        if let Some(&at) = self.by_ip.get(&ip)
            && let NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe(_) =
                self.entries[at].state
        {
            self.enter(at, NeighbourState::Reachable, now);
        }
    }

    /// Configures `ip` to be at `mac`, whatever is learned. What waits for it is dropped and counted.
    ///
    /// # Errors
    /// No room.
    pub fn add_static(&mut self, ip: Ipv4Addr, mac: MacAddr) -> Result<(), TableFull> {
        let at = match self.by_ip.get(&ip) {
            Some(&at) => at,
            None => self.create(ip, Kind::Incomplete).ok_or(TableFull)?,
        };
        let entry = &mut self.entries[at];
        self.parked -= entry.parked.len();
        self.counters.parked_dropped += entry.parked.len() as u64;
        entry.parked.clear();
        entry.mac = mac;
        self.enter(at, NeighbourState::Static, Instant::ZERO);
        self.epoch += 1;
        Ok(())
    }

    /// Forgets `ip`, also if configured; what waits for it goes to `dropped`.
    pub fn remove(&mut self, ip: Ipv4Addr, dropped: &mut Vec<P>) {
        if let Some(&at) = self.by_ip.get(&ip) {
            self.take_parked(at, dropped);
            self.forget(at);
            self.epoch += 1;
        }
    }

    /// An entry whose deadline is over, for [`on_timer`](Self::on_timer). Call both until `None`, then [`arm`](Self::arm).
    pub fn due(&mut self, now: Instant) -> Option<Ipv4Addr> {
        if self.armed.is_some_and(|armed| armed <= now) {
            self.armed = None;
        }
        let mut first = self.lists.iter().filter_map(List::front).map(|at| &self.entries[at]);
        first.find(|entry| entry.deadline.is_some_and(|deadline| deadline <= now)).map(|entry| entry.ip)
    }

    /// Does what is due for `ip`; packets that will not be sent go to `dropped`. Nothing happens before the deadline.
    pub fn on_timer(&mut self, ip: Ipv4Addr, now: Instant, dropped: &mut Vec<P>) -> TimerAction {
        let Some(&at) = self.by_ip.get(&ip) else { return TimerAction::None };
        let entry = &self.entries[at];
        if entry.deadline.is_none_or(|deadline| now < deadline) {
            return TimerAction::None;
        }
        let mac = entry.mac;
        match entry.state {
            NeighbourState::Incomplete(sent) if sent < self.config.probes_max => {
                self.enter(at, NeighbourState::Incomplete(sent + 1), now);
                TimerAction::Broadcast
            }
            NeighbourState::Incomplete(_) => {
                self.take_parked(at, dropped);
                self.enter(at, NeighbourState::Failed, now);
                TimerAction::Failed
            }
            NeighbourState::Reachable => {
                self.epoch += 1;
                self.enter(at, NeighbourState::Stale, now);
                TimerAction::None
            }
            NeighbourState::Delay => {
                self.enter(at, NeighbourState::Probe(1), now);
                TimerAction::Unicast(mac)
            }
            NeighbourState::Probe(sent) if sent < self.config.probes_max => {
                self.enter(at, NeighbourState::Probe(sent + 1), now);
                TimerAction::Unicast(mac)
            }
            // Forgotten rather than failed: the next packet asks everybody, as its owner may have got another Ethernet address.
            NeighbourState::Probe(_) => {
                self.epoch += 1;
                self.forget(at);
                TimerAction::Failed
            }
            NeighbourState::Stale | NeighbourState::Failed => {
                self.forget(at);
                TimerAction::Expired
            }
            NeighbourState::Static => TimerAction::None,
        }
    }

    /// When to call [`due`](Self::due), unless an earlier answer of this comes no later. One timer does for all entries: timers cannot be cancelled, so one
    /// per entry would let whoever sends ARP requests pile them up.
    pub fn arm(&mut self) -> Option<Instant> {
        let first = self.lists.iter().filter_map(List::front);
        let deadline = first.filter_map(|at| self.entries[at].deadline).min()?;
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return None;
        }
        self.armed = Some(deadline);
        self.armed
    }

    /// When [`on_timer`](Self::on_timer) has something to do for `ip`; it may move either way.
    pub fn deadline(&self, ip: Ipv4Addr) -> Option<Instant> {
        self.by_ip.get(&ip).and_then(|&at| self.entries[at].deadline)
    }

    /// Changes whenever a [`Lookup::Known`] answer given before may be wrong or must be asked for again (so that use is noticed).
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.by_ip.len()
    }

    /// There are no entries.
    pub fn is_empty(&self) -> bool {
        self.by_ip.is_empty()
    }

    /// Packets that wait.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// What was given up for want of room so far.
    pub fn counters(&self) -> NeighbourCounters {
        self.counters
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = NeighbourView> {
        self.by_ip.values().map(|&at| {
            let Entry { ip, mac, state, ref parked, .. } = self.entries[at];
            let known = !matches!(state, NeighbourState::Incomplete(_) | NeighbourState::Failed);
            NeighbourView { ip, mac: known.then_some(mac), state, parked: parked.len() }
        })
    }

    fn ask(&mut self, at: usize, now: Instant) -> Lookup {
        self.entries[at].used = true;
        self.enter(at, NeighbourState::Incomplete(1), now);
        Lookup::Start
    }

    /// Puts an entry into a state, with the deadline and the list that go with it.
    fn enter(&mut self, at: usize, state: NeighbourState, now: Instant) {
        let NeighbourConfig { reachable, stale_to_gone, delay_first_probe, retransmit, failed_hold, .. } = self.config;
        let used = self.entries[at].used;
        let (lasts, kind) = match state {
            NeighbourState::Incomplete(_) => (Some(retransmit), Kind::Incomplete),
            NeighbourState::Reachable => (Some(reachable), Kind::Reachable),
            NeighbourState::Stale => (Some(stale_to_gone), if used { Kind::Idle } else { Kind::Unused }),
            NeighbourState::Delay => (Some(delay_first_probe), Kind::Delay),
            NeighbourState::Probe(_) => (Some(retransmit), Kind::Probe),
            NeighbourState::Failed => (Some(failed_hold), Kind::Failed),
            NeighbourState::Static => (None, Kind::Static),
        };
        self.unlink(at);
        let entry = &mut self.entries[at];
        entry.state = state;
        entry.deadline = lasts.map(|lasts| now + lasts);
        entry.kind = kind;
        if let Some(list) = self.lists.get_mut(kind as usize) {
            list.push_back(&mut self.entries, at, link);
        }
    }

    fn unlink(&mut self, at: usize) {
        if let Some(list) = self.lists.get_mut(self.entries[at].kind as usize) {
            list.unlink(&mut self.entries, at, link);
        }
        self.entries[at].kind = Kind::Static;
    }

    /// A new entry, giving up another of a kind up to `up_to` if there must be room. The caller lets it enter a state.
    fn create(&mut self, ip: Ipv4Addr, up_to: Kind) -> Option<usize> {
        if self.by_ip.len() >= self.config.entries_max {
            let Some(victim) = self.lists.iter().take(up_to as usize + 1).find_map(List::front) else {
                self.counters.full += 1;
                return None;
            };
            let waiting = self.entries[victim].parked.len();
            self.entries[victim].parked.clear();
            self.parked -= waiting;
            self.counters.parked_dropped += waiting as u64;
            self.counters.evicted += 1;
            // No new epoch: an entry in use is never the victim, and caches were told when it ceased to be.
            self.forget(victim);
        }
        let at = self.free.pop().unwrap_or(self.entries.len());
        let new = |parked| Entry {
            ip,
            mac: MacAddr::default(),
            state: NeighbourState::Failed,
            used: false,
            kind: Kind::Static,
            link: Link::LOOSE,
            deadline: None,
            parked,
        };
        match self.entries.get_mut(at) {
            Some(slot) => *slot = new(std::mem::take(&mut slot.parked)),
            None => self.entries.push(new(VecDeque::new())),
        }
        self.by_ip.insert(ip, at);
        Some(at)
    }

    /// Removes an entry for which nothing waits.
    fn forget(&mut self, at: usize) {
        self.unlink(at);
        self.by_ip.remove(&self.entries[at].ip);
        self.free.push(at);
    }

    fn take_parked(&mut self, at: usize, out: &mut Vec<P>) {
        let parked = &mut self.entries[at].parked;
        self.parked -= parked.len();
        out.extend(parked.drain(..));
    }
}

impl<P> fmt::Debug for Neighbours<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
