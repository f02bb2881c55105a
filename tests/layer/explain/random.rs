//! Random keys, owners and requests.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use tower_api_key::explain::{Check, CheckOutcome, Explanation};
use tower_api_key::limit::KeyThrottle;
use tower_api_key::restriction::{RequestContext, Restrictions};
use tower_api_key::scheme_info::{Challenge, SchemeInfo};
use tower_api_key::store::{Directory, KeyStore, StoreError};
use tower_api_key::test_util::ManualClock;
use tower_api_key::{
    AccessClass, AccountStatus, AuthError, AuthErrorKind, Claims, Credentials, Deprecation, Endpoint,
    Environment, KeyDigest, KeyFormat, KeyId, KeyLevel, KeyRecord, Principal, ProjectId, Role, Timestamp,
    UserId, Verifier,
};

use test_kit::{project, user};
use tower_api_key::ApiKeys;
use tower_api_key::store::CachedKey;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// A random number generator that needs only a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// True once in this many times.
    fn once_in(&mut self, times: u64) -> bool {
        (self.roll() >> 33).is_multiple_of(times)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll() >> 33).unwrap() % all.len()].clone()
    }
}

/// One key and one person, or a failure; warm or cold.
struct Stub {
    key: Answer<Arc<KeyRecord>>,
    standing: Answer<AccountStatus>,
    warm_key: bool,
    warm_standing: bool,
}

#[derive(Clone)]
enum Answer<T> {
    Is(T),
    None,
    Fails,
}

#[async_trait]
impl KeyStore for Stub {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        match &self.key {
            Answer::Is(key) => Ok(Some(Arc::clone(key)).filter(|key| key.digest.matches(digest))),
            Answer::None => Ok(None),
            Answer::Fails => Err(StoreError::Overloaded),
        }
    }

    fn find_cached(&self, digest: &KeyDigest) -> CachedKey {
        match &self.key {
            Answer::Is(key) if self.warm_key => {
                Some(Arc::clone(key)).filter(|key| key.digest.matches(digest)).into()
            }
            Answer::None if self.warm_key => CachedKey::NotFound,
            _ => CachedKey::Miss,
        }
    }
}

#[async_trait]
impl Directory for Stub {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        match self.standing {
            Answer::Is(standing) => Ok(standing),
            Answer::None => Ok(AccountStatus::Disabled),
            Answer::Fails => Err(StoreError::Timeout),
        }
    }

    fn account_status_cached(&self, _: &UserId, _: Option<&ProjectId>) -> Option<AccountStatus> {
        match self.standing {
            Answer::Is(standing) if self.warm_standing => Some(standing),
            _ => None,
        }
    }
}

const RESTRICTIONS: [&str; 11] = [
    r#"{"schemes":{"allow":["s"]}}"#,
    r#"{"ip":{"mode":"observe","allow":[]},"schemes":{"mode":"observe","allow":["bearer"]}}"#,
    r#"{"ip":{"allow":["192.0.2.0/24"]}}"#,
    r#"{"ip":{"mode":"observe","allow":["192.0.2.0/24"]}}"#,
    r#"{"ip":{"allow":[]}}"#,
    r#"{"referrer":{"allow":["https://app.example.com"]}}"#,
    r#"{"referrer":{"mode":"observe","allow":["https://app.example.com"],"origin":true}}"#,
    r#"{"endpoints":{"allow":["GET /users"]}}"#,
    r#"{"ip":{"mode":"observe","allow":["192.0.2.7"]},"endpoints":{"allow":["GET /users","POST /users"]}}"#,
    r#"{"ip":{"allow":["192.0.2.7"]},"referrer":{"allow":["https://app.example.com"],"origin":true}}"#,
    r#"{"ip":{"mode":"observe","allow":[]},"referrer":{"mode":"observe","allow":[]},"endpoints":{"mode":"observe","allow":[]}}"#,
];

struct Case {
    text: String,
    record: KeyRecord,
    verifier: Verifier,
    schemes: [Option<SchemeInfo>; 4],
}

