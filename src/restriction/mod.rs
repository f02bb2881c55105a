//! Restrictions of a key: from which addresses, from which pages, at which endpoints (R56) and through which schemes it
//! may be used.
//!
//! # Format
//!
//! ```json
//! {"ip":{"allow":["192.0.2.0/24","2001:db8::/32"]},
//!  "referrer":{"mode":"observe","allow":["https://*.example.com/app"],"origin":true},
//!  "endpoints":{"allow":["GET /v1/users/{id}"]},
//!  "schemes":{"allow":["bearer"]}}
//! ```
//!
//! Stores and management routes use this same text. A missing member does not restrict; `mode` is `enforce` by default,
//! and `origin` is false by default. Unknown and repeated members are errors.
//!
//! All restrictions of a key together have at most [8 KiB](crate::KeyRecord::MAX_RESTRICTIONS_LEN) of text. Longer
//! ones that a store already holds are read and kept; an update may make them shorter but not longer.
//!
//! # How a request is checked
//!
//! Each restriction lists what is allowed, and all restrictions of a key must allow the request. An empty list allows
//! nothing. What is unknown about a request is not allowed: without a client address, a key with an IP restriction is
//! refused. A restriction in [`Mode::Observe`] lets the request through and reports what it would have refused, so that
//! you can tighten a key in use without an outage.

mod endpoint;
mod ip;
mod list;
mod referrer;
mod request_context;
mod scheme;
mod text;
mod verdict;

pub use self::endpoint::{EndpointRestriction, EndpointRule};
pub use self::ip::{IpRestriction, Network};
pub use self::list::{AllowList, RestrictionError};
pub use self::referrer::{ReferrerRestriction, ReferrerRule};
pub use self::request_context::RequestContext;
pub use self::scheme::{SchemeRestriction, SchemeRule};
pub use self::verdict::{Mode, RestrictionKind, Verdict};

/// The restrictions of one key. By default there are none, which costs a request one comparison.
///
/// ```
/// use tower_api_key::restriction::{EndpointRestriction, RequestContext, IpRestriction, Restrictions};
///
/// let restrictions = Restrictions::none()
///     .ip(IpRestriction::allow(["192.0.2.0/24"])?)
///     .endpoints(EndpointRestriction::allow(["GET /v1/users/{id}"])?.observe());
///
/// let verdict = restrictions.judge(&RequestContext::new().address([192, 0, 2, 7]));
/// assert!(verdict.is_allowed());
/// // No endpoint is known, so the second restriction would have refused.
/// assert_eq!(verdict.observed().count(), 1);
/// # Ok::<(), tower_api_key::restriction::RestrictionError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions(Option<Box<Parts>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parts {
    ip: Option<IpRestriction>,
    referrer: Option<ReferrerRestriction>,
    endpoints: Option<EndpointRestriction>,
    schemes: Option<SchemeRestriction>,
}

impl Restrictions {
    /// No restriction.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether there is no restriction at all.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Restricts the client's address. Replaces an earlier restriction of this kind.
    #[must_use]
    pub fn ip(mut self, restriction: IpRestriction) -> Self {
        self.parts().ip = Some(restriction);
        self
    }

    /// Restricts the page that sends the request. Replaces an earlier restriction of this kind.
    #[must_use]
    pub fn referrer(mut self, restriction: ReferrerRestriction) -> Self {
        self.parts().referrer = Some(restriction);
        self
    }

    /// Restricts the endpoints. Replaces an earlier restriction of this kind.
    #[must_use]
    pub fn endpoints(mut self, restriction: EndpointRestriction) -> Self {
        self.parts().endpoints = Some(restriction);
        self
    }

    /// Restricts the schemes through which the key may be sent. Replaces an earlier restriction of this kind.
    #[must_use]
    pub fn schemes(mut self, restriction: SchemeRestriction) -> Self {
        self.parts().schemes = Some(restriction);
        self
    }

    /// The length in bytes of the [text](self#format) that a store keeps.
    #[must_use]
    pub fn text_len(&self) -> usize {
        self.to_string().len()
    }

    /// About how many bytes they allocate on the heap.
    #[cfg(feature = "cache")]
    pub(crate) fn heap_len(&self) -> usize {
        fn list<R>(list: Option<&AllowList<R>>, text: impl Fn(&R) -> usize) -> usize {
            list.map_or(0, |list| list.rules.iter().map(|rule| size_of::<R>() + text(rule)).sum())
        }
        let Some(parts) = self.0.as_deref() else { return 0 };
        size_of::<Parts>()
            + list(parts.ip.as_ref(), |_| 0)
            + list(parts.referrer.as_ref(), ReferrerRule::heap_len)
            + list(parts.endpoints.as_ref(), EndpointRule::heap_len)
            + list(parts.schemes.as_ref(), SchemeRule::heap_len)
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_default()
    }

    /// The restriction of the client's address.
    #[must_use]
    pub fn get_ip(&self) -> Option<&IpRestriction> {
        self.0.as_ref()?.ip.as_ref()
    }

    /// The restriction of the page that sends the request.
    #[must_use]
    pub fn get_referrer(&self) -> Option<&ReferrerRestriction> {
        self.0.as_ref()?.referrer.as_ref()
    }

    /// The restriction of the endpoints.
    #[must_use]
    pub fn get_endpoints(&self) -> Option<&EndpointRestriction> {
        self.0.as_ref()?.endpoints.as_ref()
    }

    /// The restriction of the schemes through which the key may be sent.
    #[must_use]
    pub fn get_schemes(&self) -> Option<&SchemeRestriction> {
        self.0.as_ref()?.schemes.as_ref()
    }

    /// Whether these provably allow nothing that `others` do not: each list of `others` is still there, is enforced
    /// if it was, and has a subset of the same entries. Overlaps of different entries are not computed.
    #[must_use]
    pub(crate) fn is_within(&self, others: &Self) -> bool {
        fn within<R: PartialEq>(these: Option<&AllowList<R>>, others: Option<&AllowList<R>>) -> bool {
            match (these, others) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(these), Some(others)) => {
                    (these.mode == others.mode || these.mode == Mode::Enforce)
                        && these.origin == others.origin
                        && these.rules.iter().all(|rule| others.rules.contains(rule))
                }
            }
        }
        within(self.get_ip(), others.get_ip())
            && within(self.get_referrer(), others.get_referrer())
            && within(self.get_endpoints(), others.get_endpoints())
            && within(self.get_schemes(), others.get_schemes())
    }

    /// Checks a request against every restriction, in the order of [`RestrictionKind::ALL`].
    pub fn judge(&self, facts: &RequestContext<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        for kind in RestrictionKind::ALL {
            if let Some((mode, false)) = self.check(kind, facts) {
                verdict.add(kind, mode);
            }
        }
        verdict
    }

    /// Checks a request against one restriction: returns its mode and whether it allows the request, or `None` if
    /// there is no such restriction.
    #[must_use]
    pub fn check(&self, kind: RestrictionKind, facts: &RequestContext<'_>) -> Option<(Mode, bool)> {
        let parts = self.0.as_deref()?;
        match kind {
            RestrictionKind::Ip => parts.ip.as_ref().map(|list| (list.mode, list.allows(facts))),
            RestrictionKind::Referrer => parts.referrer.as_ref().map(|list| (list.mode, list.allows(facts))),
            RestrictionKind::Endpoint => parts.endpoints.as_ref().map(|list| (list.mode, list.allows(facts))),
            RestrictionKind::Scheme => parts.schemes.as_ref().map(|list| (list.mode, list.allows(facts))),
        }
    }
}

#[cfg(test)]
mod tests;
