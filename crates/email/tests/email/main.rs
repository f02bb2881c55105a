//! Owners get mails about their keys (R28). The mail server is a real one on this machine.

mod smtp;

use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use smtp::{Reply, Server, within};
use test_kit::{World, user};
use tokio::sync::{Semaphore, mpsc};
use tower_api_key::delivery::{Delivery, KeyDelivery, Notice, NoticeKind};
use tower_api_key::store::{KeyRegistry as _, Terms};
use tower_api_key::{
    ApiKey, Authority, Grace, KeyDigest, KeyId, KeyPolicy, KeyRecord, Keyring, KeyringError, NewKey,
    Timestamp, UserId,
};
use tower_api_key_email::{EmailDelivery, EmailEvent, EmailFailure, Mail, Recipients, Templates};

struct Events(mpsc::UnboundedReceiver<EmailEvent>);

impl Events {
    async fn recv(&mut self) -> Option<EmailEvent> {
        within(self.0.recv()).await
    }
}

fn address(user: &UserId) -> Option<String> {
    (user.as_str() == "u_own").then(|| "Zoë <zoe@example.com>".to_owned())
}

fn email(url: &str, recipients: impl Recipients) -> (EmailDelivery, Events) {
    let (sender, events) = mpsc::unbounded_channel();
    let email = EmailDelivery::smtp(url, "Keys <keys@example.com>", recipients)
        .unwrap()
        .retry(NonZero::new(4).unwrap(), Duration::from_millis(5))
        .on_event(move |event| drop(sender.send(event.clone())));
    (email, Events(events))
}

fn new(name: &str) -> NewKey {
    NewKey::user_level(user("u_own"), name)
}

#[tokio::test]
async fn r28_the_owner_is_told_of_a_new_key_and_not_the_key() {
    let (world, mut server) = (World::new().await, Server::start([]).await);
    let (email, mut events) = email(&server.url, address);
    let keyring = Keyring::new(world.store).deliver(email);
    let issued = keyring.issue(new("Production Key")).await.unwrap();
    assert_eq!(issued.delivery(), Delivery::Queued);
    let mail = server.mail().await;
    assert_eq!((&*mail.from, &*mail.to), ("keys@example.com", "zoe@example.com"));
    assert_eq!(mail.subject(), "New API key: Production Key");
    assert!(mail.body.contains("Name: Production Key\r\n"), "{}", mail.body);
    assert!(mail.body.contains(issued.id().as_str()) && mail.body.contains(&issued.record().last4));
    let secret = issued.key().expose_secret();
    assert!((0..=secret.len() - 12).all(|start| !mail.body.contains(&secret[start..start + 12])));
    assert!(!mail.head.contains(&secret[8..16]));
    assert_eq!(events.recv().await.unwrap(), EmailEvent::Sent { key: issued.id().clone() });

    let rotated = keyring.rotate(issued.id(), Grace::None).await.unwrap();
    assert_eq!(rotated.delivery(), Delivery::Queued);
    let mail = server.mail().await;
    assert_eq!(mail.subject(), "API key replaced: Production Key");
    assert!(mail.body.contains(issued.id().as_str()) && mail.body.contains(rotated.id().as_str()));
    assert!(!mail.body.contains(&rotated.key().expose_secret()[8..20]));
}

#[tokio::test]
async fn r28_the_key_itself_is_mailed_only_where_that_is_asked_for() {
    let (world, mut server) = (World::new().await, Server::start([Reply::Later]).await);
    let (email, _events) = email(&server.url, address);
    let keyring = Keyring::new(world.store).deliver(email.dangerously_mail_secrets());
    let issued = keyring.issue(new("a")).await.unwrap();
    let mail = server.mail().await;
    assert!(mail.body.contains(issued.key().expose_secret()), "{}", mail.body);
    assert!(!mail.head.contains(issued.key().expose_secret()));
}

#[tokio::test]
async fn r28_a_failing_mail_server_loses_no_key_and_is_tried_again() {
    let world = World::new().await;
    let mut server = Server::start([Reply::Later, Reply::HangUp]).await;
    let (email, mut events) = email(&server.url, address);
    let keyring = Keyring::new(world.store.clone()).deliver(email);
    let issued = keyring.issue(new("a")).await.unwrap();
    assert_eq!(issued.delivery(), Delivery::Queued);
    let key = issued.id().clone();
    let delayed = |failure, ms| {
        let wait = Duration::from_millis(ms);
        EmailEvent::Delayed { key: key.clone(), failure, wait }
    };
    assert_eq!(events.recv().await.unwrap(), delayed(EmailFailure::Refused(451), 5));
    assert_eq!(events.recv().await.unwrap(), delayed(EmailFailure::Unreachable, 10));
    assert_eq!(events.recv().await.unwrap(), EmailEvent::Sent { key: key.clone() });
    assert!(server.mail().await.body.contains(key.as_str()));
    assert!(server.is_idle(), "once is enough");
}

