//! Runs every combination of facts through all three drivers, and compares the results with a table of the decision
//! order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Runtime;

use super::world::{Answers, CLIENT, Hand, NOW, World, gate, record, runtime, text};
use crate::auth_error::AuthErrorKind;
use crate::credentials::Credentials;
use crate::deprecation::Deprecation;
use crate::endpoint::Endpoint;
use crate::gate::{Check, CheckListener, Gate, Principal, Refusal};
use crate::key::{Environment, ProjectId};
use crate::limit::Limiter;
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{
    EndpointRestriction, IpRestriction, ReferrerRestriction, RequestContext, RestrictionKind, Restrictions,
    SchemeRestriction,
};
use crate::role::{AccessClass, AccountStatus, Role};
use crate::scheme_info::{Challenge, SchemeInfo};

/// The text that is sent as the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Own,
    Foreign,
    Malformed,
    ThroughEndedScheme,
}

/// The record that the store has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Active,
    Revoked,
    Expired,
    /// A key of the environment that is not accepted.
    OtherEnvironment,
    /// A key whose environment differs from the one in its text.
    Torn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    NotAsked,
    Missing,
    Owner,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    NotAsked,
    Missing,
    Own,
    Other,
    Invalid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limited {
    Not,
    Within,
    Spent,
}

const SENT: [Sent; 4] = [Sent::Own, Sent::Foreign, Sent::Malformed, Sent::ThroughEndedScheme];
const HELD: [Held; 6] =
    [Held::Nothing, Held::Active, Held::Revoked, Held::Expired, Held::OtherEnvironment, Held::Torn];
const USERS: [User; 4] = [User::NotAsked, User::Missing, User::Owner, User::Other];
const NAMED: [Named; 5] = [Named::NotAsked, Named::Missing, Named::Own, Named::Other, Named::Invalid];
const STANDINGS: [AccountStatus; 5] = [
    AccountStatus::Disabled,
    AccountStatus::Active { role: None },
    AccountStatus::Active { role: Some(Role::ReadOnly) },
    AccountStatus::Active { role: Some(Role::Full) },
    AccountStatus::Active { role: Some(Role::Owner) },
];
const CLASSES: [AccessClass; 3] = [AccessClass::Read, AccessClass::Write, AccessClass::Manage];
const LIMITED: [Limited; 3] = [Limited::Not, Limited::Within, Limited::Spent];
const ANSWERS: [Answers; 3] = [Answers::AtHand, Answers::WhenAsked, Answers::Never];
/// The restriction that does not allow the request, and whether it is only observed.
const OUTSIDE: [Option<(RestrictionKind, bool)>; 9] = [
    None,
    Some((RestrictionKind::Scheme, false)),
    Some((RestrictionKind::Scheme, true)),
    Some((RestrictionKind::Ip, false)),
    Some((RestrictionKind::Ip, true)),
    Some((RestrictionKind::Referrer, false)),
    Some((RestrictionKind::Referrer, true)),
    Some((RestrictionKind::Endpoint, false)),
    Some((RestrictionKind::Endpoint, true)),
];

#[derive(Clone, Copy, Debug)]
struct Combination {
    sent: Sent,
    held: Held,
    level_of_project: bool,
    outside: Option<(RestrictionKind, bool)>,
    limited: Limited,
    standing: AccountStatus,
    user: User,
    named: Named,
    class: AccessClass,
    project_optional: bool,
    scheme_needs_project: bool,
    keys: Answers,
    directory: Answers,
}

/// The number of combinations.
const ALL: usize = RECORDS * 5 * 4 * 5 * 3 * 2 * 2 * 3 * 3;
/// The number of different records among them.
const RECORDS: usize = 4 * 6 * 2 * 9 * 3;

impl Combination {
    fn of(mut index: usize) -> Self {
        let mut pick = |of: usize| {
            let picked = index % of;
            index /= of;
            picked
        };
        Self {
            sent: SENT[pick(4)],
            held: HELD[pick(6)],
            level_of_project: pick(2) == 1,
            outside: OUTSIDE[pick(9)],
            limited: LIMITED[pick(3)],
            standing: STANDINGS[pick(5)],
            user: USERS[pick(4)],
            named: NAMED[pick(5)],
            class: CLASSES[pick(3)],
            project_optional: pick(2) == 1,
            scheme_needs_project: pick(2) == 1,
            keys: ANSWERS[pick(3)],
            directory: ANSWERS[pick(3)],
        }
    }

    fn enforced(&self) -> Option<RestrictionKind> {
        self.outside.filter(|(_, observed)| !observed).map(|(kind, _)| kind)
    }

