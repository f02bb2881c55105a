//! Draws one change of the world from a seed, and requests that are affected by it.

use std::collections::BTreeSet;

use super::model::{
    Account, Change, Client, Limits, List, Member, Model, Named, Origin, Page, Place, Probe, Project, Rules,
    SECOND, SUNSET, Scheme, Slip, Text, User, Verdict, Wish,
};

/// A small random number generator, so that a seed determines everything.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

const USERS: [User; 6] = ["ann", "bob", "cy", "dee", "eve", "fay"];
const ACCOUNTS: [Account; 2] = ["A", "B"];
/// Both accounts have a `p1`.
const PROJECTS: [(Account, Project); 5] = [("A", "p1"), ("A", "p2"), ("A", "p3"), ("B", "p1"), ("B", "q1")];
const PLACES: [Place; 9] = [
    Place::Get,
    Place::Post,
    Place::ReadByPost,
    Place::GetAnywhere,
    Place::PostAnywhere,
    Place::Manage,
    Place::OptionalGet,
    Place::OptionalPost,
    Place::Public,
];
const SCHEMES: [Scheme; 3] = [Scheme::Bearer, Scheme::Header, Scheme::Body];

/// Two accounts with people and projects; `fay` belongs to none.
pub(crate) fn beginning() -> Vec<Change> {
    let made = [("A", "p1"), ("A", "p2"), ("B", "p1")];
    let made = made.map(|(account, project)| Change::MakeProject { account, project });
    let members = [
        ("A", "bob", true, vec!["p1", "p2"]),
        ("A", "cy", false, vec!["p1"]),
        ("B", "eve", true, vec!["p1"]),
    ];
    let members = members.map(|(account, user, writes, projects)| Change::SetMember {
        account,
        user,
        member: Member { writes, projects: projects.into_iter().collect() },
    });
    made.into_iter().chain(members).collect()
}

pub(crate) fn change(dice: &mut Dice, model: &Model, nodes: usize) -> Change {
    let roll = dice.below(100);
    if roll < 14 || model.keys.len() < 2 {
        let (mut wish, single) = (wish(dice, model), dice.percent(20));
        // Creating a key that ends others is most interesting for an owner who has some.
        if let Some(other) = model.keys.iter().rev().find(|key| key.replaced && model.is_active(key))
            && single
        {
            (wish.owner, wish.test) = (other.wish.owner, other.wish.test);
        }
        return Change::Issue { wish, single };
    }
    let key = key(dice, model);
    let account = dice.of(&ACCOUNTS);
    match roll {
        14..26 => {
            let origins = [Origin::Sha256, Origin::Sha512, Origin::Hmac, Origin::Sanctum, Origin::Text];
            Change::Import { wish: wish(dice, model), origin: dice.of(&origins), revoked: dice.percent(15) }
        }
        26..28 => {
            let imported: Vec<usize> =
                (0..model.keys.len()).filter(|key| model.keys[*key].origin.is_some()).collect();
            if imported.is_empty() {
                Change::Revoke { key }
            } else {
                Change::ImportAgain { key: dice.of(&imported) }
            }
        }
        28..40 => Change::Rotate {
            key: rotated(dice, model, key),
            grace: dice.of(&[0, 0, 30 * SECOND, 600 * SECOND]),
        },
        40..42 => Change::EndGrace { key },
        42..50 => Change::Revoke { key },
        50..59 => {
            let updated = [(true, false), (false, true), (true, true)];
            let (with_rules, with_limits) = dice.of(&updated);
            let rules = with_rules.then(|| rules(dice));
            Change::Amend { key, rules, limits: with_limits.then(|| limits(dice)) }
        }
        59..65 => {
            let old: Vec<usize> = (0..model.keys.len()).filter(|key| !model.keys[*key].newest).collect();
            let key = if old.is_empty() { key } else { dice.of(&old) };
            Change::Rehash { key, from_another: dice.percent(10) }
        }
        65..68 => {
            let (account, project) = dice.of(&PROJECTS);
            Change::MakeProject { account, project }
        }
        68..70 => {
            let (account, project) = dice.of(&PROJECTS);
            Change::DeleteProject { account, project }
        }
        70..79 => {
            // People without an account may come back, but their keys may not.
            let gone: Vec<User> = USERS.into_iter().filter(|user| !model.is_anywhere(user)).collect();
            let held = |user: &User| model.keys.iter().any(|key| key.wish.owner == *user);
            let gone = gone.iter().find(|user| held(user)).map_or(gone.clone(), |user| vec![*user]);
            let user = if !gone.is_empty() && dice.percent(50) { dice.of(&gone) } else { dice.of(&USERS) };
            Change::SetMember { account, user, member: member(dice, account) }
        }
        79..83 => {
            let user = if dice.percent(70) { model.keys[key].wish.owner } else { dice.of(&USERS) };
            Change::RemoveMember { account, user }
        }
        83..85 => Change::Transfer { account, to: dice.of(&USERS), member: member(dice, account) },
        85..89 => Change::Suspend { account, suspended: dice.percent(25) },
        89..98 => Change::Clock { to: time(dice, model) },
        _ => Change::Restart { node: dice.below(nodes) },
    }
}

