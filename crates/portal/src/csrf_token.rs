//! Forms carry a ticket and its proof: the proof binds them to a session, and a ticket is spent once.
//!
//! # Format
//!
//! ```text
//! ticket   0001735689600 Zm9vYmFy...   13 digits, the second at which the form was shown; 22 random characters
//! proof    64 hexadecimal digits       SHA-256 over the session's secret and the ticket, both of fixed length
//! ```
//!
//! A proof is another one in each form, so that compression tells nobody what it is (BREACH).
//!
//! # Room
//!
//! Each person has a book of their own for the tickets that they have spent, so that what one person makes refuses no
//! form of anybody else. All books together are bounded too: the fullest one gives way first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_api_key::clock::Timestamp;
use tower_api_key::key::{KeyId, RandomSourceError, UserId};

use super::session::PortalUser;

const DIGITS: usize = 13;
const TICKET_LEN: usize = DIGITS + 22;
/// How long a form that makes a secret can be sent.
pub(super) const LIFETIME_SECS: i64 = 60 * 60;
/// How many spent tickets of one person are remembered; then that person's oldest forms are refused.
const PER_PERSON: usize = 256;
/// How many are remembered of all people: some six megabytes.
const CAPACITY: usize = 65_536;

/// What a form carries.
pub(super) struct CsrfToken {
    pub(super) text: String,
    pub(super) proof: String,
}

impl CsrfToken {
    pub(super) fn issue(user: &PortalUser, now: Timestamp) -> Result<Self, RandomSourceError> {
        let id = KeyId::generate()?;
        let random = id.as_str().trim_start_matches("key_");
        let text = format!("{:0DIGITS$}{random}", secs(now));
        let proof = prove(user, &text);
        Ok(Self { text, proof })
    }

    /// Whether the form was shown within so many seconds.
    pub(super) fn is_younger(&self, now: Timestamp, secs_ago: i64) -> bool {
        self.text.len() == TICKET_LEN && *self.text >= *oldest(now, secs_ago)
    }

    /// Whether the form was made for this session.
    pub(super) fn is_of(&self, user: &PortalUser) -> bool {
        let sound = self.text.len() == TICKET_LEN;
        sound & bool::from(prove(user, &self.text).as_bytes().ct_eq(self.proof.as_bytes()))
    }
}

fn prove(user: &PortalUser, ticket: &str) -> String {
    let proof = Sha256::new().chain_update(user.secret()).chain_update(ticket).finalize();
    proof.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn secs(time: Timestamp) -> i64 {
    const LAST: i64 = 10_i64.pow(DIGITS as u32) - 1;
    time.as_micros().div_euclid(1_000_000).clamp(0, LAST)
}

/// What every ticket begins with, or comes after, that was made so many seconds ago or later.
fn oldest(now: Timestamp, secs_ago: i64) -> String {
    format!("{:0DIGITS$}", secs(now).saturating_sub(secs_ago).max(0))
}

/// What has become of a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Now,
    Before,
    TooOld,
}

/// Those that were spent.
#[derive(Default)]
pub(super) struct CsrfTokens(Mutex<Books>);

#[derive(Default)]
struct Books {
    of: BTreeMap<UserId, Book>,
    /// How many tickets stand in all of them.
    count: usize,
    /// CsrfTokens of anybody before this one are refused: they are too old, or nobody knows any more whether they were
    /// spent.
    floor: String,
}

/// One person's. There is at least one ticket in it.
#[derive(Default)]
struct Book {
    spent: BTreeSet<String>,
    /// As the floor of all, for this person.
    floor: String,
}

impl CsrfTokens {
    /// Spends a ticket that [is of](CsrfToken::is_of) the session of this person, before anything is made: of two who send
    /// the same form at once, one is answered. [Give it back](Self::give_back) where nothing was made.
    pub(super) fn spend(&self, user: &PortalUser, ticket: &CsrfToken, now: Timestamp) -> Spent {
        self.spend_within(user.id(), ticket, now, PER_PERSON, CAPACITY)
    }

