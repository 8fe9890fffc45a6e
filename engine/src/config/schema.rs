//! The file's tables and keys, their defaults, and what must hold between them.

use super::{
    Config, FaultRates, Faults, HugePages, Idle, Interface, Level, Log, MultiBuffer, Problem, Rings, RxChecksum,
    Service, Steering, Worker, XdpMode, ZeroCopy,
    read::{At, Doc, Located, Section, boolean, host_address, integer, parsed, probability, string, word},
};
use crate::wire::{Ipv4Net, udp};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};
use toml::de::{DeTable, DeValue};

/// Longest interface name: `IFNAMSIZ` in `include/uapi/linux/if.h` less the terminating zero.
const NAME_BYTES_MAX: usize = 15;
/// A device's head-room in front of a packet, as in `crate::buf::HEADROOM_BYTES`; the layers forbid to ask there.
const HEADROOM_BYTES: usize = 256;
/// What a `udp-source` writes at the front of a payload: sequence number and time.
const SOURCE_HEADER_BYTES: usize = 16;
const SERVICES_MAX: usize = 64;

const DESTINATION: &str = "an address and port such as \"10.0.0.2:7\"";
const LISTEN: &str = "an address and port such as \"10.0.0.1:7\" (address 0.0.0.0: all of the engine's)";

/// Reads a whole file.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let doc = Doc::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        doc.syntax(error.span().map_or(0, |span| span.start), error.message());
    }
    if !errors.is_empty() {
        return Err(doc.into_problems());
    }
    match read_root(&doc, table.get_ref()) {
        Some(config) if !doc.has_problems() => Ok(config),
        _ => Err(doc.into_problems()),
    }
}

fn read_root<'a>(doc: &'a Doc<'a>, table: &'a DeTable<'a>) -> Option<Config> {
    let mut root = Section::root(doc, table);
    let interfaces = root.tables("interface");
    let worker = root.table("worker");
    let services = root.tables("service");
    let log = root.table("log");
    let capture = root.table("capture");
    let faults = root.table("faults");
    let start = root.at().clone();
    if interfaces.is_empty() && !root.is_wrong("interface") {
        doc.wrong(&start, "missing: [[interface]], the interface to run on");
    }
    if services.is_empty() && !root.is_wrong("service") {
        doc.wrong(&start, "missing: [[service]], what to do");
    }
    root.finish();
    if let Some(second) = interfaces.get(1) {
        doc.wrong(second.at(), "there may be only one interface for now");
    }
    let services: Vec<Spec> = services.into_iter().filter_map(|section| read_service(doc, section)).collect();
    let mut interfaces: Vec<Interface> =
        interfaces.into_iter().take(1).filter_map(|section| read_interface(doc, section, &services)).collect();
    let queues = interfaces.first().filter(|_| !doc.is_wrong("interface.queues")).map(|interface| interface.queues);
    let worker = read_worker(doc, worker, queues);
    let log = read_log(log);
    let capture = read_capture(capture);
    let faults = read_faults(doc, faults);
    if let Some(interface) = interfaces.first_mut() {
        check_services(doc, interface, &services);
    }
    if interfaces.is_empty() || services.is_empty() {
        return None;
    }
    Some(Config {
        interfaces,
        worker,
        services: services.into_iter().map(|spec| spec.service).collect(),
        log,
        capture,
        faults,
    })
}

// ---- [[interface]]

