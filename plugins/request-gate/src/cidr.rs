//! Networks in the notation `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

/// A network; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cidr(IpNet);

/// Text that is not a network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadCidr {
    /// There is no valid address.
    Address,
    /// The prefix is longer than the address.
    Prefix,
    /// Bits are set after the prefix; contains the network that was probably meant.
    HostBits(Cidr),
}

impl Cidr {
    /// Returns whether an address belongs to the network. Addresses of the other family never do.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let address: IpAddr = text.split('/').next().unwrap_or_default().parse().map_err(|_| BadCidr::Address)?;
        let network =
            if text.contains('/') { text.parse().map_err(|_| BadCidr::Prefix)? } else { IpNet::from(address) };
        if network.trunc() == network { Ok(Self(network)) } else { Err(BadCidr::HostBits(Self(network.trunc()))) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;

    fn try_from(text: String) -> Result<Self, BadCidr> {
        text.parse()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BadCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("not a network such as `10.0.0.0/8` or `2001:db8::/32`"),
            Self::Prefix => f.write_str("more than 32 bits for IPv4 or 128 bits for IPv6 after the slash"),
            Self::HostBits(network) => write!(f, "bits are set after the prefix; `{network}` was meant?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("192.168.1.7", "192.168.1.7", true),
            ("192.168.1.7", "192.168.1.8", false),
            ("192.168.1.6/31", "192.168.1.7", true),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::/0", "2001:db8::1", true),
            ("::1/128", "::1", true),
        ] {
            let parsed: Cidr = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
    }

    #[test]
    fn invalid_input_is_rejected() {
        for (text, fault) in [
            ("", BadCidr::Address),
            ("10.0.0/8", BadCidr::Address),
            ("10.0.0.0/", BadCidr::Prefix),
            ("10.0.0.0/33", BadCidr::Prefix),
            ("::/129", BadCidr::Prefix),
            ("::/300", BadCidr::Prefix),
            ("10.0.0.1/8", BadCidr::HostBits("10.0.0.0/8".parse().unwrap())),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(fault), "{text}");
        }
    }
}
