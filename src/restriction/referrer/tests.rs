use http::header::{ORIGIN, REFERER};
use http::{HeaderValue, Request};

use super::*;
use crate::credentials::Head;

fn rule(text: &str) -> ReferrerRestriction {
    ReferrerRestriction::allow([text]).unwrap()
}

fn good() -> ReferrerRestriction {
    rule("https://good.example")
}

fn from(restriction: &ReferrerRestriction, referrer: &str) -> bool {
    restriction.allows(&RequestContext::new().referrer(referrer))
}

/// Checks real headers, which may be repeated and contain any bytes.
fn with_headers(restriction: &ReferrerRestriction, referers: &[&[u8]], origins: &[&[u8]]) -> bool {
    let mut request = Request::new(());
    for (name, lines) in [(REFERER, referers), (ORIGIN, origins)] {
        for line in lines {
            request.headers_mut().append(name.clone(), HeaderValue::from_bytes(line).unwrap());
        }
    }
    restriction.allows(&RequestContext::of(&Head::of(&request)))
}

#[test]
fn c6_01_the_same_origin_in_any_spelling() {
    for referrer in [
        "https://good.example/x",
        "https://GOOD.example:443/",
        "https://good.example",
        "HTTPS://good.example/?q",
        "https://good.example?q=@a:b/c",
        "https://good.example/a@b:c",
        "https://good.example//x/../y",
    ] {
        assert!(from(&good(), referrer), "{referrer}");
    }
    assert!(with_headers(&good(), &[b"https://good.example/x"], &[]));
}

#[test]
fn c6_02_users_and_backslashes() {
    for referrer in [
        "https://good.example@evil.com/",
        "https://good.example:pw@evil.com/",
        "https://evil.com\\@good.example/",
        "https://evil.com#@good.example/",
        "https://user@good.example/",
        "https://@good.example/",
        "https://good.example\\.evil.com/",
        "https://good.example/#x",
        "https://evil.com?@good.example/",
    ] {
        assert!(!from(&good(), referrer), "{referrer}");
    }
}

#[test]
fn c6_03_other_hosts() {
    for referrer in [
        "https://good.example.evil.com/",
        "https://evil.com/good.example",
        "https://good.example%2eevil.com/",
        "https://xgood.example/",
        "https://good%2eexample/",
        "https://sub.good.example/",
        "https://example/",
        "https://evil.com/https://good.example/",
        "https://good.example,evil.com/",
        "https://good.example;.evil.com/",
    ] {
        assert!(!from(&good(), referrer), "{referrer}");
    }
}

#[test]
fn c6_04_scheme_port_and_dot() {
    for referrer in [
        "https://good.example./",
        "https://good.example:8443/",
        "http://good.example/",
        "http://good.example:443/",
        "https://good.example:80/",
        "https://good.example:/",
        "https://good.example:0443/",
        "https://good.example:443:443/",
        "https://good.example:65979/",
        "https://good.example:+443/",
        "wss://good.example/",
        "ftp://good.example/",
        "https+x://good.example/",
    ] {
        assert!(!from(&good(), referrer), "{referrer}");
    }
    assert!(from(&rule("http://good.example:80"), "http://good.example/"));
    assert!(from(&rule("http://localhost:3000"), "http://LOCALHOST:3000/x"));
    assert!(!from(&rule("http://localhost:3000"), "http://localhost/"));
    assert!(from(&rule("http://[::1]:3000"), "http://[::1]:3000/"));
    assert!(from(&rule("http://[2001:db8::a]"), "http://[2001:DB8::A]/"));
    assert!(from(&rule("http://127.0.0.1"), "http://127.0.0.1/"));
    assert!(!from(&rule("http://[::1]"), "http://[::1]x/"));
    for address in
        ["127.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.0x1", "2130706433", "127.0.0.256", "1.2.3.4.5"]
    {
        assert!(format!("http://{address}").parse::<ReferrerRule>().is_err(), "{address}");
    }
}

