//! C17-B5: the memory for bodies is divided, so that nobody uses up the share of others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::ServiceExt as _;
use tower_api_key::client_addr::{ClientAddr, PeerAddr, ProxyHeader};
use tower_api_key::observer::{Observer, Warning};
use tower_api_key::scheme::JsonBody;
use tower_api_key::{ApiKeyAuth, Verifier};

use test_kit::{Answer, Pieces, World, answer, echo, send};

const MIB: usize = 1 << 20;

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(198, 51, 100, last).into()
}

/// Records warnings.
#[derive(Clone, Default)]
struct Warned(Arc<Mutex<Vec<Warning>>>);

impl Warned {
    fn take(&self) -> Vec<Warning> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Warned {
    fn warned(&self, warning: Warning) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }
}

struct Site {
    world: World,
    app: Router,
    warned: Warned,
}

impl Site {
    async fn new(scheme: JsonBody, client: ClientAddr) -> Self {
        let (world, warned) = (World::new().await, Warned::default());
        let verifier = Verifier::new(world.store.clone()).observer(warned.clone());
        let auth = ApiKeyAuth::with_verifier(verifier, scheme).client_addr(client);
        Self { app: Router::new().fallback(echo).layer(auth), world, warned }
    }

    /// Sends a body without its end.
    fn hangs(&self, from: Option<IpAddr>, length: usize) -> JoinHandle<Answer> {
        self.hangs_behind(from, None, length)
    }

    fn hangs_behind(
        &self,
        from: Option<IpAddr>,
        forwarded: Option<&str>,
        length: usize,
    ) -> JoinHandle<Answer> {
        static SPACES: &[u8] = &[b' '; 2 * MIB];
        let body = Pieces::new([Bytes::from_static(&SPACES[..length])], false);
        let request = by(from, forwarded, Body::new(body));
        let app = self.app.clone();
        tokio::spawn(async move { answer(app.oneshot(request).await.unwrap()).await })
    }

    /// Sends a valid request from this address; returns the result.
    async fn lets_in(&self, from: Option<IpAddr>, padding: usize) -> String {
        let key = self.world.own.expose_secret();
        let text = json!({"apiKey": key, "userId": "u_own", "projectId": "p1", "x": " ".repeat(padding)});
        send(&self.app, by(from, None, text.to_string().into())).await.verdict()
    }
}

fn by(from: Option<IpAddr>, forwarded: Option<&str>, body: Body) -> Request<Body> {
    let mut request = Request::post("/x").header("content-type", "application/json").body(body).unwrap();
    if let Some(from) = from {
        request.extensions_mut().insert(PeerAddr(from));
    }
    if let Some(forwarded) = forwarded {
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_str(forwarded).unwrap());
    }
    request
}

/// Lets all tasks run as far as they can; returns how many were answered.
async fn settled(tasks: &[JoinHandle<Answer>]) -> usize {
    tokio::time::sleep(Duration::from_millis(1)).await;
    tasks.iter().filter(|task| task.is_finished()).count()
}

const FINE: &str = "200:h";
const FULL: &str = "503/auth_unavailable";

#[tokio::test(start_paused = true)]
async fn c17_b5_half_sent_bodies_of_one_client_leave_room_for_others() {
    let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
    let thief = Some(v4(1));
    let held: Vec<_> = (0..66).map(|_| site.hangs(thief, MIB - 1)).collect();
    // One client may use a quarter of the 64 MiB. Its other bodies are refused at once.
    assert_eq!(settled(&held).await, 66 - 16);
    for padding in [0, MIB / 2] {
        assert_eq!(site.lets_in(Some(v4(2)), padding).await, FINE, "{padding:?}");
    }
    // This client has no memory left; for clients with an unknown address, there is some.
    assert_eq!(site.lets_in(thief, MIB / 2).await, FULL);
    assert_eq!(site.lets_in(None, MIB / 2).await, FINE);
    // All memory is freed.
    for held in held {
        let verdict = held.await.unwrap().verdict();
        assert!(verdict == FULL || verdict == "408/body_timeout", "{verdict}");
    }
    assert_eq!(site.lets_in(thief, MIB / 2).await, FINE);
}

