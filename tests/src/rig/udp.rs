//! A UDP client whose every answer is compared.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::NetNs;

/// `len_bytes` bytes that differ by position and by `seed`.
#[must_use]
pub fn pattern(len_bytes: usize, seed: u64) -> Vec<u8> {
    // The multiplier of Knuth's MMIX generator; the high bits are the good ones.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len_bytes).map(|_| next()).collect()
}

/// A connected UDP socket of the Linux stack in a namespace.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// A socket from an ephemeral port of `ns` to `server`.
    ///
    /// # Errors
    /// Whatever `bind` or `connect` refuses.
    pub fn connect(ns: &NetNs, server: impl Into<SocketAddr>) -> Result<Self> {
        let server = server.into();
        let any: SocketAddr = if server.is_ipv4() { ([0u8; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = ns.udp(any).context("bind")?;
        socket.connect(server).with_context(|| format!("connect to {server}"))?;
        Ok(Self { socket })
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// Whatever `send` refuses; a port unreachable of an earlier datagram is `ConnectionRefused`.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send(payload).map(drop)
    }

    /// The next datagram.
    ///
    /// # Errors
    /// None within `timeout` (`WouldBlock`), or whatever `recv` refuses.
    pub fn receive(&self, timeout: Duration) -> io::Result<Vec<u8>> {
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut datagram = vec![0; usize::from(u16::MAX)];
        let len_bytes = self.socket.recv(&mut datagram)?;
        datagram.truncate(len_bytes);
        Ok(datagram)
    }

    /// Sends `payload` once and waits for the very same bytes to come back. Returns how long that took.
    ///
    /// # Errors
    /// No answer within `timeout`, or other bytes.
    pub fn exchange(&self, payload: &[u8], timeout: Duration) -> Result<Duration> {
        let begun = Instant::now();
        self.send(payload).with_context(|| format!("sending {} bytes", payload.len()))?;
        let answer = self.receive(timeout).with_context(|| format!("no answer to {} bytes", payload.len()))?;
        let difference = payload.iter().zip(&answer).position(|(sent, got)| sent != got);
        ensure!(
            answer == payload,
            "sent {} bytes, {} came back; the first difference is at {difference:?}",
            payload.len(),
            answer.len()
        );
        Ok(begun.elapsed())
    }
}