    /// The expected result, by the decision order from first to last.
    fn due(&self) -> Result<(Role, Option<&'static str>), AuthErrorKind> {
        match self.sent {
            Sent::ThroughEndedScheme => return Err(AuthErrorKind::SchemeEnded),
            Sent::Malformed => return Err(AuthErrorKind::MalformedKey),
            Sent::Own | Sent::Foreign => {}
        }
        if self.keys == Answers::Never {
            return Err(AuthErrorKind::StoreFailed);
        }
        match self.held {
            Held::Nothing => return Err(AuthErrorKind::UnknownKey),
            // A foreign text contains no environment.
            Held::Torn if self.sent == Sent::Own => return Err(AuthErrorKind::StoreFailed),
            Held::Revoked => return Err(AuthErrorKind::RevokedKey),
            Held::Expired => return Err(AuthErrorKind::ExpiredKey),
            Held::OtherEnvironment | Held::Torn => return Err(AuthErrorKind::WrongEnvironment),
            Held::Active => {}
        }
        if self.directory == Answers::Never {
            return Err(AuthErrorKind::StoreFailed);
        }
        let AccountStatus::Active { role } = self.standing else { return Err(AuthErrorKind::OwnerDisabled) };
        if self.enforced() == Some(RestrictionKind::Scheme) {
            return Err(AuthErrorKind::SchemeNotAllowed);
        }
        if matches!(self.user, User::Missing | User::Other) {
            return Err(AuthErrorKind::UserMismatch);
        }
        if self.enforced().is_some() {
            return Err(AuthErrorKind::Restricted);
        }
        let project = match (self.level_of_project, self.named) {
            (_, Named::Invalid) => return Err(AuthErrorKind::InvalidProject),
            (true, Named::Other) => return Err(AuthErrorKind::ProjectMismatch),
            (true, _) | (false, Named::Own) => Some("p1"),
            (false, Named::Other) => Some("p2"),
            (false, Named::NotAsked | Named::Missing) => None,
        };
        if project.is_none() && self.scheme_needs_project && !self.project_optional {
            return Err(AuthErrorKind::ProjectRequired);
        }
        let Some(role) = role else { return Err(AuthErrorKind::Forbidden) };
        if role == Role::ReadOnly && self.class != AccessClass::Read {
            return Err(AuthErrorKind::ReadOnly);
        }
        if self.level_of_project && self.class == AccessClass::Manage {
            return Err(AuthErrorKind::Forbidden);
        }
        if self.limited == Limited::Spent {
            return Err(AuthErrorKind::RateLimited);
        }
        let role = if self.level_of_project && role == Role::Owner { Role::Full } else { role };
        Ok((role, project))
    }

    /// Whether the decision depends on the owner's account status.
    fn looks_at_the_owner(&self) -> bool {
        let text = matches!(self.sent, Sent::Own | Sent::Foreign);
        text && self.keys != Answers::Never && self.held == Held::Active
    }
}

