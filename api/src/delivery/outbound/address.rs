//! Which addresses the server may call.
//!
//! Users register webhooks and push subscriptions, so an address is a stranger's
//! text: it must not lead into the network that the server stands in. A name is
//! looked up once more for each connection, and the connection goes to the very
//! addresses that were judged: a name that changes its answer in between gains
//! nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long a name may take to be looked up at registration.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an address is not called. None of them tells what a name resolves to: that
/// would make a map of the inner network for whoever asks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("the address is not a URL with a host")]
    Malformed,
    #[error("the address must begin with https://")]
    Scheme,
    #[error("the address must not carry a user name or a password")]
    Credentials,
    #[error("the address leads to a host that is not public")]
    NotPublic,
    #[error("the address's host cannot be found")]
    Unresolved(#[source] io::Error),
}

/// Decides whether an address may be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddressGuard {
    /// Also plain HTTP, and hosts of internal networks.
    allow_private: bool,
}

impl AddressGuard {
    pub(crate) fn new(allow_private: bool) -> Self {
        Self { allow_private }
    }

    /// All that can be said of an address without looking its host up.
    pub(crate) fn parse(self, address: &str) -> Result<Url, AddressError> {
        let url = Url::parse(address).map_err(|_| AddressError::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_private => {}
            _ => return Err(AddressError::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        let host = url.host_str().ok_or(AddressError::Malformed)?;
        // The client does not ask its resolver about these. The parser has already
        // turned `0x7f.1` and the like into what they mean.
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            self.judge(ip)?;
        }
        Ok(url)
    }

    /// Says whether an address may be called, as far as can be known today.
    pub(crate) async fn check(self, address: &str) -> Result<(), AddressError> {
        let url = self.parse(address)?;
        let host = url.host_str().ok_or(AddressError::Malformed)?;
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        match tokio::time::timeout(LOOKUP_TIMEOUT, self.look_up(host)).await {
            Ok(found) => found.map(|_| ()),
            Err(_) => Err(AddressError::Unresolved(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The addresses of a host. One that may not be called spoils the others: the
    /// client picks among them as it likes.
    async fn look_up(self, host: &str) -> Result<Vec<SocketAddr>, AddressError> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0))
            .await
            .map_err(AddressError::Unresolved)?
            .collect();
        if found.is_empty() {
            return Err(AddressError::Unresolved(io::ErrorKind::NotFound.into()));
        }
        for address in &found {
            self.judge(address.ip())?;
        }
        Ok(found)
    }

    fn judge(self, ip: IpAddr) -> Result<(), AddressError> {
        match Reach::of(ip) {
            Reach::Public => Ok(()),
            Reach::Internal if self.allow_private => Ok(()),
            Reach::Internal | Reach::Nowhere => Err(AddressError::NotPublic),
        }
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found = guard.look_up(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Where an IP address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Public,
    /// This machine or a network of one's own: fit for a test or an intranet.
    Internal,
    /// Where nobody has a receiver: reserved, one to many, a tunnel that would hide
    /// where it ends, or link-local, where clouds keep their credentials.
    Nowhere,
}

const INTERNAL_V4: [(Ipv4Addr, u32); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10), // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

const NOWHERE_V4: [(Ipv4Addr, u32); 10] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16), // link-local
    (Ipv4Addr::new(192, 0, 0, 0), 24),   // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),   // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24), // 6to4 relays
    (Ipv4Addr::new(198, 18, 0, 0), 15),  // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4), // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4), // reserved, and broadcast
];

const INTERNAL_V6: [(Ipv6Addr, u32); 2] = [
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7), // unique local
];

/// All that is given out to hosts. What wraps an IPv4 address (v4-mapped, NAT64),
/// link-local and multicast lie outside.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is not public within that.
const NOWHERE_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocols, Teredo among them
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

impl Reach {
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) if INTERNAL_V4.iter().any(|net| in_v4(ip, *net)) => Self::Internal,
            IpAddr::V4(ip) if NOWHERE_V4.iter().any(|net| in_v4(ip, *net)) => Self::Nowhere,
            IpAddr::V4(_) => Self::Public,
            IpAddr::V6(ip) if INTERNAL_V6.iter().any(|net| in_v6(ip, *net)) => Self::Internal,
            IpAddr::V6(ip) if !in_v6(ip, GLOBAL_UNICAST) => Self::Nowhere,
            IpAddr::V6(ip) if NOWHERE_V6.iter().any(|net| in_v6(ip, *net)) => Self::Nowhere,
            IpAddr::V6(_) => Self::Public,
        }
    }
}

