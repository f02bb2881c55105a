//! The example server's sign-in and its portal, over HTTP as a browser uses them.

use conformance::server_kit::demo::Demo;
use conformance::server_kit::{Answer, Request};

fn password<'d>(demo: &'d Demo, user: &str) -> &'d str {
    demo.fixture["passwords"][user].as_str().unwrap()
}

/// Sends a form of the server's own page as a browser does.
fn form(demo: &Demo, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Request {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut request = demo
        .request("POST", path)
        .header("Origin", &format!("http://{}", demo.host))
        .header("Sec-Fetch-Site", "same-origin")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Cookie", cookie);
    request.body = body.join("&").into_bytes();
    request
}

fn sign_in(demo: &Demo, cookie: &str, user: &str, password: &str, next: &str) -> Answer {
    form(demo, "/account/sign-in", cookie, &[("user", user), ("password", password), ("next", next)]).send()
}

/// The cookie `session=..` from the response.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie");
    let [set] = set.as_slice() else { panic!("{answer:?}") };
    set.split(';').next().unwrap().to_owned()
}

fn signed_in(demo: &Demo, user: &str) -> String {
    let answer = sign_in(demo, "", user, password(demo, user), "/portal");
    assert_eq!((answer.status, answer.header("location")), (303, vec!["/portal"]), "{answer:?}");
    cookie(&answer)
}

fn get(demo: &Demo, path: &str, cookie: &str) -> Answer {
    demo.request("GET", path).header("Cookie", cookie).send()
}

/// The hidden fields of a page's form.
fn hidden<'p>(page: &'p str, name: &str) -> &'p str {
    let rest = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1;
    rest.split_once('"').unwrap().0
}

fn create(demo: &Demo, cookie: &str, page: &str) -> Answer {
    let fields = [
        ("ticket", hidden(page, "ticket")),
        ("proof", hidden(page, "proof")),
        ("name", "CI"),
        ("level", "USER"),
        ("environment", "live"),
        ("expires", "never"),
    ];
    form(demo, "/portal/new", cookie, &fields).send()
}

#[test]
fn a_signed_in_person_makes_a_working_key() {
    let demo = Demo::start();
    let away = get(&demo, "/portal/new", "");
    assert_eq!((away.status, away.header("location")), (303, vec!["/account/sign-in?next=/portal/new"]));
    assert_eq!(get(&demo, "/account/sign-in?next=/portal/new", "").status, 200);

    let session = signed_in(&demo, "alice");
    let page = get(&demo, "/portal/new", &session).text();
    let shown = create(&demo, &session, &page);
    assert_eq!(shown.status, 201, "{shown:?}");
    let text = shown.text();
    let secret = &text[text.find("sk_live_").unwrap()..][..47];
    assert_eq!(demo.bearer("GET", "/v1/users/usr_123", secret).status, 200);
    assert_eq!(create(&demo, &session, &page).status, 409);
    // The command lines on the page.
    assert!(text.contains(&format!("curl http://{}/v1/users/usr_123", demo.host)));
}

#[test]
fn a_wrong_password_and_a_wrong_name_get_the_same_answer() {
    let demo = Demo::start();
    let wrong = sign_in(&demo, "", "alice", "wrong", "/portal");
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("set-cookie").is_empty());
    for (user, password) in
        [("nobody", password(&demo, "alice")), ("dave", password(&demo, "alice")), ("alice", "")]
    {
        let answer = sign_in(&demo, "", user, password, "/portal");
        assert_eq!(answer.status, 401, "{user:?}, {password:?}");
        assert_eq!(answer.text().replace(user, "alice"), wrong.text(), "{user}");
    }
    let odd = sign_in(&demo, "", "%3Cscript%3E", "wrong", "/portal");
    assert!(odd.status == 401 && odd.text().contains("value=\"&lt;script&gt;\""));
}

#[test]
fn guesses_are_slowed_down() {
    let demo = Demo::start();
    let answers: Vec<_> = (0..11).map(|_| sign_in(&demo, "", "alice", "wrong", "/portal")).collect();
    assert!(answers[..10].iter().all(|answer| answer.status == 401));
    assert_eq!(answers[10].status, 429);
    assert!(!answers[10].header("retry-after").is_empty());
    // The right password is refused, too, so that nobody learns that it is right.
    assert_eq!(sign_in(&demo, "", "alice", password(&demo, "alice"), "/portal").status, 429);
}

#[test]
fn c11_13_a_sign_in_from_another_site_is_refused() {
    let demo = Demo::start();
    for (origin, site) in
        [("https://evil.example", "cross-site"), ("null", "cross-site"), ("http://127.0.0.1:1", "same-site")]
    {
        let mut request = form(
            &demo,
            "/account/sign-in",
            "",
            &[("user", "alice"), ("password", password(&demo, "alice")), ("next", "/portal")],
        );
        request.headers.retain(|(name, _)| name != "Origin" && name != "Sec-Fetch-Site");
        let answer = request.header("Origin", origin).header("Sec-Fetch-Site", site).send();
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.header("set-cookie").is_empty(), "{origin:?}, {site:?}");
    }
}