/// Prefers a key with an expiry.
fn rotated(dice: &mut Dice, model: &Model, key: usize) -> usize {
    let ends = |key: &usize| {
        let key = &model.keys[*key];
        key.wish.ends.is_some() && !key.replaced && model.is_active(key)
    };
    let ending: Vec<usize> = (0..model.keys.len()).filter(ends).collect();
    if !ending.is_empty() && dice.percent(50) { dice.of(&ending) } else { key }
}

/// Prefers a new key, or one that works.
fn key(dice: &mut Dice, model: &Model) -> usize {
    let all = model.keys.len();
    let active: Vec<usize> = (0..all).filter(|key| model.is_active(&model.keys[*key])).collect();
    match dice.below(10) {
        0..3 => all - 1 - dice.below(all.min(5)),
        3..9 if !active.is_empty() => dice.of(&active),
        _ => dice.below(all),
    }
}

fn wish(dice: &mut Dice, model: &Model) -> Wish {
    let project = if dice.percent(35) { Some(dice.of(&PROJECTS).1) } else { None };
    let ends = match dice.below(10) {
        0..7 => None,
        7 if dice.percent(50) => Some(model.now - SECOND),
        7 => Some(model.now + 20 * SECOND),
        _ => Some(model.now + 600 * SECOND),
    };
    let rules = if dice.percent(25) { rules(dice) } else { Rules::default() };
    let limits = if dice.percent(25) { limits(dice) } else { Limits::new() };
    // Most of these users belong to an account.
    let owner = if dice.percent(85) { dice.of(&USERS[..5]) } else { "fay" };
    Wish { owner, project, test: dice.percent(20), ends, rules, limits }
}

fn rules(dice: &mut Dice) -> Rules {
    Rules {
        clients: list(dice, &[Client::Office, Client::Home]),
        pages: list(dice, &[Page::Ours, Page::Theirs]),
        places: list(dice, &PLACES[..6]),
        schemes: list(dice, &SCHEMES),
    }
}

fn list<T: Clone>(dice: &mut Dice, all: &[T]) -> Option<List<T>> {
    let observed = dice.percent(30);
    let allowed = all.iter().filter(|_| dice.percent(70)).cloned().collect();
    dice.percent(35).then_some(List { observed, allowed })
}

fn limits(dice: &mut Dice) -> Limits {
    dice.of(&[vec![], vec![(1, 60)], vec![(3, 60)], vec![(6, 60)], vec![(2, 60), (4, 3600)], vec![(5, 10)]])
}

fn member(dice: &mut Dice, account: Account) -> Member {
    let all = PROJECTS.iter().filter(|(of, _)| *of == account).map(|(_, project)| *project);
    // A key that does not exist is an error, so it is drawn rarely.
    let projects: BTreeSet<Project> = all
        .filter(|project| if matches!(*project, "p1" | "p2") { dice.percent(60) } else { dice.percent(10) })
        .collect();
    Member { writes: dice.percent(60), projects }
}

/// Moves the clock by seconds and hours, forward and back, and to the exact time at which something ends.
fn time(dice: &mut Dice, model: &Model) -> i64 {
    let ends: Vec<i64> = model.keys.iter().filter_map(|key| key.wish.ends).collect();
    let next = ends.iter().copied().filter(|end| *end > model.now).min();
    match dice.below(10) {
        0..3 => model.now + 5 * SECOND,
        4 => model.now + 1200 * SECOND,
        5 => model.now - 40 * SECOND,
        6 => model.now - 1800 * SECOND,
        7 if dice.percent(30) => SUNSET - i64::from(dice.percent(50)),
        3 | 7 if next.is_some() => next.unwrap_or(model.now) - i64::from(dice.percent(30)),
        7..9 if !ends.is_empty() => dice.of(&ends) - i64::from(dice.percent(50)),
        _ => model.now + 1,
    }
}

