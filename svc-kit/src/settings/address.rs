//! Addresses of other processes as settings. Elsewhere an address is whatever its owner says it is; one that somebody
//! typed is worth a look before a process tries in vain to reach it.

use model::Address;
use serde::{Deserialize, Deserializer};

/// `host:port`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct HostPort(Address);

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<HostPort, String> {
        let address = parse(&text).ok_or("must be HOST:PORT, such as 127.0.0.1:7400")?;
        Ok(HostPort(address))
    }
}

/// The address that `text` spells, if it is of the form `host:port`.
pub fn parse(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let is_host = !host.is_empty() && !host.contains(|it: char| it.is_whitespace() || "/,@".contains(it));
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_host && is_port).then(|| Address::new(text))
}

/// Reads a list of addresses, as [`super::list`] does.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    Ok(super::list(deserializer)?.into_iter().map(|HostPort(address)| address).collect())
}

/// Reads an address that may be left out; such a setting has to have a default.
pub fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(|HostPort(address)| address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:7400", "machine-1.example:1", "[::1]:65535"] {
            assert_eq!(parse(good), Some(Address::new(good)));
        }
        for bad in ["", "host", ":1", "host:", "host:0", "host:65536", "a host:1", "http://host:1", "a:1,b:2"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