    /// Nothing was made for it: the same form can be sent again.
    pub(super) fn give_back(&self, user: &PortalUser, ticket: &CsrfToken) {
        let mut books = self.lock();
        let books = &mut *books;
        let Some(book) = books.of.get_mut(user.id()) else { return };
        // A book whose floor still counts is not left empty: it would be forgotten with its floor.
        if book.spent.len() == 1 && book.floor > books.floor {
            return;
        }
        if book.spent.remove(&ticket.text) {
            books.count -= 1;
        }
        if book.spent.is_empty() {
            books.of.remove(user.id());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend_within(
        &self,
        user: &UserId,
        ticket: &CsrfToken,
        now: Timestamp,
        per_person: usize,
        capacity: usize,
    ) -> Spent {
        let mut books = self.lock();
        let books = &mut *books;
        let oldest = oldest(now, LIFETIME_SECS);
        if oldest > books.floor {
            books.floor = oldest;
        }
        if books.of.get(user).is_some_and(|book| book.spent.contains(&ticket.text)) {
            // A clock that jumps back does not bring it back; one that is merely old is told so.
            return if ticket.text < books.floor { Spent::TooOld } else { Spent::Before };
        }
        let floor = books.of.get(user).map_or("", |book| &book.floor).max(&books.floor);
        if *ticket.text < *floor {
            return Spent::TooOld;
        }
        books.of.entry(user.clone()).or_default().spent.insert(ticket.text.clone());
        books.count += 1;
        books.make_room(user, per_person, capacity);
        Spent::Now
    }
}

impl Books {
    fn make_room(&mut self, user: &UserId, per_person: usize, capacity: usize) {
        if let Some(book) = self.of.get_mut(user) {
            self.count -= book.forget_before(&self.floor);
            while book.spent.len() > per_person && book.forget_first().is_some() {
                self.count -= 1;
            }
        }
        if self.count <= capacity {
            return;
        }
        for book in self.of.values_mut() {
            self.count -= book.forget_before(&self.floor);
        }
        self.of.retain(|_, book| !book.spent.is_empty());
        while self.count > capacity {
            // The one with the most gives way; of several, the one whose oldest ticket is the oldest.
            let fullest = self.of.values_mut().max_by(|one, other| {
                let more = one.spent.len().cmp(&other.spent.len());
                more.then_with(|| other.spent.first().cmp(&one.spent.first()))
            });
            let Some(fullest) = fullest else { return };
            let Some(floor) = fullest.forget_first() else { return };
            self.count -= 1;
            if fullest.spent.is_empty() {
                // Nothing is left of that book but this. Everybody has one ticket here, so all are held to it.
                self.floor = floor;
                self.of.retain(|_, book| !book.spent.is_empty());
            }
        }
    }
}

impl Book {
    /// How many were forgotten.
    fn forget_before(&mut self, floor: &str) -> usize {
        let kept = self.spent.split_off(floor);
        std::mem::replace(&mut self.spent, kept).len()
    }

    /// The oldest ticket is forgotten, and refused like all before it: the new floor.
    fn forget_first(&mut self) -> Option<String> {
        // Itself included: whatever is not greater than it is refused from now on.
        let floor = self.spent.pop_first()? + "\u{7f}";
        self.floor.clone_from(&floor);
        Some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_api_key::key::UserId;

    fn user(secret: u8) -> PortalUser {
        PortalUser::new(UserId::new("alice").unwrap(), "Alice", &[secret; 32])
    }

    #[test]
    fn c11_13_a_proof_is_of_one_session_and_one_ticket() {
        let now = Timestamp::from_secs(1_000_000_000);
        let (one, other) =
            (CsrfToken::issue(&user(1), now).unwrap(), CsrfToken::issue(&user(1), now).unwrap());
        assert!(one.is_of(&user(1)) && other.is_of(&user(1)));
        assert!(!one.is_of(&user(2)));
        assert_ne!(one.text, other.text);
        assert_ne!(one.proof, other.proof);
        let mixed = CsrfToken { text: one.text.clone(), proof: other.proof };
        assert!(!mixed.is_of(&user(1)));
        for text in ["", "x", &one.text[1..], &format!("{}x", one.text)] {
            let proof = prove(&user(1), text);
            assert!(!CsrfToken { text: text.to_owned(), proof }.is_of(&user(1)), "{text}");
        }
        assert!(!CsrfToken { text: one.text, proof: String::new() }.is_of(&user(1)));
    }

    const AT: fn(i64) -> Timestamp = Timestamp::from_secs;

    fn person(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    /// CsrfTokens of so many seconds after 1000.
    fn tickets(seconds: std::ops::Range<i64>) -> Vec<CsrfToken> {
        seconds.map(|second| CsrfToken::issue(&user(1), AT(1000 + second)).unwrap()).collect()
    }

    #[test]
    fn c11_12_a_ticket_is_spent_once_and_within_an_hour() {
        let tickets = CsrfTokens::default();
        let alice = user(1);
        let ticket = CsrfToken::issue(&alice, AT(1000)).unwrap();
        assert_eq!(tickets.spend(&alice, &ticket, AT(1000)), Spent::Now);
        assert_eq!(tickets.spend(&alice, &ticket, AT(1001)), Spent::Before);
        // A clock that jumps back does not bring it back.
        assert_eq!(tickets.spend(&alice, &ticket, AT(10)), Spent::Before);
        let late = CsrfToken::issue(&alice, AT(2000)).unwrap();
        assert_eq!(tickets.spend(&alice, &late, AT(5601)), Spent::TooOld);
        assert_eq!(tickets.spend(&alice, &ticket, AT(5601)), Spent::TooOld);
        assert_eq!(tickets.spend(&alice, &ticket, AT(10)), Spent::TooOld);
        // What is too old takes no room once something new is spent.
        let new = CsrfToken::issue(&alice, AT(5602)).unwrap();
        assert_eq!(tickets.spend(&alice, &new, AT(5602)), Spent::Now);
        assert_eq!(tickets.lock().count, 1);
    }

    #[test]
    fn c17_b7_a_ticket_that_made_nothing_is_given_back() {
        let tickets = CsrfTokens::default();
        let alice = user(1);
        let ticket = CsrfToken::issue(&alice, AT(1000)).unwrap();
        assert_eq!(tickets.spend(&alice, &ticket, AT(1000)), Spent::Now);
        tickets.give_back(&alice, &ticket);
        assert!(tickets.lock().of.is_empty() && tickets.lock().count == 0);
        assert_eq!(tickets.spend(&alice, &ticket, AT(1000)), Spent::Now);
        // Twice is once, and what was never spent is nobody's.
        tickets.give_back(&alice, &ticket);
        tickets.give_back(&alice, &ticket);
        assert_eq!(tickets.lock().count, 0);
    }

    /// Who has spent more than are remembered, and gets some of it back, cannot send what is forgotten once more.
    #[test]
    fn c17_g_what_is_given_back_brings_no_older_form_back() {
        let book = CsrfTokens::default();
        let (alice, made) = (user(1), tickets(0..6));
        let spend = |ticket: &CsrfToken| book.spend_within(alice.id(), ticket, AT(1010), 3, 12);
        for ticket in &made {
            assert_eq!(spend(ticket), Spent::Now);
        }
        // Those that are remembered were under way together, and nothing was made of any.
        for ticket in &made[3..] {
            book.give_back(&alice, ticket);
        }
        assert!(made[..3].iter().all(|ticket| spend(ticket) == Spent::TooOld));
        for ticket in &made[3..5] {
            assert_eq!(spend(ticket), Spent::Now);
        }
        // When all of that is too old anyway, nothing is left of it.
        let late = CsrfToken::issue(&alice, AT(9000)).unwrap();
        assert_eq!(book.spend_within(alice.id(), &late, AT(9000), 3, 12), Spent::Now);
        book.give_back(&alice, &late);
        assert!(book.lock().of.is_empty() && book.lock().count == 0);
    }

    #[test]
    fn c17_b7_what_one_person_spends_refuses_nobody_elses_form() {
        let book = CsrfTokens::default();
        let spend = |who: &str, ticket: &CsrfToken| book.spend_within(&person(who), ticket, AT(1010), 3, 12);
        let bobs = tickets(0..1);
        let made = tickets(1..100);
        for ticket in &made {
            assert_eq!(spend("alice", ticket), Spent::Now);
        }
        assert_eq!(book.lock().of[&person("alice")].spent.len(), 3);
        // Alice's own older forms are refused, since nobody knows of them any more; Bob's, which is older, is not.
        let again: Vec<_> = made[94..].iter().map(|ticket| spend("alice", ticket)).collect();
        assert_eq!(again, [Spent::TooOld, Spent::TooOld, Spent::Before, Spent::Before, Spent::Before]);
        assert_eq!(spend("bob", &bobs[0]), Spent::Now);
        assert_eq!(spend("bob", &bobs[0]), Spent::Before);
    }

    #[test]
    fn c17_b7_where_all_books_are_full_the_fullest_gives_way() {
        let book = CsrfTokens::default();
        let spend = |who: &str, ticket: &CsrfToken| book.spend_within(&person(who), ticket, AT(1010), 8, 8);
        let one = tickets(0..1);
        assert_eq!(spend("victim", &one[0]), Spent::Now);
        for (n, ticket) in tickets(1..60).iter().enumerate() {
            let hog = ["a", "b", "c"][n % 3];
            assert_eq!(spend(hog, ticket), Spent::Now);
            assert!(book.lock().count <= 8);
            let sum: usize = book.lock().of.values().map(|book| book.spent.len()).sum();
            assert_eq!(sum, book.lock().count);
        }
        // Who has spent one is remembered, and others' forms from before can still be sent.
        assert_eq!(spend("victim", &one[0]), Spent::Before);
        let old = tickets(0..1);
        assert_eq!(spend("newcomer", &old[0]), Spent::Now);
        assert_eq!(spend("newcomer", &old[0]), Spent::Before);
    }

    #[test]
    fn c17_b7_where_everybody_has_one_the_oldest_is_refused_and_not_forgotten() {
        let book = CsrfTokens::default();
        let all = tickets(0..5);
        for (n, ticket) in all.iter().enumerate() {
            assert_eq!(book.spend_within(&person(&format!("p{n}")), ticket, AT(1010), 8, 3), Spent::Now);
        }
        assert_eq!(book.lock().count, 3);
        let again: Vec<_> =
            (0..5).map(|n| book.spend_within(&person(&format!("p{n}")), &all[n], AT(1010), 8, 3)).collect();
        assert_eq!(again, [Spent::TooOld, Spent::TooOld, Spent::Before, Spent::Before, Spent::Before]);
    }
}
