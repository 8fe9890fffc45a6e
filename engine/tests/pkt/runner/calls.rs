//! The application's part of a script.

use super::{Peer, Runner};
use crate::{
    connection::{Connection, content},
    script::{Call, Outcome, condition, number, parse_duration},
};
use framewire::{
    buf::TxBuf,
    proto::tcp::{Ecn, Keepalive, LossDetection, TcpOptions, congestion::Algorithm},
    socket::{Net, TcpSendError, TcpStream},
    telemetry::Counters,
};
use std::{
    fmt::Debug,
    net::{Ipv4Addr, SocketAddrV4},
};

pub(super) fn ecn(value: &str) -> Result<Ecn, String> {
    match value {
        "off" => Ok(Ecn::Off),
        "passive" => Ok(Ecn::Passive),
        "active" => Ok(Ecn::Active),
        _ => Err(format!("`{value}`: off, passive or active")),
    }
}

/// `Closed(Finished)` and `TIME_WAIT` are the same as `closedfinished` and `TimeWait`.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn same(name: &str, value: &dyn Debug) -> bool {
    plain(name) == plain(&format!("{value:?}"))
}

fn must(holds: bool, got: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("it is {}", got())) }
}

/// The name of an error, without the buffer that comes back with some.
fn send_error(error: &TcpSendError) -> String {
    let text = format!("{error:?}");
    text.split('(').next().unwrap_or_default().into()
}

