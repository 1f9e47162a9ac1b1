//! Networks of addresses in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and how many of its first bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// What is wrong with a text that should be a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotANetwork {
    /// It is no address with or without a prefix length.
    Form,
    /// Bits behind the prefix are set: it is an address within this network.
    Host(Network),
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
    ///
    /// # Errors
    /// When the text is no network.
    pub fn parse(text: &str) -> Result<Self, NotANetwork> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, length)| (a, Some(length)));
        let first: IpAddr = address.parse().map_err(|_| NotANetwork::Form)?;
        let most = width(first);
        let bits = match length {
            None => most,
            Some(digits) => {
                let plain =
                    digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
                let bits: u8 = digits.parse().map_err(|_| NotANetwork::Form)?;
                if !plain || bits > most {
                    return Err(NotANetwork::Form);
                }
                bits
            }
        };
        let network = Self { first: cut(first, bits), bits };
        if network.first == first { Ok(network) } else { Err(NotANetwork::Host(network)) }
    }

    /// Whether an address is in the network. An IPv4 address is also found in its form as an IPv6 address, and no
    /// network of IPv6 has it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && cut(address, self.bits) == self.first
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all bits but the first `bits` cleared.
fn cut(address: IpAddr, bits: u8) -> IpAddr {
    let behind = u32::from(width(address) - bits);
    match address {
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(behind).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0)).into()
        }
    }
}

/// Several networks.
#[derive(Debug, Clone, Default)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Reads networks of a configuration, which has been checked: what is no network is left out.
    #[must_use]
    pub fn read(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| Network::parse(text).ok()).collect())
    }

    /// Whether an address is in any of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_the_addresses_with_its_first_bits() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("0.0.0.0/0", "255.1.2.3") && !contains("0.0.0.0/0", "::1"));
        assert!(
            contains("::/0", "2001:db8::1")
                && !contains("::/0", "10.0.0.1")
                && !contains("::/0", "::ffff:10.0.0.1")
        );
        assert!(contains("10.1.2.3", "::ffff:10.1.2.3") && !contains("10.1.2.3", "10.1.2.4"));
        assert!(
            contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1")
        );
    }

    #[test]
    fn what_is_no_network_is_told_from_one_with_an_address_in_it() {
        for wrong in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "::/129",
            "10.0/8",
            "a/8",
            "1/2/3",
        ] {
            assert_eq!(Network::parse(wrong), Err(NotANetwork::Form), "{wrong}");
        }
        let Err(NotANetwork::Host(network)) = Network::parse("10.1.2.3/8") else {
            panic!("it is within one")
        };
        assert_eq!(network.to_string(), "10.0.0.0/8");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bits in any::<u128>(), length in 0u8..=128, other in any::<u128>()) {
            let (address, other) = (Ipv6Addr::from_bits(bits), Ipv6Addr::from_bits(other));
            let network = Network { first: cut(address.into(), length), bits: length };
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            prop_assume!(address.to_ipv4_mapped().is_none() && other.to_ipv4_mapped().is_none());
            prop_assert!(network.contains(address.into()));
            let common = (bits ^ other.to_bits()).leading_zeros() >= u32::from(length);
            prop_assert_eq!(network.contains(other.into()), common);
        }
    }
}
