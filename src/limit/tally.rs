//! What a request leaves of its limits, and how it is told.

use std::time::Duration;

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName, RETRY_AFTER};

use super::Limit;
use super::bucket::Taken;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Whether a request is within its limits, and what to tell the client: about the most restrictive one.
///
/// That is the one that refuses for longest, or if none does, the one that leaves least.
#[derive(Clone, Debug)]
#[must_use]
pub struct Tally {
    limit: Limit,
    remaining: u32,
    reset: Duration,
    wait: Option<Duration>,
}

impl Tally {
    pub(super) fn of(limit: &Limit, taken: Taken) -> Self {
        let limit = limit.clone();
        match taken {
            Taken::Allowed { remaining, reset, .. } => Self { limit, remaining, reset, wait: None },
            Taken::Refused { wait, reset } => Self { limit, remaining: 0, reset, wait: Some(wait) },
        }
    }

    /// Refusals before all else, the longest first; then what leaves least, and lasts longest.
    pub(super) fn strictness(&self) -> impl Ord + use<> {
        (self.wait, std::cmp::Reverse(self.remaining), self.reset)
    }

    /// Whether the request may go on. It was counted then, and not at all otherwise.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.wait.is_none()
    }

    /// The most restrictive limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How many it would let through at once after this request.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// How long until its bucket is full again, if nothing else comes.
    #[must_use]
    pub fn reset(&self) -> Duration {
        self.reset
    }

    /// How long a refused request should wait; then it is allowed, if nothing else comes.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.wait
    }

    /// Sets `RateLimit`, `RateLimit-Policy` and, on a refusal, `Retry-After`. Never for a 401: who holds no valid key
    /// must not see how much one is used.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        let rate_limit = format!("\"{}\";r={};t={}", self.limit.name(), self.remaining, seconds(self.reset));
        if let Ok(value) = HeaderValue::from_str(&rate_limit) {
            headers.insert(RATE_LIMIT, value);
        }
        headers.insert(RATE_LIMIT_POLICY, self.limit.0.policy.clone());
        if let Some(wait) = self.wait {
            headers.insert(RETRY_AFTER, retry_after(wait));
        }
    }
}

/// A `Retry-After` of at least one second, rounded up: who waits that long does not come too early.
#[must_use]
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(seconds(wait).max(1))
}

fn seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}
