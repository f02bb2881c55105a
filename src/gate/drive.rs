//! The drivers of a [case](super::checks): each answers its questions in its own way.
//!
//! - [`Gate::now`] uses only cached facts, and never waits.
//! - [`Gate::asking`] continues where that stopped, and asks stores. Nothing is read, digested or asked twice.
//! - [`Gate::explaining`] reports every check to a listener, and changes nothing.

use std::sync::Arc;

use super::asker::Asker;
use super::check_name::Check;
use super::checks::{Admission, Case, CheckListener, FirstRefusal, Known};
use super::config::Gate;
use super::lookup::{Found, Lookup, Next};
use super::refusal::Refusal;
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::credentials::{Claims, Credentials};
use crate::endpoint::Endpoint;
use crate::key::KeyDigest;
use crate::limit::RateLimitStatus;
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::role::AccountStatus;
use crate::store::CachedKey;

/// Where a decision stopped because a fact is not cached.
pub(crate) struct Paused {
    stage: Stage,
    endpoint: Endpoint,
}

enum Stage {
    /// The store must be asked for the key.
    Key(Lookup),
    /// The directory must be asked about the owner of a cached key.
    Owner { known: Known, newest: KeyDigest },
}

impl Paused {
    /// Boxed, so that a decision that need not wait does not copy its size.
    #[cold]
    fn at(stage: Stage, endpoint: Endpoint) -> Box<Self> {
        Box::new(Self { stage, endpoint })
    }
}

/// What became known about a key while it was explained.
#[derive(Default)]
pub(crate) struct Explained {
    pub(crate) key: Option<Arc<KeyRecord>>,
    pub(crate) standing: Option<AccountStatus>,
    pub(crate) tally: Option<RateLimitStatus>,
}

