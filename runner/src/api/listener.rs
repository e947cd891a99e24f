//! Binding an address the way the command line writes it, with the errors that k6 users know.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
};

/// Listens on `host:port`, `:port` (every address of the machine) or `[::1]:port`.
///
/// # Errors
/// The text for the user, such as `listen tcp 127.0.0.1:6565: bind: address already in use`.
pub(crate) fn bind(address: &str) -> Result<TcpListener, String> {
    let (host, port) =
        split(address).map_err(|why| format!("listen tcp: address {address}: {why}"))?;
    let number: u16 = match port.parse::<u32>() {
        Ok(number) => number
            .try_into()
            .map_err(|_| format!("listen tcp: address {port}: invalid port"))?,
        Err(_) => return Err(format!("listen tcp: lookup tcp/{port}: unknown port")),
    };
    if host.is_empty() {
        // One socket for both families; a machine without IPv6 gets the other one.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, number))
            .or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)),
            })
            .map_err(|error| format!("listen tcp :{number}: bind: {}", reason(&error)));
        return listener;
    }
    let resolved =
        resolve(host, number).map_err(|_| format!("listen tcp: lookup {host}: no such host"))?;
    TcpListener::bind(resolved)
        .map_err(|error| format!("listen tcp {resolved}: bind: {}", reason(&error)))
}

/// Host and port; the brackets around an IPv6 address are not part of it.
fn split(address: &str) -> Result<(&str, &str), &'static str> {
    const MISSING: &str = "missing port in address";
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("missing ']' in address")?;
        return Ok((host, port.strip_prefix(':').ok_or(MISSING)?));
    }
    let (host, port) = address.rsplit_once(':').ok_or(MISSING)?;
    if host.contains(':') {
        return Err("too many colons in address");
    }
    Ok((host, port))
}

/// The first address of a name, an IPv4 one if it has one.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let first = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| addresses.first());
    first
        .copied()
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// The system's words for an error, in lower case and without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_bind_in_every_form() {
        for address in ["127.0.0.1:0", "localhost:0", ":0"] {
            let listener = bind(address).unwrap();
            assert_ne!(listener.local_addr().unwrap().port(), 0, "{address}");
        }
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let expected = format!("listen tcp {address}: bind: address already in use");
        assert_eq!(bind(&address.to_string()).unwrap_err(), expected);
        assert_eq!(
            bind(&format!("localhost:{}", address.port())).unwrap_err(),
            expected
        );
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (address, error) in [
            (
                "localhost",
                "listen tcp: address localhost: missing port in address",
            ),
            (
                "::1:80",
                "listen tcp: address ::1:80: too many colons in address",
            ),
            (
                "[::1:80",
                "listen tcp: address [::1:80: missing ']' in address",
            ),
            (
                "[::1]",
                "listen tcp: address [::1]: missing port in address",
            ),
            ("localhost:70000", "listen tcp: address 70000: invalid port"),
            ("localhost:abc", "listen tcp: lookup tcp/abc: unknown port"),
        ] {
            assert_eq!(bind(address).unwrap_err(), error);
        }
        assert_eq!(split("[::1]:6565"), Ok(("::1", "6565")));
    }
}
