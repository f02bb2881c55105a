//! What a response says about the request's key in its headers: deprecation, replacement, rate limits.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::gate::Principal;
use crate::limit::RateLimitStatus;
use crate::scheme_info::SchemeInfo;

/// What a response says about the request's key.
#[derive(Debug)]
pub(crate) struct ResponseNotes {
    /// The scheme, if it is deprecated.
    pub(crate) scheme: Option<SchemeInfo>,
    /// When the key was replaced by another, and until when it works.
    pub(crate) replaced: Option<(Timestamp, Timestamp)>,
    pub(crate) tally: Option<Arc<RateLimitStatus>>,
}

impl ResponseNotes {
    /// Returns `None` if there is nothing to say.
    #[inline]
    pub(crate) fn of(who: &Principal) -> Option<Box<Self>> {
        let deprecated = who.scheme_info().is_some_and(|scheme| scheme.deprecation().is_some());
        let anything = deprecated || who.record().replaced_at.is_some() || who.tally().is_some();
        anything.then(|| Self::noted(who, deprecated))
    }

    #[cold]
    fn noted(who: &Principal, deprecated: bool) -> Box<Self> {
        let key = who.record();
        Box::new(Self {
            scheme: who.scheme_info().filter(|_| deprecated).cloned(),
            replaced: key.replaced_at.zip(key.expires_at),
            tally: who.tally().cloned(),
        })
    }
}