fn in_v4(ip: Ipv4Addr, (net, length): (Ipv4Addr, u32)) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (Ipv4Addr::BITS - length) == 0
}

fn in_v6(ip: Ipv6Addr, (net, length): (Ipv6Addr, u32)) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (Ipv6Addr::BITS - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(ip: &str) -> Reach {
        Reach::of(ip.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_are_public() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
        ] {
            assert_eq!(reach(ip), Reach::Public, "{ip}");
        }
    }

    #[test]
    fn internal_networks_are_told_from_what_nobody_may_call() {
        for ip in [
            "127.0.0.1",
            "127.255.255.255",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fc00::1",
            "fd12:3456::1",
        ] {
            assert_eq!(reach(ip), Reach::Internal, "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert_eq!(reach(ip), Reach::Nowhere, "{ip}");
        }
    }

    #[test]
    fn an_address_is_judged_before_anything_is_looked_up() {
        let guard = AddressGuard::new(false);
        for address in [
            "https://example.com/a?b=c",
            "https://example.com:8443",
            "https://1.1.1.1/",
        ] {
            assert!(guard.parse(address).is_ok(), "{address}");
        }
        type Expect = fn(&AddressError) -> bool;
        let malformed: Expect = |error| matches!(error, AddressError::Malformed);
        let scheme: Expect = |error| matches!(error, AddressError::Scheme);
        let credentials: Expect = |error| matches!(error, AddressError::Credentials);
        let not_public: Expect = |error| matches!(error, AddressError::NotPublic);
        for (address, expect) in [
            ("", malformed),
            ("example.com", malformed),
            ("https://", malformed),
            ("http://example.com", scheme),
            ("ftp://example.com", scheme),
            ("file:///etc/passwd", scheme),
            ("data:text/plain,a", scheme),
            ("https://user@example.com", credentials),
            ("https://user:word@example.com", credentials),
            ("https://:word@example.com", credentials),
            ("https://127.0.0.1", not_public),
            ("https://127.1", not_public),
            ("https://2130706433", not_public),
            ("https://0x7f.0.0.1", not_public),
            ("https://0177.0.0.1", not_public),
            ("https://169.254.169.254/latest/meta-data", not_public),
            ("https://[::1]:8080", not_public),
            ("https://[::ffff:10.0.0.1]", not_public),
            ("https://[64:ff9b::a00:1]", not_public),
            ("https://①②⑦.⓪.⓪.①", not_public),
        ] {
            let error = guard.parse(address).unwrap_err();
            assert!(expect(&error), "{address}: {error}");
        }
    }

    #[test]
    fn internal_hosts_and_plain_http_can_be_allowed_and_no_more() {
        let guard = AddressGuard::new(true);
        for address in [
            "http://127.0.0.1:1",
            "http://[::1]",
            "https://10.0.0.1",
            "http://a.b",
        ] {
            assert!(guard.parse(address).is_ok(), "{address}");
        }
        for address in [
            "http://169.254.169.254",
            "http://0.0.0.0",
            "http://a@b",
            "ftp://a.b",
        ] {
            assert!(guard.parse(address).is_err(), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_leads_to() {
        let refused = AddressGuard::new(false).check("https://localhost/").await;
        assert!(
            matches!(refused, Err(AddressError::NotPublic)),
            "{refused:?}"
        );
        assert!(
            AddressGuard::new(true)
                .check("http://localhost/")
                .await
                .is_ok()
        );
        let nowhere = AddressGuard::new(false)
            .check("https://nothing.invalid/")
            .await;
        assert!(
            matches!(nowhere, Err(AddressError::Unresolved(_))),
            "{nowhere:?}"
        );
    }
}
