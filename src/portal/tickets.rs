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

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::session::PortalUser;
use crate::clock::Timestamp;
use crate::key::{KeyId, RandomSourceError};

const DIGITS: usize = 13;
const TICKET_LEN: usize = DIGITS + 22;
/// How long a form that makes a secret can be sent.
const LIFETIME_SECS: i64 = 60 * 60;
/// How many spent tickets are remembered; then the oldest forms are refused.
const CAPACITY: usize = 65_536;

/// What a form carries.
pub(super) struct Ticket {
    pub(super) text: String,
    pub(super) proof: String,
}

impl Ticket {
    pub(super) fn issue(user: &PortalUser, now: Timestamp) -> Result<Self, RandomSourceError> {
        let id = KeyId::generate()?;
        let random = id.as_str().trim_start_matches("key_");
        let text = format!("{:0DIGITS$}{random}", secs(now));
        let proof = prove(user, &text);
        Ok(Self { text, proof })
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

/// What has become of a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spent {
    Now,
    Before,
    TooOld,
}

/// Those that were spent, oldest first.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Book>);

#[derive(Default)]
struct Book {
    spent: BTreeSet<String>,
    /// Tickets before this one are refused: nobody knows any more whether they were spent.
    floor: String,
}

impl Tickets {
    /// Spends a ticket that [is of](Ticket::is_of) the session.
    pub(super) fn spend(&self, ticket: &Ticket, now: Timestamp) -> Spent {
        self.spend_within(ticket, now, CAPACITY)
    }

    fn spend_within(&self, ticket: &Ticket, now: Timestamp, capacity: usize) -> Spent {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let book = &mut *book;
        let oldest = format!("{:0DIGITS$}", secs(now).saturating_sub(LIFETIME_SECS).max(0));
        if oldest > book.floor {
            book.spent = book.spent.split_off(&oldest);
            book.floor = oldest;
        }
        if book.spent.contains(&ticket.text) {
            return Spent::Before;
        }
        if ticket.text < book.floor {
            return Spent::TooOld;
        }
        book.spent.insert(ticket.text.clone());
        while book.spent.len() > capacity {
            let Some(first) = book.spent.pop_first() else { break };
            // Itself included: whatever is not greater than it is refused from now on.
            book.floor = first + "\u{7f}";
        }
        Spent::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::UserId;

    fn user(secret: u8) -> PortalUser {
        PortalUser::new(UserId::new("alice").unwrap(), "Alice", &[secret; 32])
    }

    #[test]
    fn c11_13_a_proof_is_of_one_session_and_one_ticket() {
        let now = Timestamp::from_secs(1_000_000_000);
        let (one, other) = (Ticket::issue(&user(1), now).unwrap(), Ticket::issue(&user(1), now).unwrap());
        assert!(one.is_of(&user(1)) && other.is_of(&user(1)));
        assert!(!one.is_of(&user(2)));
        assert_ne!(one.text, other.text);
        assert_ne!(one.proof, other.proof);
        let mixed = Ticket { text: one.text.clone(), proof: other.proof };
        assert!(!mixed.is_of(&user(1)));
        for text in ["", "x", &one.text[1..], &format!("{}x", one.text)] {
            let proof = prove(&user(1), text);
            assert!(!Ticket { text: text.to_owned(), proof }.is_of(&user(1)), "{text}");
        }
        assert!(!Ticket { text: one.text, proof: String::new() }.is_of(&user(1)));
    }

    #[test]
    fn c11_12_a_ticket_is_spent_once_and_within_an_hour() {
        let at = Timestamp::from_secs;
        let tickets = Tickets::default();
        let ticket = Ticket::issue(&user(1), at(1000)).unwrap();
        assert_eq!(tickets.spend(&ticket, at(1000)), Spent::Now);
        assert_eq!(tickets.spend(&ticket, at(1001)), Spent::Before);
        // A clock that jumps back does not bring it back.
        assert_eq!(tickets.spend(&ticket, at(10)), Spent::Before);
        let late = Ticket::issue(&user(1), at(2000)).unwrap();
        assert_eq!(tickets.spend(&late, at(5601)), Spent::TooOld);
        assert_eq!(tickets.spend(&ticket, at(5601)), Spent::TooOld);
        assert!(tickets.0.lock().unwrap().spent.is_empty());
    }

    #[test]
    fn what_is_forgotten_for_want_of_room_is_refused() {
        let at = Timestamp::from_secs;
        let tickets = Tickets::default();
        let made: Vec<_> = (0..5).map(|n| Ticket::issue(&user(1), at(1000 + n)).unwrap()).collect();
        for ticket in &made {
            assert_eq!(tickets.spend_within(ticket, at(1010), 2), Spent::Now);
        }
        assert_eq!(tickets.0.lock().unwrap().spent.len(), 2);
        let again: Vec<_> = made.iter().map(|ticket| tickets.spend_within(ticket, at(1010), 2)).collect();
        assert_eq!(again, [Spent::TooOld, Spent::TooOld, Spent::TooOld, Spent::Before, Spent::Before]);
    }
}
