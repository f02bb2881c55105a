//! Finds a key by its leaked text, so that it can be revoked. This lets no request in.

use std::net::IpAddr;
use std::sync::Arc;

use super::asker::Asker;
use super::config::Gate;
use super::refusal::Refusal;
use crate::auth_error::{AuthError, Wait};
use crate::credentials::{Claims, Credentials};
use crate::endpoint::Endpoint;
use crate::record::KeyRecord;
use crate::restriction::RequestContext;

impl Gate {
    /// Whether a text can be a key that is looked up. This asks no store.
    pub(crate) fn may_be_key(&self, text: &str) -> bool {
        self.case(&Claims::new(), Endpoint::READ, RequestContext::new).open(text).is_ok()
    }

    /// Finds the key with this text, whether it has ended or not; `None` if there is none.
    ///
    /// Attempts have their own budget, in which each counts whatever it finds, and their own permits at the store,
    /// so that requests cannot take them.
    pub(crate) async fn find_leaked(
        &self,
        credentials: &Credentials<'_>,
        client: Option<IpAddr>,
    ) -> Result<Option<Arc<KeyRecord>>, AuthError> {
        let case = self.case(credentials.claims(), Endpoint::READ, RequestContext::new);
        let Ok(lookup) = case.open(credentials.expose_secret()) else { return Ok(None) };
        let refuse = |refusal: Refusal| refusal.said(case.claims);
        if let (Some(throttle), Some(client)) = (&self.throttle, client)
            && let Some(wait) = throttle.self_revoke(client, lookup.newest(), self.rules.clock.now())
        {
            return Err(refuse(Wait::Failures(wait).into()));
        }
        let (mut turn, asker) = (None, || Asker::SelfRevoke(client.map(Into::into)));
        let found =
            self.in_turn(&mut turn, asker, self.find(lookup, credentials.expose_secret(), true)).await;
        Ok(found.map_err(refuse)?.map(|found| found.key))
    }
}