/// The fixtures of all combinations.
struct Stage {
    world: Arc<World>,
    gate: Gate,
    own: String,
    own_of_test: String,
    foreign: &'static str,
    schemes: [SchemeInfo; 2],
    ended: SchemeInfo,
    /// The records, indexed by the first facts of a combination.
    records: Vec<Option<Arc<KeyRecord>>>,
    runtime: Runtime,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let mut gate = gate(&world, &Hand::new());
        gate.rules.accept_foreign_keys = true;
        gate.rules.environment = Some(Environment::Live);
        let scheme = |name| SchemeInfo::new(name, Challenge::api_bearer());
        let ended = Deprecation::new(crate::clock::Timestamp::from_secs(1)).unwrap().sunset(NOW).unwrap();
        Self {
            world,
            gate,
            own: text(Environment::Live),
            own_of_test: text(Environment::Test),
            foreign: "somebody-elses",
            schemes: [scheme("used"), scheme("used").require_project()],
            ended: scheme("used").deprecated(ended),
            records: vec![None; RECORDS],
            runtime: runtime(),
        }
    }

    fn sent(&self, of: &Combination) -> &str {
        match of.sent {
            Sent::Own if of.held == Held::OtherEnvironment => &self.own_of_test,
            Sent::Own | Sent::ThroughEndedScheme => &self.own,
            Sent::Foreign => self.foreign,
            Sent::Malformed => "not\0a key",
        }
    }

    fn record(&self, of: &Combination) -> KeyRecord {
        let live = !matches!(of.held, Held::OtherEnvironment | Held::Torn);
        let environment = if live { Environment::Live } else { Environment::Test };
        let mut key = record(self.sent(of), environment);
        match of.sent {
            Sent::Own | Sent::ThroughEndedScheme => {}
            Sent::Foreign | Sent::Malformed => key.prefix = "".into(),
        }
        if of.level_of_project {
            key.level = KeyLevel::Project(ProjectId::new("p1").unwrap());
        }
        match of.held {
            Held::Revoked => key.revoked_at = Some(NOW),
            Held::Expired => key.expires_at = Some(NOW),
            _ => {}
        }
        key.restrictions = restrictions(of.outside);
        key.limits = match of.limited {
            Limited::Not => None,
            Limited::Within => Some("1000000/s".parse().unwrap()),
            Limited::Spent => Some("1/365d".parse().unwrap()),
        };
        key
    }

    /// Sets up the facts of a combination, and returns the credentials and the endpoint of the request.
    fn set(&mut self, of: &Combination, key: &Arc<KeyRecord>) -> (Credentials<'static>, Endpoint) {
        self.world.forget();
        let mut records = self.world.records.lock().unwrap();
        records.clear();
        if of.held != Held::Nothing {
            records.push(Arc::clone(key));
        }
        drop(records);
        *self.world.keys.lock().unwrap() = of.keys;
        *self.world.directory.lock().unwrap() = of.directory;
        *self.world.standing.lock().unwrap() = of.standing;
        self.gate.limiter = Arc::new(Limiter::new(8));
        if of.limited == Limited::Spent {
            let _ = self.gate.limiter.take(&key.family, key.limits.as_ref().unwrap(), NOW);
        }
        let mut credentials = Credentials::new(self.sent(of));
        credentials = match of.user {
            User::NotAsked => credentials,
            User::Missing => credentials.claim_user(None::<&str>),
            User::Owner => credentials.claim_user(Some("alice")),
            User::Other => credentials.claim_user(Some("bob")),
        };
        credentials = match of.named {
            Named::NotAsked => credentials,
            Named::Missing => credentials.select_project(None::<&str>),
            Named::Own => credentials.select_project(Some("p1")),
            Named::Other => credentials.select_project(Some("p2")),
            Named::Invalid => credentials.select_project(Some("no id!")),
        };
        let scheme = match of.sent {
            Sent::ThroughEndedScheme => &self.ended,
            _ => &self.schemes[usize::from(of.scheme_needs_project)],
        };
        let endpoint = Endpoint { class: of.class, project_optional: of.project_optional };
        (credentials.through(scheme).copied(), endpoint)
    }
}

pub(super) fn restrictions(outside: Option<(RestrictionKind, bool)>) -> Restrictions {
    let Some((kind, observed)) = outside else { return Restrictions::none() };
    // The other restrictions allow the request.
    let allows = |of, good, bad| if kind == of { bad } else { good };
    macro_rules! list {
        ($list:ident, $of:ident, $good:literal, $bad:literal) => {{
            let list = $list::allow([allows(RestrictionKind::$of, $good, $bad)]).unwrap();
            if observed && kind == RestrictionKind::$of { list.observe() } else { list }
        }};
    }
    Restrictions::none()
        .schemes(list!(SchemeRestriction, Scheme, "used", "another"))
        .ip(list!(IpRestriction, Ip, "192.0.2.0/24", "10.0.0.0/8"))
        .referrer(list!(ReferrerRestriction, Referrer, "https://app.example", "https://other.example"))
        .endpoints(list!(EndpointRestriction, Endpoint, "GET /v1/things", "GET /v1/others"))
}

pub(super) fn facts() -> RequestContext<'static> {
    RequestContext::new()
        .address(CLIENT)
        .referrer("https://app.example/page")
        .endpoint(&http::Method::GET, "/v1/things")
}

/// A listener that records every refusal, and continues if possible.
#[derive(Default)]
struct All(Vec<AuthErrorKind>);

impl CheckListener for All {
    type Stop = ();

    fn hear<E: Into<Refusal>>(&mut self, check: Check, answer: Result<(), E>) -> Result<(), ()> {
        let _ = self.need(check, answer);
        Ok(())
    }

    fn need<T, E: Into<Refusal>>(&mut self, _: Check, answer: Result<T, E>) -> Result<T, ()> {
        answer.map_err(|refusal| self.0.push(refusal.into().kind))
    }

    fn about((): (), _: Arc<KeyRecord>) {}
}

fn seen(who: &Principal) -> (Role, Option<String>) {
    (who.role(), who.project().map(ToString::to_string))
}

