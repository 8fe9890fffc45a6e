//! What the program decided about the frames that it saw.

/// One decision, as counted per frame. The numbers are those of `enum verdict` in `steer.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// See [`Verdict::help`], as for all that follow.
    RedirectedOwned = 0,
    /// A port of ours on a shared address.
    RedirectedPort = 1,
    /// ARP or neighbour discovery.
    RedirectedNeighbour = 2,
    /// A later fragment.
    RedirectedFragment = 3,
    /// An ICMP error about a packet of ours from a shared address.
    RedirectedIcmpError = 4,
    /// Mode [`Everything`](crate::Mode::Everything).
    RedirectedEverything = 5,
    /// The kernel's.
    PassedNotOurs = 6,
    /// Neither IPv4, IPv6 nor ARP.
    PassedEthertype = 7,
    /// Cut within the headers.
    PassedShort = 8,
    /// A header that contradicts itself.
    PassedMalformed = 9,
    /// A later fragment without its first.
    PassedFragmentUnknown = 10,
    /// Too many IPv6 extension headers.
    PassedExtensionHeaders = 11,
    /// Ours, but nobody is there. Counted beside the `Redirected…` that it undid.
    PassedNoSocket = 12,
}

impl Verdict {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::RedirectedOwned,
        Self::RedirectedPort,
        Self::RedirectedNeighbour,
        Self::RedirectedFragment,
        Self::RedirectedIcmpError,
        Self::RedirectedEverything,
        Self::PassedNotOurs,
        Self::PassedEthertype,
        Self::PassedShort,
        Self::PassedMalformed,
        Self::PassedFragmentUnknown,
        Self::PassedExtensionHeaders,
        Self::PassedNoSocket,
    ];

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RedirectedOwned => "redirected_owned",
            Self::RedirectedPort => "redirected_port",
            Self::RedirectedNeighbour => "redirected_neighbour",
            Self::RedirectedFragment => "redirected_fragment",
            Self::RedirectedIcmpError => "redirected_icmp_error",
            Self::RedirectedEverything => "redirected_everything",
            Self::PassedNotOurs => "passed_not_ours",
            Self::PassedEthertype => "passed_ethertype",
            Self::PassedShort => "passed_short",
            Self::PassedMalformed => "passed_malformed",
            Self::PassedFragmentUnknown => "passed_fragment_unknown",
            Self::PassedExtensionHeaders => "passed_extension_headers",
            Self::PassedNoSocket => "passed_no_socket",
        }
    }

    /// What it counts, in a sentence.
    pub const fn help(self) -> &'static str {
        match self {
            Self::RedirectedOwned => "Frames to an address that the engine owns whole.",
            Self::RedirectedPort => {
                "Frames to a (protocol, port) of the engine's on an address shared with the kernel."
            }
            Self::RedirectedNeighbour => {
                "ARP and IPv6 neighbour discovery about an owned address, and awaited answers to a shared one."
            }
            Self::RedirectedFragment => "Later fragments that followed their first one to a port of the engine's.",
            Self::RedirectedIcmpError => "ICMP errors that quote a packet sent from a port of the engine's.",
            Self::RedirectedEverything => "Frames of every kind, taken because the mode is `everything`.",
            Self::PassedNotOurs => "Frames for the kernel: their destination is no address or port of the engine's.",
            Self::PassedEthertype => "Frames that are neither IPv4, IPv6 nor ARP, or have more than two VLAN tags.",
            Self::PassedShort => "Frames that end within the headers needed for a decision.",
            Self::PassedMalformed => {
                "Frames whose ARP or IP header contradicts itself (version, header length, address kind)."
            }
            Self::PassedFragmentUnknown => {
                "Later fragments to a shared address that came before their first one, or belong to the kernel."
            }
            Self::PassedExtensionHeaders => "IPv6 packets with more than eight extension headers before the port.",
            Self::PassedNoSocket => {
                "Frames of the engine's that arrived on a queue without a socket; also counted as redirected."
            }
        }
    }
}

/// Frames by [`Verdict`], summed over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    frames: [u64; Verdict::COUNT],
}

impl Verdicts {
    /// Adds one CPU's count.
    pub(crate) fn add(&mut self, verdict: Verdict, frames: u64) {
        let sum = &mut self.frames[verdict as usize];
        *sum = sum.wrapping_add(frames);
    }

    /// Frames with this verdict.
    pub const fn get(&self, verdict: Verdict) -> u64 {
        self.frames[verdict as usize]
    }

    /// Frames that the program saw: the sum of all but [`Verdict::PassedNoSocket`], which is counted in addition.
    pub fn frames(&self) -> u64 {
        let all: u64 = self.frames.iter().sum();
        all - self.get(Verdict::PassedNoSocket)
    }

    /// Name, explaining sentence and value of every counter.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Verdict::ALL.iter().map(|&verdict| (verdict.name(), verdict.help(), self.get(verdict)))
    }
}

impl<'a> IntoIterator for &'a Verdicts {
    type Item = (&'static str, &'static str, u64);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_match_the_header() {
        let header = include_str!("bpf/steer.h");
        for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, index);
            let line = format!("\t{} = {index},\n", verdict.name().to_uppercase());
            assert!(header.contains(&line), "{line:?}");
        }
        assert!(header.contains(&format!("\tVERDICT_COUNT = {},\n", Verdict::COUNT)));
    }

    #[test]
    fn sums_cpus_and_counts_no_socket_once() {
        let mut verdicts = Verdicts::default();
        for _cpu in 0..2 {
            verdicts.add(Verdict::RedirectedOwned, 5);
            verdicts.add(Verdict::PassedNoSocket, 2);
        }
        assert_eq!(verdicts.get(Verdict::RedirectedOwned), 10);
        assert_eq!(verdicts.get(Verdict::PassedNoSocket), 4);
        assert_eq!(verdicts.frames(), 10);
        assert_eq!(verdicts.iter().count(), Verdict::COUNT);
        assert!(verdicts.iter().all(|(_, help, _)| help.ends_with('.')));
    }
}
