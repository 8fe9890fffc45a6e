//! The file's tables and keys, their defaults, and what must hold between them.

mod services;

use super::{
    Config, Ecn, FaultRates, Faults, HugePages, Idle, Interface, Level, Log, MultiBuffer, Problem, Rings, RxChecksum,
    Service, Steering, Tcp, Worker, XdpMode, ZeroCopy,
    read::{Doc, Located, Section, boolean, host_address, integer, parsed, probability, string, word},
};
use crate::wire::Ipv4Net;
use services::{Spec, check_services, read_service};
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};
use toml::de::{DeTable, DeValue};

/// Longest interface name: `IFNAMSIZ` in `include/uapi/linux/if.h` less the terminating zero.
const NAME_BYTES_MAX: usize = 15;

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
    let tcp = root.table("tcp");
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
    let tcp = read_tcp(tcp);
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
        tcp,
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
    let napi_threads = section.or("napi_threads", false, boolean);
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
        napi_threads: napi_threads.value,
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

fn read_tcp(mut section: Section<'_>) -> Tcp {
    let seconds = |value: Located<u64>| Duration::from_secs(value.value);
    let millis = |value: Located<u64>| Duration::from_millis(value.value);
    let ecns = word(&[("off", Ecn::Off), ("passive", Ecn::Passive), ("active", Ecn::Active)]);
    let tcp = Tcp {
        time_wait: section.optional("time_wait_s", integer(0..=240)).map(seconds),
        time_wait_max: section.optional("time_wait_max", integer(0..=1 << 24)).map(|max| max.value),
        connections_max: section.optional("connections_max", integer(1..=1 << 24)).map(|max| max.value),
        orphans_max: section.optional("orphans_max", integer(0..=1 << 24)).map(|max| max.value),
        rto_min: section.optional("rto_min_ms", integer(1..=1_000)).map(millis),
        syn_ack_retries: section.optional("syn_ack_retries", integer(0..=15)).map(|retries| retries.value),
        syn_cookies: section.optional("syn_cookies", boolean).map(|cookies| cookies.value),
        ecn: section.optional("ecn", ecns).map(|ecn| ecn.value),
    };
    section.finish();
    tcp
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
