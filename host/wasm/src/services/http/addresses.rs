//! Addresses that host names of outbound requests may resolve to. The connection is made to the address that was checked,
//! so that a name cannot resolve to another one in between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Special-purpose IPv4 networks of the registry of IANA that are not globally reachable, and multicast.
const LOCAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The networks of global unicast addresses in IPv6; everything outside of it is local or reserved.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Networks in it that are not globally reachable, or that stand for an IPv4 address in a way of their own.
const LOCAL_V6: [(Ipv6Addr, u8); 5] = [
    // Protocol assignments, with Teredo.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // The former 6bone.
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// A resolver that returns only addresses which plugins may reach by name.
pub(super) struct GuardedResolver(Arc<Vec<IpNet>>);

/// A host name resolves to an address that plugins may not reach.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{host}` has the address {address}, which is private or reserved; add its network to \
     `plugins.http_private_networks`, or grant the address itself"
)]
pub(super) struct AddressRefused {
    host: String,
    address: IpAddr,
}

impl GuardedResolver {
    pub(super) fn new(private_networks: Vec<IpNet>) -> Self {
        Self(Arc::new(private_networks))
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = Arc::clone(&self.0);
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            // One refused address refuses the name: a name with both kinds of addresses is not what an operator granted.
            let refused = found.iter().map(SocketAddr::ip).find(|address| !is_reachable(*address, &networks));
            match refused {
                Some(address) => Err(AddressRefused { host, address }.into()),
                None => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

fn is_reachable(address: IpAddr, private_networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    is_global(address) || private_networks.iter().any(|network| network.contains(&address))
}

/// Returns whether an address is a public one.
fn is_global(address: IpAddr) -> bool {
    let contains = |(network, length): (IpAddr, u8), address: &IpAddr| {
        IpNet::new(network, length).is_ok_and(|network| network.contains(address))
    };
    match address {
        IpAddr::V4(_) => !LOCAL_V4.iter().any(|(network, length)| contains((IpAddr::V4(*network), *length), &address)),
        IpAddr::V6(_) => {
            contains((IpAddr::V6(GLOBAL_V6.0), GLOBAL_V6.1), &address)
                && !LOCAL_V6.iter().any(|(network, length)| contains((IpAddr::V6(*network), *length), &address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_reached_by_name() {
        for public in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"] {
            assert!(is_reachable(public.parse().unwrap(), &[]), "{public}");
        }
        for local in [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.19.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_reachable(local.parse().unwrap(), &[]), "{local}");
        }
    }

    #[test]
    fn an_operator_can_allow_private_networks() {
        let networks = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for allowed in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            assert!(is_reachable(allowed.parse().unwrap(), &networks), "{allowed}");
        }
        for refused in ["127.0.0.1", "169.254.169.254", "192.168.0.1", "fe80::1"] {
            assert!(!is_reachable(refused.parse().unwrap(), &networks), "{refused}");
        }
    }
}
