//! TCP clients of the Linux stack whose every byte is compared.

use std::{
    io::{self, Read, Write},
    mem,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::NetNs;

const GROUP_BYTES: u64 = 8;
const BLOCK_BYTES: usize = 64 << 10;

/// A stream of bytes that tell their position: each aligned group of eight is its own number, big-endian, plus `base`. With base 0 these
/// are the bytes that a `tcp-source` writes with `pattern = "count"`.
#[derive(Debug, Clone)]
pub struct Counting {
    base: u64,
    position: u64,
}

impl Counting {
    /// From position 0 on.
    #[must_use]
    pub fn new(base: u64) -> Self {
        Self { base, position: 0 }
    }

    /// How many bytes were written or compared.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes the next bytes.
    pub fn write(&mut self, to: &mut [u8]) {
        self.groups(to.len(), |group, at| to[at..at + group.len()].copy_from_slice(group));
        self.position += to.len() as u64;
    }

    /// Compares the next bytes.
    ///
    /// # Errors
    /// They are others; says where.
    pub fn compare(&mut self, bytes: &[u8]) -> Result<()> {
        let mut wrong = None;
        self.groups(bytes.len(), |group, at| {
            if wrong.is_none() && bytes[at..at + group.len()] != *group {
                wrong = Some((at, group.to_vec()));
            }
        });
        if let Some((at, want)) = wrong {
            let (position, got) = (self.position + at as u64, &bytes[at..at + want.len()]);
            bail!("byte {position} of the stream and those after it are {got:02x?}, not {want:02x?}");
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn groups(&self, len: usize, mut each: impl FnMut(&[u8], usize)) {
        let mut at = 0;
        while at < len {
            let position = self.position + at as u64;
            let skip = (position % GROUP_BYTES) as usize;
            let group = (position / GROUP_BYTES).wrapping_add(self.base).to_be_bytes();
            let count = (group.len() - skip).min(len - at);
            each(&group[skip..skip + count], at);
            at += count;
        }
    }
}

/// What a test may do to a connection beyond `std`.
pub trait StreamExt {
    /// Closing resets it from now on (`SO_LINGER` 0).
    ///
    /// # Errors
    /// The kernel refuses.
    fn reset_on_close(&self) -> io::Result<()>;

    /// Sends one urgent byte (`MSG_OOB`).
    ///
    /// # Errors
    /// Whatever `send` refuses.
    fn send_urgent(&self, byte: u8) -> io::Result<()>;

    /// The urgent byte, once it has come.
    ///
    /// # Errors
    /// It has not come within `timeout`, or whatever `recv` refuses.
    fn receive_urgent(&self, timeout: Duration) -> io::Result<u8>;

    /// Fixes the receive buffer, so that the window is small and does not grow.
    ///
    /// # Errors
    /// The kernel refuses.
    fn set_receive_buffer(&self, bytes: usize) -> io::Result<()>;

    /// Writes the next `bytes` of `content` and then finishes, while reading and comparing as many until the peer finishes. Returns how long that took.
    ///
    /// # Errors
    /// Other bytes came, fewer or more, or the connection failed.
    fn echo(&self, content: &Counting, bytes: u64) -> Result<Duration>;

    /// Writes the next `bytes` of `content`.
    ///
    /// # Errors
    /// The connection failed.
    fn write_counting(&self, content: &mut Counting, bytes: u64) -> Result<()>;

    /// Reads to the end of the stream and compares; returns how many bytes came.
    ///
    /// # Errors
    /// Other bytes came, or the connection failed.
    fn read_counting_to_end(&self, content: &mut Counting) -> Result<u64>;
}

impl StreamExt for TcpStream {
    fn reset_on_close(&self) -> io::Result<()> {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        set_option(self, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
    }

    fn send_urgent(&self, byte: u8) -> io::Result<()> {
        // SAFETY: the one byte is alive for the call.
        match unsafe { libc::send(self.as_raw_fd(), (&raw const byte).cast(), 1, libc::MSG_OOB | libc::MSG_NOSIGNAL) } {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn receive_urgent(&self, timeout: Duration) -> io::Result<u8> {
        let begun = Instant::now();
        loop {
            let mut byte = 0_u8;
            // SAFETY: the one byte is alive for the call.
            let got = unsafe { libc::recv(self.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_OOB) };
            match got {
                1 => return Ok(byte),
                _ if begun.elapsed() < timeout => thread::sleep(Duration::from_millis(1)),
                _ => return Err(io::Error::last_os_error()),
            }
        }
    }

    fn set_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        set_option(self, libc::SOL_SOCKET, libc::SO_RCVBUF, &bytes)
    }

    fn echo(&self, content: &Counting, bytes: u64) -> Result<Duration> {
        let begun = Instant::now();
        let (mut sent, mut expected) = (content.clone(), content.clone());
        thread::scope(|scope| {
            let writer = scope.spawn(move || -> Result<()> {
                self.write_counting(&mut sent, bytes)?;
                self.shutdown(Shutdown::Write).context("shutdown")
            });
            let read = self.read_counting_to_end(&mut expected);
            writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
            let read = read?;
            ensure!(read == bytes, "{read} bytes came back, not {bytes}");
            Ok(begun.elapsed())
        })
    }

    fn write_counting(&self, content: &mut Counting, bytes: u64) -> Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let len = left.min(BLOCK_BYTES as u64) as usize;
            content.write(&mut block[..len]);
            let mut stream = self;
            stream.write_all(&block[..len]).with_context(|| format!("writing, {left} bytes before the end"))?;
            left -= len as u64;
        }
        Ok(())
    }

    fn read_counting_to_end(&self, content: &mut Counting) -> Result<u64> {
        let mut block = vec![0; BLOCK_BYTES];
        let before = content.position();
        loop {
            let mut stream = self;
            match stream.read(&mut block).with_context(|| format!("reading, after {} bytes", content.position()))? {
                0 => return Ok(content.position() - before),
                len => content.compare(&block[..len])?,
            }
        }
    }
}

fn set_option<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `len` bytes long and alive for the call.
    let set = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const *value).cast(), len) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives a socket a receive buffer of this size, whatever `net.core.rmem_max` says: its reader may have to wait for a core.
///
/// # Errors
/// Whatever `SO_RCVBUFFORCE` refuses (no CAP_NET_ADMIN).
pub(super) fn force_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
}