#[tokio::test]
async fn r28_an_undeliverable_mail_is_given_up_and_reported() {
    let world = World::new().await;
    // A port on which nothing listens any more.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("smtp://{}", gone.local_addr().unwrap());
    drop(gone);
    let never = Server::start([Reply::Never]).await;
    for (url, owner, failure, delays) in [
        (&nowhere, "u_own", EmailFailure::Unreachable, 3),
        (&never.url, "u_own", EmailFailure::Refused(550), 0),
        (&never.url, "u_b", EmailFailure::NoAddress, 0),
    ] {
        let (email, mut events) = email(url, address);
        let keyring = Keyring::new(world.store.clone()).deliver(email);
        let issued = keyring.issue(NewKey::user_level(user(owner), "a")).await.unwrap();
        let mut seen = 0;
        loop {
            match events.recv().await.unwrap() {
                EmailEvent::Delayed { .. } => seen += 1,
                last => {
                    break assert_eq!(
                        last,
                        EmailEvent::GivenUp { key: issued.id().clone(), failure },
                        "{url:?}, {owner:?}, {failure:?}"
                    );
                }
            }
        }
        assert_eq!(seen, delays, "{url:?}, {owner:?}, {failure:?}");
    }
    assert_eq!(never.script_len(), 0);
}

/// Looks up addresses only after the gate was opened, except for one user.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn open(&self) {
        self.0.add_permits(10_000);
    }
}

#[async_trait]
impl Recipients for Gate {
    async fn address(
        &self,
        user: &UserId,
    ) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        // The quiet user does not have to wait.
        if user.as_str() != "u_b" {
            self.0.acquire().await?.forget();
        }
        Ok(Some(format!("{user}@example.com")))
    }
}

fn record(owner: &str, id: &str) -> KeyRecord {
    let id = KeyId::new(id).unwrap();
    let mut record = KeyRecord::new(id, KeyDigest::of("x"), user(owner), Timestamp::from_secs(1));
    record.name = "CI".to_owned();
    record
}

async fn say(email: &EmailDelivery, owner: &str, id: &str) -> Delivery {
    email.notify(&Notice::new(NoticeKind::Issued, &record(owner, id))).await
}

/// The ids of keys in a mail, in their order.
fn ids(mail: &str) -> Vec<&str> {
    mail.lines().filter_map(|line| line.strip_prefix("Key:  ")?.split(' ').next()).collect()
}

#[tokio::test]
async fn r28_no_more_owners_have_a_place_than_may() {
    let server = Server::start([]).await;
    let (email, mut events) = email(&server.url, Gate::closed());
    let email = email.capacity(NonZero::new(2).unwrap());
    for (owner, expected) in [
        ("u1", Delivery::Queued),
        ("u2", Delivery::Queued),
        ("u3", Delivery::Failed),
        ("u1", Delivery::Queued),
    ] {
        assert_eq!(say(&email, owner, "key_1").await, expected, "{owner}");
    }
    let event = events.recv().await.unwrap();
    assert!(matches!(event, EmailEvent::GivenUp { failure: EmailFailure::Full, .. }), "{event:?}");
}

#[tokio::test]
async fn c17_b6_one_owners_loop_suppresses_no_notice_of_others() {
    let mut server = Server::start([]).await;
    let gate = Gate::closed();
    let (email, _events) = email(&server.url, gate.clone());
    // Two busy users send more notices than are ever queued, before any mail is sent.
    for n in 0..600 {
        say(&email, ["u_own", "u_full"][n % 2], &format!("key_{n}")).await;
    }
    for n in 0..29 {
        assert_eq!(say(&email, "u_b", &format!("key_b{n}")).await, Delivery::Queued, "{n}");
        let mail = server.mail().await;
        assert_eq!((&*mail.to, ids(&mail.body)), ("u_b@example.com", vec![&*format!("key_b{n}")]));
    }
    assert!(server.is_idle());
}

