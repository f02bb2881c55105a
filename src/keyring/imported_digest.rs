//! [`ImportedDigest`]: what is known of the text of an imported key.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::KeyringError;
use crate::key::{
    DigestMethod, Digests, Environment, KeyDigest, KeyFormat, can_be_key, of_sanctum, of_sha512,
};

/// What another service knows of the text of a key: a digest, a hash, or the text itself. `Debug` shows nothing of it.
///
/// Digests are written in hexadecimal, or in base64 with either alphabet, with or without padding. They may have a
/// prefix: `\x`, as PostgreSQL writes bytes, or the name of the hash and `:`, `$` or `$$`, such as `sha256:`.
pub struct ImportedDigest(DigestSource);

enum DigestSource {
    Sha256(String),
    Sha512(String),
    Sanctum {
        id: String,
        hash: String,
    },
    Hmac {
        pepper: String,
        hash: String,
    },
    Plaintext(Zeroizing<String>),
    #[cfg(feature = "slow-hashes")]
    Slow {
        start: String,
        hash: String,
    },
}

/// What a store keeps of it.
pub(super) struct Resolved {
    pub(super) digest: KeyDigest,
    pub(super) method: DigestMethod,
    pub(super) prefix: String,
    pub(super) last4: String,
    /// If the text itself is known: its other digests, by which it would also be found.
    pub(super) older: Vec<(DigestMethod, KeyDigest)>,
}

/// Why a key was not imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportRefusal {
    /// The text is not a digest of that kind.
    #[error("this is not a digest of that kind in hexadecimal or base64")]
    Digest,
    /// The keyring's digests do not include this kind, so the key would never be found.
    #[error(
        "the keyring's `Digests` does not accept keys of the kind {0:?}, so that none would ever be found"
    )]
    Method(String),
    /// The slow hash is of an unsupported kind, or costs too much to check.
    #[error("the hash is not a bcrypt, Argon2 or PBKDF2 (Django) hash, or it costs too much to check")]
    SlowHash,
    /// The configured `SlowHashes` find no key by that public start.
    #[error("the configured `SlowHashes` find no key by that start")]
    Start,
    /// The text cannot be a key, because a header cannot contain it.
    #[error(
        "a key is 1 to 512 visible ASCII characters without quotes, as a header carries it: if clients send this one \
         otherwise, import its digest"
    )]
    Text,
    /// The text says that it is of the other environment.
    #[error("the text of the key says that it is of the other environment")]
    Environment,
    /// Another key has this digest or, with a slow hash, this start.
    #[error("another key has the same digest, or, with a slow hash, the same start")]
    DigestTaken,
    /// A key with another text, owner, level or environment has this id.
    #[error("another key has that id")]
    IdTaken,
    /// The owner may not have such a key now.
    #[error("the owner's account is not active, or the owner has no access to the key's project")]
    Owner,
    /// Its name, scopes or metadata are not valid. The text is that of the [`KeyringError`].
    #[error("{0}")]
    Messages(String),
    /// The key contradicts itself.
    #[error("the key is not valid: {0}")]
    Invalid(&'static str),
}

impl ImportRefusal {
    pub(super) fn of_words(error: KeyringError) -> Self {
        Self::Messages(error.to_string())
    }
}

impl ImportedDigest {
    /// The SHA-256 of the text (Unkey, better-auth).
    pub fn sha256(hash: impl Into<String>) -> Self {
        Self(DigestSource::Sha256(hash.into()))
    }

    /// The SHA-512 of the text, as djangorestframework-api-key writes it (`sha512$$..`), or without that prefix.
    pub fn sha512(hash: impl Into<String>) -> Self {
        Self(DigestSource::Sha512(hash.into()))
    }

    /// The id of a token of Laravel Sanctum, and the SHA-256 of the part of its text after `id|`.
    pub fn sanctum(id: impl fmt::Display, hash: impl Into<String>) -> Self {
        Self(DigestSource::Sanctum { id: id.to_string(), hash: hash.into() })
    }

    /// The HMAC-SHA-256 of the text, made with the secret of the pepper with that id
    /// ([`Pepper::from_elsewhere`](crate::Pepper::from_elsewhere)).
    pub fn hmac(pepper: impl Into<String>, hash: impl Into<String>) -> Self {
        Self(DigestSource::Hmac { pepper: pepper.into(), hash: hash.into() })
    }

    /// The text itself: visible ASCII without quotes, since a header cannot contain anything else. Only its digest
    /// is stored, of the newest kind.
    pub fn plaintext(text: impl Into<String>) -> Self {
        Self(DigestSource::Plaintext(Zeroizing::new(text.into())))
    }

    /// The public start of the text, and a deliberately slow hash of the whole text:
    ///
    /// | hash | as |
    /// |---|---|
    /// | bcrypt | `$2b$12$..`, also `$2a$`, `$2x$`, `$2y$`, and Django's `bcrypt$$2b$..`; of texts up to 72 bytes |
    /// | Argon2 | `$argon2id$v=19$..`, also `argon2i` and `argon2d`, and Django's `argon2$argon2id$..` |
    /// | PBKDF2 | Django's `pbkdf2_sha256$600000$salt$hash` |
    #[cfg(feature = "slow-hashes")]
    #[cfg_attr(docsrs, doc(cfg(feature = "slow-hashes")))]
    pub fn slow(start: impl Into<String>, hash: impl Into<String>) -> Self {
        Self(DigestSource::Slow { start: start.into(), hash: hash.into() })
    }

