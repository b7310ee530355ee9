//! How many connections there may be: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::ConnectionSettings;

/// Networks, as `10.0.0.0/8,192.0.2.1`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks(Vec<IpNet>);

/// A text names no networks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address or network: give a list such as 10.0.0.0/8,192.0.2.1,2001:db8::/32")]
pub(crate) struct UnknownNetwork(String);

impl FromStr for Networks {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = |text: &str| {
            let network = text.parse::<IpNet>();
            network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        };
        text.split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| network(text).map_err(|_| UnknownNetwork(text.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Networks {
    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The connections that there are, and may be.
#[derive(Clone)]
pub(super) struct Slots(Arc<Inner>);

struct Inner {
    most: usize,
    most_per_address: usize,
    proxies: Networks,
    taken: Mutex<Taken>,
    open: Gauge,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to a connection, until it is dropped.
pub(super) struct Slot {
    slots: Slots,
    /// The address that it is counted by, if it is.
    address: Option<IpAddr>,
}

impl Slots {
    pub(super) fn new(settings: &ConnectionSettings, open: Gauge) -> Self {
        Self(Arc::new(Inner {
            most: settings.most,
            most_per_address: settings.most_per_address,
            proxies: settings.proxies.clone(),
            taken: Mutex::default(),
            open,
        }))
    }

    /// A slot for a connection from an address, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Slot> {
        let inner = &self.0;
        let address = address.to_canonical();
        // A proxy stands for all its clients, and so does this machine.
        let is_one_client = !address.is_loopback() && !inner.proxies.contain(address);
        let address = is_one_client.then(|| network_of(address));
        let mut taken = inner.taken.lock();
        if taken.all >= inner.most {
            return None;
        }
        if let Some(address) = address {
            let of_address = taken.by_address.entry(address).or_default();
            if *of_address >= inner.most_per_address {
                return None;
            }
            *of_address += 1;
        }
        taken.all += 1;
        inner.open.inc();
        Some(Slot {
            slots: self.clone(),
            address,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let inner = &self.slots.0;
        let mut taken = inner.taken.lock();
        taken.all -= 1;
        inner.open.dec();
        let Some(address) = self.address else { return };
        if let Some(of_address) = taken.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// What one client has: an IPv4 address, or an IPv6 network of /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slots(most: usize, most_per_address: usize, proxies: &str) -> Slots {
        let second = Duration::from_secs(1);
        let settings = ConnectionSettings {
            head: second,
            idle: second,
            body: second,
            body_progress: second,
            write: second,
            most,
            most_per_address,
            proxies: proxies.parse().unwrap(),
        };
        Slots::new(&settings, Gauge::default())
    }

    /// How many connections an address gets of ten.
    fn granted(slots: &Slots, address: &str) -> usize {
        let address: IpAddr = address.parse().unwrap();
        let all: Vec<Slot> = (0..10).filter_map(|_| slots.take(address)).collect();
        all.len()
    }

    #[test]
    fn one_client_gets_its_share_and_a_proxy_that_of_all() {
        let slots = slots(8, 3, "10.0.0.0/8, 192.0.2.1,2001:db8:1::/48");
        for (address, expect) in [
            ("198.51.100.7", 3),
            ("::ffff:198.51.100.7", 3),
            ("2001:db8::1", 3),
            ("127.0.0.1", 8),
            ("::1", 8),
            ("::ffff:127.0.0.1", 8),
            ("10.1.2.3", 8),
            ("192.0.2.1", 8),
            ("192.0.2.2", 3),
            ("2001:db8:1:2::3", 8),
        ] {
            assert_eq!(granted(&slots, address), expect, "{address}");
        }
        assert_eq!(slots.0.open.get(), 0);
        assert!(slots.0.taken.lock().by_address.is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let slots = slots(8, 3, "");
        let held: Vec<_> = (1..=3)
            .map(|n| {
                slots
                    .take(format!("2001:db8::{n}").parse().unwrap())
                    .unwrap()
            })
            .collect();
        assert_eq!(granted(&slots, "2001:db8::4"), 0);
        assert_eq!(granted(&slots, "2001:db8:0:1::1"), 3);
        assert_eq!(slots.0.open.get(), 3);
        drop(held);
        assert_eq!(granted(&slots, "2001:db8::4"), 3);
    }

    #[test]
    fn a_list_of_networks_says_what_is_wrong() {
        let error = "10.0.0.0/8,example.org".parse::<Networks>().unwrap_err();
        assert_eq!(error, UnknownNetwork("example.org".into()));
        assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
    }
}
