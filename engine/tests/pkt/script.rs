//! The language of packet scripts: `README.md` in this folder describes it.

#[cfg(test)]
mod tests;

use crate::segment::{ACK, FLAG_LETTERS};
use std::time::Duration;

/// When a step happens, counted from the step before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Then, up to the script's tolerance.
    After(Duration),
    /// Between the two.
    Within(Duration, Duration),
}

/// A number that a packet or a figure must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Any,
    Is(u64),
    AtLeast(u64),
    AtMost(u64),
}

impl Condition {
    pub(crate) fn holds(self, n: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Is(want) => n == want,
            Self::AtLeast(least) => n >= least,
            Self::AtMost(most) => n <= most,
        }
    }
}

/// TCP options of a line. Numbers are as in the script: timestamps and blocks count from where the script says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OptionList {
    pub(crate) mss: Option<Condition>,
    pub(crate) window_scale: Option<Condition>,
    pub(crate) sack_permitted: bool,
    /// Value and echo.
    pub(crate) timestamps: Option<(Condition, Condition)>,
    /// From the peer: none, though the connection has them.
    pub(crate) no_timestamps: bool,
    pub(crate) sack: Vec<(u32, u32)>,
    pub(crate) raw: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) len: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) window: Option<Condition>,
    pub(crate) urgent: Option<u16>,
    /// `None`: not looked at; from the peer: what the connection calls for.
    pub(crate) options: Option<OptionList>,
    pub(crate) ecn: Option<u8>,
    /// From the peer only: it comes in one burst with the one before, whatever we answer to that.
    pub(crate) in_burst: bool,
    /// From the peer only: it waits for the next one, and both come in one batch.
    pub(crate) more: bool,
    /// From the peer only: the checksum is wrong.
    pub(crate) bad_checksum: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) seq: u32,
    pub(crate) len: u32,
    pub(crate) mtu: u16,
}

/// What a call must come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The name of the error.
    Fails(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Listen {
        port: u16,
        backlog: usize,
    },
    CloseListener,
    Accept(Outcome),
    Connect {
        port: u16,
    },
    Send {
        bytes: usize,
        outcome: Outcome,
    },
    SendUrgent {
        bytes: usize,
    },
    Recv {
        bytes: usize,
    },
    RecvFails(String),
    RecvUrgent(Outcome),
    AtMark(bool),
    Shutdown,
    Close,
    Abort,
    State(String),
    Event(String),
    NoEvent(String),
    Option(Vec<String>),
    Info(String, String),
    Counter(String, Condition),
    Waiting(Condition),
    Unacked(Condition),
    Mtu(usize),
    /// From now on lines are about the connection with this port of the peer.
    PeerPort(u16),
    /// The connection's numbers are forgotten: the next one of the same ports begins.
    Forget,
    /// Nothing was sent until now.
    Quiet,
    /// The NIC keeps what it is given, or lets go of it.
    NicHolds(bool),
    /// What the stack sends next is lost for the script: that many packets are taken whatever they are.
    Ignore(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    In(Packet),
    InIcmp(Icmp),
    Out(Packet),
    Call(Call),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// In the file, from 1.
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) when: When,
    pub(crate) step: Step,
}

/// What holds for the whole script; `set NAME VALUE` lines, before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) tolerance: Duration,
    pub(crate) mtu: usize,
    pub(crate) frames: usize,
    pub(crate) chunk_bytes: usize,
    pub(crate) pieces_max: usize,
    pub(crate) peer_isn: u32,
    /// It may copy: what comes to the urgent byte has to.
    pub(crate) copies: bool,
    /// Further names, for the stack's configuration.
    pub(crate) stack: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tolerance: Duration::from_millis(2),
            mtu: 1500,
            frames: 512,
            chunk_bytes: 2048,
            pieces_max: 17,
            // So that every script crosses the wrap.
            peer_isn: 0xffff_fc00,
            copies: false,
            stack: vec![],
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) lines: Vec<Line>,
}

/// Line and what is wrong with it.
pub(crate) type ParseError = (usize, String);

