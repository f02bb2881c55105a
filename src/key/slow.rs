//! [`SlowHashes`]: imported keys that have a bcrypt, Argon2 or PBKDF2 hash until their first use.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use argon2::{Argon2, PasswordHash, PasswordVerifier as _};
use data_encoding::BASE64_NOPAD;
use hmac::Hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::KeyDigest;
use super::method::SlowHash;

/// How many requests may wait for a check by default.
const WAITING: usize = 256;
/// bcrypt ignores everything after this many bytes, so two longer keys with the same start would be equal.
const BCRYPT_LEN: usize = 72;
/// The largest accepted costs, about a second or a few: 2^16 rounds, 10 million rounds, 1 GiB and passes over 4 GiB
/// in all.
const MAX_BCRYPT_COST: u32 = 16;
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
const MAX_ARGON2_KIB: u32 = 1 << 20;
const MAX_ARGON2_KIB_IN_ALL: u64 = 1 << 22;

/// How keys that were imported with a bcrypt, Argon2 or PBKDF2 hash are looked up, and how many are checked at a time.
///
/// Such a hash cannot be looked up. Keys are looked up by their public start, which the previous service kept
/// beside the hash: up to a separator, or of a fixed length. A text with an unknown start costs one look-up and no
/// slow hash. Others are checked in tokio's blocking pool, at most [`at_once`](Self::at_once) at a time; up to
/// [`waiting`](Self::waiting) requests wait, and further ones get 503.
///
/// At its first use a key is rehashed with the fast digest, if the verifier may
/// [do so](crate::Verifier::renew_digests), and from then on it is as fast as any other. Otherwise, every use is slow.
///
/// ```
/// use tower_api_key::{Digests, SlowHashes};
///
/// let ring = Digests::sha256().accept_slow(SlowHashes::until('.')); // AbCdEfGh.the-secret
/// ```
#[derive(Clone)]
pub struct SlowHashes {
    start: PublicStart,
    checks: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// Which part of a key's text is its public start.
#[derive(Clone, Copy, Debug)]
enum PublicStart {
    Until(char),
    Bytes(usize),
}

impl SlowHashes {
    /// The start ends before the first `separator`, as in `AbCdEfGh.the-secret`.
    #[must_use]
    pub fn until(separator: char) -> Self {
        Self::of(PublicStart::Until(separator))
    }

    /// The start is this many bytes long.
    #[must_use]
    pub fn first(bytes: NonZeroUsize) -> Self {
        Self::of(PublicStart::Bytes(bytes.get()))
    }

    fn of(start: PublicStart) -> Self {
        Self { start, checks: Arc::new(Semaphore::new(1)), places: Arc::new(Semaphore::new(WAITING)) }
    }

    /// Sets how many are checked at a time. The default is one, because checks need much CPU time and memory.
    #[must_use]
    pub fn at_once(mut self, checks: NonZeroUsize) -> Self {
        self.checks = Arc::new(Semaphore::new(checks.get().min(Semaphore::MAX_PERMITS)));
        self
    }

    /// Sets how many requests, including those being checked, may wait before the next gets 503. The default is 256.
    #[must_use]
    pub fn waiting(mut self, requests: usize) -> Self {
        self.places = Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS)));
        self
    }

    /// Returns the public start of a text, if it has one and more text after it.
    fn start_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        let (start, rest) = match self.start {
            PublicStart::Until(separator) => text.split_once(separator)?,
            PublicStart::Bytes(len) => text.split_at_checked(len)?,
        };
        (!start.is_empty() && !rest.is_empty()).then_some(start)
    }

    /// Whether a text can have this start.
    pub(crate) fn finds(&self, start: &str) -> bool {
        !start.is_empty()
            && match self.start {
                PublicStart::Until(separator) => !start.contains(separator),
                PublicStart::Bytes(len) => start.len() == len,
            }
    }

    /// The digest under which a store holds a key with this text.
    pub(crate) fn digest(&self, text: &str) -> Option<KeyDigest> {
        self.start_of(text).map(of_start)
    }

    pub(crate) fn checks(&self) -> &Arc<Semaphore> {
        &self.checks
    }

    pub(crate) fn places(&self) -> &Arc<Semaphore> {
        &self.places
    }
}

impl fmt::Debug for SlowHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowHashes").field("start", &self.start).finish_non_exhaustive()
    }
}

/// The digest that a store holds for a key of which only the start is known.
pub(crate) fn of_start(start: &str) -> KeyDigest {
    KeyDigest::from_bytes(Sha256::new().chain_update("start\0").chain_update(start).finalize().into())
}

/// A parsed slow hash.
enum Parsed<'h> {
    Bcrypt(&'h str),
    Argon2(Box<PasswordHash>),
    Pbkdf2 { rounds: u32, salt: &'h [u8], hash: Vec<u8> },
}

impl SlowHash {
    /// Whether the hash can be checked and is within the cost limits.
    pub(crate) fn is_known(&self) -> bool {
        self.parse().is_some()
    }

    fn parse(&self) -> Option<Parsed<'_>> {
        let text = self.as_str();
        if let Some(django) = text.strip_prefix("pbkdf2_sha256$") {
            let mut parts = django.split('$');
            let (rounds, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
            let rounds = rounds.parse().ok().filter(|rounds| (1..=MAX_PBKDF2_ROUNDS).contains(rounds))?;
            let hash = BASE64_NOPAD.decode(hash.trim_end_matches('=').as_bytes()).ok()?;
            let whole = parts.next().is_none() && hash.len() == 32 && !salt.is_empty();
            return whole.then_some(Parsed::Pbkdf2 { rounds, salt: salt.as_bytes(), hash });
        }
        // Django writes a prefix of its own before the usual text.
        let text = text.strip_prefix("bcrypt$").or_else(|| text.strip_prefix("argon2")).unwrap_or(text);
        if text.starts_with("$2") {
            let parts: bcrypt::HashParts = text.parse().ok()?;
            return (4..=MAX_BCRYPT_COST).contains(&parts.get_cost()).then_some(Parsed::Bcrypt(text));
        }
        let hash = PasswordHash::new(text).ok()?;
        argon2::Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let params = argon2::Params::try_from(&hash).ok()?;
        let in_all = u64::from(params.m_cost()) * u64::from(params.t_cost());
        let bounded = params.m_cost() <= MAX_ARGON2_KIB && in_all <= MAX_ARGON2_KIB_IN_ALL;
        (bounded && hash.hash.is_some() && hash.salt.is_some()).then(|| Parsed::Argon2(Box::new(hash)))
    }

    /// Whether it is the hash of this text. Takes from milliseconds to seconds, and blocks the thread.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self.parse() {
            None => false,
            Some(Parsed::Bcrypt(hash)) => {
                text.len() <= BCRYPT_LEN && bcrypt::verify(text, hash).unwrap_or(false)
            }
            Some(Parsed::Argon2(hash)) => Argon2::default().verify_password(text.as_bytes(), &*hash).is_ok(),
            Some(Parsed::Pbkdf2 { rounds, salt, hash }) => {
                let mut made = [0_u8; 32];
                pbkdf2::pbkdf2::<Hmac<Sha256>>(text.as_bytes(), salt, rounds, &mut made).is_ok()
                    && made.ct_eq(&hash).into()
            }
        }
    }
}