#[tokio::test]
async fn c17_b6_simultaneous_notices_are_one_mail_that_counts_missing_ones() {
    let mut server = Server::start([]).await;
    let gate = Gate::closed();
    let (email, mut events) = email(&server.url, gate.clone());
    let mut queued = Vec::new();
    for n in 0..40 {
        let id = format!("key_{n}");
        if say(&email, "u_own", &id).await == Delivery::Queued {
            queued.push(id);
        } else {
            let failure = EmailFailure::Full;
            let key = KeyId::new(id).unwrap();
            assert_eq!(events.recv().await.unwrap(), EmailEvent::GivenUp { key, failure });
        }
        // The first mail is on its way before the next event happens.
        tokio::task::yield_now().await;
    }
    assert_eq!(queued.len(), 16);
    gate.open();
    let first = server.mail().await;
    assert_eq!(first.subject(), "New API key: CI");
    let second = server.mail().await;
    assert_eq!([ids(&first.body), ids(&second.body)].concat(), queued);
    assert_eq!(
        (&*second.to, second.subject()),
        ("u_own@example.com", "Notices about your API keys: 39".into())
    );
    assert!(second.body.contains("Missing notices: 24."), "{}", second.body);
    assert!(second.body.matches("* New API key: CI\r\n").count() == 15, "{}", second.body);
    for id in &queued {
        let key = KeyId::new(id.as_str()).unwrap();
        assert_eq!(events.recv().await.unwrap(), EmailEvent::Sent { key });
    }
    // There is space again, and no notice is missing any more.
    assert_eq!(say(&email, "u_own", "key_after").await, Delivery::Queued);
    let after = server.mail().await;
    assert_eq!((ids(&after.body), after.subject()), (vec!["key_after"], "New API key: CI".into()));
    assert!(server.is_idle());
}

#[tokio::test]
async fn c17_b6_missing_notices_are_reported_even_without_other_notices() {
    let mut server = Server::start([]).await;
    let gate = Gate::closed();
    let (email, mut events) = email(&server.url, gate.clone());
    let long = "x".repeat(60 * 1024);
    let mut first = record("u_own", "key_first");
    first.scopes = [long].into();
    struct Scopes;
    impl Templates for Scopes {
        fn notice(&self, notice: &Notice<'_>) -> Mail {
            let scopes: String = notice.key().scopes.iter().cloned().collect();
            Mail::new("Said", format!("Key:  {}\n{scopes}", notice.key().id))
        }
    }
    let email = email.templates(Scopes);
    assert_eq!(email.notify(&Notice::new(NoticeKind::Issued, &first)).await, Delivery::Queued);
    let mut second = first.clone();
    second.id = KeyId::new("key_second").unwrap();
    tokio::task::yield_now().await;
    // Two of these notices are larger than one owner's share.
    assert_eq!(email.notify(&Notice::new(NoticeKind::Issued, &second)).await, Delivery::Failed);
    gate.0.add_permits(1);
    assert_eq!(server.mail().await.subject(), "Said");
    // A mail that only reports missing notices is retried and given up like any other.
    server.then([Reply::HangUp, Reply::Later]);
    gate.open();
    let rest = server.mail().await;
    assert_eq!((rest.subject(), ids(&rest.body)), ("Notices about your API keys: 1".into(), vec![]));
    assert!(rest.body.contains("Missing notices: 1."), "{}", rest.body);
    let key = |id| KeyId::new(id).unwrap();
    assert_eq!(
        [events.recv().await.unwrap(), events.recv().await.unwrap()],
        [
            EmailEvent::GivenUp { key: key("key_second"), failure: EmailFailure::Full },
            EmailEvent::Sent { key: key("key_first") },
        ]
    );
    assert!(server.is_idle() && server.script_len() == 0);
}

#[tokio::test]
async fn c17_b6_a_refused_notice_does_not_prevent_others() {
    for refusal in [Reply::Later, Reply::Never] {
        // The first notice is sent alone. The mail with the other three is refused, and so is the next one, with the
        // first of them.
        let mut server = Server::start([]).await;
        let gate = Gate::closed();
        let (email, mut events) = email(&server.url, gate.clone());
        for id in ["key_a", "key_b", "key_c", "key_d"] {
            say(&email, "u_own", id).await;
            tokio::task::yield_now().await;
        }
        gate.0.add_permits(1);
        assert_eq!(ids(&server.mail().await.body), ["key_a"], "{refusal:?}");
        server.then([refusal, refusal]);
        gate.open();
        let mut arrived = Vec::new();
        let expected = match refusal {
            Reply::Never => vec!["key_c", "key_d"],
            _ => vec!["key_c", "key_d", "key_b"],
        };
        while arrived.len() < expected.len() {
            let mail = server.mail().await;
            arrived.extend(ids(&mail.body).into_iter().map(str::to_owned));
        }
        assert_eq!(arrived, expected, "{refusal:?}");
        let mut given_up = Vec::new();
        for _ in 0..expected.len() + 2 {
            if let EmailEvent::GivenUp { key, failure } = events.recv().await.unwrap() {
                given_up.push((key.as_str().to_owned(), failure));
            }
        }
        let lost = [("key_b".to_owned(), EmailFailure::Refused(550))];
        assert_eq!(given_up, if expected.len() == 2 { &lost[..] } else { &[] }, "{refusal:?}");
    }
}

