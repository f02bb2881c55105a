use http::Method;

use super::*;

fn all() -> Restrictions {
    Restrictions::none()
        .ip(IpRestriction::allow(["192.0.2.0/24", "2001:db8::/32"]).unwrap())
        .referrer(ReferrerRestriction::allow(["https://good.example"]).unwrap())
        .endpoints(EndpointRestriction::allow(["GET /v1/users/{id}"]).unwrap())
}

fn facts(ip: bool, referrer: bool, endpoint: bool) -> RequestContext<'static> {
    RequestContext::new()
        .address(if ip { [192, 0, 2, 7] } else { [198, 51, 100, 1] })
        .referrer(if referrer { "https://good.example/x" } else { "https://evil.com/" })
        .endpoint(&Method::GET, if endpoint { "/v1/users/x" } else { "/v1/keys" })
}

#[test]
fn c15_06_all_must_match() {
    for bits in 0..8 {
        let truth = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
        let verdict = all().judge(&facts(truth[0], truth[1], truth[2]));
        assert_eq!(verdict.is_allowed(), bits == 7, "{truth:?}");
        let refused: Vec<_> = verdict.refused().collect();
        let kinds = [RestrictionKind::Ip, RestrictionKind::Referrer, RestrictionKind::Endpoint];
        let expected: Vec<_> =
            kinds.into_iter().zip(truth).filter(|(_, ok)| !ok).map(|(kind, _)| kind).collect();
        assert_eq!(refused, expected);
        assert_eq!(verdict.observed().count(), 0);
    }
}

#[test]
fn observed_restrictions_refuse_nothing_and_say_what_they_would_have() {
    let restrictions = all().ip(IpRestriction::allow(["192.0.2.0/24"]).unwrap().observe());
    let verdict = restrictions.judge(&facts(false, true, true));
    assert!(verdict.is_allowed());
    assert_eq!(verdict.observed().collect::<Vec<_>>(), [RestrictionKind::Ip]);
    let verdict = restrictions.judge(&facts(false, false, true));
    assert!(!verdict.is_allowed());
    assert_eq!(verdict.refused().collect::<Vec<_>>(), [RestrictionKind::Referrer]);
    assert_eq!(verdict.observed().collect::<Vec<_>>(), [RestrictionKind::Ip]);
}

#[test]
fn what_is_not_known_is_refused_and_no_restriction_asks_nothing() {
    assert_eq!(all().judge(&RequestContext::new()).refused().count(), 3);
    assert!(Restrictions::none().judge(&RequestContext::new()).is_allowed());
    assert!(Restrictions::none().is_none());
    assert!(!all().is_none());
    assert_eq!(size_of::<Restrictions>(), size_of::<usize>());
}

#[test]
fn c5_11_empty_lists_are_nobody() {
    let nobody: Restrictions = r#"{"ip":{"allow":[]}}"#.parse().unwrap();
    assert!(!nobody.is_none());
    assert!(!nobody.judge(&facts(true, true, true)).is_allowed());
}

