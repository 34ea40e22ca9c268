//! `[network]`: how the appliance is reached. Without it, every wired port asks for an address.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

/// All keys of the table.
pub(super) const KEYS: &[&str] = &["interface", "addresses", "gateways", "dns"];

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", try_from = "Raw")]
pub struct Network {
    /// The port that has the addresses; without it, every wired one.
    pub interface: Option<Interface>,
    /// Fixed addresses. Without any, they are asked for (DHCP, router advertisements).
    pub addresses: Vec<Address>,
    /// Routers, at most one for each kind of address.
    pub gateways: Vec<IpAddr>,
    /// Name servers; without them, those that the network offers.
    pub dns: Vec<IpAddr>,
}

/// The table before it was looked at as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Raw {
    interface: Option<Interface>,
    addresses: Vec<Address>,
    gateways: Vec<IpAddr>,
    dns: Vec<IpAddr>,
}

impl TryFrom<Raw> for Network {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { interface, addresses, gateways, dns } = raw;
        for gateway in &gateways {
            let of_its_kind = |other: &&IpAddr| other.is_ipv4() == gateway.is_ipv4();
            if gateways.iter().filter(of_its_kind).count() > 1 {
                return Err("there may be one gateway for IPv4 and one for IPv6".to_owned());
            }
            // A router of IPv6 is usually known by its link-local address, which is in no network of ours.
            let is_link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            if !is_link_local && !addresses.iter().any(|address| address.network_has(gateway)) {
                return Err(format!("the gateway {gateway} is in the network of none of the addresses"));
            }
        }
        if !addresses.is_empty() && interface.is_none() {
            return Err("fixed addresses need an `interface` to belong to".to_owned());
        }
        Ok(Self { interface, addresses, gateways, dns })
    }
}

/// A port: by its name, or by its hardware address, which is the same whatever else is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interface {
    /// `enp1s0`
    Name(String),
    /// `00:11:22:33:44:55`, in small letters.
    HardwareAddress(String),
}

impl Interface {
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split([':', '-']).collect();
        let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if parts.len() == 6 && parts.iter().all(is_byte) {
            return Ok(Self::HardwareAddress(parts.join(":").to_ascii_lowercase()));
        }
        // The kernel's own rule (dev_valid_name) and no globs, which systemd.network(5) would expand.
        let is_name = (1..16).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && text != "."
            && text != "..";
        match is_name {
            true => Ok(Self::Name(text.to_owned())),
            false => Err(format!(
                "`{text}` is no network port; write its name (`enp1s0`) or its hardware address (`00:11:22:33:44:55`)"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Interface {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An address and the size of its network: `192.168.1.10/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of it that all of its network have in common.
    pub prefix: u8,
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address with the size of its network; write it as `192.168.1.10/24`");
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (ip, prefix): (IpAddr, u8) = (ip.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        if !(1..=bits).contains(&prefix) {
            return Err(wrong());
        }
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(format!("{ip} is no address that one computer can have"));
        }
        Ok(Self { ip, prefix })
    }

    /// Whether another address is in the same network.
    fn network_has(&self, other: &IpAddr) -> bool {
        let bits = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let differing = bits(&self.ip) ^ bits(other);
        self.ip.is_ipv4() == other.is_ipv4() && differing.leading_zeros() >= u32::from(self.prefix)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}