/// Requests that the change probably affects. Every second one is accepted before or after it, if such a request is
/// found.
pub(crate) fn probes(dice: &mut Dice, model: &Model, change: &Change, count: usize) -> Vec<Probe> {
    let (mut before, mut after) = (model.clone(), model.clone());
    after.apply(change);
    let mut accepts = |probe: &Probe| {
        let accepts = |model: &mut Model| matches!(model.decide(0, probe), Verdict::Accepted(_));
        accepts(&mut before) || accepts(&mut after)
    };
    let mut probes = Vec::new();
    for number in 0..count {
        let tries = if number.is_multiple_of(2) { 40 } else { 1 };
        let mut drawn = probe(dice, model, change);
        for _ in 1..tries {
            if accepts(&drawn) {
                break;
            }
            drawn = probe(dice, model, change);
        }
        probes.push(drawn);
    }
    probes
}

fn probe(dice: &mut Dice, model: &Model, change: &Change) -> Probe {
    let concerned = concerned(model, change);
    let text = match dice.below(100) {
        0..65 if !concerned.is_empty() => Text::Key(dice.of(&concerned)),
        0..96 if !model.keys.is_empty() => Text::Key(key(dice, model)),
        0..99 => Text::Unknown,
        _ => Text::Garbage,
    };
    let wish = match (text, change) {
        (Text::Key(number), Change::Issue { wish, .. } | Change::Import { wish, .. })
            if number == model.keys.len() =>
        {
            Some(wish)
        }
        (Text::Key(number), _) => model.keys.get(number).map(|key| &key.wish),
        _ => None,
    };
    let (owner, own) = wish.map_or(("ann", None), |wish| (wish.owner, wish.project));
    let user = if dice.percent(88) { Some(owner) } else { dice.of(&[Some("bob"), Some("nobody"), None]) };
    let any = Named::Project(dice.of(&PROJECTS).1);
    let own = Named::Project(own.unwrap_or("p1"));
    let project = match dice.below(20) {
        0..10 => own,
        10..13 => any,
        13..19 => Named::Nothing,
        _ => Named::NoId,
    };
    let slips = [Slip::Twice, Slip::BothHeaders, Slip::NoJson, Slip::OtherType, Slip::Nothing];
    let scheme = dice.of(&SCHEMES);
    let slip = if dice.percent(95) { Slip::None } else { fitting(dice.of(&slips), scheme) };
    let posts = [Place::Post, Place::ReadByPost, Place::PostAnywhere, Place::Manage, Place::OptionalPost];
    let place = if scheme == Scheme::Body && dice.percent(90) { dice.of(&posts) } else { dice.of(&PLACES) };
    let clients = [Client::Office, Client::Office, Client::Office, Client::Home, Client::Unknown];
    let pages = [Page::Ours, Page::Ours, Page::Ours, Page::Theirs, Page::None];
    Probe {
        live_only: dice.percent(15),
        scheme,
        slip,
        text,
        user,
        project,
        place,
        client: dice.of(&clients),
        page: dice.of(&pages),
    }
}

/// Replaces mistakes that are impossible for this scheme.
fn fitting(slip: Slip, scheme: Scheme) -> Slip {
    match (slip, scheme) {
        (Slip::BothHeaders, Scheme::Body) => Slip::None,
        (Slip::NoJson | Slip::OtherType, Scheme::Bearer | Scheme::Header) => Slip::None,
        _ => slip,
    }
}

/// The keys that a change may affect, including the key that it makes.
fn concerned(model: &Model, change: &Change) -> Vec<usize> {
    let next = model.keys.len();
    let of = |user: User| (0..next).filter(|key| model.keys[*key].wish.owner == user).collect();
    match change {
        Change::Issue { wish, .. } | Change::Import { wish, .. } => {
            let mut keys: Vec<usize> = of(wish.owner);
            keys.extend([next; 3]);
            keys
        }
        Change::Rotate { key, .. } => vec![*key, next],
        Change::ImportAgain { key }
        | Change::EndGrace { key }
        | Change::Revoke { key }
        | Change::Amend { key, .. }
        | Change::Rehash { key, .. } => vec![*key],
        Change::SetMember { user, .. }
        | Change::RemoveMember { user, .. }
        | Change::Transfer { to: user, .. } => of(user),
        Change::Clock { to } => {
            let ends =
                |key: &usize| model.keys[*key].wish.ends.is_some_and(|end| end <= *to && model.now <= end);
            (0..next).filter(ends).collect()
        }
        _ => Vec::new(),
    }
}