#[test]
fn c11_17_the_session_is_renewed_at_each_sign_in_and_its_forms_go_on() {
    let demo = Demo::start();
    // Somebody has set this session id before.
    let planted = "session=AAAAAAAAAAAAAAAAAAAAAA";
    let first = cookie(&sign_in(&demo, planted, "alice", password(&demo, "alice"), "/portal"));
    assert_ne!(first, planted);
    assert_eq!(get(&demo, "/portal", planted).status, 303);
    let page = get(&demo, "/portal/new", &first).text();
    let second = cookie(&sign_in(&demo, &first, "alice", password(&demo, "alice"), "/portal"));
    assert_ne!(second, first);
    assert_eq!(get(&demo, "/portal", &first).status, 303);
    assert_eq!(create(&demo, &second, &page).status, 201);

    // If another person signs in with the same session, they get a new session.
    let page = get(&demo, "/portal/new", &second).text();
    let daves = cookie(&sign_in(&demo, &second, "dave", password(&demo, "dave"), "/portal"));
    assert_eq!(create(&demo, &daves, &page).status, 403);

    let answer = sign_in(&demo, "", "dave", password(&demo, "dave"), "/portal");
    let set = answer.header("set-cookie")[0].to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
}

#[test]
fn signing_out_is_a_form_and_ends_the_session() {
    let demo = Demo::start();
    let session = signed_in(&demo, "dave");
    assert_eq!(get(&demo, "/account/sign-out", &session).status, 405);
    assert_eq!(get(&demo, "/portal", &session).status, 200);
    let page = get(&demo, "/portal/new", &session).text();
    assert_eq!(form(&demo, "/account/sign-out", &session, &[]).send().status, 303);
    assert_eq!(get(&demo, "/portal", &session).status, 303);
    assert_eq!(create(&demo, &session, &page).status, 401);
}

#[test]
fn c17_e3_what_was_typed_comes_back_after_signing_in_again() {
    let demo = Demo::start();
    let session = signed_in(&demo, "dave");
    let page = get(&demo, "/portal/new", &session).text();
    assert_eq!(form(&demo, "/account/sign-out", &session, &[]).send().status, 303);
    let fields = ["ticket", "proof", "draft"].map(|name| (name, hidden(&page, name)));
    let typed = [("name", "Build"), ("level", "USER"), ("environment", "test"), ("expires", "30")];
    let refused = form(&demo, "/portal/new", &session, &[fields.as_slice(), &typed].concat()).send();
    assert_eq!(refused.status, 401);
    let next = "/account/sign-in?next=/portal/new";
    assert!(refused.text().contains(&format!("href=\"{next}\"")), "{}", refused.text());
    // First, somebody else on the same machine.
    for (user, kept) in [("alice", false), ("dave", true), ("dave", false)] {
        let answer = sign_in(&demo, "", user, password(&demo, user), "/portal/new");
        assert_eq!(answer.header("location"), ["/portal/new"], "{user:?}, kept: {kept:?}");
        let page = get(&demo, "/portal/new", &cookie(&answer));
        assert_eq!(page.status, 200, "{user:?}, kept: {kept:?}");
        assert_eq!(page.text().contains("value=\"Build\""), kept, "{user}");
    }
}

#[test]
fn a_sign_in_leads_to_the_portal_and_nowhere_else() {
    let demo = Demo::start();
    for (next, to) in [
        ("/portal/keys/key_1", "/portal/keys/key_1"),
        ("//evil.example", "/portal"),
        ("https://evil.example", "/portal"),
        ("/portal.evil.example", "/portal"),
        ("/portalx", "/portal"),
        ("/portal/%5C..%5C", "/portal"),
        ("/portal%0D%0Ax:%20y", "/portal"),
        ("", "/portal"),
    ] {
        let answer = sign_in(&demo, "", "alice", password(&demo, "alice"), next);
        assert_eq!(answer.header("location"), [to], "{next}");
    }
}

#[test]
fn c11_14_the_api_accepts_no_session() {
    let demo = Demo::start();
    let session = signed_in(&demo, "alice");
    for path in ["/v1/users/usr_123", "/v1/api-keys", "/api/v1/projects", "/migrate/echo"] {
        assert_eq!(get(&demo, path, &session).status, 401, "{path}");
    }
}

#[test]
fn c13_10_no_password_stands_in_the_file() {
    let demo = Demo::start();
    signed_in(&demo, "alice");
    for name in ["keys.db", "keys.db-wal"] {
        let Ok(bytes) = std::fs::read(demo.file(name)) else { continue };
        for user in ["alice", "bob", "carol", "dave"] {
            let secret = password(&demo, user).as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{user} in {name}");
        }
    }
}