impl Script {
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let mut script = Self::default();
        for (at, text) in text.lines().enumerate() {
            let number = at + 1;
            let code = text.split('#').next().unwrap_or_default().split("//").next().unwrap_or_default().trim();
            if !code.is_empty() {
                script.parse_line(number, code).map_err(|error| (number, error))?;
            }
        }
        Ok(script)
    }

    fn parse_line(&mut self, number: usize, code: &str) -> Result<(), String> {
        let (first, rest) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
        if first == "set" {
            if !self.lines.is_empty() {
                return Err("`set` comes before everything else".into());
            }
            return self.settings.set(rest.trim());
        }
        let when = parse_when(first)?;
        let rest = rest.trim();
        let mut push = |when, step| self.lines.push(Line { number, text: code.into(), when, step });
        let now = When::After(Duration::ZERO);
        if let Some(packet) = rest.strip_prefix('<') {
            let packet = packet.trim();
            if let Some(icmp) = packet.strip_prefix("icmp ") {
                push(when, Step::InIcmp(parse_icmp(icmp)?));
            } else {
                for (at, packet) in parse_packets(packet)?.into_iter().enumerate() {
                    push(if at == 0 { when } else { now }, Step::In(packet));
                }
            }
        } else if let Some(packet) = rest.strip_prefix('>') {
            for (at, packet) in parse_packets(packet.trim())?.into_iter().enumerate() {
                push(if at == 0 { when } else { now }, Step::Out(packet));
            }
        } else if let Some(how) = rest.strip_prefix("established") {
            for (when, text) in opening(true, how)? {
                self.parse_line(number, &format!("{when} {text}"))?;
            }
        } else if let Some(how) = rest.strip_prefix("connected") {
            for (when, text) in opening(false, how)? {
                self.parse_line(number, &format!("{when} {text}"))?;
            }
        } else {
            push(when, Step::Call(parse_call(rest)?));
        }
        Ok(())
    }
}

/// The lines that `established` and `connected` stand for: a handshake of 10 ms, or of what `rtt` says, with the options in brackets.
fn opening(passive: bool, how: &str) -> Result<Vec<(String, String)>, String> {
    let (words, options) = split_options(how)?;
    let options = options.unwrap_or("std".into());
    let (mut rtt, mut window) = ("0.010".to_string(), "65535".to_string());
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("`{word}` needs a value"))?.to_string();
        match word {
            "rtt" => rtt = value,
            "win" => window = value,
            _ => return Err(format!("`{word}`: rtt or win")),
        }
    }
    let lines: Vec<(String, String)> = if passive {
        vec![
            ("+0".into(), "listen 80".into()),
            ("+0".into(), format!("< S 0:0(0) win {window} <{options}>")),
            ("+0".into(), "> S. 0:0(0) ack 1".into()),
            (format!("+{rtt}"), format!("< . 1:1(0) ack 1 win {window}")),
            ("+0".into(), "accept".into()),
        ]
    } else {
        vec![
            ("+0".into(), "connect 80".into()),
            ("+0".into(), "> S 0:0(0)".into()),
            (format!("+{rtt}"), format!("< S. 0:0(0) ack 1 win {window} <{options}>")),
            ("+0".into(), "> . 1:1(0) ack 1".into()),
            ("+0".into(), "event Connected".into()),
        ]
    };
    Ok(lines.into_iter().chain([("+0".into(), "state ESTABLISHED".into())]).collect())
}

impl Settings {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let value = value.trim();
        match name {
            "tolerance" => self.tolerance = parse_duration(value)?,
            "mtu" => self.mtu = number(value)?,
            "frames" => self.frames = number(value)?,
            "chunk" => self.chunk_bytes = number(value)?,
            "pieces" => self.pieces_max = number(value)?,
            "copies" => self.copies = true,
            "peer_isn" => self.peer_isn = number(value)?,
            _ => self.stack.push((name.into(), value.into())),
        }
        Ok(())
    }
}

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number that fits here"))
}

/// Seconds, or a number with `us`, `ms`, `s`, `m` or `h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time")),
    };
    let value: f64 = number(digits)?;
    // To the nanosecond, so that 0.1 s is what it says.
    Ok(Duration::from_nanos((value * scale * 1e9).round() as u64))
}

fn parse_when(text: &str) -> Result<When, String> {
    let after = |text: &str| {
        text.strip_prefix('+').ok_or(format!("`{text}`: a line begins with +TIME")).and_then(parse_duration)
    };
    match text.split_once('~') {
        None => after(text).map(When::After),
        Some((from, to)) => Ok(When::Within(after(from)?, after(to)?)),
    }
}

/// A number that may lie before the connection's first.
fn relative(text: &str) -> Result<u32, String> {
    number::<i64>(text).map(|n| n as u32)
}

pub(crate) fn condition(text: &str) -> Result<Condition, String> {
    Ok(match text {
        "*" => Condition::Any,
        _ => match (text.strip_prefix(">="), text.strip_prefix("<=")) {
            (Some(least), _) => Condition::AtLeast(number(least)?),
            (_, Some(most)) => Condition::AtMost(number(most)?),
            _ => Condition::Is(number(text)?),
        },
    })
}