#[test]
fn c6_05_exactly_two_slashes_and_visible_ascii() {
    for referrer in [
        "https:///good.example/",
        "https:good.example/",
        "https:/good.example/",
        "https:////good.example/",
        "https:\\\\good.example/",
        "https:/\\good.example/",
        "https://good.\nexample/",
        "https://good.\texample/",
        " https://good.example/",
        "https://good.example/ ",
        "https ://good.example/",
        "https://good.example/\u{7f}",
        "https://good.example/ü",
        "://good.example/",
        "https:// good.example/",
    ] {
        assert!(!from(&good(), referrer), "{referrer:?}");
    }
    assert!(!with_headers(&good(), &[b"https://good.example/\xff"], &[]));
}

#[test]
fn c6_06_homographs() {
    // The second o is Cyrillic.
    assert!(!from(&good(), "https://go\u{43e}d.example/"));
    assert!(!from(&good(), "https://xn--god-ted.example/"));
    assert!(from(&rule("https://xn--god-ted.example"), "https://XN--god-ted.example/"));
    // The Kelvin sign and the long s are letters that fold into ASCII elsewhere.
    assert!(!from(&rule("https://k.example"), "https://\u{212a}.example/"));
    assert!("https://go\u{43e}d.example".parse::<ReferrerRule>().unwrap_err().reason().contains("xn--"));
}

#[test]
fn c6_07_missing_or_no_page() {
    for referrer in [
        "",
        "null",
        "about:blank",
        "data:text/html,x",
        "//good.example/",
        "/x",
        "good.example",
        "good.example/",
        "blob:https://good.example/x",
        "view-source:https://good.example/",
        "javascript://good.example/",
        "file:///good.example",
    ] {
        assert!(!from(&good(), referrer), "{referrer}");
    }
    assert!(!good().allows(&RequestContext::new()));
    let one = b"https://good.example/".as_slice();
    assert!(!with_headers(&good(), &[], &[]));
    assert!(!with_headers(&good(), &[one, one], &[]));
    assert!(!with_headers(&good(), &[one, b"https://evil.com/"], &[]));
    assert!(!with_headers(&good(), &[b"https://evil.com/", one], &[]));
    assert!(!with_headers(&good(), &[b"https://good.example/, https://evil.com/ "], &[]));
    assert!(!from(&good(), &format!("https://good.example/{}", "a".repeat(9_000))));
}

#[test]
fn c6_08_origin() {
    let either = good().accept_origin();
    let (page, origin) = (b"https://good.example/x".as_slice(), b"https://good.example".as_slice());
    assert!(!with_headers(&good(), &[], &[origin]));
    assert!(with_headers(&either, &[], &[origin]));
    assert!(with_headers(&either, &[page], &[]));
    for restriction in [good(), either.clone()] {
        assert!(with_headers(&restriction, &[page], &[origin]));
        assert!(with_headers(&restriction, &[page], &[b"https://GOOD.example:443"]));
        // They disagree, so the request is refused, whichever of them is allowed.
        assert!(!with_headers(&restriction, &[page], &[b"https://evil.com"]));
        assert!(!with_headers(&restriction, &[b"https://evil.com/"], &[origin]));
        assert!(!with_headers(&restriction, &[page], &[b"null"]));
        assert!(!with_headers(&restriction, &[page], &[b""]));
        assert!(!with_headers(&restriction, &[page], &[origin, origin]));
        assert!(!with_headers(&restriction, &[page, page], &[origin]));
    }
    for no_origin in
        ["https://good.example/", "https://good.example?", "null", "", "https://good.example https://a"]
    {
        assert!(!with_headers(&either, &[], &[no_origin.as_bytes()]), "{no_origin}");
    }
    // An origin contains no path.
    assert!(!with_headers(&rule("https://good.example/app").accept_origin(), &[], &[origin]));
    // Browsers may reduce a referrer to its origin. Then the path is unknown.
    assert!(!from(&rule("https://good.example/app"), "https://good.example/"));
}

