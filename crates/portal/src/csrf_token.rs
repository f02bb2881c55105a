//! CSRF tokens of forms: a ticket that can be used once, and a proof that binds it to a session.
//!
//! # Format
//!
//! ```text
//! ticket   0001735689600 Zm9vYmFy...   13 digits, the second at which the form was shown; 22 random characters
//! proof    64 hexadecimal digits       SHA-256 over the session's secret and the ticket, both of fixed length
//! ```
//!
//! Each form has another proof, so that compression does not reveal it (BREACH).
//!
//! # Bounds
//!
//! Used tickets are remembered for each person, so that one person's forms cannot cause another's to be refused.
//! The total is bounded too: the person with the most tickets loses the oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_api_key::key::RandomSourceError;
use tower_api_key::{KeyId, Timestamp, UserId};

use super::session::PortalUser;

const DIGITS: usize = 13;
const TICKET_LEN: usize = DIGITS + 22;
/// For how many seconds a form that makes a secret can be sent.
pub(super) const LIFETIME_SECS: i64 = 60 * 60;
/// How many used tickets of one person are remembered. Beyond that, the person's oldest forms are refused.
const PER_PERSON: usize = 256;
/// How many are remembered for all people, in about six megabytes.
const CAPACITY: usize = 65_536;

/// The token in a form.
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

    /// Whether the form was shown within this many seconds.
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

/// A lower bound for the tickets made within this many seconds.
fn oldest(now: Timestamp, secs_ago: i64) -> String {
    format!("{:0DIGITS$}", secs(now).saturating_sub(secs_ago).max(0))
}

/// The result of using a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Now,
    Before,
    TooOld,
}

/// The used tickets of all people.
#[derive(Default)]
pub(super) struct CsrfTokens(Mutex<SpentTickets>);

#[derive(Default)]
struct SpentTickets {
    of: BTreeMap<UserId, PersonTickets>,
    /// The number of tickets in all books.
    count: usize,
    /// Tickets before this one are refused for everybody: they are too old, or it is not known any more whether
    /// they were used.
    floor: String,
}

/// The used tickets of one person, at least one.
#[derive(Default)]
struct PersonTickets {
    spent: BTreeSet<String>,
    /// Like `SpentTickets::floor`, for this person.
    floor: String,
}

impl CsrfTokens {
    /// Uses a ticket that [belongs](CsrfToken::is_of) to this person's session, before anything is made: if the
    /// same form is sent twice at once, only one is answered. [Give it back](Self::give_back) if nothing was made.
    pub(super) fn spend(&self, user: &PortalUser, ticket: &CsrfToken, now: Timestamp) -> Spent {
        self.spend_within(user.id(), ticket, now, PER_PERSON, CAPACITY)
    }

    /// Makes a ticket usable again, because nothing was made.
    pub(super) fn give_back(&self, user: &PortalUser, ticket: &CsrfToken) {
        let mut books = self.lock();
        let books = &mut *books;
        let Some(book) = books.of.get_mut(user.id()) else { return };
        // A book whose floor still matters is not emptied, because it would be removed together with its floor.
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

    fn lock(&self) -> MutexGuard<'_, SpentTickets> {
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
            // A used ticket stays used if the clock jumps back. A ticket that is only old gets another answer.
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

impl SpentTickets {
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
            // The largest book loses a ticket; among equals, the one with the oldest ticket.
            let fullest = self.of.values_mut().max_by(|one, other| {
                let more = one.spent.len().cmp(&other.spent.len());
                more.then_with(|| other.spent.first().cmp(&one.spent.first()))
            });
            let Some(fullest) = fullest else { return };
            let Some(floor) = fullest.forget_first() else { return };
            self.count -= 1;
            if fullest.spent.is_empty() {
                // This was the book's only ticket. Every book has one ticket then, so the floor applies to everybody.
                self.floor = floor;
                self.of.retain(|_, book| !book.spent.is_empty());
            }
        }
    }
}

impl PersonTickets {
    /// Removes tickets before this one; returns how many.
    fn forget_before(&mut self, floor: &str) -> usize {
        let kept = self.spent.split_off(floor);
        std::mem::replace(&mut self.spent, kept).len()
    }

    /// Removes the oldest ticket; returns the new floor, so that it and all earlier ones are refused.
    fn forget_first(&mut self) -> Option<String> {
        // Just above the removed ticket, so that the ticket itself is refused too.
        let floor = self.spent.pop_first()? + "\u{7f}";
        self.floor.clone_from(&floor);
        Some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_api_key::UserId;

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

    /// Tickets for forms that were shown at these seconds after 1000.
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
        // If the clock jumps back, a used ticket stays used.
        assert_eq!(tickets.spend(&alice, &ticket, AT(10)), Spent::Before);
        let late = CsrfToken::issue(&alice, AT(2000)).unwrap();
        assert_eq!(tickets.spend(&alice, &late, AT(5601)), Spent::TooOld);
        assert_eq!(tickets.spend(&alice, &ticket, AT(5601)), Spent::TooOld);
        assert_eq!(tickets.spend(&alice, &ticket, AT(10)), Spent::TooOld);
        // Old tickets are removed when a new one is used.
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
        // Giving a ticket back twice has no more effect than once, and giving back an unused ticket has none.
        tickets.give_back(&alice, &ticket);
        tickets.give_back(&alice, &ticket);
        assert_eq!(tickets.lock().count, 0);
    }

    /// If a person has used more tickets than are remembered, and some are given back, the forgotten ones still
    /// cannot be used again.
    #[test]
    fn c17_g_what_is_given_back_brings_no_older_form_back() {
        let book = CsrfTokens::default();
        let (alice, made) = (user(1), tickets(0..6));
        let spend = |ticket: &CsrfToken| book.spend_within(alice.id(), ticket, AT(1010), 3, 12);
        for ticket in &made {
            assert_eq!(spend(ticket), Spent::Now);
        }
        // The remembered forms were processed at the same time, and none of them made a key.
        for ticket in &made[3..] {
            book.give_back(&alice, ticket);
        }
        assert!(made[..3].iter().all(|ticket| spend(ticket) == Spent::TooOld));
        for ticket in &made[3..5] {
            assert_eq!(spend(ticket), Spent::Now);
        }
        // When all of these are too old anyway, nothing is stored for them any more.
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
        // Alice's own older forms are refused, because it is not known whether they were used. Bob's form is even
        // older and works.
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
        // A person with a used ticket is remembered, and older forms of other people still work.
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