fn read_interface(doc: &Doc<'_>, mut section: Section<'_>, services: &[Spec]) -> Option<Interface> {
    let name = section.required("name", "the interface's name, such as \"eth1\"", string);
    if let Some(name) = &name {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.value.is_empty() || name.value.len() > NAME_BYTES_MAX || name.value.contains(bad) {
            let message =
                format!("must be the name of an interface (1 to {NAME_BYTES_MAX} bytes), not {:?}", name.value);
            doc.wrong(&name.at, message);
        }
    }
    let queues = section.or("queues", 1, integer(1..=64));
    let addresses = read_addresses(doc, &mut section);
    let nets: Vec<Ipv4Net> = addresses.iter().map(|net| net.value).collect();
    let gateway = section.optional("gateway", parsed("an IPv4 address"));
    if let Some(gateway) = &gateway {
        check_next_hop(doc, gateway, &nets);
    }
    let routes = read_routes(doc, &mut section, &nets, gateway.is_some());
    let vlan = section.optional("vlan", integer(1..=4094));
    let checksums =
        word(&[("verify", RxChecksum::Verify), ("partial", RxChecksum::Partial), ("trust", RxChecksum::Trust)]);
    let rx_checksum = section.or("rx_checksum", RxChecksum::Verify, checksums);
    let modes = word(&[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)]);
    let xdp_mode = section.or("xdp_mode", XdpMode::Auto, modes);
    let zero_copies = word(&[("required", ZeroCopy::Required), ("prefer", ZeroCopy::Prefer), ("off", ZeroCopy::Off)]);
    let zero_copy = section.or("zero_copy", ZeroCopy::Prefer, zero_copies);
    if zero_copy.value == ZeroCopy::Required && xdp_mode.value == XdpMode::Generic {
        let message = "cannot be \"required\" with xdp_mode = \"generic\", which always copies: run in native mode";
        doc.wrong(&zero_copy.at, message);
    }
    let multi_buffers =
        word(&[("auto", MultiBuffer::Auto), ("always", MultiBuffer::Always), ("off", MultiBuffer::Off)]);
    let multi_buffer = section.or("multi_buffer", MultiBuffer::Auto, multi_buffers);
    let reflects = services.iter().any(|spec| spec.service == Service::Reflect);
    let steerings =
        word(&[("owned", Steering::Owned), ("shared", Steering::Shared), ("everything", Steering::Everything)]);
    let usual = if reflects { Steering::Everything } else { Steering::Owned };
    let steering = section.or("steering", usual, steerings);
    if reflects && steering.value != Steering::Everything {
        doc.wrong(&steering.at, "must be \"everything\" (or left out) with a reflect service, which has no addresses");
    }
    if !reflects && nets.is_empty() && !services.is_empty() {
        doc.wrong(
            &section.place("addresses"),
            "missing: at least one, such as [\"10.0.0.1/24\"]; only reflect needs none",
        );
    }
    let memory = read_memory(doc, &mut section);
    let huge_pages = section.or(
        "huge_pages",
        HugePages::Prefer,
        word(&[("prefer", HugePages::Prefer), ("never", HugePages::Never)]),
    );
    let busy_poll_us = section.or("busy_poll_us", 0, integer(0..=1_000));
    if busy_poll_us.value > 0 && zero_copy.value == ZeroCopy::Off {
        doc.wrong(&busy_poll_us.at, "must be 0 with zero_copy = \"off\": busy polling helps only zero-copy sockets");
    }
    section.finish();
    Some(Interface {
        name: name?.value,
        queues: queues.value,
        addresses: nets,
        gateway: gateway.map(|gateway| gateway.value),
        routes,
        vlan: vlan.map(|vlan| vlan.value),
        rx_checksum: rx_checksum.value,
        xdp_mode: xdp_mode.value,
        zero_copy: zero_copy.value,
        multi_buffer: multi_buffer.value,
        steering: steering.value,
        frames: memory.frames,
        frame_bytes: memory.frame_bytes,
        run_frames: memory.run_frames,
        rx_reserve_frames: memory.rx_reserve_frames,
        rings: memory.rings,
        huge_pages: huge_pages.value,
        busy_poll_us: busy_poll_us.value,
    })
}

fn read_addresses(doc: &Doc<'_>, section: &mut Section<'_>) -> Vec<Located<Ipv4Net>> {
    let addresses = section.list("addresses", parsed::<Ipv4Net>("an address with its prefix, such as \"10.0.0.1/24\""));
    for (i, Located { value: net, at }) in addresses.iter().enumerate() {
        if let Err(reason) = host_address(net.addr()) {
            doc.wrong(at, format!("{net} {reason}"));
        } else if net.prefix_len() == 0 {
            doc.wrong(at, format!("{net}: a prefix length of 0 would make the whole internet on-link"));
        } else if net.prefix_len() < 31 && net.addr() == net.network() {
            doc.wrong(at, format!("{net} is the network's own number, not a host's"));
        } else if net.broadcast() == Some(net.addr()) {
            doc.wrong(at, format!("{net} is the network's broadcast address"));
        }
        if addresses[..i].iter().any(|other| other.value.addr() == net.addr()) {
            doc.wrong(at, format!("{} is there twice", net.addr()));
        }
    }
    addresses
}