#[tokio::test(start_paused = true)]
async fn c17_b5_half_sent_bodies_of_many_clients_leave_room_for_others() {
    for clients in [4_u8, 20, 200] {
        let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
        let mut held = Vec::new();
        for client in 0..clients {
            held.extend((0..16).map(|_| site.hangs(Some(v4(client)), MIB / 4)));
        }
        assert!(settled(&held).await < held.len(), "{clients:?}");
        assert_eq!(site.lets_in(Some(v4(255)), 10_000).await, FINE, "beside {clients}");
        held.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn c17_b5_an_ipv6_client_is_a_64() {
    let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
    let at = |network: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host));
    let held: Vec<_> = (0..66).map(|host| site.hangs(Some(at(1, host)), MIB - 1)).collect();
    assert_eq!(settled(&held).await, 66 - 16);
    assert_eq!(site.lets_in(Some(at(2, 0)), MIB / 2).await, FINE);
    assert_eq!(site.lets_in(Some(at(1, 99)), MIB / 2).await, FULL);
}

/// A declared length alone uses no memory.
#[tokio::test(start_paused = true)]
async fn c17_b5_bytes_count_when_they_arrive() {
    let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
    let announced: Vec<_> = (0..1000)
        .map(|_| {
            let body = Pieces::new(["{"], false).claiming(MIB as u64);
            let mut request = by(Some(v4(1)), None, Body::new(body));
            request.headers_mut().insert("content-length", MIB.into());
            let app = site.app.clone();
            tokio::spawn(async move { answer(app.oneshot(request).await.unwrap()).await })
        })
        .collect();
    assert_eq!(settled(&announced).await, 0);
    assert_eq!(site.lets_in(Some(v4(1)), MIB / 2).await, FINE);
    assert_eq!(site.lets_in(Some(v4(2)), MIB / 2).await, FINE);
}

