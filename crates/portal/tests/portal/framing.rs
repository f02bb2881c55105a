//! C17-C1 and C17-B5: forms that are not read, and forms that arrive slowly.

use std::time::Duration;

use test_kit::Pieces;

use super::*;

fn closes(answer: &Answer) -> bool {
    let said = answer.header("connection");
    assert!(said.is_empty() || said == ["close"], "{said:?}");
    !said.is_empty()
}

fn with_body(request: Request<Body>, length: usize, body: Body) -> Request<Body> {
    let (mut parts, _) = request.into_parts();
    parts.headers.insert("content-length", length.into());
    Request::from_parts(parts, body)
}

#[tokio::test]
async fn c17_c1_every_response_of_the_portal_handles_an_unread_form() {
    let site = Site::new().await;
    let elsewhere = |session: &str| {
        let mut request = posted(session, "/new", &[]);
        request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
        request
    };
    type Asked<'a> = Box<dyn Fn() -> Request<Body> + 'a>;
    let rows: Vec<(&str, Asked<'_>, u16)> = vec![
        ("nobody is signed in", Box::new(|| posted("", "/new", &[])), 401),
        ("the session is down", Box::new(|| posted("down.1", "/new", &[])), 503),
        ("from elsewhere", Box::new(|| elsewhere("u_own.1")), 403),
        ("another method", Box::new(|| posted("u_own.1", "", &[])), 405),
        ("a page, and a body with it", Box::new(|| asked("u_own.1", "/")), 200),
    ];
    for (what, request, status) in rows {
        for (length, expect, expected) in
            [(20_000, false, false), (70_000, false, true), (20_000, true, true)]
        {
            let body = Body::new(Pieces::new(vec![vec![b'x'; 1000]; length / 1000], true));
            let mut request = with_body(request(), length, body);
            if expect {
                request.headers_mut().insert("expect", "100-continue".parse().unwrap());
            }
            let answer = send(&site.app, request).await;
            // If a session has ended, what was typed is read and kept.
            let expected = expected && (status != 401 || length > 64 * 1024);
            assert_eq!((answer.status.as_u16(), closes(&answer)), (status, expected), "{what}, {length}");
        }
    }
    // The body was read, so it does not block the next request.
    let form = site.form("u_own.1", "/new", &NEW).await;
    let text = encoded(&form);
    let request = with_body(posted("u_own.1", "/new", &form), text.len(), text.clone().into());
    let answer = send(&site.app, request).await;
    assert_eq!((answer.status.as_u16(), closes(&answer)), (201, false));
    // Too long: the rest is not read.
    let body = Body::new(Pieces::new(vec![vec![b'x'; 10_000]; 70], true));
    let answer = send(&site.app, with_body(posted("u_own.1", "/new", &[]), 700_000, body)).await;
    assert_eq!((answer.status.as_u16(), closes(&answer)), (413, true));
}

#[tokio::test(start_paused = true)]
async fn c17_b5_half_sent_forms_of_one_person_leave_room_for_others() {
    let site = Site::new().await;
    let others = site.form("u_full.2", "/new", &NEW).await;
    let length = 512 * 1024;
    let held: Vec<_> = (0..100)
        .map(|_| {
            let body = Body::new(Pieces::new([vec![b'x'; length]], false));
            let request = with_body(posted("u_own.1", "/new", &[]), length, body);
            let app = site.app.clone();
            tokio::spawn(async move { send(&app, request).await.status })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    // One person may use a quarter of the budget of 16 MiB; the other forms are refused.
    let finished = held.iter().filter(|task| task.is_finished()).count();
    assert_eq!(finished, 100 - 8);
    assert_eq!(site.post("u_full.2", "/new", &others).await.status, 201);
    for held in held {
        let status = held.await.unwrap();
        assert!(matches!(status.as_u16(), 408 | 503), "{status}");
    }
    let own = site.form("u_own.1", "/new", &NEW).await;
    assert_eq!(site.post("u_own.1", "/new", &own).await.status, 201);
}
