//! `[[service]]`: what each kind takes, and what must hold between a service and the rest.

use crate::{
    config::{
        Congestion, HttpPage, Interface, Service, Steering, StreamOptions, TcpFlow, TcpListen,
        read::{At, Doc, Located, Section, boolean, host_address, integer, parsed, string, word},
    },
    wire::udp,
};
use std::{net::SocketAddrV4, path::PathBuf, time::Duration};
use toml::de::DeValue;

/// A device's head-room in front of a packet, as in `crate::buf::HEADROOM_BYTES`; the layers forbid to ask there.
const HEADROOM_BYTES: usize = 256;
/// What a `udp-source` writes at the front of a payload: sequence number and time.
const SOURCE_HEADER_BYTES: usize = 16;
const SERVICES_MAX: usize = 64;
/// Most bytes in one buffer of a stream: a run of frames counts them in 16 bits.
const STREAM_PAYLOAD_BYTES_MAX: usize = 1 << 18;
/// A send queue as long as the engine's own default.
const SEND_QUEUE_BYTES: usize = 1 << 20;
/// Connections of each worker that wait to be accepted, if the file does not say.
const BACKLOG: usize = 1024;
/// Connections of each worker, if the file does not say: some 16 MiB of state.
const CONNECTIONS_MAX: usize = 16_384;
/// Files and pages of one `http` service, if the file does not say, in bytes. They are held in frames or beside them, for each worker.
const CONTENT_BYTES_MAX: usize = 64 << 20;

const DESTINATION: &str = "an address and port such as \"10.0.0.2:7\"";
const LISTEN: &str = "an address and port such as \"10.0.0.1:7\" (address 0.0.0.0: all of the engine's)";

/// A service and where its fields stand.
pub(super) struct Spec {
    pub(super) service: Service,
    at: At,
    places: Vec<(&'static str, At)>,
}

impl Spec {
    fn place(&self, key: &str) -> &At {
        self.places.iter().find(|(name, _)| *name == key).map_or(&self.at, |(_, at)| at)
    }

