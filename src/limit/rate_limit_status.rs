//! What a request leaves of its limits, and how it is told.

use std::time::Duration;

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName, RETRY_AFTER};

use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

use super::Limit;
use super::gcra::Taken;
use crate::key::KeyId;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Whether a request is within its limits, and what to tell the client: about the most restrictive one.
///
/// That is the one that refuses for longest, or if none does, the one that leaves least.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitStatus {
    limit: Limit,
    remaining: u32,
    reset: Duration,
    wait: Option<Duration>,
    partition: Option<[u8; 12]>,
}

impl RateLimitStatus {
    pub(super) fn of(limit: &Limit, taken: Taken) -> Self {
        let limit = limit.clone();
        match taken {
            Taken::Allowed { remaining, reset, .. } => {
                Self { limit, remaining, reset, wait: None, partition: None }
            }
            Taken::Refused { wait, reset } => {
                Self { limit, remaining: 0, reset, wait: Some(wait), partition: None }
            }
        }
    }

    /// Tells clients by `pk` which of their keys count together: those of one rotation family. The hash of an id, which is no
    /// secret, and yet is nothing that others need to see.
    pub(crate) fn of_family(mut self, family: &KeyId) -> Self {
        let hash = Sha256::new().chain_update("rate limit\0").chain_update(family.as_str()).finalize();
        self.partition = hash.first_chunk().copied();
        self
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
        headers.insert(RATE_LIMIT_POLICY, self.policy());
        if let Some(wait) = self.wait {
            headers.insert(RETRY_AFTER, retry_after(wait));
        }
    }

    fn policy(&self) -> HeaderValue {
        let policy = &self.limit.0.policy;
        let Some(partition) = &self.partition else { return policy.clone() };
        let mut value = policy.as_bytes().to_vec();
        value.extend_from_slice(b";pk=:");
        value.extend_from_slice(BASE64.encode(partition).as_bytes());
        value.push(b':');
        HeaderValue::try_from(value).unwrap_or_else(|_| policy.clone())
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
