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
    socket::{Ecn, TcpConfig},
    stack::{RxChecksum, StackConfig},
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
            let bound = config.services().iter().filter_map(|service| {
                let protocol = match service.transport()? {
                    config::Transport::Udp => ipv4::protocol::UDP,
                    config::Transport::Tcp => ipv4::protocol::TCP,
                };
                Some((protocol, service.local()?.port()))
            });
            Steering::SharedPorts(bound.collect())
        }
    };
    engine.napi_threads = interface.napi_threads;
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
    // The engine replaces the seed.
    engine.stack = Some(StackConfig { tcp: tcp_config(config.tcp()), ..StackConfig::new([0; 32]) });
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

fn tcp_config(wanted: &config::Tcp) -> TcpConfig {
    let mut tcp = TcpConfig::default();
    tcp.time_wait = wanted.time_wait.unwrap_or(tcp.time_wait);
    tcp.time_wait_max = wanted.time_wait_max.unwrap_or(tcp.time_wait_max);
    tcp.connections_max = wanted.connections_max.unwrap_or(tcp.connections_max);
    tcp.orphans_max = wanted.orphans_max.unwrap_or(tcp.orphans_max);
    tcp.rto.min = wanted.rto_min.unwrap_or(tcp.rto.min);
    tcp.syn_ack_retries = wanted.syn_ack_retries.unwrap_or(tcp.syn_ack_retries);
    tcp.syn_cookies = wanted.syn_cookies.unwrap_or(tcp.syn_cookies);
    tcp.ecn = match wanted.ecn {
        Some(config::Ecn::Off) => Ecn::Off,
        Some(config::Ecn::Passive) => Ecn::Passive,
        Some(config::Ecn::Active) => Ecn::Active,
        None => tcp.ecn,
    };
    tcp
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
    fn tcp_limits_reach_the_stack() {
        let text = "[[interface]]\nname = \"eth1\"\naddresses = [\"10.0.0.1/24\"]\n\
                    [[service]]\nkind = \"tcp-echo\"\nlisten = \"10.0.0.1:7\"\n";
        let tcp = |text: &str| engine_config(&Config::parse("x.toml", text).unwrap()).stack.unwrap().tcp;
        let usual = TcpConfig::default();
        assert_eq!((tcp(text).time_wait, tcp(text).ecn), (usual.time_wait, usual.ecn));
        let all = "[tcp]\ntime_wait_s = 5\ntime_wait_max = 7\nconnections_max = 9\norphans_max = 3\nrto_min_ms = 20\nsyn_ack_retries = 2\n\
                   syn_cookies = false\necn = \"active\"\n";
        let tcp = tcp(&format!("{text}{all}"));
        assert_eq!((tcp.time_wait.as_secs(), tcp.time_wait_max, tcp.connections_max), (5, 7, 9));
        assert_eq!(tcp.orphans_max, 3);
        assert_eq!((tcp.rto.min.as_millis(), tcp.syn_ack_retries), (20, 2));
        assert_eq!((tcp.syn_cookies, tcp.ecn), (false, Ecn::Active));
    }

    #[test]
    fn shared_steering_names_the_services_ports() {
        let text = "[[interface]]\nname = \"eth1\"\naddresses = [\"10.0.0.1/24\"]\nsteering = \"shared\"\n\
                    [[service]]\nkind = \"udp-echo\"\nlisten = \"10.0.0.1:7\"\n\
                    [[service]]\nkind = \"udp-source\"\nlocal = \"10.0.0.1:99\"\ndestination = \"10.0.0.2:9\"\n\
                    [[service]]\nkind = \"tcp-sink\"\nlisten = \"10.0.0.1:7\"\n";
        let engine = engine_config(&Config::parse("x.toml", text).unwrap());
        assert_eq!(engine.steering, Steering::SharedPorts(vec![(17, 7), (17, 99), (6, 7)]));
    }
}
