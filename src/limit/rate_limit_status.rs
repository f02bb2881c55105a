//! [`RateLimitStatus`]: how much of its rate limits a request leaves, and the response headers that say so.

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

/// Whether a request is within its rate limits, and what to report to the client: the most restrictive limit.
///
/// This is the one with the longest wait if any refuses, and otherwise the one with the fewest requests left.
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

    /// Sets `pk`, by which clients see that the keys of one rotation family are counted together. It is a hash of the
    /// family's id: the id is not a secret, but clients do not need it.
    pub(crate) fn of_family(mut self, family: &KeyId) -> Self {
        let hash = Sha256::new().chain_update("rate limit\0").chain_update(family.as_str()).finalize();
        self.partition = hash.first_chunk().copied();
        self
    }

    /// The order of strictness: refusals first, the longest wait first; then the fewest left, and the longest reset.
    pub(super) fn strictness(&self) -> impl Ord + use<> {
        (self.wait, std::cmp::Reverse(self.remaining), self.reset)
    }

    /// Whether the request is allowed. If so, it was counted; if not, it was counted against no limit.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.wait.is_none()
    }

    /// The most restrictive limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// How many more requests this limit allows at once.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// How long until the bucket is full again, without further requests.
    #[must_use]
    pub fn reset(&self) -> Duration {
        self.reset
    }

    /// How long a refused client should wait. Without further requests, the next one is then allowed.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.wait
    }

    /// Sets `RateLimit`, `RateLimit-Policy` and, on a refusal, `Retry-After`. Do not use it on a 401: a client
    /// without a valid key must not learn how much a key is used.
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

/// Formats a `Retry-After` of at least one second, rounded up so that a client that waits this long is not too early.
#[must_use]
pub fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(seconds(wait).max(1))
}

fn seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}
