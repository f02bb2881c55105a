//! C6: restrictions by referrer.

use tower_api_key::ApiKey;

use super::{Sites, Visit, restricted};
use test_kit::World;

struct Pages {
    sites: Sites,
    key: ApiKey,
}

async fn pages(world: &World, rule: &str) -> Pages {
    let key = restricted(world, rule).await;
    Pages { sites: Sites::new(world), key }
}

const GOOD: &str = r#"{"referrer":{"allow":["https://good.example"]}}"#;

impl Pages {
    async fn accept(&self, row: &str, visit: &Visit) {
        self.sites.lets_in(row, visit, &self.key).await;
    }

    async fn refuse(&self, row: &str, visit: &Visit) {
        self.sites.restricts(row, visit, &self.key, "referrer").await;
    }
}

fn referer(text: impl AsRef<[u8]>) -> Visit {
    Visit::plain().header("referer", text)
}

#[tokio::test]
async fn c6_01_pages_of_the_origin() {
    let world = World::new().await;
    let pages = pages(&world, GOOD).await;
    for text in [
        "https://good.example/x",
        "https://GOOD.example:443/",
        "HTTPS://good.example",
        "https://good.example?q",
    ] {
        pages.accept("C6-01", &referer(text)).await;
    }
}

#[tokio::test]
async fn c6_02_to_06_no_other_host_passes_for_it() {
    let world = World::new().await;
    let pages = pages(&world, GOOD).await;
    for (row, text) in [
        ("C6-02", "https://good.example@evil.com/"),
        ("C6-02", "https://good.example:pw@evil.com/"),
        ("C6-02", "https://user@good.example/"),
        ("C6-02", r"https://evil.com\@good.example/"),
        ("C6-02", r"https://good.example\.evil.com/"),
        ("C6-02", "https://evil.com#@good.example/"),
        ("C6-02", "https://good.example#.evil.com/"),
        ("C6-03", "https://good.example.evil.com/"),
        ("C6-03", "https://evil.com/good.example"),
        ("C6-03", "https://evil.com/?https://good.example/"),
        ("C6-03", "https://good.example%2eevil.com/"),
        ("C6-03", "https://xgood.example/"),
        ("C6-03", "https://a.good.example/"),
        ("C6-04", "https://good.example./"),
        ("C6-04", "https://good.example:8443/"),
        ("C6-04", "https://good.example:/"),
        ("C6-04", "https://good.example:0443/"),
        ("C6-04", "http://good.example/"),
        ("C6-04", "http://good.example:443/"),
        ("C6-05", "https:///good.example/"),
        ("C6-05", "https:good.example/"),
        ("C6-05", "https:/good.example/"),
        ("C6-05", "https://good.\texample/"),
        ("C6-05", " https://good.example/ x"),
        ("C6-06", "https://goоd.example/"),
        ("C6-06", "https://xn--god-ted.example/"),
        ("C6-06", "https://good。example/"),
    ] {
        pages.refuse(row, &referer(text)).await;
    }
}

#[tokio::test]
async fn c6_07_invalid_referrers_are_refused() {
    let world = World::new().await;
    let pages = pages(&world, GOOD).await;
    pages.refuse("C6-07", &Visit::plain()).await;
    for text in [
        "",
        "null",
        "about:blank",
        "data:text/html,https://good.example/",
        "//good.example/",
        "/x",
        "good.example",
    ] {
        pages.refuse("C6-07", &referer(text)).await;
    }
    pages.refuse("C6-07", &referer("https://good.example/").header("referer", "https://good.example/")).await;
    pages.refuse("C6-07", &referer("https://evil.com/").header("referer", "https://good.example/")).await;
    pages.refuse("C6-07", &referer(format!("https://good.example/{}", "x".repeat(9000)))).await;
    pages.refuse("C6-07", &referer(b"https://good.example/\xff")).await;
    // A header with another spelling does not count.
    pages.refuse("C6-07", &Visit::plain().header("referrer", "https://good.example/")).await;
}

#[tokio::test]
async fn c6_08_origin_stands_in_only_where_it_was_chosen() {
    let world = World::new().await;
    let strict = pages(&world, GOOD).await;
    let either = pages(&world, r#"{"referrer":{"allow":["https://good.example"],"origin":true}}"#).await;
    let pathed = pages(&world, r#"{"referrer":{"allow":["https://good.example/app"],"origin":true}}"#).await;
    let origin = |text: &str| Visit::plain().header("origin", text);
    strict.refuse("C6-08", &origin("https://good.example")).await;
    either.accept("C6-08", &origin("https://good.example")).await;
    pathed.refuse("C6-08", &origin("https://good.example")).await;
    for text in ["null", "", "https://evil.com", "https://good.example/x", "http://good.example"] {
        either.refuse("C6-08", &origin(text)).await;
    }
    either.refuse("C6-08", &origin("https://good.example").header("origin", "https://good.example")).await;
    for pages in [&strict, &either] {
        let both = |referer, origin| Visit::plain().header("referer", referer).header("origin", origin);
        pages.accept("C6-08", &both("https://good.example/x", "https://good.example")).await;
        pages.refuse("C6-08", &both("https://good.example/x", "https://evil.com")).await;
        pages.refuse("C6-08", &both("https://evil.com/x", "https://good.example")).await;
        pages.refuse("C6-08", &both("https://good.example/x", "null")).await;
    }
}

#[tokio::test]
async fn c6_09_names_below_and_paths_below() {
    let world = World::new().await;
    let below = pages(&world, r#"{"referrer":{"allow":["https://*.good.example"]}}"#).await;
    for text in ["https://a.good.example/", "https://a.b.good.example/"] {
        below.accept("C6-09", &referer(text)).await;
    }
    for text in [
        "https://good.example/",
        "https://agood.example/",
        "https://.good.example/",
        "https://a..good.example/",
    ] {
        below.refuse("C6-09", &referer(text)).await;
    }
    let app = pages(&world, r#"{"referrer":{"allow":["https://good.example/app"]}}"#).await;
    for path in ["/app", "/app/", "/app/x", "/app?x"] {
        app.accept("C6-09", &referer(format!("https://good.example{path}"))).await;
    }
    for path in ["", "/", "/apple", "/APP", "/app/../x", "/app/%2e%2e/x", "/x/app", "/?/app"] {
        app.refuse("C6-09", &referer(format!("https://good.example{path}"))).await;
    }
}
