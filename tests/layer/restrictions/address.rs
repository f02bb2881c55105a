//! C5: restrictions by address.

use std::net::SocketAddr;
use std::num::NonZero;

use axum::extract::ConnectInfo;
use tower_api_key::client_addr::{ClientAddr, PeerAddr, ProxyHeader};
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::KeyStore as _;
use tower_api_key::{ApiKey, Keyring};

use super::{Sites, Visit, restricted};
use test_kit::World;

const INSIDE: &str = "192.0.2.7";
const OUTSIDE: &str = "198.51.100.1";

async fn world() -> (World, ApiKey) {
    let world = World::new().await;
    let key = restricted(&world, r#"{"ip":{"allow":["192.0.2.0/24"]}}"#).await;
    (world, key)
}

fn proxied(trusted: &[&str]) -> ClientAddr {
    ClientAddr::trusted_proxies(trusted, ProxyHeader::XForwardedFor).unwrap()
}

fn xff(lines: &[&str]) -> Visit {
    Visit::plain().from("10.0.0.1").headers("x-forwarded-for", lines)
}

#[tokio::test]
async fn c5_01_only_from_the_network_that_is_allowed() {
    let (world, key) = world().await;
    let sites = Sites::new(&world);
    sites.lets_in("C5-01", &Visit::plain().from(INSIDE), &key).await;
    sites.restricts("C5-01", &Visit::plain().from(OUTSIDE), &key, "ip").await;
    // A key without restrictions works from any address.
    sites.lets_in("C5-01", &Visit::plain().from(OUTSIDE), &world.own).await;
    sites.lets_in("C5-01", &Visit::plain(), &world.own).await;
    // The peer as axum reports it.
    let connect = |address: &str| {
        Visit::plain().extension(ConnectInfo(SocketAddr::new(address.parse().unwrap(), 4711)))
    };
    sites.lets_in("C5-01", &connect(INSIDE), &key).await;
    sites.restricts("C5-01", &connect(OUTSIDE), &key, "ip").await;
    let both = connect(INSIDE).extension(PeerAddr(OUTSIDE.parse().unwrap()));
    sites.restricts("C5-01", &both, &key, "ip").await;
}

#[tokio::test]
async fn c5_02_an_unknown_peer_is_refused() {
    let (world, key) = world().await;
    let all = restricted(&world, r#"{"ip":{"allow":["0.0.0.0/0","::/0"]}}"#).await;
    let sites = Sites::new(&world);
    sites.restricts("C5-02", &Visit::plain(), &key, "ip").await;
    sites.restricts("C5-02", &Visit::plain(), &all, "ip").await;
    sites.lets_in("C5-02", &Visit::plain().from(OUTSIDE), &all).await;
}

#[tokio::test]
async fn c5_03_headers_of_untrusted_peers_are_not_read() {
    let (world, key) = world().await;
    let trusting = || proxied(&["10.0.0.0/8"]);
    for (name, client) in [("peer", ClientAddr::peer()), ("trusted", trusting())] {
        let sites = Sites::behind(&world, client);
        for (header, value) in [
            ("x-forwarded-for", INSIDE),
            ("forwarded", "for=192.0.2.7"),
            ("x-real-ip", INSIDE),
            ("cf-connecting-ip", INSIDE),
            ("true-client-ip", INSIDE),
            ("x-client-ip", INSIDE),
        ] {
            let row = format!("C5-03 {name}");
            sites.restricts(&row, &Visit::plain().from(OUTSIDE).header(header, value), &key, "ip").await;
            sites.restricts(&row, &Visit::plain().header(header, value), &key, "ip").await;
            // They also take no access away.
            let visit = Visit::plain().from(INSIDE).header(header, OUTSIDE);
            sites.lets_in(&row, &visit, &key).await;
        }
    }
    // Only one header of a trusted proxy is read.
    let sites = Sites::behind(&world, trusting());
    for (header, value) in [("forwarded", "for=192.0.2.7"), ("x-real-ip", INSIDE)] {
        let visit = Visit::plain().from("10.0.0.1").header(header, value);
        sites.restricts("C5-03", &visit, &key, "ip").await;
    }
}

#[tokio::test]
async fn c5_04_the_left_most_entry_is_the_attackers_text() {
    let (world, key) = world().await;
    let sites = Sites::behind(&world, proxied(&["10.0.0.1"]));
    sites.restricts("C5-04", &xff(&["192.0.2.7, 198.51.100.1"]), &key, "ip").await;
    sites.lets_in("C5-04", &xff(&["198.51.100.1, 192.0.2.7"]), &key).await;
}

#[tokio::test]
async fn c5_05_through_two_trusted_proxies() {
    let (world, key) = world().await;
    let sites = Sites::behind(&world, proxied(&["10.0.0.0/8"]));
    sites.lets_in("C5-05", &xff(&["evil, 192.0.2.7, 10.0.0.2"]), &key).await;
    sites.restricts("C5-05", &xff(&["192.0.2.7, 198.51.100.1, 10.0.0.2"]), &key, "ip").await;
    let hops = ClientAddr::trusted_hops(NonZero::new(2).unwrap(), ProxyHeader::XForwardedFor);
    let sites = Sites::behind(&world, hops);
    sites.lets_in("C5-05 hops", &xff(&["evil, 192.0.2.7, 10.0.0.2"]), &key).await;
    sites.restricts("C5-05 hops", &xff(&["192.0.2.7, 198.51.100.1, 10.0.0.2"]), &key, "ip").await;
    sites.restricts("C5-05 hops", &xff(&["192.0.2.7"]), &key, "ip").await;
    // The same with the other header.
    let client = ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::Forwarded).unwrap();
    let sites = Sites::behind(&world, client);
    let forwarded = |line: &str| Visit::plain().from("10.0.0.1").header("forwarded", line);
    let lets_in = "for=evil, for=\"192.0.2.7:80\";proto=https, for=10.0.0.2";
    sites.lets_in("C5-05 Forwarded", &forwarded(lets_in), &key).await;
    let refuses = "for=192.0.2.7, for=198.51.100.1, for=10.0.0.2";
    sites.restricts("C5-05 Forwarded", &forwarded(refuses), &key, "ip").await;
    sites.restricts("C5-05 Forwarded", &xff(&["192.0.2.7"]), &key, "ip").await;
}

#[tokio::test]
async fn c5_06_invalid_entries_end_the_walk() {
    let (world, key) = world().await;
    let sites = Sites::behind(&world, proxied(&["10.0.0.0/8"]));
    for entry in [
        "unknown",
        "_hidden",
        "",
        "fe80::1%eth0",
        "[::1",
        "192.0.2.7:port",
        "192.0.2.7:",
        "010.0.0.2",
        "192.0.2.7 10.0.0.2",
        "192.0.2.7;",
        "\"192.0.2.7",
    ] {
        sites.restricts("C5-06", &xff(&[&format!("192.0.2.7, {entry}")]), &key, "ip").await;
        sites.restricts("C5-06", &xff(&[&format!("192.0.2.7, {entry}, 10.0.0.2")]), &key, "ip").await;
        sites.restricts("C5-06", &xff(&["192.0.2.7", entry]), &key, "ip").await;
        // Entries to the left of the client come from the client itself.
        sites.lets_in("C5-06", &xff(&[entry, "192.0.2.7"]), &key).await;
    }
    for text in
        ["192.0.2.7:80", "\"192.0.2.7\"", "\"192.0.2.7:80\"", "::ffff:192.0.2.7", "[::ffff:192.0.2.7]:80"]
    {
        sites.lets_in("C5-06", &xff(&[text]), &key).await;
    }
    sites.restricts("C5-06", &xff(&["\"[::1]:80\""]), &key, "ip").await;
    // Several header lines form one list.
    sites.lets_in("C5-06", &xff(&["evil", "192.0.2.7", "10.0.0.3, 10.0.0.2"]), &key).await;
    sites.restricts("C5-06", &xff(&["192.0.2.7", "198.51.100.1", "10.0.0.2"]), &key, "ip").await;
    let padded = |proxies: usize| format!("192.0.2.7{}", ", 10.0.0.2".repeat(proxies));
    sites.lets_in("C5-06", &xff(&[&padded(63)]), &key).await;
    sites.restricts("C5-06", &xff(&[&padded(64)]), &key, "ip").await;
    sites.restricts("C5-06", &xff(&[&padded(5000)]), &key, "ip").await;
    sites.restricts("C5-06", &xff(&[]).header("x-forwarded-for", b"192.0.2.7, \xff"), &key, "ip").await;
}

#[tokio::test]
async fn c5_07_without_the_header_the_proxys_address_does_not_count() {
    let (world, _) = world().await;
    let proxy = restricted(&world, r#"{"ip":{"allow":["10.0.0.0/8"]}}"#).await;
    let client = || proxied(&["10.0.0.1"]);
    let sites = Sites::behind(&world, client());
    sites.restricts("C5-07", &xff(&[]), &proxy, "ip").await;
    sites.restricts("C5-07", &xff(&[]).header("connection", "x-forwarded-for"), &proxy, "ip").await;
    sites.restricts("C5-07", &xff(&["10.0.0.1"]), &proxy, "ip").await;
    let hops = ClientAddr::trusted_hops(NonZero::new(1).unwrap(), ProxyHeader::XForwardedFor);
    let sites = Sites::behind(&world, hops);
    sites.restricts("C5-07", &xff(&[]), &proxy, "ip").await;
}

#[tokio::test]
async fn c5_08_mapped_addresses_are_ipv4_on_both_sides() {
    let (world, key) = world().await;
    let six = restricted(&world, r#"{"ip":{"allow":["::/0"]}}"#).await;
    let mapped = restricted(&world, r#"{"ip":{"allow":["::ffff:192.0.2.0/120"]}}"#).await;
    let sites = Sites::new(&world);
    for address in ["::ffff:192.0.2.7", INSIDE] {
        sites.lets_in("C5-08", &Visit::plain().from(address), &key).await;
        sites.lets_in("C5-08", &Visit::plain().from(address), &mapped).await;
        sites.restricts("C5-08", &Visit::plain().from(address), &six, "ip").await;
    }
    sites.lets_in("C5-08", &Visit::plain().from("2001:db8::1"), &six).await;
    sites.restricts("C5-08", &Visit::plain().from("::ffff:198.51.100.1"), &key, "ip").await;
    // A proxy is still trusted if a dual-stack listener reports its address.
    let sites = Sites::behind(&world, proxied(&["10.0.0.1"]));
    let visit = Visit::plain().from("::ffff:10.0.0.1").header("x-forwarded-for", INSIDE);
    sites.lets_in("C5-08", &visit, &key).await;
}

#[tokio::test]
async fn c5_09_other_embeddings_are_not_ipv4() {
    let (world, key) = world().await;
    let sites = Sites::new(&world);
    for address in ["64:ff9b::192.0.2.7", "2002:c000:207::", "::192.0.2.7"] {
        sites.restricts("C5-09", &Visit::plain().from(address), &key, "ip").await;
    }
}

#[tokio::test]
async fn c5_11_an_empty_list_is_nobody() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for (kind, restrictions) in [
        ("ip", r#"{"ip":{"allow":[]}}"#),
        ("referrer", r#"{"referrer":{"allow":[],"origin":true}}"#),
        ("endpoint", r#"{"endpoints":{"allow":[]}}"#),
    ] {
        let key = restricted(&world, restrictions).await;
        let visit = Visit::plain().from(INSIDE).header("referer", "https://good.example/");
        sites.restricts("C5-11", &visit, &key, kind).await;
    }
}

#[tokio::test]
async fn c5_12_a_change_is_seen_by_the_next_request() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let keyring = Keyring::new(world.store.clone());
    let id = world.store.find(&world.own.digest()).await.unwrap().unwrap().id.clone();
    let from = |address| Visit::plain().from(address);
    let only = |network: &str| Restrictions::none().ip(IpRestriction::allow([network]).unwrap());
    sites.lets_in("C5-12", &from(OUTSIDE), &world.own).await;
    keyring.restrict(&id, &only("192.0.2.0/24")).await.unwrap();
    sites.restricts("C5-12", &from(OUTSIDE), &world.own, "ip").await;
    sites.lets_in("C5-12", &from(INSIDE), &world.own).await;
    keyring.restrict(&id, &only("198.51.100.0/24")).await.unwrap();
    sites.restricts("C5-12", &from(INSIDE), &world.own, "ip").await;
    sites.lets_in("C5-12", &from(OUTSIDE), &world.own).await;
    keyring.restrict(&id, &Restrictions::none()).await.unwrap();
    sites.lets_in("C5-12", &from(INSIDE), &world.own).await;
}

/// If an element contains two values for one name, it is unknown which of them the proxy has written, so none is
/// used.
#[tokio::test]
async fn c17_g_an_element_with_two_values_is_ignored() {
    let (world, key) = world().await;
    let client = ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::Forwarded).unwrap();
    let sites = Sites::behind(&world, client);
    let forwarded = |line: &str| Visit::plain().from("10.0.0.1").header("forwarded", line);
    for line in [
        "for=198.51.100.1;for=192.0.2.7",
        "for=192.0.2.7;for=198.51.100.1",
        "for=192.0.2.7;proto=https;FOR=192.0.2.7",
        "For=192.0.2.7;proto=http;Proto=https",
        "for=192.0.2.9, for=198.51.100.1;for=192.0.2.7",
        "for=192.0.2.7;for=10.0.0.2, for=10.0.0.3",
    ] {
        sites.restricts("C17-G", &forwarded(line), &key, "ip").await;
    }
    for line in ["for=192.0.2.7;proto=https;by=10.0.0.1", "by=x;by=y;for=192.0.2.7"] {
        sites.lets_in("C17-G", &forwarded(line), &key).await;
    }
}
