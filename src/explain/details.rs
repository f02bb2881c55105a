//! The text of each check in an explanation: what was found and what was expected.

use super::explanation::CheckOutcome;
use super::recorded_checks::{RecordedChecks, throttled};
use crate::auth_error::AuthErrorKind;
use crate::credentials::{Claim, Claims};
use crate::endpoint::Endpoint;
use crate::gate::{Check, Gate};
use crate::key::Environment;
use crate::limit::{RateLimitStatus, Throttled};
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{Mode, RequestContext, RestrictionKind};
use crate::role::{AccessClass, AccountStatus};

/// A request, and what is known about its key.
pub(super) struct Scene<'s> {
    pub(super) gate: &'s Gate,
    pub(super) key: &'s KeyRecord,
    pub(super) claims: &'s Claims<'s>,
    pub(super) endpoint: Endpoint,
    pub(super) facts: &'s RequestContext<'s>,
    pub(super) standing: Option<AccountStatus>,
    pub(super) tally: Option<&'s RateLimitStatus>,
    pub(super) recorded: &'s RecordedChecks,
}

impl Scene<'_> {
    pub(super) fn outcome(&self, check: Check) -> CheckOutcome {
        let observed = |kind| self.key.restrictions.check(kind, self.facts) == Some((Mode::Observe, false));
        match (check, self.recorded.of(check)) {
            // A layer checks this before there is a key.
            (Check::Https, None) => CheckOutcome::Passed,
            (_, None) => CheckOutcome::NotReached,
            (_, Some(Some(kind))) => CheckOutcome::Refused(kind),
            (Check::Restriction(kind), Some(None)) if observed(kind) => CheckOutcome::Observed,
            (_, Some(None)) => CheckOutcome::Passed,
        }
    }

    pub(super) fn detail(&self, check: Check) -> String {
        let outcome = self.outcome(check);
        let refused = match outcome {
            CheckOutcome::NotReached => return String::new(),
            CheckOutcome::Refused(AuthErrorKind::StoreFailed | AuthErrorKind::StoreTimeout) => {
                return self.recorded.failure.clone().unwrap_or_default();
            }
            CheckOutcome::Refused(_) => true,
            _ => false,
        };
        match check {
            Check::Https => String::new(),
            Check::Sunset => self.sunset(),
            Check::Shape => self.shape(),
            Check::Throttle => self.throttle(refused),
            Check::Known if refused => "the store does not find the key by its digest".into(),
            Check::Known => "the store finds the key by its digest".into(),
            Check::Revocation => self.revocation(),
            Check::Expiry => match self.key.expires_at {
                None => "it has no end".into(),
                Some(end) if refused => format!("it expired at {end}"),
                Some(end) => format!("it expires at {end}"),
            },
            Check::Environment => {
                let accepted = self.gate.rules.environment.map_or("live and test", Environment::as_str);
                format!("it is a {} key, and {accepted} keys are accepted", self.key.environment.as_str())
            }
            Check::Owner if refused => format!("{} is unknown, removed or suspended", self.key.owner),
            Check::Owner => format!("{} is in good standing", self.key.owner),
            Check::User => match self.claims.claimed_user() {
                Claim::NotAsked => "nobody is claimed to be the owner".into(),
                Claim::Missing => "a user must be claimed, and none is".into(),
                Claim::Named(user) => format!("{user:?} is claimed, and the owner is {}", self.key.owner),
            },
            Check::Restriction(kind) => self.restriction(kind),
            Check::Project => self.project(outcome),
            Check::Access => match self.key.level.project().map(ToString::to_string).or_else(|| self.named())
            {
                Some(project) if refused => {
                    format!("{} has no access to {project}, or this project does not exist", self.key.owner)
                }
                Some(project) => format!("{} is {} on {project}", self.key.owner, self.role()),
                None if refused => format!("{} is in no account", self.key.owner),
                None => format!("{} is {} in the account", self.key.owner, self.role()),
            },
            Check::Role => {
                let verb = if refused { "may not" } else { "may" };
                format!("{} {verb} {}", self.role(), does(self.endpoint.class))
            }
            Check::Level => {
                let keys = match self.key.level {
                    KeyLevel::User => "keys for all that the owner may do",
                    KeyLevel::Project(_) => "keys for one project",
                };
                let verb = if refused { "may not" } else { "may" };
                format!("{keys} {verb} {}", does(self.endpoint.class))
            }
            Check::Limits => self.tally.map_or_else(|| "it has none".into(), left),
        }
    }

    fn sunset(&self) -> String {
        let Some(scheme) = self.claims.scheme() else { return "no scheme is named".into() };
        let name = scheme.name();
        match scheme.deprecation() {
            None => format!("{name} is in use"),
            Some(deprecation) => match deprecation.ends() {
                None => format!("{name} is deprecated since {}, without an end", deprecation.since()),
                Some(end) => format!("{name} is deprecated since {}, and ends at {end}", deprecation.since()),
            },
        }
    }

    fn shape(&self) -> String {
        let prefix = self.gate.rules.format.prefix(self.key.environment);
        let foreign = if self.gate.rules.accept_foreign_keys { "are" } else { "are not" };
        match &*self.key.prefix {
            own if own == prefix => format!("it starts with {prefix}, as keys do here"),
            "" => format!("it is of a foreign shape, and such keys {foreign} looked up"),
            other => {
                format!(
                    "it starts with {other}, keys here with {prefix}, and foreign ones {foreign} looked up"
                )
            }
        }
    }

    fn throttle(&self, refused: bool) -> String {
        if self.gate.throttle.is_none() {
            return "no throttle is set".into();
        }
        let Some(client) = self.facts.client() else { return "the client's address is unknown".into() };
        match throttled(self.gate, self.key, self.facts).filter(|_| refused) {
            None => format!("{client} is not slowed down for this key"),
            Some(Throttled::Key(wait)) => {
                format!(
                    "the key was wrong too often from {client}: it may be tried again in {} s",
                    secs(wait)
                )
            }
            Some(Throttled::Client(wait)) => {
                format!("too many wrong keys came from {client}: it may try another in {} s", secs(wait))
            }
        }
    }

    fn revocation(&self) -> String {
        let mut text = match self.key.revoked_at {
            None => "it is not revoked".to_owned(),
            Some(when) => format!("it was revoked at {when}"),
        };
        if let Some(successor) = &self.key.replaced_by {
            text = format!("{text}, and was replaced by {successor}");
        }
        text
    }

    fn restriction(&self, kind: RestrictionKind) -> String {
        let restrictions = &self.key.restrictions;
        let allowed = match kind {
            RestrictionKind::Ip => restrictions.get_ip().map(|ip| listed(ip.rules())),
            RestrictionKind::Referrer => restrictions.get_referrer().map(|referrer| listed(referrer.rules())),
            RestrictionKind::Endpoint => restrictions.get_endpoints().map(|rules| listed(rules.rules())),
            RestrictionKind::Scheme => restrictions.get_schemes().map(|schemes| listed(schemes.rules())),
        };
        match (allowed, restrictions.check(kind, self.facts)) {
            (Some(allowed), Some((mode, _))) => {
                let observed = if mode == Mode::Observe { " (only observed)" } else { "" };
                format!("it is {}, allowed{observed}: {allowed}", self.facts.describe(kind))
            }
            _ => "it is not restricted".into(),
        }
    }

    fn project(&self, outcome: CheckOutcome) -> String {
        let named = match self.claims.selected_project() {
            Claim::Named(text) => format!("{text:?} is named"),
            Claim::Missing | Claim::NotAsked => "none is named".to_owned(),
        };
        match (outcome, self.key.level.project()) {
            (CheckOutcome::Refused(AuthErrorKind::InvalidProject), _) => format!("{named}, which is no id"),
            (CheckOutcome::Refused(AuthErrorKind::ProjectRequired), _) => {
                format!("{named}, and the scheme demands one at this endpoint")
            }
            (_, Some(own)) => format!("{named}, and the key is for {own}"),
            (_, None) => named,
        }
    }

    fn named(&self) -> Option<String> {
        match self.claims.selected_project() {
            Claim::Named(text) => Some(text.to_string()),
            Claim::Missing | Claim::NotAsked => None,
        }
    }

    fn role(&self) -> &'static str {
        match self.standing {
            Some(AccountStatus::Active { role: Some(role) }) => role.as_str(),
            _ => "nobody",
        }
    }
}

fn does(class: AccessClass) -> &'static str {
    match class {
        AccessClass::Read => "read, as the endpoint does",
        AccessClass::Write => "write, as the endpoint does",
        AccessClass::Manage => "manage keys, as the endpoint does",
    }
}

fn left(tally: &RateLimitStatus) -> String {
    match tally.retry_after() {
        Some(wait) => format!("{} leaves none, and one again in {} s", tally.limit(), secs(wait)),
        None => format!("{} leaves {} after this request", tally.limit(), tally.remaining()),
    }
}

fn secs(wait: std::time::Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

fn listed<T: ToString>(rules: &[T]) -> String {
    if rules.is_empty() {
        return "nobody".to_owned();
    }
    rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