fn case(dice: &mut Dice) -> Case {
    let format = KeyFormat::default();
    let environment = dice.one_of(&[Environment::Live, Environment::Live, Environment::Test]);
    let ours = !dice.once_in(8);
    let text = if ours {
        format.generate(environment).unwrap().expose_secret().to_owned()
    } else {
        format!("legacy-{:016x}", dice.roll())
    };
    let id = KeyId::new(format!("key_{:016x}", dice.roll())).unwrap();
    let mut record = KeyRecord::new(id, KeyDigest::of(&text), user("alice"), Timestamp::from_secs(1));
    record.environment = environment;
    record.level = dice.one_of(&[KeyLevel::User, KeyLevel::User, KeyLevel::Project(project("p1"))]);
    if ours {
        record.prefix = format.prefix(environment).to_owned();
        record.last4 = text[text.len() - 4..].to_owned();
    }
    record.revoked_at = dice.once_in(10).then_some(Timestamp::from_secs(2));
    let ends = [
        None,
        None,
        None,
        Some(NOW),
        Some(Timestamp::from_secs(999_999)),
        Some(Timestamp::from_secs(1_000_001)),
    ];
    record.expires_at = dice.one_of(&ends);
    if dice.once_in(3) {
        record.restrictions = dice.one_of(&RESTRICTIONS).parse::<Restrictions>().unwrap();
    }
    let limits = dice.one_of(&[None, None, Some("1/min"), Some("3/min,4/h")]);
    record.limits = limits.map(|limits| limits.parse().unwrap());

    let roles = [None, Some(Role::ReadOnly), Some(Role::Full), Some(Role::Owner), Some(Role::Owner)];
    let active = Answer::Is(AccountStatus::Active { role: dice.one_of(&roles) });
    let is = Answer::Is(Arc::new(record.clone()));
    let keys = [is.clone(), is.clone(), is.clone(), is.clone(), is.clone(), is, Answer::None, Answer::Fails];
    let standings = [active.clone(), active.clone(), active.clone(), active, Answer::None, Answer::Fails];
    let stub = Stub {
        key: dice.one_of(&keys),
        standing: dice.one_of(&standings),
        warm_key: dice.once_in(2),
        warm_standing: dice.once_in(2),
    };
    let mut verifier = ApiKeys::new(stub).clock(ManualClock::new(NOW)).verifier();
    if dice.once_in(2) {
        verifier = verifier.accept_foreign_keys();
    }
    if dice.once_in(6) {
        verifier = verifier.environment(dice.one_of(&[Environment::Live, Environment::Test]));
    }
    if dice.once_in(2) {
        let once = || "1/min".parse().unwrap();
        verifier = verifier.throttle(KeyThrottle::default().repeats(once()).lookups(once()));
    }
    let info = SchemeInfo::new("s", Challenge::new("S", "s").unwrap());
    let sunset =
        |at| Deprecation::new(Timestamp::from_secs(5)).unwrap().sunset(Timestamp::from_secs(at)).unwrap();
    let schemes = [
        None,
        Some(info.clone().require_project()),
        Some(info.clone().deprecated(sunset(1_000_001))),
        Some(info.deprecated(sunset(1_000_000))),
    ];
    Case { text, record, verifier, schemes }
}

