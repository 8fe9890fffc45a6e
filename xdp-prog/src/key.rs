//! Keys of the program's maps, byte for byte as `bpf/steer.h` lays them out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::error::SteerError;

/// Bits of a value in the map `addresses` (`ADDRESS_*` in `steer.h`).
pub(crate) const OWNED: u32 = 1;
pub(crate) const SHARED: u32 = 2;

/// Bit of the global `mode` (`MODE_EVERYTHING`).
pub(crate) const MODE_EVERYTHING: u64 = 1;

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// Transmission Control Protocol, RFC 9293.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol, RFC 768.
    pub const UDP: Self = Self(17);
    /// Datagram Congestion Control Protocol, RFC 4340.
    pub const DCCP: Self = Self(33);
    /// Stream Control Transmission Protocol, RFC 9260.
    pub const SCTP: Self = Self(132);
    /// Lightweight UDP, RFC 3828.
    pub const UDP_LITE: Self = Self(136);

    /// Whether source and destination port are the first four bytes of its header.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::DCCP | Self::SCTP | Self::UDP_LITE)
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::DCCP => f.write_str("DCCP"),
            Self::SCTP => f.write_str("SCTP"),
            Self::UDP_LITE => f.write_str("UDP-Lite"),
            Self(number) => write!(f, "{number}"),
        }
    }
}

/// `struct address`: IPv6, or IPv4 mapped into it (RFC 4291 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey([u8; 16]);

impl AddressKey {
    pub(crate) fn new(address: IpAddr) -> Result<Self, SteerError> {
        let address = address.to_canonical();
        if address.is_unspecified() || address.is_loopback() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(SteerError::Address(address));
        }
        Ok(Self(match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// `struct port_key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortKey {
    pub(crate) address: AddressKey,
    pub(crate) protocol: IpProtocol,
    pub(crate) port: u16,
}

impl PortKey {
    pub(crate) fn new(address: IpAddr, protocol: IpProtocol, port: u16) -> Result<Self, SteerError> {
        if !protocol.has_ports() {
            return Err(SteerError::Protocol(protocol));
        }
        Ok(Self { address: AddressKey::new(address)?, protocol, port })
    }

    pub(crate) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.address.0);
        bytes[16..18].copy_from_slice(&self.port.to_be_bytes());
        bytes[18] = self.protocol.0;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_an_ipv4_address_are_one_key() {
        let plain = AddressKey::new("192.0.2.1".parse().unwrap()).unwrap();
        let mapped = AddressKey::new("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(plain, mapped);
        assert_eq!(plain.as_bytes(), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    }

    #[test]
    fn addresses_that_stay_with_the_kernel_are_refused() {
        for address in ["0.0.0.0", "::", "127.0.0.1", "::1", "255.255.255.255", "::ffff:127.1.2.3"] {
            assert!(matches!(AddressKey::new(address.parse().unwrap()), Err(SteerError::Address(_))), "{address}");
        }
    }

    #[test]
    fn port_key_layout() {
        let key = PortKey::new("2001:db8::1".parse().unwrap(), IpProtocol::UDP, 0x1234).unwrap();
        let bytes = key.to_bytes();
        assert_eq!(&bytes[..4], &[0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(&bytes[15..], &[1, 0x12, 0x34, 17, 0]);
        let refused = PortKey::new("192.0.2.1".parse().unwrap(), IpProtocol(1), 0);
        assert!(matches!(refused, Err(SteerError::Protocol(IpProtocol(1)))));
    }

    #[test]
    fn flags_match_the_header() {
        let header = include_str!("bpf/steer.h");
        for (name, value) in [("ADDRESS_OWNED", OWNED), ("ADDRESS_SHARED", SHARED), ("MODE_EVERYTHING", 1)] {
            assert!(header.contains(&format!("#define {name} {value} ")), "{name}");
        }
        assert_eq!(MODE_EVERYTHING, 1);
    }
}
