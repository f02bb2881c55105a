//! [`Drafts`]: keeps what a user typed into a form that was refused because they have to sign in first. The form
//! contains it when they come back.
//!
//! Drafts are kept here and not in the page, because the sign-in is the host's and may lead over other sites. A
//! draft contains the fields of a form, which are never a secret.
//!
//! # The owner of a draft
//!
//! A form sent without a session does not say who sent it, so each form contains a mark that says for whom it was
//! shown:
//!
//! ```text
//! mark     32 + 64 hexadecimal digits  a name for the person, and HMAC-SHA256 of that name and the form's ticket
//! ```
//!
//! Both are made with a secret of this process. A mark that matches its ticket proves that the form was shown to
//! that person within the hour. So nobody can leave a draft for somebody else, and only that person gets to see it.
//! It is shown and not sent: to make or change a key, the user sends the form again in the new session.
//!
//! # Bounds
//!
//! The last draft of each person, up to 16 KiB, for an hour; 4 MiB in all, and the oldest is evicted first.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tower_api_key::{KeyId, Timestamp, UserId};

use super::csrf_token::{CsrfToken, LIFETIME_SECS};
use super::fields::Fields;

/// The longest draft in bytes: names and values of its fields together.
pub(super) const MAX_LEN: usize = 16 * 1024;
const CAPACITY: usize = 4 * 1024 * 1024;
/// The overhead of a draft in bytes.
const OVERHEAD: usize = 512;
const PERSON_LEN: usize = 32;

/// What was typed, by whom, and on which page. It has no effect until it is [kept](Drafts::keep).
pub(super) struct Draft {
    person: String,
    /// The path within the portal.
    page: String,
    fields: Fields,
    len: usize,
}

/// The drafts of this process.
#[derive(Default)]
pub(super) struct Drafts(Mutex<StoredDrafts>);

#[derive(Default)]
struct StoredDrafts {
    /// The secret of this process; empty before the first form is shown.
    secret: String,
    /// By person: when it was kept, and the draft.
    of: BTreeMap<String, (Timestamp, Draft)>,
    len: usize,
}

impl Drafts {
    /// The mark for a form that is shown to this person. It is empty, so that no draft is kept, if no random bytes
    /// are available.
    pub(super) fn mark(&self, user: &UserId, ticket: &str) -> String {
        let mut shelf = self.lock();
        if shelf.secret.is_empty() {
            let (Ok(one), Ok(other)) = (KeyId::generate(), KeyId::generate()) else { return String::new() };
            shelf.secret = format!("{}{}", one.as_str(), other.as_str());
        }
        let person = shelf.person(user);
        let proof = shelf.proof(&person, ticket);
        person + &proof
    }

    /// Makes a draft of this form, if its mark matches its ticket, the ticket is not too old, and the draft is not
    /// too long.
    pub(super) fn draft(
        &self,
        mark: &str,
        ticket: &CsrfToken,
        page: &str,
        fields: &Fields,
        now: Timestamp,
    ) -> Option<Draft> {
        let (person, proof) = mark.split_at_checked(PERSON_LEN)?;
        let len = fields.len().saturating_add(page.len());
        let shelf = self.lock();
        let is_ours = !shelf.secret.is_empty()
            && bool::from(shelf.proof(person, &ticket.text).as_bytes().ct_eq(proof.as_bytes()));
        let sound = is_ours && ticket.is_younger(now, LIFETIME_SECS) && len <= MAX_LEN;
        sound.then(|| Draft {
            person: person.to_owned(),
            page: page.to_owned(),
            fields: fields.copied(),
            len,
        })
    }

    /// Whether the draft belongs to this person.
    pub(super) fn is_of(&self, draft: &Draft, user: &UserId) -> bool {
        self.lock().person(user) == draft.person
    }

    /// Keeps the draft, and replaces an earlier one of the same person.
    pub(super) fn keep(&self, draft: Draft, now: Timestamp) {
        self.keep_within(draft, now, CAPACITY);
    }

    fn keep_within(&self, draft: Draft, now: Timestamp, capacity: usize) {
        let mut shelf = self.lock();
        shelf.remove(&draft.person.clone());
        shelf.len = shelf.len.saturating_add(draft.len + OVERHEAD);
        shelf.of.insert(draft.person.clone(), (now, draft));
        while shelf.len > capacity {
            let oldest = shelf.of.iter().min_by_key(|(_, (at, _))| *at).map(|(person, _)| person.clone());
            let Some(oldest) = oldest else { return };
            shelf.remove(&oldest);
        }
    }

    /// Takes the draft of this person for this page, if there is one.
    pub(super) fn take(&self, user: &UserId, page: &str, now: Timestamp) -> Option<Fields> {
        let mut shelf = self.lock();
        let person = shelf.person(user);
        shelf.of.get(&person).filter(|(_, draft)| draft.page == page)?;
        let (at, draft) = shelf.remove(&person)?;
        let end = at.saturating_add(std::time::Duration::from_secs(LIFETIME_SECS.unsigned_abs()));
        (now < end).then_some(draft.fields)
    }

