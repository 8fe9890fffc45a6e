//! One system call a datagram.

use super::{BUFFER_BYTES, WAIT};
use crate::stop::StopFlag;
use anyhow::{Context, Result};
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
};
use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
};

/// Datagrams echoed until the flag is set.
pub(super) fn blocking(socket: &UdpSocket, stop: &StopFlag) -> Result<u64> {
    let (mut buffer, mut echoed) = ([0; BUFFER_BYTES], 0);
    while !stop.is_set() {
        echoed += u64::from(echo(socket, &mut buffer)?);
    }
    Ok(echoed)
}

/// As [`blocking`], but asks first whether there is anything.
pub(super) fn epoll(socket: &UdpSocket, stop: &StopFlag) -> Result<u64> {
    socket.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create1")?;
    epoll::add(&epoll, socket, EventData::new_u64(0), EventFlags::IN | EventFlags::ET).context("epoll_ctl")?;
    let wait = Timespec { tv_sec: 0, tv_nsec: WAIT.subsec_nanos().into() };
    let (mut buffer, mut echoed, mut events) = ([0; BUFFER_BYTES], 0, Vec::with_capacity(1));
    while !stop.is_set() {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        while !events.is_empty() && echo(socket, &mut buffer)? {
            echoed += 1;
        }
    }
    Ok(echoed)
}

/// Whether there was a datagram. One whose answer finds no room is lost, as UDP may.
fn echo(socket: &UdpSocket, buffer: &mut [u8]) -> Result<bool> {
    let (bytes, from) = match socket.recv_from(buffer) {
        Ok(received) => received,
        Err(error) if soft(&error) => return Ok(false),
        Err(error) => return Err(error).context("recvfrom"),
    };
    match socket.send_to(&buffer[..bytes], from) {
        Err(error) if !soft(&error) => Err(error).context("sendto"),
        _ => Ok(true),
    }
}

fn soft(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::super::{KernelUdpArgs, Way, batched, open, uring};
    use crate::stop::StopFlag;
    use clap::ValueEnum;
    use std::{net::UdpSocket, thread, time::Duration};

    #[test]
    fn every_way_echoes() {
        for &way in Way::value_variants() {
            let args = KernelUdpArgs { listen: "127.0.0.1:0".parse().unwrap(), way, core: None, reuse_port: false };
            let server = open(&args).unwrap();
            let address = server.local_addr().unwrap();
            let stop = StopFlag::default();
            let stopped = stop.clone();
            let serving = thread::spawn(move || match way {
                Way::Blocking => super::blocking(&server, &stopped),
                Way::Epoll => super::epoll(&server, &stopped),
                Way::Batched | Way::BatchedBlocking => batched::run(&server, way == Way::BatchedBlocking, &stopped),
                Way::IoUring => uring::Echo::new(&server).unwrap().run(&stopped, || ()),
            });
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // Enough for every buffer of a ring to be used again.
            for number in 0..3000_u32 {
                let request = number.to_be_bytes().repeat(1 + number as usize % 300);
                client.send_to(&request, address).unwrap();
                let mut answer = [0; 2048];
                let bytes = client.recv(&mut answer).unwrap_or_else(|why| panic!("{way:?}: {why}"));
                assert_eq!(answer[..bytes], request, "{way:?}");
            }
            stop.set();
            assert_eq!(serving.join().unwrap().unwrap(), 3000, "{way:?}");
        }
    }
}