fn parse_flags(text: &str) -> Result<u8, String> {
    text.chars().try_fold(0, |flags, letter| match FLAG_LETTERS.find(letter) {
        Some(bit) => Ok(flags | 1 << bit),
        None if letter == '-' => Ok(flags),
        None => Err(format!("`{letter}` is no flag: one of {FLAG_LETTERS}, or - for none")),
    })
}

/// `FROM:TO(LEN)`.
fn parse_range(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}`: expected FROM:TO(LENGTH)");
    let (from, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (to, len) = rest.strip_suffix(')').and_then(|rest| rest.split_once('(')).ok_or_else(wrong)?;
    let (from, to, len): (u32, u32, u32) = (relative(from)?, relative(to)?, number(len)?);
    if to.wrapping_sub(from) != len {
        return Err(format!("`{text}`: that is not {len} bytes"));
    }
    Ok((from, len))
}

/// What stands in front of `<…>`, and in it.
fn split_options(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('<') {
        // `win <=N` is no list of options.
        Some((front, rest)) if !rest.starts_with('=') => {
            let (options, behind) = rest.rsplit_once('>').ok_or("`<` without `>`")?;
            if !behind.trim().is_empty() {
                return Err(format!("`{}` after the options", behind.trim()));
            }
            Ok((front.into(), Some(options.trim().into())))
        }
        Some((front, rest)) => {
            let (more, options) = split_options(&rest[1..])?;
            Ok((format!("{front}<={more}"), options))
        }
        None => Ok((text.into(), None)),
    }
}

/// One packet, or with `xN` in front so many, each following the one before, or `xN/STEP` that many bytes on.
fn parse_packets(text: &str) -> Result<Vec<Packet>, String> {
    let (words, options) = split_options(text)?;
    let mut words = words.split_whitespace().peekable();
    let mut next = |what: &str| words.next().ok_or(format!("{what} is missing"));
    let mut packet = Packet { options: options.map(|list| parse_options(&list)).transpose()?, ..Packet::default() };
    let mut word = next("flags")?;
    let (mut count, mut step) = (1, None);
    loop {
        if let Some(times) = word.strip_prefix('x') {
            let (times, apart) = times.split_once('/').map_or((times, None), |(times, step)| (times, Some(step)));
            (count, step) = (number(times)?, apart.map(number).transpose()?);
        } else if let Some(mark) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            match mark {
                "noecn" => packet.ecn = Some(0),
                "ect1" => packet.ecn = Some(1),
                "ect0" => packet.ecn = Some(2),
                "ce" => packet.ecn = Some(3),
                "bad" => packet.bad_checksum = true,
                "more" => packet.more = true,
                _ => return Err(format!("[{mark}]: one of noecn, ect0, ect1, ce, bad, more")),
            }
        } else {
            break;
        }
        word = next("flags")?;
    }
    packet.flags = parse_flags(word)?;
    (packet.seq, packet.len) = parse_range(next("FROM:TO(LENGTH)")?)?;
    while let Ok(name) = next("") {
        let value = next(name)?;
        match name {
            "ack" => packet.ack = Some(relative(value)?),
            "win" => packet.window = Some(condition(value)?),
            "urg" => packet.urgent = Some(number(value)?),
            _ => return Err(format!("`{name}`: ack, win or urg")),
        }
    }
    if packet.ack.is_some() != (packet.flags & ACK != 0) {
        return Err("`ack` goes with the flag `.`, and the flag with it".into());
    }
    let step = step.unwrap_or(packet.len);
    let numbered = |at: u32| Packet { seq: packet.seq.wrapping_add(at * step), in_burst: at > 0, ..packet.clone() };
    Ok((0..count).map(numbered).collect())
}

fn parse_options(list: &str) -> Result<OptionList, String> {
    let mut options = OptionList::default();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let words: Vec<_> = item.split_whitespace().collect();
        match words[..] {
            ["nop" | "eol"] => {}
            ["mss", mss] => options.mss = Some(condition(mss)?),
            ["wscale", scale] => options.window_scale = Some(condition(scale)?),
            ["sackOK"] => options.sack_permitted = true,
            ["nots"] => options.no_timestamps = true,
            ["TS"] => options.timestamps = Some((Condition::Any, Condition::Any)),
            ["TS", "val", value, "ecr", echo] => options.timestamps = Some((condition(value)?, condition(echo)?)),
            ["sack", ref blocks @ ..] => {
                for block in blocks {
                    let (from, to) = block.split_once(':').ok_or(format!("`{block}`: expected FROM:TO"))?;
                    options.sack.push((relative(from)?, relative(to)?));
                }
            }
            ["raw", hex] => {
                let byte = |at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
                for at in (0..hex.len()).step_by(2) {
                    options.raw.push(byte(at).ok_or(format!("`{hex}`: not hexadecimal bytes"))?);
                }
            }
            // Everything that hosts of today offer, and the same without timestamps.
            ["std"] => {
                let more = parse_options("mss 1460,sackOK,TS val 100 ecr 0,wscale 7")?;
                options = OptionList { mss: options.mss.or(more.mss), ..more };
            }
            // Windows are told to the byte.
            ["exact"] => {
                let more = parse_options("mss 1460,sackOK,TS val 100 ecr 0,wscale 0")?;
                options = OptionList { mss: options.mss.or(more.mss), ..more };
            }
            ["notime"] => {
                let more = parse_options("mss 1460,sackOK,wscale 7")?;
                options = OptionList { mss: options.mss.or(more.mss), ..more };
            }
            _ => return Err(format!("`{item}` is no option")),
        }
    }
    Ok(options)
}

fn parse_icmp(text: &str) -> Result<Icmp, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let (name, range, mtu) = match words[..] {
        [name, range] => (name, range, 0),
        [name, range, "mtu", mtu] => (name, range, number(mtu)?),
        _ => return Err("icmp KIND FROM:TO(LENGTH) [mtu N]".into()),
    };
    let (kind, code) = match name {
        "net_unreachable" => (3, 0),
        "host_unreachable" => (3, 1),
        "protocol_unreachable" => (3, 2),
        "port_unreachable" => (3, 3),
        "frag_needed" => (3, 4),
        "source_quench" => (4, 0),
        "ttl_exceeded" => (11, 0),
        _ => return Err(format!("`{name}` is no ICMP error")),
    };
    let (seq, len) = parse_range(range)?;
    Ok(Icmp { kind, code, seq, len, mtu })
}

fn parse_call(text: &str) -> Result<Call, String> {
    let words: Vec<_> = text.split_whitespace().collect();
    let outcome = |words: &[&str]| match words {
        [] => Ok(Outcome::Done),
        [error] => Ok(Outcome::Fails((*error).into())),
        _ => Err(format!("`{text}`: at most the name of an error at the end")),
    };
    Ok(match words[..] {
        ["listen", port] => Call::Listen { port: number(port)?, backlog: 16 },
        ["listen", port, "backlog", backlog] => Call::Listen { port: number(port)?, backlog: number(backlog)? },
        ["close_listener"] => Call::CloseListener,
        ["accept", ref rest @ ..] => Call::Accept(outcome(rest)?),
        ["connect", port] => Call::Connect { port: number(port)? },
        ["send", bytes, ref rest @ ..] => Call::Send { bytes: number(bytes)?, outcome: outcome(rest)? },
        ["send_urgent", bytes] => Call::SendUrgent { bytes: number(bytes)? },
        ["recv", what] => match what.parse() {
            Ok(bytes) => Call::Recv { bytes },
            Err(_) => Call::RecvFails(what.into()),
        },
        ["recv_urgent", ref rest @ ..] => Call::RecvUrgent(outcome(rest)?),
        ["at_mark"] => Call::AtMark(true),
        ["not_at_mark"] => Call::AtMark(false),
        ["shutdown"] => Call::Shutdown,
        ["close"] => Call::Close,
        ["abort"] => Call::Abort,
        ["state", state] => Call::State(state.into()),
        ["event", event] => Call::Event(event.into()),
        ["no_event", event] => Call::NoEvent(event.into()),
        ["option", _, ..] => Call::Option(words[1..].iter().map(|word| (*word).into()).collect()),
        ["info", field, value] => Call::Info(field.into(), value.into()),
        ["counter", name, n] => Call::Counter(name.into(), condition(n)?),
        ["waiting", n] => Call::Waiting(condition(n)?),
        ["unacked", n] => Call::Unacked(condition(n)?),
        ["mtu", mtu] => Call::Mtu(number(mtu)?),
        ["peer_port", port] => Call::PeerPort(number(port)?),
        ["forget"] => Call::Forget,
        ["quiet"] => Call::Quiet,
        ["nic", "holds"] => Call::NicHolds(true),
        ["nic", "releases"] => Call::NicHolds(false),
        ["ignore", count] => Call::Ignore(number(count)?),
        _ => return Err(format!("`{text}` is no call")),
    })
}