#[tokio::test]
async fn c17_b6_a_panicking_template_frees_its_place() {
    struct Panics;
    impl Templates for Panics {
        fn notice(&self, _: &Notice<'_>) -> Mail {
            Mail::new("a", "b".to_owned())
        }
        fn together(&self, _: &[&Mail], _: usize) -> Mail {
            panic!("a fault of the template");
        }
    }
    let mut server = Server::start([]).await;
    let gate = Gate::closed();
    let (email, _events) = email(&server.url, gate.clone());
    let email = email.templates(Panics).capacity(NonZero::new(1).unwrap());
    for id in ["key_1", "key_2", "key_3"] {
        assert_eq!(say(&email, "u_own", id).await, Delivery::Queued, "{id:?}");
        tokio::task::yield_now().await;
    }
    gate.open();
    server.mail().await;
    within(async {
        while say(&email, "u_b", "key_b").await != Delivery::Queued {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(server.mail().await.to, "u_b@example.com");
}

#[tokio::test]
async fn r28_names_inject_no_headers_and_are_encoded() {
    let (world, mut server) = (World::new().await, Server::start([]).await);
    let (email, _events) = email(&server.url, address);
    let keyring = Keyring::new(world.store.clone()).deliver(email.clone());
    for name in ["a\r\nBcc: x@example.com", "a\nb", "a\u{85}b", "a\u{2028}b", "a\0b"] {
        assert!(matches!(keyring.issue(new(name)).await, Err(KeyringError::Name)), "{name:?}");
    }
    drop(keyring.issue(new("plain")).await.unwrap());
    let usual = server.mail().await;
    for name in [
        "Schlüssel für Zoë",
        "鍵の名前",
        "🔑🔑",
        "=?utf-8?b?QmNj?=",
        "<b>&\"quoted\", x@example.com",
        ".",
        &"ü".repeat(64),
    ] {
        drop(keyring.issue(new(name)).await.unwrap());
        let mail = server.mail().await;
        assert_eq!(mail.headers(), usual.headers(), "{name:?}");
        assert!(mail.body.contains(&format!("Name: {name}\r\n")), "{}", mail.body);
        if !name.starts_with("=?") {
            assert_eq!(mail.subject(), format!("New API key: {name}"), "{name:?}");
        }
    }
    // A store of another implementation may contain any name; it must stay on its own line.
    let id = KeyId::new("key_imported").unwrap();
    let mut imported = KeyRecord::new(id, KeyDigest::of("x"), user("u_own"), Timestamp::from_secs(1));
    imported.name = "a\r\nBcc: x@example.com\r\n\r\nbody\0".to_owned();
    world
        .store
        .insert(
            imported.clone(),
            &Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: NonZero::new(100).unwrap() }),
        )
        .await
        .unwrap();
    let url = Some("https://example.com/\r\nBcc: x@example.com".to_owned());
    for kind in [NoticeKind::Issued, NoticeKind::Leaked { url }, NoticeKind::SelfRevoked] {
        assert_eq!(email.notify(&Notice::new(kind, &imported)).await, Delivery::Queued);
        let mail = server.mail().await;
        assert_eq!(mail.headers(), usual.headers());
        assert!(mail.subject().ends_with(": a Bcc: x@example.com body"), "{}", mail.subject());
        assert!(mail.body.contains("Name: a  Bcc"));
    }
}

#[tokio::test]
async fn templates_can_be_replaced() {
    struct German;

    impl Templates for German {
        fn notice(&self, notice: &Notice<'_>) -> Mail {
            let text = format!("Hallo {},\nein neuer Schlüssel.", notice.key().owner);
            Mail::new("Neuer\r\nSchlüssel", text)
        }
    }

    let (world, mut server) = (World::new().await, Server::start([]).await);
    let (email, _events) = email(&server.url, address);
    let email = email.templates(German).dangerously_mail_secrets();
    let issued = Keyring::new(world.store).deliver(email).issue(new("a")).await.unwrap();
    let mail = server.mail().await;
    assert_eq!(mail.subject(), "Neuer Schlüssel");
    assert!(mail.body.starts_with("Hallo u_own,\r\nein neuer Schlüssel."), "{}", mail.body);
    assert!(mail.body.contains(issued.key().expose_secret()));
}

/// What the hook received.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(NoticeKind, String, KeyId)>>>);

#[async_trait]
impl KeyDelivery for Told {
    async fn deliver(&self, secret: &ApiKey, notice: &Notice<'_>) -> Delivery {
        let told = (notice.kind().clone(), secret.expose_secret().to_owned(), notice.key().id.clone());
        self.0.lock().unwrap().push(told);
        Delivery::Done
    }

    async fn notify(&self, _: &Notice<'_>) -> Delivery {
        panic!("nothing happened but new keys");
    }
}

#[tokio::test]
async fn r28_a_hook_gets_the_secret_once() {
    let (world, told) = (World::new().await, Told::default());
    let keyring = Keyring::new(world.store).deliver(told.clone());
    let issued = keyring.issue(new("a")).await.unwrap();
    assert_eq!(issued.delivery(), Delivery::Done);
    assert!(keyring.issue(NewKey::user_level(user("u_nobody"), "a")).await.is_err());
    let rotated = keyring.rotate(issued.id(), Grace::None).await.unwrap();
    assert!(keyring.rotate(issued.id(), Grace::None).await.is_err());
    keyring.revoke(rotated.id()).await.unwrap();
    let secret = |key: &ApiKey| key.expose_secret().to_owned();
    let expected = [
        (NoticeKind::Issued, secret(issued.key()), issued.id().clone()),
        (NoticeKind::Rotated { old: issued.id().clone() }, secret(rotated.key()), rotated.id().clone()),
    ];
    assert_eq!(*told.0.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn r28_a_hook_that_hangs_holds_up_no_key_for_long() {
    struct Hangs;

    #[async_trait]
    impl KeyDelivery for Hangs {
        async fn deliver(&self, _: &ApiKey, _: &Notice<'_>) -> Delivery {
            std::future::pending().await
        }

        async fn notify(&self, _: &Notice<'_>) -> Delivery {
            std::future::pending().await
        }
    }

    let world = World::new().await;
    let issued = Keyring::new(world.store).deliver(Hangs).issue(new("a")).await.unwrap();
    assert_eq!(issued.delivery(), Delivery::Failed);
}

#[tokio::test]
async fn c13_01_nothing_of_a_mail_shows_in_debug() {
    let (email, _events) = email("smtp://user:hunter2@127.0.0.1:1", address);
    let mail = Mail::new("a subject", "a secret text".to_owned());
    let shown =
        format!("{email:?} {mail:?} {:?}", Keyring::new(World::new().await.store).deliver(email.clone()));
    assert!(!shown.contains("hunter2") && !shown.contains("secret text"), "{shown}");
}

/// The delay between attempts doubles up to five minutes, and not further, so that no mail waits for hours.
#[tokio::test(start_paused = true)]
async fn c17_g_no_wait_between_two_attempts_is_longer_than_five_minutes() {
    /// Cannot look up an address, so no server is contacted.
    struct Nobody;

    #[async_trait]
    impl Recipients for Nobody {
        async fn address(
            &self,
            _: &UserId,
        ) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
            Err("the directory is down".into())
        }
    }

    for (first, attempts, expected) in
        [(70, 5, &[70, 140, 280, 300][..]), (300, 3, &[300, 300]), (4000, 2, &[300]), (1, 40, &[])]
    {
        let (sender, mut events) = mpsc::unbounded_channel();
        let email = EmailDelivery::smtp("smtp://127.0.0.1:1", "keys@example.com", Nobody)
            .unwrap()
            .retry(NonZero::new(attempts).unwrap(), Duration::from_secs(first))
            .on_event(move |event| drop(sender.send((tokio::time::Instant::now(), event.clone()))));
        assert_eq!(say(&email, "u_own", "key_1").await, Delivery::Queued, "{first:?}, {attempts:?}");
        let (mut waits, mut due) = (Vec::new(), None);
        loop {
            let (at, event) = events.recv().await.unwrap();
            assert!(due.is_none_or(|due| at >= due && at - due < Duration::from_secs(1)), "{event:?}");
            match event {
                EmailEvent::Delayed { wait, failure: EmailFailure::Recipients, .. } => {
                    waits.push(wait.as_secs());
                    due = Some(at + wait);
                }
                EmailEvent::GivenUp { failure: EmailFailure::Recipients, .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(waits.len() + 1, usize::try_from(attempts).unwrap(), "{first:?}, {attempts:?}");
        assert!(waits.iter().all(|wait| *wait <= 300), "{waits:?}");
        assert!(expected.is_empty() || waits == expected, "{waits:?}");
    }
}
