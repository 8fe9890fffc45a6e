//! The appliance's services: what a worker does when nobody wrote an application for it.
//!
//! Each is an [`App`] or a [`FrameHandler`] like any other, and an example of one: [`UdpEcho`], [`UdpSink`], [`UdpSource`], [`Reflect`]. Several on one
//! worker run as one application, [`Services`], which hands each socket's events to the service that opened it. What a service counts stands on
//! a [`Board`] that other threads may read at any time.
#![forbid(unsafe_code)]

mod counts;
mod echo;
mod http;
pub(crate) mod pattern;
mod reflect;
mod sink;
mod source;
mod tcp;
#[cfg(test)]
mod tests;

pub use counts::{Board, Counts, Tally};
pub use echo::UdpEcho;
pub use http::{HttpConfig, HttpServer};
pub use reflect::Reflect;
pub use sink::UdpSink;
pub use source::{SourceConfig, UdpSource};
pub use tcp::{Peers, TcpEcho, TcpSink, TcpSource, TcpSourceConfig};

use crate::{
    config,
    runtime::FrameHandler,
    socket::{App, AppError, Event, Net, UdpSocket, Work},
};
use std::{fmt, net::SocketAddrV4, sync::Arc};

/// An application that other applications share a worker with.
pub trait Service: App + fmt::Debug {
    /// Its UDP socket, if it has one and has started: its events are the service's.
    fn socket(&self) -> Option<UdpSocket> {
        None
    }
}

/// What a worker is to run.
pub enum Program {
    /// On a stack.
    App(Box<dyn App>),
    /// On whole frames.
    Frames(Box<dyn FrameHandler>),
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App(_) => "App",
            Self::Frames(_) => "Frames",
        })
    }
}

/// The program of worker `worker` of `workers`: all services of the configuration, counting on `board`.
pub fn program(services: &[config::Service], board: &Board, worker: usize, workers: usize) -> Program {
    let counts = |service: usize| board.counts(worker, service);
    if let Some(at) = services.iter().position(|service| *service == config::Service::Reflect) {
        return Program::Frames(Box::new(Reflect::new(counts(at))));
    }
    let mut made: Vec<Box<dyn Service>> = Vec::new();
    for (i, service) in services.iter().enumerate() {
        made.extend(make(service, counts(i), i, worker, workers));
    }
    Program::App(Box::new(Services::new(made)))
}

/// `None` for what is no application.
fn make(
    service: &config::Service,
    counts: Arc<Counts>,
    index: usize,
    worker: usize,
    workers: usize,
) -> Option<Box<dyn Service>> {
    Some(match *service {
        config::Service::UdpEcho { listen } => Box::new(UdpEcho::new(listen, counts)),
        config::Service::UdpSink { listen, sequence } => Box::new(UdpSink::new(listen, sequence, counts)),
        config::Service::UdpSource { destination, local, payload_bytes, rate_pps, count } => {
            let mut source = SourceConfig::new(destination);
            source.local = local;
            source.payload_bytes = payload_bytes;
            source.rate_pps = (rate_pps > 0).then(|| share(rate_pps, worker, workers));
            source.count = (count > 0).then(|| share(count, worker, workers));
            source.timer_token = index as u64;
            Box::new(UdpSource::new(source, counts))
        }
        config::Service::Reflect => return None,
        config::Service::TcpEcho { listen, ref options } => {
            let config::TcpListen { local, backlog, connections_max } = listen;
            Box::new(TcpEcho::new(tag_of(index), local, backlog, connections_max, tcp::tcp_options(options), counts))
        }
        config::Service::TcpSink { listen, ref options, verify } => {
            let config::TcpListen { local, backlog, connections_max } = listen;
            let options = tcp::tcp_options(options);
            Box::new(TcpSink::new(tag_of(index), local, backlog, connections_max, options, verify, counts))
        }
        config::Service::TcpSource { destination, local, connections, flow, ref options } => {
            let connections = share(connections, worker, workers);
            let peers = Peers::Connect { destination, local, connections };
            Box::new(TcpSource::new(tcp_source(index, peers, flow, options, worker, workers), counts))
        }
        config::Service::TcpSourceListen { listen, flow, ref options } => {
            let config::TcpListen { local, backlog, connections_max } = listen;
            let peers = Peers::Listen { local, backlog, connections_max };
            Box::new(TcpSource::new(tcp_source(index, peers, flow, options, worker, workers), counts))
        }
        config::Service::Http { listen, ref options, ref root, ref pages, content_bytes_max, idle_timeout } => {
            let config::TcpListen { local, backlog, connections_max } = listen;
            let config = HttpConfig {
                index: tag_of(index),
                local,
                backlog,
                connections_max,
                root: root.clone(),
                pages: pages.clone(),
                content_bytes_max,
                idle_timeout,
                options: tcp::tcp_options(options),
            };
            Box::new(HttpServer::new(config, counts))
        }
    })
}

