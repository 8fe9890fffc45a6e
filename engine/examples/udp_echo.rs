//! A UDP echo server on port 7: each datagram goes back in the very frame that it came in.
//!
//! ```sh
//! cargo run --example udp_echo -- eth1 10.0.0.1/24      # as root; then, from another host: nc -u 10.0.0.1 7
//! ```

use framewire::{
    runtime::{Engine, EngineConfig, WorkerProgram},
    socket::{App, AppError, Event, Net},
};
use std::{env, io, time::Duration};

#[derive(Debug)]
struct Echo;

impl App for Echo {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.udp_bind("0.0.0.0:7".parse()?)?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        if let Event::Readable(socket) = event {
            while let Some(datagram) = socket.recv(net) {
                // An answer that finds no room is lost, as UDP may.
                let _ = socket.reply(net, datagram);
            }
        }
    }
}

fn main() -> Result<(), AppError> {
    let mut arguments = env::args().skip(1);
    let (Some(interface), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: udp_echo INTERFACE ADDRESS/PREFIX".into());
    };
    let mut config = EngineConfig::new(&interface);
    config.addresses = vec![address.parse()?];

    let engine = Engine::start(config, |_worker| WorkerProgram::App(Box::new(Echo)))?;
    for port in engine.ports() {
        println!("{port}");
    }
    println!("{address} answers on UDP port 7; press Enter to stop");
    io::stdin().read_line(&mut String::new())?;

    for report in engine.stop(Duration::from_secs(1)).workers.into_iter().flatten() {
        println!("{} datagrams answered; {}", report.snapshot.counters.udp_tx_datagrams, report.snapshot.ledger);
    }
    Ok(())
}
