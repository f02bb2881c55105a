//! The decision: only this module accepts requests.
//!
//! | file | what it does |
//! |---|---|
//! | `evidence` | [`Principal`]: the proof that a key was verified; only this module makes one |
//! | `checks` | the checks in their order, without input or output; each step consumes the previous one |
//! | `check_name`, `refusal` | the names of the checks; why one refuses |
//! | `lookup`, `slow` | how a key is found by its digests; keys with a slow hash |
//! | `rate_limits`, `asker` | limits on wrong keys by client, on look-ups by client, and on requests by key |
//! | `config` | the settings of the checks, and the stores that they ask |
//! | `drive` | the drivers that answer a case's questions: from caches, by asking stores, for explanations |
//! | `leaked` | how a leaked key is found, so that it can be revoked |
//! | `entry` | [`Access`]: whether an endpoint needs a credential |
//! | `admit` | [`Pass`]: without one, the inner service cannot be called |
//!
//! The order of the checks is documented at [`Verifier`](crate::Verifier).

mod admit;
mod asker;
mod check_name;
mod checks;
mod config;
mod drive;
mod entry;
mod evidence;
mod leaked;
mod lookup;
mod rate_limits;
mod refusal;
#[cfg(feature = "slow-hashes")]
mod slow;
#[cfg(test)]
mod tests;

pub use self::check_name::Check;
pub use self::evidence::Principal;

pub(crate) use self::admit::{GatedService, Nobody, Pass};
pub(crate) use self::checks::{Admission, CheckListener};
pub(crate) use self::config::{Gate, Rules};
pub(crate) use self::drive::Paused;
pub(crate) use self::entry::{Access, Entry};
pub(crate) use self::lookup::Outdated;
pub(crate) use self::rate_limits::counts;
pub(crate) use self::refusal::Refusal;
