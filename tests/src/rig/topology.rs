//! Engine and peer, joined by a veth pair.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::NetNs;

/// The engine's end of the pair, in its namespace.
pub const ENGINE_INTERFACE: &str = "fw0";
/// The peer's end of the pair, in its namespace.
pub const PEER_INTERFACE: &str = "peer0";
/// Address of the engine's end.
pub const ENGINE_MAC: [u8; 6] = [0x02, 0x66, 0x77, 0, 0, 0x01];
/// Address of the peer's end.
pub const PEER_MAC: [u8; 6] = [0x02, 0x66, 0x77, 0, 0, 0x02];
/// The address the engine is to own. No kernel has it.
pub const ENGINE_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The peer kernel's address.
pub const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The address of the kernel on the engine's side, on request: unowned traffic goes there.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// Prefix length of the link's IPv4 network, in bits.
pub const PREFIX_V4: u8 = 24;
/// The engine's end of a [second pair](Topology::add_pair).
pub const SECOND_INTERFACE: &str = "fw1";
/// As [`ENGINE_V4`], on the second pair.
pub const SECOND_V4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// As [`ENGINE_V4`].
pub const ENGINE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// As [`PEER_V4`].
pub const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// As [`HOST_V4`].
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
/// Prefix length of the link's IPv6 network, in bits.
pub const PREFIX_V6: u8 = 64;

/// How the pair is made. The defaults are one queue, MTU 1500, no IPv6, whole checksums, NAPI on the peer.
#[derive(Debug, Clone)]
#[must_use]
pub struct TopologyBuilder {
    queues: u32,
    mtu_bytes: u32,
    host_address: bool,
    ipv6: bool,
    peer_checksum_offload: bool,
    peer_napi: bool,
    congestion_control: Option<String>,
}

impl TopologyBuilder {
    /// RX and TX queues of both ends.
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// MTU of both ends, in bytes.
    pub fn mtu(mut self, mtu_bytes: u32) -> Self {
        self.mtu_bytes = mtu_bytes;
        self
    }

    /// Gives the kernel on the engine's side [`HOST_V4`] (and [`HOST_V6`]): the machine that must stay reachable beside the engine.
    pub fn host_address(mut self) -> Self {
        self.host_address = true;
        self
    }

    /// Turns IPv6 on, with fixed addresses and no router solicitation or duplicate detection. Without it, both kernels are silent
    /// on IPv6.
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Leaves checksum offload (with TSO and UDP GSO) on in the peer: what it sends holds only the pseudo-header sum.
    pub fn peer_checksum_offload(mut self) -> Self {
        self.peer_checksum_offload = true;
        self
    }

    /// Leaves the peer without NAPI: `XDP_TX` and redirects from the engine's side then never reach it.
    pub fn without_peer_napi(mut self) -> Self {
        self.peer_napi = false;
        self
    }

    /// The peer kernel's TCP congestion control, e.g. `reno`.
    pub fn congestion_control(mut self, name: &str) -> Self {
        self.congestion_control = Some(name.to_owned());
        self
    }

    /// Makes the two namespaces and the pair.
    ///
    /// # Errors
    /// The first command that fails, with its arguments and its words. What was made before is removed.
    pub fn build(self) -> Result<Topology> {
        let topology = Topology { engine: NetNs::create("eng")?, peer: NetNs::create("peer")? };
        let Topology { engine, peer } = &topology;
        for ns in [engine, peer] {
            self.quiet_ipv6(ns)?;
        }
        let queues = self.queues.to_string();
        let mtu = self.mtu_bytes.to_string();
        let end = |name: &str, mac: [u8; 6], ns: &NetNs| {
            ["name", name, "mtu", &mtu, "numtxqueues", &queues, "numrxqueues", &queues]
                .into_iter()
                .chain(["address", &mac_text(mac), "netns", ns.name()])
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut link = vec!["link".to_owned(), "add".to_owned()];
        link.extend(end(ENGINE_INTERFACE, ENGINE_MAC, engine));
        link.extend(["type", "veth", "peer"].map(str::to_owned));
        link.extend(end(PEER_INTERFACE, PEER_MAC, peer));
        engine.ip(&link.iter().map(String::as_str).collect::<Vec<_>>())?;

        if !self.peer_checksum_offload {
            peer.run("ethtool", &["-K", PEER_INTERFACE, "tx", "off"])?;
        }
        if self.peer_napi {
            peer.run("ethtool", &["-K", PEER_INTERFACE, "gro", "on"])?;
        }
        if let Some(name) = &self.congestion_control {
            peer.sysctl("net.ipv4.tcp_congestion_control", name)?;
        }
        engine.ip(&["link", "set", ENGINE_INTERFACE, "up"])?;
        peer.ip(&["link", "set", PEER_INTERFACE, "up"])?;
        self.add_addresses(peer, PEER_INTERFACE, PEER_V4, PEER_V6)?;
        if self.host_address {
            self.add_addresses(engine, ENGINE_INTERFACE, HOST_V4, HOST_V6)?;
        }
        Ok(topology)
    }

    fn quiet_ipv6(&self, ns: &NetNs) -> Result<()> {
        // A kernel without IPv6 has nothing to silence.
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            return Ok(());
        }
        for group in ["all", "default"] {
            if !self.ipv6 {
                ns.sysctl(&format!("net.ipv6.conf.{group}.disable_ipv6"), "1")?;
            }
            for key in ["accept_ra", "accept_dad", "router_solicitations"] {
                ns.sysctl(&format!("net.ipv6.conf.{group}.{key}"), "0")?;
            }
        }
        Ok(())
    }

