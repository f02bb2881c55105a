//! Rate limits of keys, and throttles for failed attempts.
//!
//! # Format
//!
//! ```text
//! 12/min                  twelve a minute
//! 200/30d                 two hundred in thirty days; s, min, h and d are the units
//! burst=12/min            the same with a name for clients, which is `12/min` otherwise
//! burst=12/min,200/30d    several at once; a space after the comma is fine
//! ```
//!
//! ```text
//! RateLimit-Policy: "burst";q=12;w=60;pk=:...: (draft-ietf-httpapi-ratelimit-headers)
//! RateLimit: "burst";r=11;t=5
//! Retry-After: 5                               (refusals only)
//! ```
//!
//! `pk` is the same for keys that are counted together: a key and those that were rotated from it. It is derived
//! from an id and not from a secret.
//!
//! # What a limit means
//!
//! Each limit is a bucket that holds `12` requests and refills evenly, one every five seconds (GCRA). So twelve
//! requests may come at once, and then one every five seconds: at most 24 in any one minute, and twelve a minute in
//! the long run. Several limits apply together; a request that one of them refuses counts against none.
//!
//! A key carries its limits ([`NewKey::limits`](crate::NewKey::limits)); the layer checks them last, once per
//! request. [`Verifier::throttle`](crate::Verifier::throttle) sets the throttle for wrong keys, a [`KeyThrottle`].
//! [`Throttle`] is for your application's own attempts, such as sign-ins.
//!
//! # Deployment caveat
//!
//! Counts are kept in this process: two processes count separately, and a restart resets the counts.
//!
//! Time is passed in; no clock is read. If the clock jumps back, nobody waits longer than an empty bucket takes.

mod client;
mod gcra;
mod key_throttle;
mod limiter;
mod rate_limit_status;
mod shards;
mod throttle;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use self::gcra::Rate;
use crate::config_error::ConfigError;

pub use self::key_throttle::KeyThrottle;
pub use self::limiter::Limiter;
pub use self::rate_limit_status::{RateLimitStatus, retry_after};
pub use self::throttle::Throttle;

pub(crate) use self::client::Client;
pub(crate) use self::key_throttle::Throttled;

/// How many limits a key may have.
const MAX_LIMITS: usize = 8;
const MAX_COUNT: u32 = 1_000_000_000;
/// 366 days, in seconds.
const MAX_WINDOW: u32 = 31_622_400;

/// One limit, such as `12/min`: see [the format](self#format). Cloning is cheap.
///
/// ```
/// use tower_api_key::limit::Limit;
///
/// let limit: Limit = "burst=12/min".parse()?;
/// assert_eq!((limit.name(), limit.count(), limit.window().as_secs()), ("burst", 12, 60));
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Limit(Arc<LimitParts>);

struct LimitParts {
    text: Box<str>,
    name: Box<str>,
    count: u32,
    window: u32,
    rate: Rate,
    policy: HeaderValue,
}

