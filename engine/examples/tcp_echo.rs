//! A TCP echo server on port 7: every byte goes back in the very frame that it came in, and that frame is the retransmission too, if one is needed.
//!
//! ```sh
//! cargo run --example tcp_echo -- eth1 10.0.0.1/24      # as root; then, from another host: nc 10.0.0.1 7
//! ```

use framewire::{
    buf::TxBuf,
    runtime::{Engine, EngineConfig, WorkerProgram},
    socket::{App, AppError, Event, Net, TcpEvent, TcpRecvError, TcpSendError, TcpStream},
};
use std::{collections::HashMap, env, io, time::Duration};

/// What a stream's send queue had no room for. While something waits nothing more is read, so that the peer's window closes.
#[derive(Debug, Default)]
struct Echo {
    waiting: HashMap<u64, TxBuf>,
}

impl Echo {
    fn echo(&mut self, net: &mut Net<'_>, stream: TcpStream) -> Result<(), TcpSendError> {
        loop {
            let buf = match self.waiting.remove(&stream.to_bits()) {
                Some(buf) => buf,
                None => match stream.recv(net) {
                    Ok(buf) => buf.into_tx(),
                    Err(TcpRecvError::WouldBlock) => return Ok(()),
                    // The peer has finished, and has or will have all of it back; or it is gone.
                    Err(_) => {
                        stream.close(net);
                        return Ok(());
                    }
                },
            };
            match stream.send(net, buf) {
                Ok(()) => {}
                Err(TcpSendError::WouldBlock(buf)) => {
                    self.waiting.insert(stream.to_bits(), buf);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl App for Echo {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.tcp_listen("0.0.0.0:7".parse()?, 1024)?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        match event {
            // Accepting is enough: a stream that has data says so.
            Event::Acceptable(listener) => while listener.accept(net).is_some() {},
            Event::Tcp(stream, TcpEvent::Readable | TcpEvent::Writable) if self.echo(net, stream).is_err() => {
                stream.abort(net);
            }
            Event::Tcp(stream, TcpEvent::Closed(_)) => {
                self.waiting.remove(&stream.to_bits());
                stream.close(net);
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), AppError> {
    let mut arguments = env::args().skip(1);
    let (Some(interface), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: tcp_echo INTERFACE ADDRESS/PREFIX".into());
    };
    let mut config = EngineConfig::new(&interface);
    config.addresses = vec![address.parse()?];

    let engine = Engine::start(config, |_worker| WorkerProgram::App(Box::new(Echo::default())))?;
    for port in engine.ports() {
        println!("{port}");
    }
    println!("{address} answers on TCP port 7; press Enter to stop");
    io::stdin().read_line(&mut String::new())?;

    for report in engine.stop(Duration::from_secs(1)).workers.into_iter().flatten() {
        let counters = report.snapshot.counters;
        println!(
            "{} connections, {} bytes answered; {}",
            counters.tcp_connections_accepted, counters.tcp_tx_payload_bytes, report.snapshot.ledger
        );
    }
    Ok(())
}
