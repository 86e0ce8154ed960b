//! Which machines may speak for others, and whom a request therefore came from.
//!
//! Knows addresses and nothing of HTTP: what a proxy wrote is handed in as words.

use std::net::IpAddr;

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor an address with a prefix length.
    #[error("write an address or a network, like `10.0.0.0/8` or `2001:db8::/32`")]
    Malformed,
    /// Bits are set beyond the prefix: one of both is a slip of the pen.
    #[error("the address has bits beyond the prefix: write the network's first address, like `10.0.0.0/8`")]
    BeyondPrefix,
    /// Everybody's word would count.
    #[error("a network of everybody makes every caller a proxy: name the proxies' own")]
    Everybody,
}

impl Network {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NetworkError::Malformed)?;
        let width = width(first);
        let digits = |bits: &&str| bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(bits) => {
                Some(bits).filter(digits).and_then(|b| b.parse().ok()).ok_or(NetworkError::Malformed)?
            }
        };
        match bits {
            0 => Err(NetworkError::Everybody),
            _ if bits > width => Err(NetworkError::Malformed),
            _ if masked(first, bits) != number(first) => Err(NetworkError::BeyondPrefix),
            _ => Ok(Self { first, bits }),
        }
    }

    /// Whether an address is of it. An IPv4 address that came in IPv6's clothes is the IPv4 address.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.first) && masked(address, self.bits) == number(self.first)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn masked(address: IpAddr, bits: u32) -> u128 {
    let beyond = width(address) - bits;
    if beyond == 128 { 0 } else { number(address) >> beyond << beyond }
}

/// The address that stands for one subscriber: providers hand out IPv6 in blocks of 64 bits at least.
pub fn subscriber(address: IpAddr) -> u128 {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => number(v4),
        v6 @ IpAddr::V6(_) => masked(v6, 64),
    }
}

/// Whom a request came from: the peer, or, where it is a proxy of ours, whom that says it speaks for.
///
/// `forwarded` are the entries of all `X-Forwarded-For` in their order. They are read from the right, where each
/// proxy adds what it saw itself; the first that is no proxy is the caller, and what stands left of it anybody
/// may have written. Where an entry can't be read, the machine that wrote it is as far as one can see.
pub fn caller<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    proxies: &[Network],
) -> IpAddr {
    let mut seen = peer.to_canonical();
    for entry in forwarded.rev() {
        if !proxies.iter().any(|proxy| proxy.holds(seen)) {
            break;
        }
        match address(entry.trim()) {
            Some(further) => seen = further.to_canonical(),
            None => break,
        }
    }
    seen
}

/// An address as proxies write it, some with the port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let whole = bare.unwrap_or(entry).parse().ok();
    whole.or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|with_port| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Vec<Network> {
        text.split(',').filter(|one| !one.is_empty()).map(|one| Network::parse(one).unwrap()).collect()
    }

    fn from(peer: &str, forwarded: &str, proxies: &str) -> String {
        caller(peer.parse().unwrap(), forwarded.split(','), &networks(proxies)).to_string()
    }

    #[test]
    fn a_network_holds_its_own_and_no_other() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.128/25", "::ffff:192.0.2.200", "192.0.2.127"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.holds(inside.parse().unwrap()), "{inside}");
            assert!(!network.holds(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, error) in [
            ("", NetworkError::Malformed),
            ("proxy.local", NetworkError::Malformed),
            ("10.0.0.0/33", NetworkError::Malformed),
            ("10.0.0.0/+8", NetworkError::Malformed),
            ("10.0.0.0/", NetworkError::Malformed),
            ("10.0.0.1/8", NetworkError::BeyondPrefix),
            ("2001:db8::1/64", NetworkError::BeyondPrefix),
            ("0.0.0.0/0", NetworkError::Everybody),
            ("::/0", NetworkError::Everybody),
        ] {
            assert_eq!(Network::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_caller_is_the_first_from_the_right_who_is_no_proxy() {
        let proxies = "10.0.0.0/8,2001:db8::/32";
        for (peer, forwarded, caller) in [
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1,10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "[2a00::1]:4711", "2a00::1"),
            ("10.0.0.1", "[2a00::1]", "2a00::1"),
            ("10.0.0.1", "1.1.1.1,unknown", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1,,10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ] {
            assert_eq!(from(peer, forwarded, proxies), caller, "{peer} {forwarded}");
        }
        assert_eq!(from("10.0.0.1", "198.51.100.1", ""), "10.0.0.1", "nobody is trusted unless named");
    }

    #[test]
    fn a_subscriber_of_ipv6_has_a_block() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