    fn add_addresses(&self, ns: &NetNs, interface: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<()> {
        ns.ip(&["address", "add", &format!("{v4}/{PREFIX_V4}"), "dev", interface])?;
        if self.ipv6 {
            ns.ip(&["address", "add", &format!("{v6}/{PREFIX_V6}"), "dev", interface, "nodad"])?;
        }
        Ok(())
    }
}

/// The two namespaces of the picture in [`super`]; both go, with the pair, when this is dropped.
#[derive(Debug)]
pub struct Topology {
    /// Where the engine runs.
    pub engine: NetNs,
    /// Where the Linux stack answers and asks.
    pub peer: NetNs,
}

impl Topology {
    /// Starts from the defaults.
    pub fn builder() -> TopologyBuilder {
        TopologyBuilder {
            queues: 1,
            mtu_bytes: 1500,
            host_address: false,
            ipv6: false,
            peer_checksum_offload: false,
            peer_napi: true,
            congestion_control: None,
        }
    }

    /// Joins the namespaces by a second pair: [`SECOND_INTERFACE`], with a network of [`SECOND_V4`] and the peer.
    ///
    /// # Errors
    /// `ip` or `ethtool` refuses.
    pub fn add_pair(&self) -> Result<()> {
        let Self { engine, peer } = self;
        engine.ip(&["link", "add", SECOND_INTERFACE, "type", "veth", "peer", "name", "peer1", "netns", peer.name()])?;
        peer.run("ethtool", &["-K", "peer1", "tx", "off", "gro", "on"])?;
        engine.ip(&["link", "set", SECOND_INTERFACE, "up"])?;
        peer.ip(&["link", "set", "peer1", "up"])?;
        peer.ip(&["address", "add", "10.78.0.2/24", "dev", "peer1"]).map(drop)
    }

    /// Takes the engine's end down or brings it up.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn set_engine_link(&self, up: bool) -> Result<()> {
        self.engine.ip(&["link", "set", ENGINE_INTERFACE, if up { "up" } else { "down" }]).map(drop)
    }

    /// Changes the MTU of both ends, peer first (an XDP program without fragments bounds the other end's MTU).
    ///
    /// # Errors
    /// `ip` refuses: the kernel answers EINVAL or ERANGE where the attached program cannot take it.
    pub fn set_mtu(&self, mtu_bytes: u32) -> Result<()> {
        let mtu = mtu_bytes.to_string();
        self.peer.ip(&["link", "set", PEER_INTERFACE, "mtu", &mtu])?;
        self.engine.ip(&["link", "set", ENGINE_INTERFACE, "mtu", &mtu]).map(drop)
    }

    /// Tells the peer the engine's hardware address, so that it asks no ARP question. For tests of layers below ARP.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn pin_engine_neighbour(&self) -> Result<()> {
        let (address, mac) = (ENGINE_V4.to_string(), mac_text(ENGINE_MAC));
        self.peer
            .ip(&["neighbour", "replace", &address, "lladdr", &mac, "dev", PEER_INTERFACE, "nud", "permanent"])
            .map(drop)
    }

    /// Whether an XDP program is attached to the engine's end.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn has_xdp_program(&self) -> Result<bool> {
        Ok(self.engine.ip(&["-d", "link", "show", ENGINE_INTERFACE])?.contains("prog/xdp"))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // A namespace goes in the background once it is unused; its link goes here and now, also where a socket still holds the
        // namespace. The namespaces' own drops follow.
        let _ = self.engine.ip(&["link", "delete", ENGINE_INTERFACE]);
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
