//! The room that says yes. Nobody gets in unless this module has said so, and only this module decides.
//!
//! | file | what it does |
//! |---|---|
//! | `evidence` | [`Principal`]: the proof that a key was verified; only this module makes one |
//! | `case` | the checks in their order, without input or output: each step is made of the one before |
//! | `check`, `refusal` | the names of the checks; why one says no |
//! | `lookup`, `slow` | under which digest the store knows a key; keys with a slow hash |
//! | `rate_limits`, `asker` | wrong keys by client, look-ups by client, requests by key |
//! | `rules` | what the checks are set to, and whom they ask |
//! | `drive` | the drivers that answer what a case asks: at once, by asking stores, to explain |
//! | `leaked` | keys that others hold, to be revoked |
//! | `access` | [`Access`]: who may come in at an endpoint, and who needs no credential there |
//! | `admit` | [`Pass`]: without one, the inner service cannot be called |
//!
//! The order of the checks is written down at [`Verifier`](crate::Verifier).

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
pub(crate) use self::admit::{Guarded, Nobody, Pass};
pub(crate) use self::case::{Admission, Listener};
pub(crate) use self::drive::Paused;
pub(crate) use self::lookup::Outdated;
pub(crate) use self::rate_limits::counts;
pub(crate) use self::refusal::Refusal;
pub(crate) use self::rules::{Gate, Rules};
