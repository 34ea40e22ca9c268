//! What templates know of the settings. Secrets are not among it: what a template renders lies in the open.

use serde::Serialize;

use crate::settings::{Interface, Settings};

/// The values, by table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Values {
    /// `[system]`
    pub system: System,
    /// `[network]`
    pub network: Network,
    /// `[ssh]`
    pub ssh: Ssh,
}

/// `[system]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// Name in the network.
    pub hostname: String,
    /// Name of the IANA time zone database.
    pub timezone: String,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// `interface`, if it is a name.
    pub interface_name: Option<String>,
    /// `interface`, if it is a hardware address.
    pub hardware_address: Option<String>,
    /// Each with the size of its network.
    pub addresses: Vec<String>,
    /// Routers.
    pub gateways: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
}

/// `[ssh]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ssh {
    /// Lines of an `authorized_keys` file.
    pub authorized_keys: Vec<String>,
}

impl Values {
    /// Names of the tables.
    pub(super) const NAMES: [&str; 3] = ["system", "network", "ssh"];
}

impl From<&Settings> for Values {
    fn from(settings: &Settings) -> Self {
        let Settings { system, network, ssh, .. } = settings;
        let (interface_name, hardware_address) = match &network.interface {
            Some(Interface::Name(name)) => (Some(name.clone()), None),
            Some(Interface::HardwareAddress(address)) => (None, Some(address.clone())),
            None => (None, None),
        };
        Self {
            system: System { hostname: system.hostname.to_string(), timezone: system.timezone.to_string() },
            network: Network {
                interface_name,
                hardware_address,
                addresses: texts(&network.addresses),
                gateways: texts(&network.gateways),
                dns: texts(&network.dns),
            },
            ssh: Ssh { authorized_keys: texts(&ssh.authorized_keys) },
        }
    }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
