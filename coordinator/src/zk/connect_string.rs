//! `host:port,host:port/chroot`: where the registry is, and below which node.

use std::fmt;
use std::str::FromStr;

/// Addresses of the ensemble and the node below which everything of one cluster lives.
///
/// The chroot is empty or begins with `/` and does not end with one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectString {
    hosts: String,
    chroot: String,
}

/// A text that is not a connect string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a ZooKeeper connect string: {reason}; \
     write host:port[,host:port...][/chroot], for example 127.0.0.1:2181/ottla"
)]
pub struct InvalidConnectString {
    text: String,
    reason: &'static str,
}

impl ConnectString {
    /// The addresses, without the chroot: `host:port,host:port`.
    pub fn hosts(&self) -> &str {
        &self.hosts
    }

    /// The chroot, `/ottla`; empty when there is none.
    pub fn chroot(&self) -> &str {
        &self.chroot
    }
}

impl fmt::Display for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.hosts, self.chroot)
    }
}

impl FromStr for ConnectString {
    type Err = InvalidConnectString;

    fn from_str(text: &str) -> Result<Self, InvalidConnectString> {
        let invalid =
            |reason| InvalidConnectString { text: text.chars().take(200).collect(), reason };
        let trimmed = text.trim();
        let (hosts, chroot) = match trimmed.find('/') {
            Some(at) => trimmed.split_at(at),
            None => (trimmed, ""),
        };
        let mut with_ports = Vec::new();
        for host in hosts.split(',') {
            with_ports.push(host_and_port(host.trim()).map_err(invalid)?);
        }
        let chroot = chroot.trim_end_matches('/');
        if chroot.contains(',') {
            return Err(invalid("the chroot stands once, after the last address"));
        }
        if chroot.split('/').skip(1).any(|node| matches!(node, "" | "." | "..")) {
            return Err(invalid("the chroot has an empty or relative node"));
        }
        if chroot.chars().any(char::is_control) {
            return Err(invalid("the chroot has a control character"));
        }
        Ok(Self { hosts: with_ports.join(","), chroot: chroot.to_owned() })
    }
}

fn host_and_port(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("an address is empty");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("an address has a space in it");
    }
    // The last colon separates the port, unless it is inside the brackets of an IPv6 address.
    let port = match text.rfind(':') {
        Some(at) if !text[at..].contains(']') => &text[at + 1..],
        _ => return Ok(format!("{text}:2181")),
    };
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err("a port is not a number from 1 to 65535"),
        Ok(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_strings_are_split_and_printed() {
        let parsed: ConnectString = "a:1, b:2 ,c/ottla/test/".parse().unwrap();
        assert_eq!(parsed.hosts(), "a:1,b:2,c:2181");
        assert_eq!(parsed.chroot(), "/ottla/test");
        assert_eq!(parsed.to_string(), "a:1,b:2,c:2181/ottla/test");
        assert_eq!("[::1]:2181".parse::<ConnectString>().unwrap().to_string(), "[::1]:2181");
        assert_eq!("h:1/".parse::<ConnectString>().unwrap().chroot(), "");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in ["", ",a:1", "a:0", "a:x", "a:99999", "a:1/b,c:2", "a:1/../x", "a:1//x", "a b:1"]
        {
            let error = bad.parse::<ConnectString>().unwrap_err().to_string();
            assert!(error.contains("host:port"), "{bad}: {error}");
        }
    }
}