    pub(super) fn resolve(
        self,
        ring: &Digests,
        format: &KeyFormat,
        environment: Environment,
    ) -> Result<Resolved, ImportRefusal> {
        let by_digest = |digest, method: DigestMethod| {
            if !ring.knows(method.kind()) {
                return Err(ImportRefusal::Method(method.kind().to_owned()));
            }
            // The text is unknown, so no part of it can be shown.
            Ok(Resolved { digest, method, prefix: String::new(), last4: String::new(), older: Vec::new() })
        };
        match self.0 {
            DigestSource::Sha256(hash) => {
                by_digest(KeyDigest::from_bytes(decode(named("sha256", &hash))?), DigestMethod::Sha256)
            }
            DigestSource::Sha512(hash) => {
                by_digest(of_sha512(&decode(named("sha512", &hash))?), DigestMethod::Sha512)
            }
            DigestSource::Sanctum { id, hash } => {
                let digest = of_sanctum(&id, &decode(named("sha256", &hash))?);
                // The text is split at its first `|`.
                if id.is_empty() || id.contains('|') {
                    Err(ImportRefusal::Digest)
                } else if !can_be_sent(&id) {
                    Err(ImportRefusal::Text)
                } else {
                    by_digest(digest, DigestMethod::Sanctum)
                }
            }
            DigestSource::Hmac { pepper, hash } => {
                let method = format!("hmac:{pepper}").parse();
                // If this is not a valid id, it may be the secret itself, passed by mistake: do not show it.
                let method = method.map_err(|_| ImportRefusal::Method("hmac".to_owned()))?;
                by_digest(KeyDigest::from_bytes(decode(&hash)?), method)
            }
            #[cfg(feature = "slow-hashes")]
            DigestSource::Slow { start, hash } => {
                let slow = ring.slow().ok_or_else(|| ImportRefusal::Method("slow".to_owned()))?;
                let hash = crate::key::SlowHash::new(&hash).filter(crate::key::SlowHash::is_known);
                let hash = hash.ok_or(ImportRefusal::SlowHash)?;
                if !slow.finds(&start) || !can_be_sent(&start) {
                    return Err(ImportRefusal::Start);
                }
                by_digest(crate::key::of_start(&start), DigestMethod::Slow(hash))
            }
            DigestSource::Plaintext(text) => {
                let newest = ring.newest();
                if !can_be_key(&text) || !can_be_sent(&text) {
                    return Err(ImportRefusal::Text);
                }
                let older = ring.oldest_first().map(|way| (way.method(), way.digest(&text))).collect();
                let resolved = by_digest(newest.digest(&text), newest.method())?;
                let resolved = Resolved { older, ..resolved };
                let Some(said) = format.environment_of(&text) else { return Ok(resolved) };
                if said != environment {
                    return Err(ImportRefusal::Environment);
                }
                // The text is a key of our own format, so its public parts may be shown.
                let last4 = text.get(text.len() - 4..).unwrap_or_default().to_owned();
                Ok(Resolved { prefix: format.prefix(said).to_owned(), last4, ..resolved })
            }
        }
    }
}

/// Whether a header can contain this text as a key. White space, quotes, a leading `Bearer ` and invisible
/// characters are mistakes of the file that it was read from: no client has a key with them.
fn can_be_sent(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`'))
}

/// Removes the name of the hash, if it is there: `sha256:..`, `sha256$..`, `sha256$$..`.
fn named<'t>(hash: &str, text: &'t str) -> &'t str {
    let rest = match text.split_at_checked(hash.len()) {
        Some((name, rest)) if name.eq_ignore_ascii_case(hash) => rest,
        _ => return text,
    };
    // A salt would be between two `$`. Only an empty one is accepted.
    let digest =
        rest.strip_prefix(':').or_else(|| rest.strip_prefix("$$")).or_else(|| rest.strip_prefix('$'));
    digest.unwrap_or(text)
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], ImportRefusal> {
    // PostgreSQL's `bytea`.
    let text = text.strip_prefix("\\x").filter(|hex| hex.len() == 2 * N).unwrap_or(text);
    let spelling = match (text.len() == 2 * N, text.contains(['-', '_']), text.ends_with('=')) {
        (true, ..) => &HEXLOWER_PERMISSIVE,
        (_, false, true) => &BASE64,
        (_, false, false) => &BASE64_NOPAD,
        (_, true, true) => &BASE64URL,
        (_, true, false) => &BASE64URL_NOPAD,
    };
    let decoded = spelling.decode(text.as_bytes());
    decoded.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(ImportRefusal::Digest)
}

impl fmt::Debug for ImportedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportedDigest(..)")
    }
}
