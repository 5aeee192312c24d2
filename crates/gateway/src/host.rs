//! Which host a request is for, and in development whether it may be answered.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::{HeaderMap, Uri};

/// The longest host name, with port (DNS: 253 octets).
const HOST_BYTES: usize = 260;

/// Host and port as the client wrote them: an absolute target goes before `Host`.
///
/// `None` if there is no host, more than one, or a text that cannot be one.
pub(crate) fn of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut lines = headers.get_all(HOST).iter();
    let header = lines.next();
    if lines.next().is_some() {
        return None;
    }
    let text = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => header?.to_str().ok()?,
    };
    let fits = !text.is_empty()
        && text.len() <= HOST_BYTES
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']')
        });
    fits.then_some(text)
}

/// The name without its port, in lower case, without a final dot.
pub(crate) fn name(host: &str) -> Cow<'_, str> {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// `localhost`, a name below it, or an address: names that no page on the internet can
/// make a browser resolve to this machine.
pub(crate) fn is_local(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::{is_local, name};

    #[test]
    fn the_port_and_case_do_not_count() {
        assert_eq!(name("Example.COM:8080"), "example.com");
        assert_eq!(name("[::1]:80"), "[::1]");
        assert_eq!(name("[::1]"), "[::1]");
        assert_eq!(name("localhost."), "localhost");
    }

    #[test]
    fn only_names_that_dns_cannot_rebind_are_local() {
        for host in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "192.168.1.5",
            "[::1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "localhost.evil.test",
            "evil.test",
            "127.0.0.1.evil.test",
            "::1",
            "",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
