use std::num::NonZero;

use http::{HeaderValue, Request};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(peer: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    if !peer.is_empty() {
        request.extensions_mut().insert(PeerAddr(ip(peer)));
    }
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().append(HeaderName::from_static(name), value);
    }
    request
}

fn client(addr: &ClientAddr, peer: &str, headers: &[(&'static str, &str)]) -> Option<String> {
    addr.of(&Head::of(&request(peer, headers))).map(|address| address.to_string())
}

fn proxies() -> ClientAddr {
    ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::XForwardedFor).unwrap()
}

fn rfc() -> ClientAddr {
    ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::Forwarded).unwrap()
}

fn xff(value: &str) -> Option<String> {
    client(&proxies(), "10.0.0.1", &[("x-forwarded-for", value)])
}

fn forwarded(value: &str) -> Option<String> {
    client(&rfc(), "10.0.0.1", &[("forwarded", value)])
}

fn known(text: &str) -> Option<String> {
    Some(text.to_owned())
}

const SPOOFED: [(&str, &str); 7] = [
    ("x-forwarded-for", "192.0.2.7"),
    ("forwarded", "for=192.0.2.7"),
    ("x-real-ip", "192.0.2.7"),
    ("cf-connecting-ip", "192.0.2.7"),
    ("true-client-ip", "192.0.2.7"),
    ("x-client-ip", "192.0.2.7"),
    ("x-cluster-client-ip", "192.0.2.7"),
];

#[test]
fn c5_02_no_peer_is_unknown() {
    for addr in [ClientAddr::peer(), proxies(), rfc()] {
        assert_eq!(client(&addr, "", &SPOOFED), None);
    }
    // With a fixed number of proxies, the peer may be a Unix socket.
    let hops = ClientAddr::trusted_hops(NonZero::new(1).unwrap(), ProxyHeader::XForwardedFor);
    assert_eq!(client(&hops, "", &SPOOFED), known("192.0.2.7"));
    assert_eq!(client(&hops, "", &[]), None);
}

#[cfg(feature = "axum")]
#[test]
fn c5_02_axum_knows_the_peer() {
    use axum::extract::ConnectInfo;
    let mut request = request("", &[]);
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 80))));
    assert_eq!(ClientAddr::peer().of(&Head::of(&request)), Some(ip("192.0.2.7")));
    request.extensions_mut().insert(PeerAddr::from(SocketAddr::from(([192, 0, 2, 8], 80))));
    assert_eq!(ClientAddr::peer().of(&Head::of(&request)), Some(ip("192.0.2.8")));
}

#[test]
fn c5_03_untrusted_peers_are_not_believed() {
    for addr in [ClientAddr::peer(), proxies(), rfc()] {
        assert_eq!(client(&addr, "198.51.100.1", &SPOOFED), known("198.51.100.1"));
    }
    // Only the chosen header is read.
    let others: Vec<_> = SPOOFED.into_iter().filter(|(name, _)| *name != "x-forwarded-for").collect();
    assert_eq!(client(&proxies(), "10.0.0.1", &others), None);
    let others: Vec<_> = SPOOFED.into_iter().filter(|(name, _)| *name != "forwarded").collect();
    assert_eq!(client(&rfc(), "10.0.0.1", &others), None);
}

#[test]
fn c5_04_the_leftmost_is_the_clients_own_text() {
    assert_eq!(xff("192.0.2.7, 198.51.100.1"), known("198.51.100.1"));
    assert_eq!(forwarded("for=192.0.2.7, for=198.51.100.1"), known("198.51.100.1"));
}

#[test]
fn c5_05_several_trusted_proxies() {
    assert_eq!(xff("evil, 192.0.2.7, 10.0.0.2"), known("192.0.2.7"));
    assert_eq!(forwarded("for=evil, for=192.0.2.7;proto=https, for=10.0.0.2"), known("192.0.2.7"));
    for (hops, expected) in [(1, known("10.0.0.2")), (2, known("192.0.2.7")), (3, None), (4, None)] {
        let hops = ClientAddr::trusted_hops(NonZero::new(hops).unwrap(), ProxyHeader::XForwardedFor);
        assert_eq!(client(&hops, "10.0.0.1", &[("x-forwarded-for", "evil, 192.0.2.7, 10.0.0.2")]), expected);
    }
}

