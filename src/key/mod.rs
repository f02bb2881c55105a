//! Keys: their text, their format, their ids and their digests.
//!
//! # Format
//!
//! ```text
//! sk_live_ 0123456789ABCDEFGHIJKLMNOPQRSTUVW XYZabc
//! prefix   33 characters of base62           6 characters of base62
//! and      drawn uniformly: 196 bits         CRC-32 over everything before
//! environment
//! ```

pub(crate) mod api_key;
mod base62;
pub(crate) mod digest;
pub(crate) mod digests;
pub(crate) mod environment;
pub(crate) mod format;
pub(crate) mod id;
pub(crate) mod method;
pub(crate) mod pepper;
#[cfg(feature = "slow-hashes")]
pub(crate) mod slow;

pub use self::format::{MAX_KEY_LEN, RandomSourceError};
pub use self::id::{ParseIdError, is_id};
pub use self::method::{ParseDigestMethodError, PepperId, SlowHash};

pub(crate) use self::api_key::ApiKey;
pub(crate) use self::digest::KeyDigest;
pub(crate) use self::digests::{Digester, Digests, of_sanctum, of_sha512};
pub(crate) use self::environment::Environment;
pub(crate) use self::format::{KeyFormat, can_be_key};
pub(crate) use self::id::{KeyId, ProjectId, UserId};
pub(crate) use self::method::DigestMethod;
#[cfg(feature = "slow-hashes")]
pub(crate) use self::slow::of_start;