    /// Where the address stands that it binds.
    fn local_place(&self) -> &At {
        let sends = matches!(self.service, Service::UdpSource { .. } | Service::TcpSource { .. });
        self.place(if sends { "local" } else { "listen" })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    UdpEcho,
    UdpSink,
    UdpSource,
    TcpEcho,
    TcpSink,
    TcpSource,
    Http,
    Reflect,
}

const KINDS: &[(&str, Kind)] = &[
    ("udp-echo", Kind::UdpEcho),
    ("udp-sink", Kind::UdpSink),
    ("udp-source", Kind::UdpSource),
    ("tcp-echo", Kind::TcpEcho),
    ("tcp-sink", Kind::TcpSink),
    ("tcp-source", Kind::TcpSource),
    ("http", Kind::Http),
    ("reflect", Kind::Reflect),
];

pub(super) fn read_service(doc: &Doc<'_>, mut section: Section<'_>) -> Option<Spec> {
    let what = "what it does: \"udp-echo\", \"udp-sink\", \"udp-source\", \"tcp-echo\", \"tcp-sink\", \"tcp-source\", \"http\" or \"reflect\"";
    // Of an unknown kind the keys are unknown too: nothing more to say about it.
    let kind = section.required("kind", what, word(KINDS))?;
    let at = section.at().clone();
    let keys = ["listen", "local", "destination", "payload_bytes", "connections"];
    let places = keys.map(|key| (key, section.place(key))).to_vec();
    let service = match kind.value {
        Kind::UdpEcho => read_listen(doc, &mut section).map(|listen| Service::UdpEcho { listen }),
        Kind::UdpSink => {
            let listen = read_listen(doc, &mut section);
            let sequence = section.or("sequence", false, boolean).value;
            listen.map(|listen| Service::UdpSink { listen, sequence })
        }
        Kind::UdpSource => read_udp_source(doc, &mut section),
        Kind::TcpEcho => {
            let listen = read_tcp_listen(doc, &mut section);
            let options = read_options(&mut section, Nagle::Off);
            listen.map(|listen| Service::TcpEcho { listen, options })
        }
        Kind::TcpSink => {
            let listen = read_tcp_listen(doc, &mut section);
            let options = read_options(&mut section, Nagle::On);
            let verify = section.or("verify", false, boolean).value;
            listen.map(|listen| Service::TcpSink { listen, options, verify })
        }
        Kind::TcpSource => read_tcp_source(doc, &mut section),
        Kind::Http => read_http(doc, &mut section),
        Kind::Reflect => Some(Service::Reflect),
    };
    section.finish();
    Some(Spec { service: service?, at, places })
}

fn read_tcp_listen(doc: &Doc<'_>, section: &mut Section<'_>) -> Option<TcpListen> {
    let local = read_listen(doc, section);
    let backlog = section.or("backlog", BACKLOG, integer(1..=65_536)).value;
    let connections_max = section.or("connections_max", CONNECTIONS_MAX, integer(1..=1 << 20)).value;
    Some(TcpListen { local: local?, backlog, connections_max })
}

/// What `nodelay` is unless the file says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nagle {
    On,
    Off,
}

fn read_options(section: &mut Section<'_>, nagle: Nagle) -> StreamOptions {
    let nodelay = section.or("nodelay", nagle == Nagle::Off, boolean).value;
    let keepalive_s = section.or("keepalive_s", 0, integer(0..=2_592_000)).value;
    // Less could not hold the largest packet, which an echo sends whole.
    let queue = || integer(65_536..=1_u32 << 30);
    let congestions = word(&[("cubic", Congestion::Cubic), ("newreno", Congestion::NewReno)]);
    StreamOptions {
        nodelay,
        keepalive: (keepalive_s > 0).then(|| Duration::from_secs(keepalive_s)),
        send_queue_bytes: section.optional("send_queue", queue()).map(|bytes| bytes.value),
        recv_queue_bytes_max: section.optional("recv_queue_max", queue()).map(|bytes| bytes.value),
        congestion: section.optional("congestion", congestions).map(|congestion| congestion.value),
    }
}

fn read_tcp_source(doc: &Doc<'_>, section: &mut Section<'_>) -> Option<Service> {
    let destination = section.optional("destination", parsed::<SocketAddrV4>(DESTINATION));
    let listens = section.has("listen");
    if destination.is_some() == listens && !section.is_wrong("destination") {
        let message = "must have either `destination`, to connect to it, or `listen`, to send to whoever connects";
        doc.wrong(section.at(), message);
    }
    let listen = if listens { read_tcp_listen(doc, section) } else { None };
    let outward = if listens { None } else { Some(read_outward(doc, section, destination.as_ref())) };
    let payload_bytes = section.optional("payload_bytes", integer(1..=STREAM_PAYLOAD_BYTES_MAX));
    let bytes = section.or("bytes", 0, integer(0..=u64::MAX >> 1)).value;
    let rate_bps = section.or("rate_bps", 0, integer(0..=1_000_000_000_000)).value;
    let patterns = word(&[("zero", false), ("count", true)]);
    let counting = section.or("pattern", false, patterns).value;
    let options = read_options(section, Nagle::On);
    let queue = options.send_queue_bytes.map_or(SEND_QUEUE_BYTES, |bytes| bytes as usize);
    if let Some(payload) = payload_bytes.as_ref().filter(|payload| payload.value > queue) {
        let message = format!("must be at most send_queue ({queue}), not {}: a buffer is sent whole", payload.value);
        doc.wrong(&payload.at, message);
    }
    let flow = TcpFlow { payload_bytes: payload_bytes.map(|payload| payload.value), bytes, rate_bps, counting };
    if let Some(listen) = listen {
        return Some(Service::TcpSourceListen { listen, flow, options });
    }
    let (local, connections) = outward?;
    Some(Service::TcpSource { destination: destination?.value, local, connections, flow, options })
}

/// Where a source connects from, and how often.
fn read_outward(
    doc: &Doc<'_>,
    section: &mut Section<'_>,
    destination: Option<&Located<SocketAddrV4>>,
) -> (Option<SocketAddrV4>, u64) {
    if let Some(destination) = destination {
        check_remote(doc, destination);
    }
    let local = section.optional("local", parsed::<SocketAddrV4>(LISTEN));
    if let Some(local) = &local {
        check_local(doc, local);
    }
    let connections = section.or("connections", 1, integer(1..=1 << 20));
    if local.is_some() && connections.value > 1 {
        doc.wrong(&connections.at, "must be 1 with `local`: there is one connection between two ports");
    }
    (local.map(|local| local.value), connections.value)
}

fn read_http(doc: &Doc<'_>, section: &mut Section<'_>) -> Option<Service> {
    let listen = read_tcp_listen(doc, section);
    let options = read_options(section, Nagle::Off);
    let root = section.optional("root", |value| match string(value)? {
        empty if empty.is_empty() => Err("must be the name of a folder, not empty".into()),
        folder => Ok(PathBuf::from(folder)),
    });
    let mut pages: Vec<HttpPage> = Vec::new();
    for mut page in section.tables("pages") {
        let path = page.required("path", "where it is found, such as \"/\"", http_path);
        let body = page.required("body", "what is sent", string);
        let content_type = page.or("content_type", "text/plain; charset=utf-8".into(), header_value).value;
        page.finish();
        let (Some(path), Some(body)) = (path, body) else { continue };
        if pages.iter().any(|other| other.path == path.value) {
            doc.wrong(&path.at, format!("{:?} is there twice", path.value));
        }
        pages.push(HttpPage { path: path.value, body: body.value, content_type });
    }
    if !section.has("root") && !section.has("pages") {
        doc.wrong(section.at(), "must have something to serve: `root`, a folder, or `pages`");
    }
    let content_bytes_max = section.or("content_bytes_max", CONTENT_BYTES_MAX, integer(1..=1 << 34)).value;
    let idle_timeout = Duration::from_secs(section.or("idle_timeout_s", 60, integer(1..=86_400)).value);
    let root = root.map(|root| root.value);
    Some(Service::Http { listen: listen?, options, root, pages, content_bytes_max, idle_timeout })
}

fn http_path(value: &DeValue<'_>) -> Result<String, String> {
    let path = string(value)?;
    let plain =
        path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || c.is_control() || "%?#".contains(c));
    if plain { Ok(path) } else { Err(format!("must begin with / and have no space, %, ? or #, not {path:?}")) }
}

