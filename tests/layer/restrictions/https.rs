//! C15-09: over plain HTTP, no key is checked.

use tower_api_key::client_addr::{ClientAddr, Proto, ProxyHeader};
use tower_api_key::{AuthError, AuthErrorKind};

use super::{Setup, Sites, Visit};
use test_kit::World;

fn secure(client: ClientAddr) -> Setup {
    Setup { client, https: true, ..Setup::default() }
}

/// A valid key, an invalid one and no key get the same response, and no store is called.
async fn refused(sites: &Sites, visit: &Visit, world: &World) {
    let good = sites.ask(visit, Some(world.own.expose_secret())).await;
    let bad = sites.ask(visit, Some("sk_live_bad")).await;
    let none = sites.ask(visit, None).await;
    for (((side, good, calls), (_, bad, _)), (_, none, _)) in good.into_iter().zip(bad).zip(none) {
        assert_eq!(good.verdict(), "403/https_required", "{}: {visit:?}", side.name);
        assert_eq!(calls, 0, "{}", side.name);
        assert!(good.headers.get("location").is_none());
        assert!(good.headers.get("www-authenticate").is_none(), "no credential would help");
        for other in [bad, none] {
            assert_eq!((other.status, &other.body), (good.status, &good.body), "{}: {visit:?}", side.name);
            assert_eq!(other.headers, good.headers, "{}", side.name);
        }
        let kind = good.extensions.get::<AuthError>().unwrap().kind();
        assert_eq!(kind, AuthErrorKind::InsecureTransport);
    }
}

#[tokio::test]
async fn c15_09_the_listener_says_it() {
    let world = World::new().await;
    let sites = Sites::with(&world, &secure(ClientAddr::peer()));
    refused(&sites, &Visit::plain(), &world).await;
    refused(&sites, &Visit::plain().extension(Proto::Http), &world).await;
    sites.lets_in("C15-09", &Visit::plain().extension(Proto::Https), &world.own).await;
    // Headers of the client do not count for the listener.
    for (name, value) in
        [("x-forwarded-proto", "https"), ("forwarded", "proto=https"), ("x-forwarded-ssl", "on")]
    {
        refused(&sites, &Visit::plain().from("192.0.2.7").header(name, value), &world).await;
    }
    refused(&sites, &Visit::new("POST", "https://example.com/v1/charges"), &world).await;
    sites.lets_in("C15-09, public", &Visit::new("GET", "/health"), &world.own).await;
    let public = sites.ask(&Visit::new("GET", "/health"), None).await;
    assert!(public.iter().all(|(_, answer, _)| answer.status == 200));
}

#[tokio::test]
async fn c15_09_a_trusted_proxy_says_it() {
    let world = World::new().await;
    let client = ClientAddr::trusted_proxies(["10.0.0.1"], ProxyHeader::XForwardedFor).unwrap();
    let sites = Sites::with(&world, &secure(client));
    let proxied = || Visit::plain().from("10.0.0.1").header("x-forwarded-for", "192.0.2.7");
    sites.lets_in("C15-09", &proxied().header("x-forwarded-proto", "https"), &world.own).await;
    sites.lets_in("C15-09", &proxied().header("x-forwarded-proto", "https, HTTPS"), &world.own).await;
    refused(&sites, &proxied(), &world).await;
    for proto in ["http", "https, http", "http, https", "wss", "", "https,"] {
        refused(&sites, &proxied().header("x-forwarded-proto", proto), &world).await;
    }
    let lines = proxied().headers("x-forwarded-proto", &["https", "http"]);
    refused(&sites, &lines, &world).await;
    // The listener only knows the last hop.
    refused(&sites, &proxied().extension(Proto::Https), &world).await;
    // If the request did not come through the proxy, the listener decides, and the header is the client's own.
    let past = Visit::plain().from("192.0.2.7");
    refused(&sites, &past.clone().header("x-forwarded-proto", "https"), &world).await;
    sites.lets_in("C15-09", &past.extension(Proto::Https), &world.own).await;

    let client = ClientAddr::trusted_proxies(["10.0.0.1"], ProxyHeader::Forwarded).unwrap();
    let sites = Sites::with(&world, &secure(client));
    let forwarded = |line: &str| Visit::plain().from("10.0.0.1").header("forwarded", line);
    sites.lets_in("C15-09", &forwarded("for=192.0.2.7;proto=https"), &world.own).await;
    refused(&sites, &forwarded("for=192.0.2.7;proto=http"), &world).await;
    refused(&sites, &forwarded("for=192.0.2.7;proto=https, for=192.0.2.8"), &world).await;
    refused(&sites, &forwarded("proto=https"), &world).await;
}