#[test]
fn c5_06_lines_forms_and_garbage() {
    let lines = |first, second| {
        client(&proxies(), "10.0.0.1", &[("x-forwarded-for", first), ("x-forwarded-for", second)])
    };
    assert_eq!(lines("192.0.2.7", "10.0.0.2"), known("192.0.2.7"));
    assert_eq!(lines("10.0.0.2", "192.0.2.7"), known("192.0.2.7"));
    assert_eq!(lines("192.0.2.7", ""), None);

    for (value, expected) in [
        ("192.0.2.7:80", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:80", "2001:db8::7"),
        ("\"[2001:db8::7]:80\"", "2001:db8::7"),
        ("\"192.0.2.7\"", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
        ("  192.0.2.7\t", "192.0.2.7"),
        ("192.0.2.7,10.0.0.2,::ffff:10.0.0.3", "192.0.2.7"),
        ("unknown, 192.0.2.7", "192.0.2.7"),
        (",,, 192.0.2.7", "192.0.2.7"),
        ("\", 192.0.2.7", "192.0.2.7"),
        ("\u{fffd}, 192.0.2.7", "192.0.2.7"),
    ] {
        assert_eq!(xff(value), known(expected), "{value}");
    }
    for value in [
        "",
        ",",
        "192.0.2.7,",
        "192.0.2.7, , 10.0.0.2",
        "192.0.2.7, unknown",
        "192.0.2.7, unknown, 10.0.0.2",
        "_hidden",
        "192.0.2.7, _hidden",
        "fe80::1%eth0",
        "[fe80::1%1]:80",
        "192.0.2.07",
        "192.0.2",
        "3221225991",
        "0xc0000207",
        "192.0.2.7:",
        "192.0.2.7:x",
        "192.0.2.7:-1",
        "192.0.2.7:123456",
        "[2001:db8::7",
        "2001:db8::7]",
        "[192.0.2.7]",
        "[2001:db8::7]80",
        "[2001:db8::7]:",
        "\"192.0.2.7",
        "192.0.2.7\"",
        "192.0.2.7 10.0.0.2",
        "for=192.0.2.7",
        "192.0.2.7/32",
        "localhost",
        "192.0.2.7\u{fffd}",
        "192.0.2.7;",
        "'192.0.2.7'",
        "null",
    ] {
        assert_eq!(xff(value), None, "{value:?}");
    }
}

#[test]
fn c5_06_only_64_entries_are_walked() {
    let trusted = |count: usize| format!("192.0.2.7{}", ", 10.0.0.2".repeat(count));
    assert_eq!(xff(&trusted(63)), known("192.0.2.7"));
    assert_eq!(xff(&trusted(64)), None);
    assert_eq!(xff(&trusted(5_000)), None);
    // Entries that a client sends to the left of its address make it neither unknown nor another client.
    assert_eq!(xff(&format!("{}192.0.2.7", "10.0.0.2, ".repeat(5_000))), known("192.0.2.7"));
    let many: Vec<_> = std::iter::repeat_n(("x-forwarded-for", "10.0.0.2"), 100).collect();
    assert_eq!(client(&proxies(), "10.0.0.1", &many), None);
}

#[test]
fn c5_07_a_missing_header_is_unknown() {
    for addr in [proxies(), rfc()] {
        assert_eq!(client(&addr, "10.0.0.1", &[]), None);
    }
    // The same for a header that contains only proxies.
    assert_eq!(xff("10.0.0.2"), None);
    assert_eq!(forwarded("for=10.0.0.2"), None);
}

#[test]
fn c5_08_mapped_peers_are_undressed() {
    assert_eq!(client(&ClientAddr::peer(), "::ffff:192.0.2.7", &[]), known("192.0.2.7"));
    assert_eq!(
        client(&proxies(), "::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.7")]),
        known("192.0.2.7")
    );
    let mapped = ClientAddr::trusted_proxies(["::ffff:10.0.0.0/104"], ProxyHeader::XForwardedFor).unwrap();
    assert_eq!(client(&mapped, "10.0.0.1", &[("x-forwarded-for", "192.0.2.7")]), known("192.0.2.7"));
}

#[test]
fn c5_09_other_embeddings_stay_ipv6() {
    for address in ["64:ff9b::c000:207", "2002:c000:207::", "::c000:207"] {
        assert_eq!(xff(address).map(|text| ip(&text)), Some(ip(address)));
        assert!(xff(address).is_some_and(|text| ip(&text).is_ipv6()));
    }
}

