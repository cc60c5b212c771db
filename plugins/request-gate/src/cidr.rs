//! Networks in the notation `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;

/// A network; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cidr {
    address: IpAddr,
    prefix: u8,
}

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
        masked(address, self.prefix) == Some(self.address)
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| BadCidr::Address)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| BadCidr::Prefix)?;
        let network = masked(address, prefix).ok_or(BadCidr::Prefix)?;
        let network = Self { address: network, prefix };
        if network.address == address { Ok(network) } else { Err(BadCidr::HostBits(network)) }
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
        write!(f, "{}/{}", self.address, self.prefix)
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

/// Returns the first `prefix` bits of an address; `None` if it does not have that many.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    Some(match address {
        IpAddr::V4(address) => {
            let hidden = 32_u32.checked_sub(prefix)?;
            let mask = u32::MAX.checked_shl(hidden).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let hidden = 128_u32.checked_sub(prefix)?;
            let mask = u128::MAX.checked_shl(hidden).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    })
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