/// Lets this process open so many files, as far as its hard limit goes.
///
/// # Errors
/// The hard limit is lower.
pub fn allow_open_files(count: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the one structure, alive for the call.
    ensure!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0, "{}", io::Error::last_os_error());
    if limit.rlim_cur >= count {
        return Ok(());
    }
    limit.rlim_cur = count;
    limit.rlim_max = limit.rlim_max.max(count);
    // SAFETY: the kernel reads the one structure, alive for the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    ensure!(set == 0, "RLIMIT_NOFILE cannot be {count}: {}; raise the hard limit", io::Error::last_os_error());
    Ok(())
}

/// A connection that keeps an echo service busy, comparing all that comes back, until it is told to finish.
#[derive(Debug)]
pub struct StreamLoad {
    stop: Arc<AtomicBool>,
    compared: Arc<AtomicU64>,
    /// Writer and reader; each ends with how many bytes it has handled.
    threads: Option<[JoinHandle<Result<u64>>; 2]>,
}

impl StreamLoad {
    /// Connects from `ns` and starts.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn start(ns: &NetNs, server: impl Into<SocketAddr>, base: u64) -> Result<Self> {
        let stream = ns.tcp_connect(server, Duration::from_secs(5)).context("connect")?;
        let (stop, compared) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = thread::spawn({
            let (stop, stream) = (stop.clone(), stream.try_clone().context("clone")?);
            move || {
                let mut content = Counting::new(base);
                while !stop.load(Ordering::Relaxed) {
                    stream.write_counting(&mut content, 64 << 10)?;
                }
                stream.shutdown(Shutdown::Write).context("shutdown")?;
                Ok(content.position())
            }
        });
        let reader = thread::spawn({
            let compared = compared.clone();
            move || {
                let (mut content, mut block) = (Counting::new(base), vec![0; BLOCK_BYTES]);
                loop {
                    match (&stream).read(&mut block).context("reading")? {
                        0 => return Ok(content.position()),
                        len => content.compare(&block[..len])?,
                    }
                    compared.store(content.position(), Ordering::Relaxed);
                }
            }
        });
        Ok(Self { stop, compared, threads: Some([writer, reader]) })
    }

    /// Bytes that have come back and were right.
    #[must_use]
    pub fn compared_bytes(&self) -> u64 {
        self.compared.load(Ordering::Relaxed)
    }

    /// Waits until `more` further bytes have come back.
    ///
    /// # Errors
    /// They have not within `timeout`.
    pub fn wait_for(&self, more: u64, timeout: Duration) -> Result<()> {
        let (begun, before) = (Instant::now(), self.compared_bytes());
        while self.compared_bytes() < before + more {
            let came = self.compared_bytes() - before;
            ensure!(begun.elapsed() < timeout, "{came} bytes came back within {timeout:?}, not {more}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Finishes, and waits for all that was sent to come back; returns how many bytes that were.
    ///
    /// # Errors
    /// The connection failed, or not all came back.
    pub fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let Some([writer, reader]) = self.threads.take() else { bail!("finished already") };
        let ended = "a thread of the load panicked";
        let sent = writer.join().map_err(|_| anyhow::anyhow!(ended))?.context("the writer")?;
        let got = reader.join().map_err(|_| anyhow::anyhow!(ended))?.context("the reader")?;
        ensure!(sent == got, "{sent} bytes were sent, {got} came back");
        Ok(got)
    }
}

impl Drop for StreamLoad {
    fn drop(&mut self) {
        // The threads end with their connection: they are waited for in `finish` alone.
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn counting_bytes_tell_their_position() {
        let (mut whole, mut parts) = ([0; 40], [0; 40]);
        Counting::new(0x0102).write(&mut whole);
        assert_eq!(whole[..16], [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1, 3]);
        let mut content = Counting::new(0x0102);
        for part in parts.chunks_mut(7) {
            content.write(part);
        }
        assert_eq!((whole, content.position()), (parts, 40));

        let mut content = Counting::new(0x0102);
        content.compare(&whole[..3]).expect("the same");
        whole[17] ^= 1;
        let error = content.compare(&whole[3..]).expect_err("not the same").to_string();
        assert!(error.contains("byte 16 "), "{error}");
        whole[17] ^= 1;
        content.compare(&whole[3..]).expect("the same");
    }

    #[test]
    fn an_echo_that_loses_a_byte_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        for cut in [0, 1] {
            let peer = thread::scope(|scope| {
                let server = scope.spawn(|| {
                    let (mut stream, _) = listener.accept().expect("accept");
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).expect("read");
                    stream.write_all(&all[cut..]).expect("write");
                });
                let outcome = TcpStream::connect(address).expect("connect").echo(&Counting::new(1), 100_000);
                server.join().expect("server");
                outcome
            });
            assert_eq!(peer.is_ok(), cut == 0, "{peer:?}");
        }
    }
}