    fn lock(&self) -> MutexGuard<'_, StoredDrafts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredDrafts {
    fn remove(&mut self, person: &str) -> Option<(Timestamp, Draft)> {
        let removed = self.of.remove(person)?;
        self.len = self.len.saturating_sub(removed.1.len + OVERHEAD);
        Some(removed)
    }

    /// The name of a person within this process.
    fn person(&self, user: &UserId) -> String {
        let mut name = self.keyed("person", user.as_str());
        name.truncate(PERSON_LEN);
        name
    }

    fn proof(&self, person: &str, ticket: &str) -> String {
        self.keyed("form", &format!("{person} {ticket}"))
    }

    fn keyed(&self, purpose: &str, text: &str) -> String {
        // HMAC accepts keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else {
            return String::new();
        };
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::PortalUser;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn typed(text: &str) -> Fields {
        Fields::new(vec![("name".to_owned(), text.to_owned())]).unwrap()
    }

    fn ticket(secs: i64) -> CsrfToken {
        CsrfToken::issue(&PortalUser::new(user("any"), "Any", &[1; 32]), at(secs)).unwrap()
    }

    fn left(drafts: &Drafts, who: &str, text: &str, secs: i64) -> Option<Draft> {
        let ticket = ticket(secs);
        let mark = drafts.mark(&user(who), &ticket.text);
        drafts.draft(&mark, &ticket, "/new", &typed(text), at(secs))
    }

    #[test]
    fn c17_e3_a_draft_is_of_one_person_one_page_and_one_hour_and_shown_once() {
        let drafts = Drafts::default();
        let take = |who: &str, page: &str, secs: i64| {
            drafts.take(&user(who), page, at(secs)).map(|mut fields| fields.take("name"))
        };
        drafts.keep(left(&drafts, "alice", "CI", 1000).unwrap(), at(1000));
        assert_eq!(take("bob", "/new", 1001), None);
        assert_eq!(take("alice", "/keys/key_1/settings", 1001), None);
        assert_eq!(take("alice", "/new", 1001).as_deref(), Some("CI"));
        assert_eq!(take("alice", "/new", 1001), None);
        // The last one counts, and not for long.
        drafts.keep(left(&drafts, "alice", "one", 1000).unwrap(), at(1000));
        drafts.keep(left(&drafts, "alice", "other", 1000).unwrap(), at(1000));
        assert_eq!(drafts.lock().of.len(), 1);
        assert_eq!(take("alice", "/new", 1000).as_deref(), Some("other"));
        drafts.keep(left(&drafts, "alice", "late", 1000).unwrap(), at(1000));
        assert_eq!(take("alice", "/new", 4600), None);
        assert_eq!(drafts.lock().len, 0);
    }

    #[test]
    fn c17_e3_nobody_leaves_anything_for_others() {
        let drafts = Drafts::default();
        let (mine, older) = (ticket(1000), ticket(999));
        let mark = drafts.mark(&user("mallory"), &mine.text);
        let alices = drafts.mark(&user("alice"), &older.text);
        let draft = |mark: &str, ticket: &CsrfToken, now: i64| {
            drafts.draft(mark, ticket, "/new", &typed("CI"), at(now)).is_some()
        };
        assert!(draft(&mark, &mine, 1000) && draft(&alices, &older, 1000));
        // Alice's name with another proof, another ticket, too late, another process, and texts that are not a mark.
        let mixed = format!("{}{}", &alices[..PERSON_LEN], &mark[PERSON_LEN..]);
        assert!(!draft(&mixed, &mine, 1000) && !draft(&alices, &mine, 1000));
        assert!(!draft(&mark, &mine, 4601));
        assert!(!draft(&Drafts::default().mark(&user("mallory"), &mine.text), &mine, 1000));
        for none in ["", "x", &mark[1..], &format!("{mark}0"), &"é".repeat(48)] {
            assert!(!draft(none, &mine, 1000), "{none}");
        }
        // If no form was ever shown, no mark matches.
        assert!(Drafts::default().draft(&mark, &mine, "/new", &typed("CI"), at(1000)).is_none());
        assert!(drafts.is_of(&left(&drafts, "alice", "CI", 1000).unwrap(), &user("alice")));
        assert!(!drafts.is_of(&left(&drafts, "alice", "CI", 1000).unwrap(), &user("mallory")));
    }

    #[test]
    fn c17_e3_what_is_kept_is_bounded_in_bytes() {
        let drafts = Drafts::default();
        assert!(left(&drafts, "alice", &"x".repeat(MAX_LEN), 1000).is_none());
        let long = "x".repeat(MAX_LEN - 100);
        for n in 0..20 {
            let draft = left(&drafts, &format!("p{n}"), &long, 1000 + n).unwrap();
            drafts.keep_within(draft, at(1000 + n), 5 * MAX_LEN + 4096);
        }
        let shelf = drafts.lock();
        let sum: usize = shelf.of.values().map(|(_, draft)| draft.len + OVERHEAD).sum();
        assert_eq!((shelf.of.len(), shelf.len), (5, sum));
        let oldest = shelf.of.values().map(|(at, _)| *at).min();
        assert_eq!(oldest, Some(at(1015)));
    }
}
