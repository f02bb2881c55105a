//! The decision: only this module accepts requests.
//!
//! | file | what it does |
//! |---|---|
//! | `evidence` | [`Principal`]: the proof that a key was verified; only this module makes one |
//! | `case` | the checks in their order, without input or output; each step consumes the previous one |
//! | `check`, `refusal` | the names of the checks; why one refuses |
//! | `lookup`, `slow` | how a key is found by its digests; keys with a slow hash |
//! | `rate_limits`, `asker` | limits on wrong keys by client, on look-ups by client, and on requests by key |
//! | `rules` | the settings of the checks, and the stores that they ask |
//! | `drive` | the drivers that answer a case's questions: from caches, by asking stores, for explanations |
//! | `leaked` | how a leaked key is found, so that it can be revoked |
//! | `access` | [`Access`]: whether an endpoint needs a credential |
//! | `admit` | [`Pass`]: without one, the inner service cannot be called |
//!
//! The order of the checks is documented at [`Verifier`](crate::Verifier).

mod access;
mod admit;
mod asker;
mod case;
mod check;
mod drive;
mod evidence;
mod leaked;
mod lookup;
mod rate_limits;
mod refusal;
mod rules;
#[cfg(feature = "slow-hashes")]
mod slow;
#[cfg(test)]
mod tests;

pub use self::check::Check;
pub use self::evidence::Principal;

pub(crate) use self::access::{Access, Entry};
pub(crate) use self::admit::{GatedService, Nobody, Pass};
pub(crate) use self::case::{Admission, CheckListener};
pub(crate) use self::drive::Paused;
pub(crate) use self::lookup::Outdated;
pub(crate) use self::rate_limits::counts;
pub(crate) use self::refusal::Refusal;
pub(crate) use self::rules::{Gate, Rules};
