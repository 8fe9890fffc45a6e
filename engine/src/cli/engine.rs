//! A configuration as the engine takes it.

use crate::{
    buf::{self, PoolConfig},
    config::{self, Config},
    port::{
        fault::{Delay, FaultConfig, Faults},
        xsk::{BusyPoll, MultiBuffer, XdpMode, XskConfig, ZeroCopy},
    },
    runtime::{EngineConfig, IdleConfig, IdlePolicy, Steering, WorkerConfig, WorkerProgram},
    service::Program,
    stack::RxChecksum,
    wire::ipv4,
};
use framewire_xdp::AttachMode;

/// The engine's configuration.
pub(super) fn engine_config(config: &Config) -> EngineConfig {
    let interface = config.interface();
    let mut engine = EngineConfig::new(&interface.name);
    engine.queues = interface.queues;
    engine.cores.clone_from(&config.worker().cores);
    engine.addresses.clone_from(&interface.addresses);
    engine.vlan = interface.vlan;
    engine.gateway = interface.gateway;
    engine.routes.clone_from(&interface.routes);
    engine.steering = match interface.steering {
        config::Steering::Owned => Steering::Owned,
        config::Steering::Everything => Steering::Everything,
        config::Steering::Shared => {
            let bound = config.services().iter().filter_map(config::Service::local);
            Steering::SharedPorts(bound.map(|local| (ipv4::protocol::UDP, local.port())).collect())
        }
    };
    engine.attach = match interface.xdp_mode {
        config::XdpMode::Auto => AttachMode::Auto,
        config::XdpMode::Native => AttachMode::Native,
        config::XdpMode::Generic => AttachMode::Generic,
    };
    engine.xsk = xsk_config(interface);
    engine.rx_checksum = match interface.rx_checksum {
        config::RxChecksum::Verify => RxChecksum::Verify,
        config::RxChecksum::Partial => RxChecksum::Partial,
        config::RxChecksum::Trust => RxChecksum::Trust,
    };
    let worker = config.worker();
    let policy = match worker.idle {
        config::Idle::Spin => IdlePolicy::Spin,
        config::Idle::Adaptive => IdlePolicy::Adaptive,
        config::Idle::Sleep => IdlePolicy::Sleep,
    };
    engine.worker =
        WorkerConfig { idle: IdleConfig { policy, spin: worker.spin }, stage_histograms: worker.stage_histograms };
    engine.capture = config.capture().map(ToOwned::to_owned);
    engine.faults = config.faults().map(|wanted| FaultConfig {
        rx: faults(&wanted.rx),
        tx: faults(&wanted.tx),
        ..FaultConfig::new(wanted.seed)
    });
    engine
}

fn xsk_config(interface: &config::Interface) -> XskConfig {
    let mut xsk = XskConfig::new(&interface.name, 0);
    xsk.frames = interface.frames;
    xsk.chunk_bytes = interface.frame_bytes;
    xsk.rx_ring_entries = interface.rings.rx;
    xsk.tx_ring_entries = interface.rings.tx;
    xsk.fill_ring_entries = interface.rings.fill;
    xsk.completion_ring_entries = interface.rings.completion;
    xsk.pool = PoolConfig { rx_reserve_frames: interface.rx_reserve_frames, run_frames: interface.run_frames };
    xsk.huge_pages = match interface.huge_pages {
        config::HugePages::Prefer => buf::HugePages::Prefer,
        config::HugePages::Never => buf::HugePages::Never,
    };
    xsk.zero_copy = match interface.zero_copy {
        config::ZeroCopy::Required => ZeroCopy::Required,
        config::ZeroCopy::Prefer => ZeroCopy::Prefer,
        config::ZeroCopy::Off => ZeroCopy::Off,
    };
    xsk.xdp_mode = match interface.xdp_mode {
        config::XdpMode::Auto | config::XdpMode::Native => XdpMode::Native,
        config::XdpMode::Generic => XdpMode::Generic,
    };
    xsk.multi_buffer = match interface.multi_buffer {
        config::MultiBuffer::Auto => MultiBuffer::Auto,
        config::MultiBuffer::Always => MultiBuffer::Always,
        config::MultiBuffer::Off => MultiBuffer::Off,
    };
    xsk.busy_poll =
        (interface.busy_poll_us > 0).then(|| BusyPoll { duration_us: interface.busy_poll_us, ..BusyPoll::default() });
    xsk
}

fn faults(rates: &config::FaultRates) -> Faults {
    let config::FaultRates { drop, duplicate, reorder, corrupt, truncate, delay, delay_min, delay_max } = *rates;
    let delay = (delay > 0.0).then_some(Delay { probability: delay, min: delay_min, max: delay_max });
    Faults { drop, duplicate, reorder, corrupt, truncate, delay }
}

/// A worker's program.
pub(super) fn worker_program(program: Program) -> WorkerProgram {
    match program {
        Program::App(app) => WorkerProgram::App(app),
        Program::Frames(handler) => WorkerProgram::Frames(handler),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Whatever the reader lets through, the AF_XDP port must take: the rules are written down in both rooms.
    #[test]
    fn samples_and_defaults_pass_the_port_s_own_check() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
                engine_config(&config).xsk.validate().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
    }

    #[test]
    fn shared_steering_names_the_services_ports() {
        let text = "[[interface]]\nname = \"eth1\"\naddresses = [\"10.0.0.1/24\"]\nsteering = \"shared\"\n\
                    [[service]]\nkind = \"udp-echo\"\nlisten = \"10.0.0.1:7\"\n\
                    [[service]]\nkind = \"udp-source\"\nlocal = \"10.0.0.1:99\"\ndestination = \"10.0.0.2:9\"\n";
        let engine = engine_config(&Config::parse("x.toml", text).unwrap());
        assert_eq!(engine.steering, Steering::SharedPorts(vec![(17, 7), (17, 99)]));
    }
}