#[test]
fn c5_10_networks_of_proxies_are_as_strict() {
    let error = ClientAddr::trusted_proxies(["10.0.0.1/8"], ProxyHeader::Forwarded).unwrap_err();
    assert!(error.to_string().contains("write 10.0.0.0/8 for the network"), "{error}");
    // Without a listed proxy, no header is read.
    let nobody = ClientAddr::trusted_proxies([""; 0], ProxyHeader::XForwardedFor).unwrap();
    assert_eq!(client(&nobody, "10.0.0.1", &SPOOFED), known("10.0.0.1"));
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for (value, expected) in [
        ("for=192.0.2.7", "192.0.2.7"),
        ("For=\"192.0.2.7:80\";Proto=https;by=203.0.113.43", "192.0.2.7"),
        ("proto=http; for=\"[2001:db8:cafe::17]:4711\" ;host=a", "2001:db8:cafe::17"),
        ("for=unknown, for=192.0.2.7", "192.0.2.7"),
        // A quote that the client opened does not hide what the proxy wrote.
        ("for=192.0.2.9;x=\", for=192.0.2.7", "192.0.2.7"),
        ("for=\"192.0.2.9, for=\"[2001:db8::7]:80\"", "2001:db8::7"),
        ("for=192.0.2.9;x=\", for=\"[2001:db8::7]\"", "2001:db8::7"),
        ("for=192.0.2.9, for=\"[2001:db8::7]\", for=10.0.0.2", "2001:db8::7"),
    ] {
        assert_eq!(forwarded(value), known(expected), "{value}");
    }
    for value in [
        "",
        "192.0.2.7",
        "for=",
        "for",
        "for=unknown",
        "for=_hidden",
        "for=\"_hidden:80\"",
        "for=2001:db8::7",
        "for=\"2001:db8::7\"",
        "proto=https",
        "for=192.0.2.7;for=192.0.2.8",
        "for=192.0.2.7;",
        "for=\"192.0.2.7",
        "for=192.0.2.7\"",
        "for=\"192.0.2.7\\\"",
        "for=\"192.0.2.\\7\"",
        "for =192.0.2.7",
        "for= 192.0.2.7",
        "for=192.0.2.7, ",
        "for=192.0.2.7;proto=https;proto=http",
        "xfor=192.0.2.7",
        "for=192.0.2.7:_x",
        "for=192.0.2.7, by=10.0.0.2",
    ] {
        assert_eq!(forwarded(value), None, "{value:?}");
    }
}

#[test]
fn c15_09_the_proto_counts_from_trusted_proxies_only() {
    let proto = |addr: &ClientAddr, peer, headers: &[(&'static str, &str)]| {
        addr.forwarded_proto(&Head::of(&request(peer, headers)))
    };
    let x = |value| {
        proto(
            &proxies(),
            "10.0.0.1",
            &[("x-forwarded-proto", value), ("forwarded", "for=1.2.3.4;proto=https")],
        )
    };
    assert_eq!(x("https"), Some(Proto::Https));
    assert_eq!(x("HTTPS"), Some(Proto::Https));
    assert_eq!(x("http"), Some(Proto::Http));
    assert_eq!(x("https, https"), Some(Proto::Https));
    for value in ["https, http", "http, https", "", "https,", "wss", "https http", "\"https\""] {
        assert_eq!(x(value), None, "{value}");
    }
    let twice = [("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")];
    assert_eq!(proto(&proxies(), "10.0.0.1", &twice), None);
    let https = [("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.7;proto=https")];
    for addr in [proxies(), rfc()] {
        assert_eq!(proto(&addr, "10.0.0.1", &https), Some(Proto::Https));
        assert_eq!(proto(&addr, "198.51.100.1", &https), None);
        assert_eq!(proto(&addr, "", &https), None);
    }
    assert_eq!(proto(&ClientAddr::peer(), "10.0.0.1", &https), None);

    let rfc = |value| proto(&rfc(), "10.0.0.1", &[("forwarded", value), ("x-forwarded-proto", "https")]);
    // The client's own hop counts, and not those between the proxies.
    assert_eq!(rfc("for=192.0.2.7;proto=https, for=10.0.0.2;proto=http"), Some(Proto::Https));
    assert_eq!(rfc("for=192.0.2.7;proto=http, for=10.0.0.2;proto=https"), Some(Proto::Http));
    assert_eq!(rfc("for=192.0.2.9;proto=https, for=192.0.2.7;proto=http"), Some(Proto::Http));
    assert_eq!(rfc("for=192.0.2.9;proto=https, for=192.0.2.7"), None);
    assert_eq!(rfc("for=192.0.2.7;proto=ftp"), None);
    assert_eq!(rfc("proto=https"), None);
}