impl Runner {
    fn net(&mut self) -> Net<'_> {
        Net::new(&mut self.stack)
    }

    fn stream(&self) -> Result<TcpStream, String> {
        self.peers[self.current].stream.ok_or("there is no stream yet: connect or accept".into())
    }

    pub(super) fn call(&mut self, call: &Call) -> Result<(), String> {
        let changes = !matches!(call, Call::Quiet | Call::Ignore(_) | Call::PeerPort(_) | Call::Forget);
        if changes {
            self.nothing_unexpected()?;
        }
        self.do_call(call)?;
        // What a call has the stack send goes out in the same turn.
        self.turn(vec![])
    }

    fn do_call(&mut self, call: &Call) -> Result<(), String> {
        match call {
            Call::Listen { port, backlog } => {
                let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port);
                let listener = self.net().tcp_listen(local, *backlog).map_err(|e| e.to_string())?;
                self.listener = Some(listener);
            }
            Call::CloseListener => {
                let listener = self.listener.take().ok_or("no listener")?;
                listener.close(&mut self.net());
            }
            Call::Accept(outcome) => {
                let listener = self.listener.ok_or("no listener")?;
                let stream = listener.accept(&mut self.net());
                match (stream, outcome) {
                    (Some(stream), Outcome::Done) => self.peer().stream = Some(stream),
                    (None, Outcome::Fails(_)) => {}
                    (stream, _) => return Err(format!("accept gave {stream:?}")),
                }
            }
            Call::Connect { port } => {
                let peer = SocketAddrV4::new(super::PEER.into(), *port);
                let stream = self.net().tcp_connect(peer).map_err(|e| e.to_string())?;
                let local = stream.local_addr(&self.net()).ok_or("no local address")?;
                let connection = Connection::new(*port, local.port(), self.settings.peer_isn);
                *self.peer() = Peer { connection, stream: Some(stream) };
            }
            Call::Send { bytes, outcome } => {
                let (stream, buf) = (self.stream()?, self.buffer(*bytes)?);
                match (stream.send(&mut self.net(), buf), outcome) {
                    (Ok(()), Outcome::Done) => self.peer().connection.sent += *bytes as u64,
                    (Err(error), Outcome::Fails(want)) if plain(&send_error(&error)) == plain(want) => {}
                    (result, _) => return Err(format!("send gave {result:?}")),
                }
            }
            Call::SendUrgent { bytes } => {
                let (stream, buf) = (self.stream()?, self.buffer(*bytes)?);
                stream.send_urgent(&mut self.net(), buf).map_err(|error| format!("{error:?}"))?;
                self.peer().connection.sent += *bytes as u64;
            }
            Call::Recv { bytes } => self.recv(*bytes)?,
            Call::RecvFails(want) => {
                let stream = self.stream()?;
                match stream.recv(&mut self.net()) {
                    Err(error) if same(want, &error) => {}
                    result => return Err(format!("recv gave {result:?}")),
                }
            }
            Call::RecvUrgent(outcome) => {
                let stream = self.stream()?;
                let byte = stream.recv_urgent(&mut self.net());
                must(byte.is_some() == (*outcome == Outcome::Done), || format!("{byte:?}"))?;
            }
            Call::AtMark(want) => {
                let at_mark = self.stream()?.at_mark(&self.net());
                must(at_mark == *want, || format!("{at_mark}"))?;
            }
            Call::Shutdown => {
                let stream = self.stream()?;
                stream.shutdown(&mut self.net());
            }
            Call::Close => {
                let stream = self.stream()?;
                stream.close(&mut self.net());
            }
            Call::Abort => {
                let stream = self.stream()?;
                stream.abort(&mut self.net());
            }
            Call::State(want) => {
                let state = self.stream()?.state(&self.net());
                must(same(want, &state), || format!("{state:?}"))?;
            }
            Call::Event(want) => {
                let stream = self.stream()?;
                let events = &mut self.log.events;
                match events.iter().position(|(of, event)| *of == stream && same(want, event)) {
                    Some(at) => drop(events.remove(at)),
                    None => return Err(format!("told were {:?}", self.events_of(stream))),
                }
            }
            Call::NoEvent(name) => {
                let told = self.events_of(self.stream()?);
                must(!told.iter().any(|event| plain(event) == plain(name)), || format!("{told:?}"))?;
            }
            Call::Option(words) => self.set_option(words)?,
            Call::Info(field, want) => {
                let info = self.stream()?.info(&self.net()).ok_or("no information: the stream is closed")?;
                let text = format!("{info:?}");
                let value = figure(&text, field).ok_or(format!("there is no `{field}` in {text}"))?;
                let holds = match (condition(want), value.parse()) {
                    (Ok(condition), Ok(n)) => condition.holds(n),
                    _ => plain(want) == plain(&value),
                };
                must(holds, || value)?;
            }
            Call::Counter(name, condition) => {
                let at = Counters::NAMES.iter().position(|(known, _)| known == name);
                let at = at.ok_or(format!("there is no counter `{name}`"))?;
                let n = self.stack.counters.values()[at] - self.counters_before.values()[at];
                must(condition.holds(n), || format!("{n}"))?;
            }
            Call::Waiting(condition) => {
                let n = self.stream()?.waiting_bytes(&self.net());
                must(condition.holds(n as u64), || format!("{n}"))?;
            }
            Call::Unacked(condition) => {
                let n = self.stream()?.unacked_bytes(&self.net());
                must(condition.holds(n as u64), || format!("{n}"))?;
            }
            Call::Mtu(mtu) => must(self.stack.set_mtu(super::IFACE, *mtu), || "no interface".into())?,
            Call::PeerPort(port) => self.turn_to(*port),
            Call::Forget => self.peer().connection.forget(),
            Call::Quiet => self.nothing_unexpected()?,
            Call::NicHolds(holds) => self.nic_holds = *holds,
            Call::Ignore(count) => {
                for _ in 0..*count {
                    self.sent.pop_front().ok_or("fewer were sent")?;
                }
            }
        }
        Ok(())
    }

    fn events_of(&self, stream: TcpStream) -> Vec<String> {
        self.log.events.iter().filter(|(of, _)| *of == stream).map(|(_, event)| format!("{event:?}")).collect()
    }

    fn turn_to(&mut self, port: u16) {
        match self.peers.iter().position(|peer| peer.connection.peer_port == port) {
            Some(at) => self.current = at,
            None => {
                let connection = Connection::new(port, super::OUR_SERVICE_PORT, self.settings.peer_isn);
                self.peers.push(Peer { connection, stream: None });
                self.current = self.peers.len() - 1;
            }
        }
    }

    /// The next bytes of what this connection sends.
    fn buffer(&mut self, bytes: usize) -> Result<TxBuf, String> {
        let first = self.peer().connection.sent;
        let mut buf = self.net().alloc_contiguous(bytes).ok_or("no frames to send")?;
        buf.set_len(bytes).map_err(|e| e.to_string())?;
        for (at, byte) in buf.as_mut_slice().iter_mut().enumerate() {
            *byte = content(first + at as u64);
        }
        Ok(buf)
    }

    fn recv(&mut self, bytes: usize) -> Result<(), String> {
        let stream = self.stream()?;
        let mut done = 0;
        while done < bytes {
            let mut buf = match stream.recv(&mut self.net()) {
                Ok(buf) => buf,
                Err(error) => return Err(format!("recv gave {error:?} after {done} bytes")),
            };
            if buf.is_chain() {
                let (first, rest) = buf.split_first();
                buf = first;
                if let Some(rest) = rest {
                    stream.unrecv(&mut self.net(), rest);
                }
            }
            let take = buf.len().min(bytes - done);
            let from = self.peer().connection.received;
            let right = |(at, byte): (usize, &u8)| *byte == content(from + at as u64);
            if !buf.as_slice()[..take].iter().enumerate().all(right) {
                return Err(format!("wrong content from byte {from} on: {:02x?}", &buf.as_slice()[..take]));
            }
            self.peer().connection.received += take as u64;
            done += take;
            if take < buf.len() {
                buf.advance(take);
                stream.unrecv(&mut self.net(), buf);
            }
        }
        Ok(())
    }

    fn set_option(&mut self, words: &[String]) -> Result<(), String> {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match (self.peers[self.current].stream, self.listener) {
            (Some(stream), _) => {
                let mut options = stream.options(&self.net()).ok_or("the stream is closed")?;
                change_option(&mut options, &words)?;
                stream.set_options(&mut self.net(), options);
            }
            (None, Some(listener)) => {
                change_option(&mut self.listener_options, &words)?;
                let options = self.listener_options.clone();
                listener.set_options(&mut self.net(), options);
            }
            (None, None) => return Err("listen or connect first, or use `set`".into()),
        }
        Ok(())
    }
}