impl Limit {
    /// The name that clients see.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many requests a full bucket holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.count
    }

    /// How long an empty bucket takes to refill.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.0.window.into())
    }

    /// The default for failed attempts: ten a second, and fifty at once.
    pub(crate) fn failures() -> Self {
        Self::built_in("50/5s", 50, 5, r#""50/5s";q=50;w=5"#)
    }

    /// A limit with a fixed text, defined by this crate.
    fn built_in(text: &'static str, count: u32, window: u32, policy: &'static str) -> Self {
        let (rate, policy) = (Rate::new(count, window), HeaderValue::from_static(policy));
        Self(Arc::new(LimitParts { text: text.into(), name: text.into(), count, window, rate, policy }))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "a limit is a number and a period, such as 12/min or 200/30d";
        if text.contains(',') {
            return Err(
                "a comma stands between limits, and this is to be one: leave out what follows the comma",
            );
        }
        let (name, quota) = match text.split_once('=') {
            Some((name, quota)) => (Some(name), quota),
            None => (None, text),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_some_and(|name| !(1..=32).contains(&name.len()) || !name.bytes().all(plain)) {
            return Err("a limit's name is 1 to 32 of A-Z a-z 0-9 - _");
        }
        let (count, period) = quota.split_once('/').ok_or(SHAPE)?;
        let count = number(count)
            .filter(|count| *count <= MAX_COUNT)
            .ok_or("before the / stands a number from 1 to 1000000000, without leading zeros")?;
        let digits = period.bytes().take_while(u8::is_ascii_digit).count();
        let (times, unit) = period.split_at_checked(digits).ok_or(SHAPE)?;
        let times = match times {
            "" => 1,
            "1" => return Err("a period of one unit is written without a number: 12/min"),
            digits => number(digits).ok_or(SHAPE)?,
        };
        let unit =
            seconds(unit).ok_or("after the / stands a period in s, min, h or d, such as min or 30d")?;
        let window = times.checked_mul(unit).filter(|window| *window <= MAX_WINDOW);
        let window = window.ok_or("a period is at most 366d")?;
        let rate = Rate::new(count, window);
        let name = name.unwrap_or(quota);
        let policy = format!("\"{name}\";q={count};w={window}");
        let policy = HeaderValue::from_str(&policy).map_err(|_| SHAPE)?;
        Ok(Self(Arc::new(LimitParts { text: text.into(), name: name.into(), count, window, rate, policy })))
    }
}

/// Parses a duration such as `7d` or `90min`, of at most 366 days.
pub(crate) fn period(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (times, unit) = text.split_at_checked(digits)?;
    let period = number(times)?.checked_mul(seconds(unit)?).filter(|period| *period <= MAX_WINDOW);
    period.map(|period| Duration::from_secs(period.into()))
}

fn seconds(unit: &str) -> Option<u32> {
    match unit {
        "s" => Some(1),
        "min" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    }
}

/// Parses a decimal number from 1 on, without a sign or a leading zero.
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if plain { digits.parse().ok() } else { None }
}

impl FromStr for Limit {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text).map_err(|reason| refused(text, reason))
    }
}

fn refused(text: &str, reason: &'static str) -> ConfigError {
    const SHOWN: usize = 80;
    ConfigError::RateLimit { limit: text.chars().take(SHOWN).collect(), reason }
}

impl PartialEq for Limit {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Limit {}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One to eight limits that all apply, with different names and periods. Cloning is cheap.
///
/// Stores and people read and write it as text, by [`Display`](fmt::Display) and [`FromStr`]. Spaces around a comma are
/// accepted when read, and never written.
///
/// ```
/// use tower_api_key::limit::Limits;
///
/// let limits: Limits = "12/min, 200/30d".parse()?;
/// assert_eq!(limits.iter().count(), 2);
/// assert_eq!(limits.to_string(), "12/min,200/30d");
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    first: Limit,
    rest: Arc<[Limit]>,
}

impl Limits {
    /// Combines these limits.
    ///
    /// # Errors
    ///
    /// [`ConfigError::RateLimit`] for no limits or more than eight, and for two with the same name or period.
    pub fn all(limits: impl IntoIterator<Item = Limit>) -> Result<Self, ConfigError> {
        let mut limits = limits.into_iter();
        let first = limits.next().ok_or_else(|| refused("", "name at least one limit, such as 12/min"))?;
        let mut rest: Vec<Limit> = Vec::new();
        for limit in limits {
            let mut so_far = std::iter::once(&first).chain(&rest);
            if so_far.clone().count() == MAX_LIMITS {
                return Err(refused(&limit.0.text, "a key has at most 8 limits"));
            }
            if so_far.clone().any(|other| other.name() == limit.name()) {
                return Err(refused(&limit.0.text, "two limits have one name"));
            }
            if so_far.any(|other| other.0.window == limit.0.window) {
                return Err(refused(&limit.0.text, "two limits have one period: keep the smaller"));
            }
            rest.push(limit);
        }
        Ok(Self { first, rest: rest.into() })
    }

    /// Returns the limits in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        std::iter::once(&self.first).chain(&*self.rest)
    }
}

impl From<Limit> for Limits {
    fn from(limit: Limit) -> Self {
        Self { first: limit, rest: Arc::default() }
    }
}

impl FromStr for Limits {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let one = |limit: &str| match limit.trim_matches([' ', '\t']) {
            "" if text.contains(',') => {
                Err(refused(text, "before and after a comma stands a limit, such as 12/min"))
            }
            limit => limit.parse(),
        };
        let limits: Result<Vec<Limit>, _> = text.split(',').map(one).collect();
        Self::all(limits?)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, limit) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{limit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