#[test]
fn c6_09_names_below() {
    let below = rule("https://*.good.example");
    for (referrer, allowed) in [
        ("https://a.good.example/", true),
        ("https://A.GOOD.example/", true),
        ("https://a.b.good.example/", true),
        ("https://good.example/", false),
        ("https://agood.example/", false),
        ("https://.good.example/", false),
        ("https://a..good.example/", false),
        ("https://a.good.example./", false),
        ("https://a.good.example.evil.com/", false),
        ("https://a.good.example:8443/", false),
        ("http://a.good.example/", false),
        ("https://evil.com/a.good.example", false),
        ("https://*.good.example/", false),
    ] {
        assert_eq!(from(&below, referrer), allowed, "{referrer}");
    }
    for text in [
        "https://*",
        "https://*.",
        "https://*.com",
        "https://*.*.example.com",
        "https://a.*.example.com",
        "https://*good.example",
        "https://good.*",
        "https://good.example/*",
        "*",
        "*://good.example",
        "https://*.0.0.1",
        "https://*.[::1]",
        "https://*.[::1.2.3.4]",
        "http*://good.example",
        "https://good.example:*",
    ] {
        assert!(text.parse::<ReferrerRule>().is_err(), "{text}");
    }
}

#[test]
fn paths_are_compared_by_segments() {
    let app = rule("https://good.example/a/b");
    for (path, allowed) in [
        ("/a/b", true),
        ("/a/b/", true),
        ("/a/b/c", true),
        ("/a/b?x=/../", true),
        ("/a/bc", false),
        ("/a/b%20c", false),
        ("/a/b%2fc", false),
        ("/a", false),
        ("/A/b", false),
        ("//a/b", false),
        ("/x/a/b", false),
        ("/a/b/../c", false),
        ("/a/b/..", false),
        ("/a/b/%2e%2E/c", false),
        ("/a/b/.%2e/c", false),
        ("/a/b/./c", false),
        ("/a/b/..%2fc", false),
        ("/a/b/%5c..", false),
        ("/a/b/..c", true),
        ("/c?/a/b", false),
        ("?/a/b", false),
        ("", false),
    ] {
        assert_eq!(from(&app, &format!("https://good.example{path}")), allowed, "{path}");
    }
}

#[test]
fn rules_are_refused_with_the_fix() {
    for text in [
        "",
        "good.example",
        "//good.example",
        "https://",
        "https:///",
        "https://good.example./",
        "https://good.example/a/",
        "https://good.example/a//b",
        "https://good.example/a/../b",
        "https://good.example/?x",
        "https://good.example/#x",
        "https://user@good.example",
        "https://good.example:0",
        "https://good.example:99999",
        "https://good.example ",
        "https://good_example\\",
        "ftp://good.example",
        "https://a..b",
        "https://[::1",
        "https://good.example/%2e%2e",
        "https://good.example/a%2Fb",
        "https://good.example\0",
    ] {
        assert!(text.parse::<ReferrerRule>().is_err(), "{text:?}");
    }
    let reason = |text: &str| text.parse::<ReferrerRule>().unwrap_err().reason().to_owned();
    assert_eq!(reason("good.example"), "it starts with https:// or http:// and a host");
    assert_eq!(
        reason("https://*.com"),
        "after *. stands a name of at least two parts, as in https://*.example.com"
    );
    assert_eq!(reason("https://good.example?x"), "a query cannot be restricted: leave it out");
}

#[test]
fn rules_are_kept_in_one_spelling() {
    for (text, kept) in [
        ("HTTPS://GOOD.example:443/", "https://good.example"),
        ("http://good.example:80", "http://good.example"),
        ("https://good.example:80", "https://good.example:80"),
        ("https://*.GOOD.example:8443/App", "https://*.good.example:8443/App"),
    ] {
        let rule: ReferrerRule = text.parse().unwrap();
        assert_eq!(rule.to_string(), kept);
        assert_eq!(kept.parse::<ReferrerRule>().unwrap(), rule);
    }
    assert!(ReferrerRestriction::allow(["https://a.example", "https://A.example:443/"]).is_err());
    assert!(!from(&ReferrerRestriction::allow([""; 0]).unwrap(), "https://good.example/"));
}