fn check(stage: &mut Stage, index: usize) {
    let of = Combination::of(index);
    let key = stage.records[index % RECORDS].clone().unwrap_or_else(|| Arc::new(stage.record(&of)));
    stage.records[index % RECORDS] = Some(Arc::clone(&key));
    let due = of.due().map(|(role, project)| (role, project.map(str::to_owned)));
    let spent = |stage: &Stage| {
        key.limits.as_ref().map(|limits| stage.gate.limiter.peek(&key.family, limits, NOW).remaining())
    };
    let (credentials, endpoint) = stage.set(&of, &key);
    let before = spent(stage);

    let now = stage.gate.now(&credentials, endpoint, facts);
    let at_hand = of.keys == Answers::AtHand && (of.directory == Answers::AtHand || !of.looks_at_the_owner())
        || matches!(of.sent, Sent::Malformed | Sent::ThroughEndedScheme);
    let decided = match now {
        Ok(Err(paused)) => {
            assert!(!at_hand, "{of:?} had to wait");
            stage.runtime.block_on(stage.gate.asking(paused, &credentials, facts))
        }
        Ok(Ok(admission)) => {
            assert!(at_hand, "{of:?} was decided by what is not at hand");
            Ok(admission)
        }
        Err(error) => {
            assert!(at_hand, "{of:?} was refused by what is not at hand");
            Err(error)
        }
    };
    let about = decided.as_ref().err().and_then(|error| error.about().cloned());
    let got = decided.as_ref().map(|admission| seen(&admission.principal)).map_err(|error| error.kind());
    assert_eq!(got, due, "{of:?}");
    if let Ok(admission) = &decided {
        let who = &admission.principal;
        assert!(std::ptr::eq(who.record(), &*key) && admission.outdated.is_none(), "{of:?}");
        let observed: Vec<_> = who.observed().collect();
        let outside = of.outside.map(|(kind, _)| kind);
        assert_eq!(observed, outside.into_iter().collect::<Vec<_>>(), "{of:?}");
        assert_eq!(who.scheme(), Some("used"));
        assert_eq!(who.rate_limit().is_some(), of.limited != Limited::Not);
    }
    // A request that another check refuses is not counted.
    let counts = usize::from(due.is_ok() && of.limited == Limited::Within);
    let left = before.map(|before| before as usize - counts);
    let left_at_most = spent(stage).map(|left| left as usize);
    assert!(left_at_most <= left && left.is_none_or(|left| left_at_most.unwrap() + 1 >= left), "{of:?}");
    if counts == 0 {
        assert_eq!(left_at_most, left, "{of:?}");
    }
    // A refusal contains the key if, and only if, the key was found.
    let found =
        matches!(of.sent, Sent::Own | Sent::Foreign) && of.keys != Answers::Never && of.held != Held::Nothing;
    assert_eq!(about.is_some(), found && due.is_err(), "{of:?}");

    // Each store was asked at most once, and the directory about the right user and project.
    let world = &stage.world;
    assert!(world.warm_keys.load(Ordering::Relaxed) <= 1, "{of:?}");
    assert!(world.found.lock().unwrap().len() <= 1, "{of:?}");
    assert!(world.warm_standings.load(Ordering::Relaxed) <= 1, "{of:?}");
    assert!(world.standings.load(Ordering::Relaxed) <= 1, "{of:?}");
    let asked = world.asked_about.lock().unwrap().take();
    assert_eq!(asked.is_some(), of.looks_at_the_owner(), "{of:?}");
    if let (Some((user, project)), Ok((_, due))) = (asked, &due) {
        assert_eq!((user.as_str(), project.map(|project| project.to_string())), ("alice", due.clone()));
    }

    let mut all = All::default();
    let (claims, facts) = (credentials.claims(), facts());
    let explaining = stage.gate.explaining(&mut all, &key, claims, endpoint, &facts);
    let explained = stage.runtime.block_on(explaining);
    // An explanation assumes that the text has the shape in the record, because a text that is not a key has no record.
    if of.sent != Sent::Malformed && !(of.held == Held::Torn && of.sent == Sent::Own) {
        assert_eq!(all.0.first().copied(), due.as_ref().err().copied(), "{of:?} explained");
        let is_there = of.keys != Answers::Never && of.held != Held::Nothing;
        assert_eq!(explained.key.is_some(), is_there, "{of:?}");
    }
    assert_eq!(spent(stage).map(|left| left as usize), left_at_most, "{of:?}: explaining counts");
}

/// Runs some of the combinations, so that every test run detects a wrong order.
#[test]
fn a8_the_order_holds_for_a_sample_of_all_combinations() {
    let mut stage = Stage::new();
    for index in (0..ALL).step_by(199) {
        check(&mut stage, index);
    }
}

#[test]
#[ignore = "14 million combinations take some minutes"]
fn a8_the_order_holds_for_all_combinations() {
    const THREADS: usize = 4;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut stage = Stage::new();
                (thread..ALL).step_by(THREADS).for_each(|index| check(&mut stage, index));
            });
        }
    });
    println!("{ALL} combinations");
}