impl Gate {
    pub(super) fn case<'c, F>(&'c self, claims: &'c Claims<'c>, endpoint: Endpoint, facts: F) -> Case<'c, F> {
        Case { rules: &self.rules, claims, endpoint, facts }
    }

    /// Decides from cached facts. `Ok(Err(_))` means that something must be asked for.
    #[inline(always)]
    pub(crate) fn now<'f>(
        &self,
        credentials: &Credentials<'_>,
        endpoint: Endpoint,
        facts: impl Fn() -> RequestContext<'f>,
    ) -> Result<Result<Admission, Box<Paused>>, AuthError> {
        let case = self.case(credentials.claims(), endpoint, facts);
        let refuse = |refusal: Refusal| refusal.said(case.claims);
        let lookup = case.open(credentials.expose_secret()).map_err(refuse)?;
        let said = lookup.environment();
        let newest = *lookup.newest();
        let refuse = |refusal| refuse(self.failed(refusal, &newest, &case.facts, false));
        let found = match self.at_hand(lookup, credentials.expose_secret()).map_err(refuse)? {
            Ok(found) => found,
            Err(lookup) => return Ok(Err(Paused::at(Stage::Key(lookup), endpoint))),
        };
        let known = case.known(&mut FirstRefusal, found, said).map_err(refuse)?;
        let (owner, project) = known.owner();
        let Some(standing) = self.directory.account_status_cached(owner, project) else {
            return Ok(Err(Paused::at(Stage::Owner { known, newest }, endpoint)));
        };
        let entitled = case.entitled(known, standing).map_err(refuse)?;
        case.admit(entitled, |family, limits| self.count(family, limits)).map(Ok).map_err(refuse)
    }

    /// Finds the key's record in the cache.
    #[inline(always)]
    fn at_hand(&self, mut lookup: Lookup, text: &str) -> Result<Result<Option<Found>, Lookup>, Refusal> {
        loop {
            let found = match self.keys.find_cached(lookup.digest()) {
                CachedKey::Miss => return Ok(Err(lookup)),
                // Comparing it with the slow hash must not happen here.
                CachedKey::Found(_) if lookup.is_slow() => return Ok(Err(lookup)),
                CachedKey::Found(key) => Some(key),
                CachedKey::NotFound => None,
            };
            match lookup.answer(&self.rules, text, found)? {
                Next::Found(found) => return Ok(Ok(Some(found))),
                Next::Nobody => return Ok(Ok(None)),
                Next::Ask(next) => lookup = next,
            }
        }
    }

    /// Decides from what stores answer, starting where [`now`](Self::now) stopped.
    pub(crate) async fn asking<'f>(
        &self,
        paused: Box<Paused>,
        credentials: &Credentials<'_>,
        facts: impl Fn() -> RequestContext<'f>,
    ) -> Result<Admission, AuthError> {
        let Paused { stage, endpoint } = *paused;
        let case = self.case(credentials.claims(), endpoint, facts);
        let asker = || Asker::Request((case.facts)().client().map(Into::into));
        // Held until the stores have answered everything.
        let mut turn = None;
        let (newest, said, asked) = match &stage {
            Stage::Owner { newest, .. } => (*newest, None, false),
            Stage::Key(lookup) => {
                let asked = self.throttled(lookup.newest(), &case.facts);
                let asked = asked.map_err(|refusal| refusal.said(case.claims))?;
                (*lookup.newest(), lookup.environment(), asked)
            }
        };
        let refuse = |refusal| self.failed(refusal, &newest, &case.facts, asked).said(case.claims);
        let (known, standing) = match stage {
            Stage::Owner { known, .. } => (known, None),
            Stage::Key(lookup) => {
                let found = self.find(lookup, credentials.expose_secret(), false);
                let found = self.in_turn(&mut turn, asker, found).await.map_err(refuse)?;
                let known = case.known(&mut FirstRefusal, found, said).map_err(refuse)?;
                let (owner, project) = known.owner();
                let standing = self.directory.account_status_cached(owner, project);
                (known, standing)
            }
        };
        let standing = match standing {
            Some(standing) => standing,
            None => {
                let (owner, project) = known.owner();
                let standing = self.in_time(self.directory.account_status(owner, project));
                match self.in_turn(&mut turn, asker, standing).await {
                    Ok(standing) => standing,
                    Err(refusal) => return Err(refuse(refusal.of(known.key))),
                }
            }
        };
        let entitled = case.entitled(known, standing).map_err(refuse)?;
        let admission = case.admit(entitled, |family, limits| self.count(family, limits)).map_err(refuse)?;
        if let Some(throttle) = &self.throttle {
            throttle.accepted(&newest, self.rules.clock.now());
        }
        Ok(admission)
    }

    /// Finds the key's record in the store. Only with `ended_too` the record of a key that has ended is complete.
    pub(super) async fn find(
        &self,
        mut lookup: Lookup,
        text: &str,
        ended_too: bool,
    ) -> Result<Option<Found>, Refusal> {
        loop {
            #[cfg(feature = "slow-hashes")]
            if lookup.is_slow()
                && let Some(found) = self.find_slowly(&lookup, text, ended_too).await?
            {
                return Ok(Some(found));
            }
            let found = if lookup.is_slow() { None } else { self.ask(lookup.digest(), ended_too).await? };
            match lookup.answer(&self.rules, text, found)? {
                Next::Found(found) => return Ok(Some(found)),
                Next::Nobody => return Ok(None),
                Next::Ask(next) => lookup = next,
            }
        }
    }

    /// Asks the store for one digest. A request refuses ended keys, so it does not need their complete record.
    pub(super) async fn ask(
        &self,
        digest: &KeyDigest,
        ended_too: bool,
    ) -> Result<Option<Arc<KeyRecord>>, Refusal> {
        if ended_too {
            return self.in_time(self.keys.find(digest)).await;
        }
        self.in_time(self.keys.find_at(digest, self.rules.clock.now())).await
    }

    /// Reports to a listener every check of a request with this key, whose text is unknown. Nothing is counted.
    pub(crate) async fn explaining<L: CheckListener>(
        &self,
        listener: &mut L,
        key: &KeyRecord,
        claims: &Claims<'_>,
        endpoint: Endpoint,
        facts: &RequestContext<'_>,
    ) -> Explained {
        let mut explained = Explained::default();
        let case = self.case(claims, endpoint, || *facts);
        // The listener has recorded where the explanation stopped.
        let _ = self.explain(&case, listener, key, &mut explained).await;
        explained
    }

    async fn explain<'f, L: CheckListener, F: Fn() -> RequestContext<'f>>(
        &self,
        case: &Case<'_, F>,
        listener: &mut L,
        key: &KeyRecord,
        explained: &mut Explained,
    ) -> Result<(), L::Stop> {
        let ours = self.rules.format.prefix(key.environment) == key.prefix;
        let said = ours.then_some(key.environment);
        case.offline(listener, said, self.rules.accept_foreign_keys)?;
        // The key's text would lead to this digest, if its method is accepted at all.
        let found = match self.keys.find_cached(&key.digest).known() {
            Some(found) => {
                listener.hear::<Refusal>(Check::Throttle, Ok(()))?;
                Ok(found)
            }
            None => {
                let throttled = self.throttled(&key.digest, &case.facts);
                listener.hear(Check::Throttle, throttled.map(drop))?;
                self.in_time(self.keys.find(&key.digest)).await
            }
        };
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return listener.need(Check::Known, Err(refusal)),
        };
        let is_it = |found: &Arc<KeyRecord>| {
            found.digest.matches(&key.digest) && self.rules.digests.knows(found.digested_by.kind())
        };
        let found = found.filter(is_it).map(|key| Found { key, outdated: None });
        let known = case.known(listener, found, said)?;
        explained.key = Some(Arc::clone(&known.key));
        let (owner, project) = known.owner();
        let standing = match self.directory.account_status_cached(owner, project) {
            Some(standing) => Ok(standing),
            None => self.in_time(self.directory.account_status(owner, project)).await,
        };
        let rights = match standing {
            Ok(standing) => {
                explained.standing = Some(standing);
                case.rights(listener, &known, standing).map(drop)
            }
            Err(refusal) => listener.need(Check::Owner, Err(refusal)),
        };
        // Reported even if the owner may not do what is asked.
        let limits = match &known.key.limits {
            None => Ok(()),
            Some(limits) => {
                let tally = self.limiter.peek(&known.key.family, limits, self.rules.clock.now());
                let allowed = tally.is_allowed();
                explained.tally = Some(tally);
                if allowed { Ok(()) } else { Err(AuthErrorKind::RateLimited) }
            }
        };
        listener.hear(Check::Limits, limits)?;
        rights
    }
}