/// A router must be on one of our links, and not be ourselves.
fn check_next_hop(doc: &Doc<'_>, hop: &Located<Ipv4Addr>, nets: &[Ipv4Net]) {
    let Located { value: addr, at } = hop;
    if let Err(reason) = host_address(*addr) {
        doc.wrong(at, format!("{addr} {reason}"));
    } else if nets.iter().any(|net| net.addr() == *addr) {
        doc.wrong(at, format!("{addr} is the engine's own address"));
    } else if !nets.iter().any(|net| net.contains(*addr)) {
        doc.wrong(at, format!("{addr} must be in the network of one of the interface's addresses"));
    }
}

fn read_routes(
    doc: &Doc<'_>,
    section: &mut Section<'_>,
    nets: &[Ipv4Net],
    has_gateway: bool,
) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let mut routes: Vec<(Ipv4Net, Ipv4Addr)> = Vec::new();
    for mut route in section.tables("routes") {
        let net =
            route.required("net", "the destination network, such as \"192.0.2.0/24\"", parsed::<Ipv4Net>("a network"));
        let via = route.required("via", "the next router's address", parsed("an IPv4 address"));
        route.finish();
        let (Some(net), Some(via)) = (net, via) else { continue };
        check_next_hop(doc, &via, nets);
        let (prefix, network) = (net.value.prefix_len(), net.value.network());
        if net.value.addr() != network {
            doc.wrong(&net.at, format!("{} has host bits set: write \"{network}/{prefix}\"", net.value));
        }
        if prefix == 0 && has_gateway {
            doc.wrong(&net.at, "is the default route, which `gateway` gives already");
        }
        if routes.iter().any(|(other, hop)| *other == net.value && *hop == via.value) {
            doc.wrong(&net.at, format!("the route to {} via {} is there twice", net.value, via.value));
        }
        routes.push((net.value, via.value));
    }
    routes
}

struct Memory {
    frames: u32,
    frame_bytes: Option<usize>,
    run_frames: u32,
    rx_reserve_frames: u32,
    rings: Rings,
}

fn frame_size(value: &DeValue<'_>) -> Result<usize, String> {
    match integer(0..=usize::MAX)(value)? {
        size @ (2048 | 4096) => Ok(size),
        other => Err(format!("must be 2048 or 4096, not {other}")),
    }
}

fn ring_size(value: &DeValue<'_>) -> Result<u32, String> {
    match integer(64..=1 << 20)(value)? {
        entries if u32::is_power_of_two(entries) => Ok(entries),
        other => Err(format!("must be a power of two, not {other}")),
    }
}