pub(super) fn change_option(options: &mut TcpOptions, words: &[&str]) -> Result<(), String> {
    match *words {
        ["nodelay"] => options.nodelay = true,
        ["keepalive", idle, interval, probes] => {
            let (idle, interval) = (parse_duration(idle)?, parse_duration(interval)?);
            options.keepalive = Some(Keepalive { idle, interval, probes: number(probes)? });
        }
        ["user_timeout", time] => options.user_timeout = parse_duration(time)?,
        ["connect_timeout", time] => options.connect_timeout = parse_duration(time)?,
        ["fin_wait2", time] => options.fin_wait2 = parse_duration(time)?,
        ["delayed_ack", time] => options.delayed_ack = parse_duration(time)?,
        ["send_queue", bytes] => options.send_queue_bytes = number(bytes)?,
        ["recv_queue", bytes] => {
            options.recv_queue_bytes = number(bytes)?;
            options.recv_queue_bytes_max = number(bytes)?;
        }
        ["recv_frames", frames] => options.recv_frames_max = number(frames)?,
        ["mss", mss] => options.mss_max = number(mss)?,
        ["congestion", "newreno"] => options.congestion = Algorithm::NewReno,
        ["congestion", "cubic"] => options.congestion = Algorithm::Cubic,
        ["loss", "rack"] => options.loss_detection = LossDetection::Rack,
        ["loss", "sack"] => options.loss_detection = LossDetection::Sack,
        ["pacing"] => options.pacing = true,
        ["urgent_inline"] => options.urgent_inline = true,
        ["standard_urgent_pointer"] => options.standard_urgent_pointer = true,
        _ => return Err(format!("there is no option {words:?}")),
    }
    Ok(())
}

/// The value of a field in what `{:?}` prints of a struct.
fn figure(text: &str, field: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!(" {field}: "))?;
    Some(rest.split([',', ' ', '}']).next()?.into())
}