/// Asks for an explanation and sends the request.
async fn both(dice: &mut Dice, case: &Case) -> (Explanation, Result<Principal, AuthError>) {
    let mut claims = Claims::new();
    let mut credentials = Credentials::new(&*case.text);
    if let Some(user) =
        dice.one_of(&[None, None, Some(None), Some(Some("alice")), Some(Some("alice")), Some(Some("bob"))])
    {
        claims = claims.user(user);
        credentials = credentials.claim_user(user);
    }
    let projects = [
        None,
        Some(None),
        Some(None),
        Some(Some("p1")),
        Some(Some("p1")),
        Some(Some("p2")),
        Some(Some("no id")),
    ];
    if let Some(project) = dice.one_of(&projects) {
        claims = claims.project(project);
        credentials = credentials.select_project(project);
    }
    let rare = if dice.once_in(8) { 4 } else { 3 };
    if let Some(scheme) = &dice.one_of(&case.schemes[..rare]) {
        claims = claims.through(scheme);
        credentials = credentials.through(scheme);
    }
    let classes = [AccessClass::Read, AccessClass::Read, AccessClass::Write, AccessClass::Manage];
    let endpoint = Endpoint { class: dice.one_of(&classes), project_optional: dice.once_in(3) };
    let mut facts = RequestContext::new();
    let addresses: [Option<IpAddr>; 4] = [
        None,
        Some("192.0.2.7".parse().unwrap()),
        Some("192.0.2.8".parse().unwrap()),
        Some("::1".parse().unwrap()),
    ];
    if let Some(address) = dice.one_of(&addresses) {
        facts = facts.address(address);
    }
    if let Some(referrer) =
        dice.one_of(&[None, Some("https://app.example.com/x"), Some("https://else.example")])
    {
        facts = facts.referrer(referrer);
    }
    if let Some(origin) = dice.one_of(&[None, Some("https://app.example.com")]) {
        facts = facts.origin(origin);
    }
    let (get, post) = (Method::GET, Method::POST);
    if let Some((method, path)) =
        dice.one_of(&[None, Some((&get, "/users")), Some((&post, "/users")), Some((&get, "/%2e"))])
    {
        facts = facts.endpoint(method, path);
    }
    // A wrong key from an address that may be the same.
    if dice.once_in(3) {
        let wrong = KeyFormat::default().generate(Environment::Live).unwrap();
        let from = RequestContext::new().address([192, 0, 2, 7]);
        let wrong = Credentials::new(wrong.expose_secret());
        case.verifier.verify_with(&wrong, Endpoint::READ, &from).await.unwrap_err();
    }
    // Some earlier requests, so that limits are used up.
    for _ in 0..dice.one_of(&[0, 0, 1, 3]) {
        drop(case.verifier.verify_with(&credentials, endpoint, &facts).await);
    }
    let first = case.verifier.explain(&case.record, &claims, endpoint, &facts).await;
    let again = case.verifier.explain(&case.record, &claims, endpoint, &facts).await;
    assert_eq!(first.to_string(), again.to_string(), "to explain is to change something");
    (first, case.verifier.verify_with(&credentials, endpoint, &facts).await)
}

#[tokio::test(flavor = "current_thread")]
async fn a8_the_first_check_that_refuses_is_the_answer() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut decided, mut kinds, mut accepted, mut later) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    for round in 0..6_000 {
        let case = case(&mut dice);
        let (explanation, answer) = both(&mut dice, &case).await;
        let shown = format!("round {round}\n{explanation}{answer:?}");

        let checks: Vec<Check> = explanation.findings().iter().map(|finding| finding.check()).collect();
        assert_eq!(checks, Check::ALL, "{shown}");
        let refusals = explanation.findings().iter().filter_map(|finding| match finding.outcome() {
            CheckOutcome::Refused(kind) => Some(kind),
            _ => None,
        });
        let refusals: Vec<AuthErrorKind> = refusals.collect();
        match &answer {
            Ok(principal) => {
                accepted += 1;
                assert!(explanation.is_accepted() && refusals.is_empty(), "{shown}");
                let not_passed = |outcome| !matches!(outcome, CheckOutcome::Passed | CheckOutcome::Observed);
                assert!(
                    !explanation.findings().iter().any(|finding| not_passed(finding.outcome())),
                    "{shown}"
                );
                let observed: Vec<Check> = principal.observed().map(Check::Restriction).collect();
                let said = explanation
                    .findings()
                    .iter()
                    .filter(|finding| finding.outcome() == CheckOutcome::Observed);
                assert_eq!(observed, said.map(|finding| finding.check()).collect::<Vec<_>>(), "{shown}");
            }
            Err(error) => {
                assert_eq!(Some(error.kind()), refusals.first().copied(), "{shown}");
                let said = explanation.error().unwrap();
                assert_eq!((said.kind(), said.message()), (error.kind(), error.message()), "{shown}");
                decided.insert(explanation.decided_by().unwrap().check().as_str());
                kinds.insert(format!("{:?}", error.kind()));
                later += usize::from(refusals.len() > 1);
            }
        }
        // Of the key, only its public parts appear in the text.
        let json = serde_json::to_string(&explanation).unwrap();
        for told in [&explanation.to_string(), &json, &format!("{explanation:?}")] {
            assert!(!told.contains(&case.text) && !told.contains(&case.text[8..20]), "{told}");
        }
    }
    // Each check has decided at least once, and each kind of error has been the answer.
    let all: BTreeSet<&str> =
        Check::ALL.iter().map(|check| check.as_str()).filter(|name| *name != "https").collect();
    assert_eq!(decided, all);
    assert_eq!(kinds.len(), 18, "{kinds:?}");
    assert!(accepted > 300 && later > 300, "{accepted} were let in, {later} refused for several reasons");
}