/// Frames and rings; the rules are those of AF_XDP (`port::xsk::XskConfig`), told by field here.
fn read_memory(doc: &Doc<'_>, section: &mut Section<'_>) -> Memory {
    let mut rings = section.table("rings");
    let rx = rings.or("rx", 512, ring_size);
    let tx = rings.or("tx", 512, ring_size);
    let fill = rings.or("fill", rx.value.saturating_mul(2).min(1 << 20), ring_size);
    let completion = rings.or("completion", tx.value.saturating_mul(2).min(1 << 20), ring_size);
    if fill.value / 2 < rx.value && !rings.is_wrong("rx") {
        let message = format!("must be at least twice rings.rx ({}), not {}", rx.value, fill.value);
        doc.wrong(&fill.at, message);
    }
    if completion.value < tx.value && !rings.is_wrong("tx") {
        doc.wrong(&completion.at, format!("must be at least rings.tx ({}), not {}", tx.value, completion.value));
    }
    let fill_known = !rings.is_wrong("fill") && !rings.is_wrong("rx");
    rings.finish();
    let frame_bytes = section.or("frame_bytes", None, |value| frame_size(value).map(Some));
    let run_frames = section.or("run_frames", 0, integer(0..=1 << 20));
    let reserve = section.or("rx_reserve_frames", rx.value, integer(0..=1 << 20));
    let frames = section.or("frames", 4096, integer(64..=1 << 22));
    // Below this, a sender never gets a frame while the fill ring is full.
    let taken = u64::from(fill.value) + u64::from(run_frames.value) + u64::from(reserve.value);
    let known = fill_known && !["run_frames", "rx_reserve_frames", "frames"].iter().any(|key| section.is_wrong(key));
    if known && u64::from(frames.value) <= taken {
        let message = format!(
            "must be more than {taken} (rings.fill {} + run_frames {} + rx_reserve_frames {}), or none is left to send with, not {}",
            fill.value, run_frames.value, reserve.value, frames.value
        );
        doc.wrong(&frames.at, message);
    }
    Memory {
        frames: frames.value,
        frame_bytes: frame_bytes.value,
        run_frames: run_frames.value,
        rx_reserve_frames: reserve.value,
        rings: Rings { rx: rx.value, tx: tx.value, fill: fill.value, completion: completion.value },
    }
}

// ---- [[service]]

/// A service and where its fields stand.
struct Spec {
    service: Service,
    at: At,
    places: Vec<(&'static str, At)>,
}

impl Spec {
    fn place(&self, key: &str) -> &At {
        self.places.iter().find(|(name, _)| *name == key).map_or(&self.at, |(_, at)| at)
    }

