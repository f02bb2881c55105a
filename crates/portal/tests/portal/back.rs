//! After signing in again, the user finds what they typed, and nobody else does.

use http::StatusCode;

use super::pages::filled;
use super::*;

const BACK: &str = "This is what you typed before you signed in";

/// A form on each page that has one, and the fields to check.
fn forms(key: &str) -> [(String, Vec<(&'static str, &'static str)>); 4] {
    [
        (
            "/new".to_owned(),
            vec![
                ("name", "Build <b>server"),
                ("level", "PROJECT"),
                ("project_id", "p2"),
                ("environment", "test"),
                ("expires", "on"),
                ("expires_on", "2031-02-03"),
                ("ip_mode", "enforce"),
                ("ip", "192.0.2.0/24\n192.0.2.7"),
                ("referrer_origin", "yes"),
                ("endpoints_mode", "observe"),
                ("endpoints", "GET /v1/{id}"),
            ],
        ),
        (format!("{key}/rotate"), vec![("grace", "7d")]),
        (format!("{key}/settings"), vec![("name", "Another"), ("limits", "7/min")]),
        (format!("{key}/restrictions"), vec![("schemes_mode", "enforce"), ("schemes", "bearer")]),
    ]
}

fn holds(page: &str, fields: &[(&str, &str)]) -> bool {
    let kept = filled(page);
    let clean = |text: &str| text.replace("\r\n", "\n");
    fields.iter().all(|(name, value)| kept.iter().any(|(field, kept)| field == name && clean(kept) == *value))
}

/// Sends a form that was opened in session `u_own.1`, and returns the response.
const TOO_LATE: [(&str, StatusCode); 3] = [
    ("", StatusCode::UNAUTHORIZED),
    ("u_own.1.stale", StatusCode::FORBIDDEN),
    ("u_own.2", StatusCode::FORBIDDEN),
];

#[tokio::test]
async fn c17_e3_after_signing_in_again_the_form_comes_back_filled() {
    let site = Site::new().await;
    for (late, status) in TOO_LATE {
        for which in 0..4 {
            let made = site.submit("u_own.1", "/new", &NEW).await;
            let key = format!("/keys/{}", site.shown("u_own", &made).await.id);
            let (path, fields) = forms(&key)[which].clone();
            let before = site.rows().await;
            let form = site.form("u_own.1", &path, &fields).await;
            let sent = site.post(late, &path, &form).await;
            assert_eq!(sent.status, status, "{late} {path}");
            assert!(text(&sent).contains("What you typed is still there"), "{late} {path}");
            assert_eq!(site.rows().await, before, "{late} {path}");
            // Nobody else sees the draft; it is not on other pages, and not shown before the sign-in is fresh.
            for other in ["u_b.1", "u_full.1"] {
                let blank = site.page(other, "/new").await;
                assert!(!blank.contains(BACK) && !holds(&blank, &fields), "{other}");
            }
            let another = if which == 0 { format!("{key}/settings") } else { "/new".to_owned() };
            assert!(!site.page("u_own.3", &another).await.contains(BACK), "{late} {path}");
            assert_eq!(site.get("u_own.3.stale", &path).await.status, StatusCode::SEE_OTHER, "{late:?}");
            let page = site.page("u_own.3", &path).await;
            assert!(page.contains(BACK) && holds(&page, &fields), "{late} {path}: {page}");
            // Only once: the next time, the form is empty.
            let blank = site.page("u_own.3", &path).await;
            assert!(!blank.contains(BACK) && !holds(&blank, &fields), "{late} {path}");
            // The form with the draft can be sent.
            let form = [html::sealed(&page), filled(&page)].concat();
            let done = site.post("u_own.3", &path, &form).await;
            let expected = if which < 2 { StatusCode::CREATED } else { StatusCode::SEE_OTHER };
            assert_eq!(done.status, expected, "{late} {path}: {}", text(&done));
        }
    }
}