#[test]
fn the_text_is_kept_and_read_back() {
    let text = r#"{"ip":{"mode":"enforce","allow":["192.0.2.0/24","2001:db8::/32"]},"referrer":{"mode":"observe","allow":["https://*.good.example/app"],"origin":true},"endpoints":{"mode":"enforce","allow":["GET /v1/users/{id}","POST /v1/files/{*path}"]}}"#;
    let restrictions: Restrictions = text.parse().unwrap();
    assert_eq!(restrictions.to_string(), text);
    assert_eq!(restrictions.get_referrer().unwrap().mode(), Mode::Observe);
    assert!(restrictions.get_referrer().unwrap().accepts_origin());
    assert_eq!(serde_json::from_str::<Restrictions>(text).unwrap(), restrictions);

    assert_eq!(Restrictions::none().to_string(), "{}");
    assert_eq!("{}".parse::<Restrictions>().unwrap(), Restrictions::none());
    assert_eq!(all().to_string().parse::<Restrictions>().unwrap(), all());
    let short: Restrictions = r#" { "ip" : {"allow":["192.0.2.7"]} } "#.parse().unwrap();
    assert_eq!(short.to_string(), r#"{"ip":{"mode":"enforce","allow":["192.0.2.7/32"]}}"#);
}

#[test]
fn c10_06_a_text_that_is_not_understood_is_an_error() {
    for text in [
        "",
        " ",
        "null",
        "[]",
        "0",
        "true",
        r#""{}""#,
        "{",
        "{}{}",
        "{} x",
        "{}\0",
        r#"{"ip":null}"#,
        r#"{"ip":[]}"#,
        r#"{"ip":{}}"#,
        r#"{"ip":["192.0.2.7"]}"#,
        r#"["192.0.2.7"]"#,
        r#"{"ips":{"allow":[]}}"#,
        r#"{"IP":{"allow":[]}}"#,
        r#"{"ip":{"allow":[]},"x":1}"#,
        r#"{"ip":{"allow":[],"x":1}}"#,
        r#"{"ip":{"allow":null}}"#,
        r#"{"ip":{"allow":"192.0.2.7"}}"#,
        r#"{"ip":{"allow":[1]}}"#,
        r#"{"ip":{"allow":[null]}}"#,
        r#"{"ip":{"mode":"off","allow":[]}}"#,
        r#"{"ip":{"mode":"Observe","allow":[]}}"#,
        r#"{"ip":{"mode":null,"allow":[]}}"#,
        r#"{"ip":{"mode":true,"allow":[]}}"#,
        r#"{"ip":{"mode":["observe"],"allow":[]}}"#,
        r#"{"ip":{"allow":[],"origin":true}}"#,
        r#"{"referrer":{"allow":[],"origin":1}}"#,
        r#"{"ip":{"allow":["192.0.2.7"]},"ip":{"allow":["0.0.0.0/0"]}}"#,
        r#"{"ip":{"allow":["192.0.2.7"]},"i\u0070":{"allow":["0.0.0.0/0"]}}"#,
        r#"{"ip":{"allow":[],"allow":["0.0.0.0/0"]}}"#,
        r#"{"ip":{"mode":"enforce","mode":"observe","allow":[]}}"#,
        r#"{"ip":{"allow":["192.0.2.7/24"]}}"#,
        r#"{"ip":{"allow":["192.0.2.7","192.0.2.7/32"]}}"#,
        r#"{"referrer":{"allow":["good.example"]}}"#,
        r#"{"endpoints":{"allow":["/v1"]}}"#,
    ] {
        assert!(text.parse::<Restrictions>().is_err(), "{text}");
        assert!(serde_json::from_str::<Restrictions>(text).is_err(), "{text}");
    }
    assert!("[".repeat(300_000).parse::<Restrictions>().is_err());
}

#[test]
fn lists_and_entries_have_limits() {
    let many = |count: u8| (0..count).map(|last| format!("192.0.2.{last}")).collect::<Vec<_>>();
    assert!(IpRestriction::allow(many(100)).is_ok());
    assert!(IpRestriction::allow(many(101)).unwrap_err().reason().contains("100 entries"));
    let long = format!("https://good.example/{}", "a".repeat(600));
    let error = ReferrerRestriction::allow([&long]).unwrap_err();
    assert!(error.reason().contains("512 characters"));
    assert!(error.entry().len() < 100);
}

#[test]
fn c17_d6_lists_with_commas_are_told_to_be_lists() {
    for text in [
        r#"{"ip":{"allow":["192.0.2.0/24,2001:db8::/32"]}}"#,
        r#"{"ip":{"allow":["198.51.100.7", "192.0.2.0/24, 2001:db8::/32"]}}"#,
        r#"{"referrer":{"allow":["https://a.example, https://b.example"]}}"#,
        r#"{"ip":{"allow":["192.0.2.0/24, 10.0.0.1/8"]}}"#,
        r#"{"endpoints":{"allow":["GET /a, GET /b"]}}"#,
        r#"{"schemes":{"allow":["bearer,json-body"]}}"#,
    ] {
        let error = text.parse::<Restrictions>().unwrap_err();
        assert!(error.reason().contains("each as an entry of its own, without the comma"), "{error}");
    }
    // If the text is not a list, the error is about the entry itself.
    let error = ReferrerRestriction::allow(["https://a.example/a,b?x"]).unwrap_err();
    assert!(error.reason().contains("a query cannot be restricted"), "{error}");
    // A comma may be part of an entry.
    for text in ["https://a.example/a,b", "https://a.example/a,https"] {
        assert!(ReferrerRestriction::allow([text]).is_ok(), "{text}");
    }
    assert!(EndpointRestriction::allow(["GET /a,b"]).is_ok());
}

#[test]
fn errors_name_the_entry_and_the_fix() {
    let error = r#"{"ip":{"allow":["192.0.2.0/24","010.0.0.0/8"]}}"#.parse::<Restrictions>().unwrap_err();
    assert_eq!(error.entry(), "010.0.0.0/8");
    assert_eq!(
        error.to_string(),
        r#""010.0.0.0/8": an address is written 192.0.2.7 or 2001:db8::7, without leading zeros or a zone"#
    );
    let nested = serde_json::from_str::<Restrictions>(r#"{"ip":{"allow":["1.2.3.0/33"]}}"#).unwrap_err();
    assert!(nested.to_string().starts_with(r#""1.2.3.0/33": after the / stands a number from 0 to 32"#));
}