    /// Where the address stands that it binds.
    fn local_place(&self) -> &At {
        self.place(if matches!(self.service, Service::UdpSource { .. }) { "local" } else { "listen" })
    }
}

fn read_service(doc: &Doc<'_>, mut section: Section<'_>) -> Option<Spec> {
    #[derive(Clone, Copy)]
    enum Kind {
        Echo,
        Sink,
        Source,
        Reflect,
    }
    let kinds = word(&[
        ("udp-echo", Kind::Echo),
        ("udp-sink", Kind::Sink),
        ("udp-source", Kind::Source),
        ("reflect", Kind::Reflect),
    ]);
    let what = "what it does: \"udp-echo\", \"udp-sink\", \"udp-source\" or \"reflect\"";
    // Of an unknown kind the keys are unknown too: nothing more to say about it.
    let kind = section.required("kind", what, kinds)?;
    let at = section.at().clone();
    let places = ["listen", "local", "destination", "payload_bytes"].map(|key| (key, section.place(key))).to_vec();
    let service = match kind.value {
        Kind::Echo => read_listen(doc, &mut section).map(|listen| Service::UdpEcho { listen }),
        Kind::Sink => {
            let listen = read_listen(doc, &mut section);
            let sequence = section.or("sequence", false, boolean).value;
            listen.map(|listen| Service::UdpSink { listen, sequence })
        }
        Kind::Source => read_source(doc, &mut section),
        Kind::Reflect => Some(Service::Reflect),
    };
    section.finish();
    Some(Spec { service: service?, at, places })
}

fn read_listen(doc: &Doc<'_>, section: &mut Section<'_>) -> Option<SocketAddrV4> {
    let listen = section.required("listen", LISTEN, parsed::<SocketAddrV4>(LISTEN))?;
    check_local(doc, &listen);
    Some(listen.value)
}

fn check_local(doc: &Doc<'_>, local: &Located<SocketAddrV4>) {
    if local.value.port() == 0 {
        doc.wrong(&local.at, "the port must be from 1 to 65535, not 0");
    }
    if !local.value.ip().is_unspecified()
        && let Err(reason) = host_address(*local.value.ip())
    {
        doc.wrong(&local.at, format!("{} {reason}", local.value.ip()));
    }
}

fn read_source(doc: &Doc<'_>, section: &mut Section<'_>) -> Option<Service> {
    let destination = section.required("destination", DESTINATION, parsed::<SocketAddrV4>(DESTINATION));
    if let Some(destination) = &destination {
        if destination.value.port() == 0 {
            doc.wrong(&destination.at, "the port must be from 1 to 65535, not 0");
        }
        if let Err(reason) = host_address(*destination.value.ip()) {
            doc.wrong(&destination.at, format!("{} {reason}", destination.value.ip()));
        }
    }
    let local = section.optional("local", parsed::<SocketAddrV4>(LISTEN));
    if let Some(local) = &local {
        check_local(doc, local);
    }
    let payload_bytes = section.or("payload_bytes", 64, integer(SOURCE_HEADER_BYTES..=udp::PAYLOAD_BYTES_MAX)).value;
    let rate_pps = section.or("rate_pps", 0, integer(0..=100_000_000)).value;
    let count = section.or("count", 0, integer(0..=u64::MAX >> 1)).value;
    Some(Service::UdpSource {
        destination: destination?.value,
        local: local.map(|local| local.value),
        payload_bytes,
        rate_pps,
        count,
    })
}

/// What must hold between a service, the other services and the interface.
fn check_services(doc: &Doc<'_>, interface: &Interface, services: &[Spec]) {
    if let Some(spec) = services.get(SERVICES_MAX) {
        doc.wrong(&spec.at, format!("there may be at most {SERVICES_MAX} services"));
    }
    for (i, spec) in services.iter().enumerate() {
        if spec.service == Service::Reflect && services.len() > 1 {
            doc.wrong(&spec.at, "reflect takes every frame: it must be the only service");
        }
        if let Some(local) = spec.service.local() {
            let at = spec.local_place();
            check_binding(doc, interface, local, at);
            let others = services[..i].iter().filter_map(|other| other.service.local());
            if let Some(other) = others.into_iter().find(|other| clashes(*other, local)) {
                doc.wrong(at, format!("{local} is taken already: another service has {other}"));
            }
        }
        if let Service::UdpSource { destination, local, payload_bytes, .. } = spec.service {
            check_destination(doc, interface, destination, spec.place("destination"));
            check_source_port(doc, interface, local, spec.place("local"));
            check_payload(doc, interface, payload_bytes, spec.place("payload_bytes"));
        }
    }
}

fn clashes(a: SocketAddrV4, b: SocketAddrV4) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn check_binding(doc: &Doc<'_>, interface: &Interface, local: SocketAddrV4, at: &At) {
    let ours = || interface.addresses.iter().map(|net| net.addr());
    // If there are no addresses, or this is none, somebody said so already.
    if host_address(*local.ip()).is_ok() && !ours().any(|addr| addr == *local.ip()) && ours().next().is_some() {
        let list: Vec<String> = ours().map(|addr| addr.to_string()).collect();
        doc.wrong(at, format!("{} is no address of {} ({})", local.ip(), interface.name, list.join(", ")));
    }
}

fn check_destination(doc: &Doc<'_>, interface: &Interface, destination: SocketAddrV4, at: &At) {
    let ip = *destination.ip();
    if host_address(ip).is_err() || interface.addresses.is_empty() {
        return;
    }
    if interface.addresses.iter().any(|net| net.addr() == ip) {
        doc.wrong(at, format!("{ip} is the engine's own address: there is no loopback"));
    } else if interface.addresses.iter().any(|net| net.broadcast() == Some(ip)) {
        doc.wrong(at, format!("{ip} is a broadcast address: only unicast is offered"));
    } else if interface.gateway.is_none()
        && !interface.addresses.iter().any(|net| net.contains(ip))
        && !interface.routes.iter().any(|(net, _)| net.contains(ip))
    {
        doc.wrong(at, format!("no route to {ip}: give the interface a gateway, a route or an address in its network"));
    }
}

fn check_source_port(doc: &Doc<'_>, interface: &Interface, local: Option<SocketAddrV4>, at: &At) {
    if local.is_some() && interface.queues > 1 {
        doc.wrong(at, "must be left out with more than one queue: each worker sends from a port of its own");
    }
    if local.is_none() && interface.steering == Steering::Shared {
        doc.wrong(at, "missing: with steering = \"shared\" the engine gets only packets to known ports");
    }
}

fn check_payload(doc: &Doc<'_>, interface: &Interface, payload_bytes: usize, at: &At) {
    // What the MTU will make of it is not known here: 2048 is the careful guess.
    let frame_bytes = interface.frame_bytes.unwrap_or(2048);
    let run = (HEADROOM_BYTES + payload_bytes).div_ceil(frame_bytes);
    if run > 1 && (interface.run_frames as usize) < run {
        let message = format!(
            "{payload_bytes} bytes lie in {run} neighbouring frames of {} bytes: set interface.run_frames, to {} or more",
            frame_bytes,
            run * 256
        );
        doc.wrong(at, message);
    }
}

// ---- the rest

fn read_worker(doc: &Doc<'_>, mut section: Section<'_>, queues: Option<u32>) -> Worker {
    let cores = section.list("cores", integer(0..=4095_usize));
    for (i, core) in cores.iter().enumerate() {
        if cores[..i].iter().any(|other| other.value == core.value) {
            doc.wrong(&core.at, format!("core {} is there twice", core.value));
        }
    }
    if let (Some(first), Some(queues)) = (cores.first(), queues)
        && cores.len() != queues as usize
    {
        let message =
            format!("must name one core for each of the {queues} queues (or none at all), not {}", cores.len());
        doc.wrong(&first.at, message);
    }
    let policies = word(&[("spin", Idle::Spin), ("adaptive", Idle::Adaptive), ("sleep", Idle::Sleep)]);
    let idle = section.or("idle", Idle::Adaptive, policies).value;
    let spin_us = section.or("spin_us", 50, integer(0..=1_000_000)).value;
    let stage_histograms = section.or("stage_histograms", false, boolean).value;
    section.finish();
    Worker {
        cores: cores.into_iter().map(|core| core.value).collect(),
        idle,
        spin: Duration::from_micros(spin_us),
        stage_histograms,
    }
}

fn read_log(mut section: Section<'_>) -> Log {
    let levels = word(&[
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ]);
    let level = section.or("level", Level::Info, levels).value;
    let summary = section.optional("summary_s", integer(0..=86_400)).map(|s| Duration::from_secs(s.value));
    section.finish();
    Log { level, summary }
}

fn read_capture(mut section: Section<'_>) -> Option<PathBuf> {
    if !section.is_present() {
        return None;
    }
    let file = section.required("file", "the pcapng file to write", |value| match string(value)? {
        empty if empty.is_empty() => Err("must be the name of a file, not empty".into()),
        file => Ok(PathBuf::from(file)),
    });
    section.finish();
    file.map(|file| file.value)
}

fn read_faults(doc: &Doc<'_>, mut section: Section<'_>) -> Option<Faults> {
    if !section.is_present() {
        return None;
    }
    let seed = section.or("seed", 0, integer(0..=u64::MAX)).value;
    let (rx, tx) = (section.table("rx"), section.table("tx"));
    section.finish();
    Some(Faults { seed, rx: read_fault_rates(doc, rx), tx: read_fault_rates(doc, tx) })
}

fn read_fault_rates(doc: &Doc<'_>, mut section: Section<'_>) -> FaultRates {
    let mut rate = |key| section.or(key, 0.0, probability).value;
    let (drop, duplicate, reorder) = (rate("drop"), rate("duplicate"), rate("reorder"));
    let (corrupt, truncate, delay) = (rate("corrupt"), rate("truncate"), rate("delay"));
    let min_us = section.or("delay_min_us", 0, integer(0..=60_000_000)).value;
    let max_us = section.or("delay_max_us", min_us, integer(0..=60_000_000));
    section.finish();
    if max_us.value < min_us {
        doc.wrong(&max_us.at, format!("must be at least delay_min_us ({min_us}), not {}", max_us.value));
    }
    FaultRates {
        drop,
        duplicate,
        reorder,
        corrupt,
        truncate,
        delay,
        delay_min: Duration::from_micros(min_us),
        delay_max: Duration::from_micros(max_us.value),
    }
}