#[tokio::test]
async fn c17_e3_no_draft_can_be_left_for_another_person() {
    let site = Site::new().await;
    let typed = [("name", "Not yours"), ("level", "USER"), ("environment", "live"), ("expires", "never")];
    let victims = site.form("u_own.1", "/new", &typed).await;
    let own = site.form("u_b.1", "/new", &typed).await;
    let older = site.form("u_own.1", "/new", &typed).await;
    let mixed = |ticket: &[(String, String)], mark: String| {
        let mut form = ticket.to_vec();
        form[2].1 = mark;
        form
    };
    let mark = |form: &[(String, String)]| form[2].1.clone();
    let name = mark(&victims)[..32].to_owned();
    for (what, session, form) in [
        ("somebody else's form, signed in as oneself", "u_b.3", victims.clone()),
        ("another form's mark", "", mixed(&victims, mark(&older))),
        ("the victim's name with a proof of one's own", "", mixed(&own, name + &mark(&own)[32..])),
        ("no mark", "", mixed(&victims, String::new())),
        ("no form", "", victims[3..].to_vec()),
    ] {
        let refused = site.post(session, "/new", &form).await;
        assert!(refused.status.is_client_error(), "{what}");
        assert!(!text(&refused).contains("still there"), "{what}");
        for owner in ["u_own.2", "u_b.2"] {
            assert!(!site.page(owner, "/new").await.contains(BACK), "{what}: {owner}");
        }
    }
    // From another site, as the browser reports.
    let mut request = posted("", "/new", &victims);
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(send(&site.app, request).await.status, StatusCode::UNAUTHORIZED);
    assert!(!site.page("u_own.2", "/new").await.contains(BACK));
    // The form itself is valid; and a HEAD request does not consume the draft.
    assert_eq!(site.post("", "/new", &victims).await.status, StatusCode::UNAUTHORIZED);
    let mut head = asked("u_own.2", "/new");
    *head.method_mut() = Method::HEAD;
    assert_eq!(send(&site.app, head).await.status, StatusCode::OK);
    assert!(site.page("u_own.2", "/new").await.contains(BACK));
}

#[tokio::test]
async fn c17_e3_long_and_old_drafts_are_not_stored_and_no_page_claims_it() {
    let site = Site::new().await;
    let long = "x".repeat(17 * 1024);
    let mut fields = NEW.to_vec();
    fields.push(("ip", &long));
    for (late, status) in TOO_LATE {
        let form = site.form("u_own.1", "/new", &fields).await;
        let refused = site.post(late, "/new", &form).await;
        assert_eq!(refused.status, status, "{late}");
        assert!(!text(&refused).contains("still there"), "{late}");
        assert!(!site.page("u_own.3", "/new").await.contains(BACK), "{late}");
    }
    let form = site.form("u_own.1", "/new", &NEW).await;
    site.clock.advance(Duration::from_secs(60 * 60 + 1));
    assert!(!text(&site.post("", "/new", &form).await).contains("still there"));
    assert!(!site.page("u_own.3", "/new").await.contains(BACK));
    // A draft is not kept for long.
    let form = site.form("u_own.1", "/new", &NEW).await;
    assert!(text(&site.post("", "/new", &form).await).contains("still there"));
    site.clock.advance(Duration::from_secs(60 * 60));
    assert!(!site.page("u_own.3", "/new").await.contains(BACK));
}

#[tokio::test]
async fn c17_e3_a_draft_does_not_restore_lost_access() {
    use tower_api_key::store::Accounts as _;
    let site = Site::new().await;
    let form = site.form("u_full.1", "/new", &NEW).await;
    assert_eq!(site.post("", "/new", &form).await.status, StatusCode::UNAUTHORIZED);
    store(&site).remove_member("A", &test_kit::user("u_full"), Timestamp::from_secs(NOW)).await.unwrap();
    assert_eq!(site.get("u_full.2", "/new").await.status, StatusCode::FORBIDDEN);
}

/// A form whose body never ends.
struct Endless;

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn c17_e3_forms_without_a_session_are_limited() {
    let site = Site::new().await;
    let form = site.form("u_own.1", "/new", &NEW).await;
    let half: Vec<_> = (0..64)
        .map(|_| {
            let (app, mut request) = (site.app.clone(), posted("", "/new", &[]));
            *request.body_mut() = Body::new(Endless);
            tokio::spawn(async move { send(&app, request).await.status })
        })
        .collect();
    // All of these requests have begun.
    for _ in 0..half.len() {
        tokio::task::yield_now().await;
    }
    // The response comes at once, and no draft is kept.
    let refused = site.post("", "/new", &form).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(!text(&refused).contains("still there"));
    // Signed-in users are not affected.
    assert_eq!(site.post("u_own.1", "/new", &form).await.status, StatusCode::CREATED);
    // Nobody keeps a place for long.
    for half in half {
        assert_eq!(half.await.unwrap(), StatusCode::UNAUTHORIZED);
    }
    assert!(text(&site.post("", "/new", &form).await).contains("still there"));
}