fn tcp_source(
    index: usize,
    peers: Peers,
    flow: config::TcpFlow,
    options: &config::StreamOptions,
    worker: usize,
    workers: usize,
) -> TcpSourceConfig {
    let config::TcpFlow { payload_bytes, bytes, rate_bps, counting } = flow;
    TcpSourceConfig {
        index: tag_of(index),
        peers,
        payload_bytes,
        bytes: (bytes > 0).then_some(bytes),
        rate_bytes_per_s: (rate_bps > 0).then(|| share(rate_bps.div_ceil(8), worker, workers).max(1)),
        counting,
        options: tcp::tcp_options(options),
    }
}

/// The part of `total` that one of `workers` does; the first ones do one more if it does not come out even.
fn share(total: u64, worker: usize, workers: usize) -> u64 {
    let (worker, workers) = (worker as u64, workers.max(1) as u64);
    total / workers + u64::from(worker < total % workers)
}

/// Several services on one worker.
#[derive(Debug)]
pub struct Services {
    services: Vec<Box<dyn Service>>,
    /// Socket of each, in the same order. Scanned once per socket and turn, not per packet; there are at most 64.
    sockets: Vec<Option<UdpSocket>>,
}

impl Services {
    /// Services in order; a timer's token is the number of the service that it is for.
    pub fn new(services: Vec<Box<dyn Service>>) -> Self {
        Self { sockets: Vec::with_capacity(services.len()), services }
    }

    fn of_socket(&mut self, socket: UdpSocket) -> Option<&mut Box<dyn Service>> {
        let at = match self.services.len() {
            1 => 0,
            _ => self.sockets.iter().position(|one| *one == Some(socket))?,
        };
        self.services.get_mut(at)
    }

    #[inline]
    fn of_tag(&mut self, tag: Option<u64>) -> Option<&mut Box<dyn Service>> {
        self.services.get_mut((tag? >> 32) as usize)
    }
}

/// The number of a service in its streams' tags.
fn tag_of(index: usize) -> u32 {
    // The configuration has at most 64.
    index as u32
}

impl App for Services {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        for service in &mut self.services {
            service.start(net)?;
            self.sockets.push(service.socket());
        }
        Ok(())
    }

    #[inline]
    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        let service = match event {
            Event::Readable(socket) | Event::Writable(socket) | Event::Error(socket) => self.of_socket(socket),
            Event::Acceptable(listener) => self.of_tag(listener.tag(net)),
            Event::Tcp(stream, _) => self.of_tag(stream.tag(net)),
            Event::Raw(..) => None,
            Event::Timer(token) => usize::try_from(token).ok().and_then(|at| self.services.get_mut(at)),
        };
        if let Some(service) = service {
            service.handle_event(net, event);
        }
    }

    #[inline]
    fn poll(&mut self, net: &mut Net<'_>) -> Work {
        let mut work = Work::None;
        for service in &mut self.services {
            if service.poll(net) == Work::Some {
                work = Work::Some;
            }
        }
        work
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        for service in &mut self.services {
            service.stop(net);
        }
    }
}

/// Binds a service's socket.
fn bind(net: &mut Net<'_>, kind: &'static str, local: SocketAddrV4) -> Result<UdpSocket, AppError> {
    net.udp_bind(local).map_err(|error| format!("{kind} on {local}: {error}").into())
}