/// If addresses are unknown, the deadline is the only protection.
#[tokio::test(start_paused = true)]
async fn c17_b5_the_deadline_shortens_as_the_room_fills() {
    let mut took = Vec::new();
    for count in [1, 32, 48, 64] {
        let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
        let start = Instant::now();
        let first = site.hangs(None, MIB);
        let others: Vec<_> = (1..count).map(|_| site.hangs(None, MIB)).collect();
        assert_eq!(first.await.unwrap().verdict(), "408/body_timeout", "{count:?}");
        took.push(start.elapsed().as_millis());
        for other in others {
            other.await.unwrap();
        }
    }
    // The whole deadline while half of the memory is free, slightly more than half of it when a quarter is free, and
    // a tenth when nothing is free.
    assert_eq!(took, [10_000, 10_000, 5_500, 1_000]);
    // The same applies to a share: a client that uses all of its share, or another client at the same address, soon
    // has memory again.
    let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
    let start = Instant::now();
    let _held: Vec<_> = (0..66).map(|_| site.hangs(Some(v4(1)), MIB - 1)).collect();
    let other = site.hangs(Some(v4(2)), MIB - 1);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(site.lets_in(Some(v4(1)), MIB / 2).await, FULL);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(site.lets_in(Some(v4(1)), MIB / 2).await, FINE);
    other.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 10, "others have all their time");
    // The shorter deadline also applies to requests that are already waiting.
    let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
    let start = Instant::now();
    let first = site.hangs(None, MIB);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let _others: Vec<_> = (1..64).map(|_| site.hangs(None, MIB)).collect();
    assert_eq!(first.await.unwrap().verdict(), "408/body_timeout");
    let took = start.elapsed();
    assert!(took <= Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn c17_b5_unknown_clients_have_no_share_and_there_is_one_warning() {
    let cases: [(&str, Option<IpAddr>, Option<&str>, bool); 8] = [
        ("nobody says who it is", None, None, false),
        ("a proxy of this machine", Some(Ipv4Addr::LOCALHOST.into()), Some("192.0.2.1"), false),
        ("a proxy of this network", Some(Ipv4Addr::new(10, 1, 2, 3).into()), Some("192.0.2.1"), false),
        ("inside of a cloud", Some(Ipv4Addr::new(100, 64, 0, 1).into()), Some("192.0.2.1"), false),
        ("of this network, in IPv6", Some("fd00::1".parse().unwrap()), Some("192.0.2.1"), false),
        ("a client of this machine", Some(Ipv4Addr::LOCALHOST.into()), None, true),
        ("a client", Some(v4(1)), None, true),
        ("a client that says what it likes", Some(v4(1)), Some("192.0.2.1"), true),
    ];
    for (what, from, forwarded, known) in cases {
        let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
        let held: Vec<_> = (0..40).map(|_| site.hangs_behind(from, forwarded, MIB)).collect();
        assert_eq!(settled(&held).await, if known { 40 - 16 } else { 0 }, "{what}");
        let warnings: &[Warning] = if known { &[] } else { &[Warning::BodySenderUnknown] };
        assert_eq!(site.warned.take(), warnings, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn c17_b5_clients_behind_a_configured_proxy_have_shares() {
    let proxies = ClientAddr::trusted_proxies(["10.0.0.0/8"], ProxyHeader::XForwardedFor).unwrap();
    let site = Site::new(JsonBody::default(), proxies).await;
    let proxy = Some(Ipv4Addr::new(10, 0, 0, 1).into());
    let held: Vec<_> = (0..66).map(|_| site.hangs_behind(proxy, Some("192.0.2.1"), MIB - 1)).collect();
    assert_eq!(settled(&held).await, 66 - 16);
    let other = site.hangs_behind(proxy, Some("192.0.2.2"), MIB - 1);
    assert_eq!(settled(&[other]).await, 0);
    assert_eq!(site.warned.take(), []);
}

/// A limit of less than four bodies still allows one body of the largest size.
#[tokio::test]
async fn c17_b5_one_body_of_the_largest_size_finds_room() {
    for (limit, cap) in [(MIB, MIB), (MIB, 2 * MIB), (MIB, 3 * MIB), (MIB, MIB / 2)] {
        for before in [true, false] {
            let scheme = JsonBody::default();
            let scheme = if before {
                scheme.limit(NonZero::new(limit).unwrap()).buffer_cap(NonZero::new(cap).unwrap())
            } else {
                scheme.buffer_cap(NonZero::new(cap).unwrap()).limit(NonZero::new(limit).unwrap())
            };
            let site = Site::new(scheme, ClientAddr::peer()).await;
            let padding = limit.min(cap) - 200;
            assert_eq!(site.lets_in(Some(v4(1)), padding).await, FINE, "{limit} of {cap}");
        }
    }
}

/// Bodies that are read and discarded count, too.
#[tokio::test(start_paused = true)]
async fn c17_b5_drained_bodies_use_memory_too() {
    let scheme =
        JsonBody::default().limit(NonZero::new(1000).unwrap()).buffer_cap(NonZero::new(100_000).unwrap());
    let site = Site::new(scheme, ClientAddr::peer()).await;
    let drains = |from: u8| {
        let body = Pieces::new([vec![b' '; 20_000]], false);
        let polls = body.polls();
        let mut request = by(Some(v4(from)), None, Body::new(body));
        request.headers_mut().insert("content-length", 30_000.into());
        let app = site.app.clone();
        (tokio::spawn(async move { answer(app.oneshot(request).await.unwrap()).await }), polls)
    };
    let (first, polls) = drains(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!first.is_finished() && polls.load(SeqCst) == 2, "it waits for the rest");
    // The client's share is used up: the second body is not read, and its connection is closed.
    let (second, _) = drains(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(second.is_finished());
    let second = second.await.unwrap();
    assert_eq!(
        (second.verdict().as_str(), second.header("connection")),
        ("413/body_too_large", vec!["close"])
    );
    let (other, _) = drains(2);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!other.is_finished());
    for waiting in [first, other] {
        assert_eq!(waiting.await.unwrap().header("connection"), ["close"]);
    }
}

/// Peers that may act as a proxy for others: these networks, exactly up to their last addresses.
#[tokio::test(start_paused = true)]
async fn c17_g_nearby_networks_have_exact_borders() {
    for (from, nearby) in [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("100.63.255.255", false),
        ("100.64.0.0", true),
        ("100.127.255.255", true),
        ("100.128.0.0", false),
        ("127.255.255.255", true),
        ("169.254.0.0", true),
        ("169.255.0.0", false),
        ("172.15.255.255", false),
        ("172.16.0.0", true),
        ("172.31.255.255", true),
        ("172.32.0.0", false),
        ("192.167.255.255", false),
        ("192.168.255.255", true),
        ("192.169.0.0", false),
        ("::1", true),
        ("::2", false),
        ("fbff::1", false),
        ("fc00::1", true),
        ("fdff::1", true),
        ("fe80::1", true),
        ("febf::1", true),
        ("fec0::1", false),
        ("::ffff:10.1.2.3", true),
        ("::ffff:198.51.100.1", false),
    ] {
        let site = Site::new(JsonBody::default(), ClientAddr::peer()).await;
        let held = [site.hangs_behind(Some(from.parse().unwrap()), Some("192.0.2.1"), 1)];
        assert_eq!(settled(&held).await, 0, "{from:?}, {nearby:?}");
        let warnings: &[Warning] = if nearby { &[Warning::BodySenderUnknown] } else { &[] };
        assert_eq!(site.warned.take(), warnings, "{from}");
    }
}