fn header_value(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let plain = !text.is_empty() && text.len() <= 200 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if plain { Ok(text) } else { Err(format!("must be 1 to 200 printable ASCII characters, not {text:?}")) }
}

fn check_remote(doc: &Doc<'_>, remote: &Located<SocketAddrV4>) {
    if remote.value.port() == 0 {
        doc.wrong(&remote.at, "the port must be from 1 to 65535, not 0");
    }
    if let Err(reason) = host_address(*remote.value.ip()) {
        doc.wrong(&remote.at, format!("{} {reason}", remote.value.ip()));
    }
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

fn read_udp_source(doc: &Doc<'_>, section: &mut Section<'_>) -> Option<Service> {
    let destination = section.required("destination", DESTINATION, parsed::<SocketAddrV4>(DESTINATION));
    if let Some(destination) = &destination {
        check_remote(doc, destination);
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
pub(super) fn check_services(doc: &Doc<'_>, interface: &Interface, services: &[Spec]) {
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
            let same = |other: &&Spec| other.service.transport() == spec.service.transport();
            let mut others = services[..i].iter().filter(same).filter_map(|other| other.service.local());
            if let Some(other) = others.find(|other| clashes(*other, local)) {
                doc.wrong(at, format!("{local} is taken already: another service has {other}"));
            }
        }
        if let Service::UdpSource { destination, local, payload_bytes, .. } = spec.service {
            check_destination(doc, interface, destination, spec.place("destination"));
            check_source_port(doc, interface, local, spec.place("local"));
            check_payload(doc, interface, payload_bytes, spec.place("payload_bytes"));
        }
        if let Service::TcpSource { destination, local, .. } = spec.service {
            check_destination(doc, interface, destination, spec.place("destination"));
            check_source_port(doc, interface, local, spec.place("local"));
        }
        if let Service::TcpSource { flow, .. } | Service::TcpSourceListen { flow, .. } = spec.service {
            check_payload(doc, interface, flow.payload_bytes.unwrap_or(0), spec.place("payload_bytes"));
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
