//! Keys that others hold: whose are they?

use std::net::IpAddr;
use std::sync::Arc;

use super::Verifier;
use super::asker::Asker;
use crate::credentials::Credentials;
use crate::error::{AuthError, Wait};
use crate::record::KeyRecord;

impl Verifier {
    /// Whether a text can be a key that this verifier takes. No store is asked.
    pub(crate) fn may_be_key(&self, text: &str) -> bool {
        self.candidate(&Credentials::new(text)).is_ok()
    }

    /// The key of a text that is to be revoked, ended or not; `None` if there is none. Nobody is let in by this.
    ///
    /// Attempts have a budget of their own, in which each counts, whatever it finds, and turns of their own at the store: no
    /// request takes them.
    pub(crate) async fn find_exposed(
        &self,
        credentials: &Credentials<'_>,
        client: Option<IpAddr>,
    ) -> Result<Option<Arc<KeyRecord>>, AuthError> {
        let refuse = |refusal| self.refuse(refusal, credentials);
        let Ok(candidate) = self.candidate(credentials) else { return Ok(None) };
        if let (Some(throttle), Some(client)) = (&self.throttle, client)
            && let Some(wait) = throttle.self_revoke(client, &candidate.digest, self.clock.now())
        {
            return Err(refuse(Wait::Failures(wait).into()));
        }
        let (mut turn, asker) = (None, || Asker::SelfRevoke(client.map(Into::into)));
        let found = self.in_turn(&mut turn, asker, self.find(&candidate, true)).await;
        Ok(found.map_err(refuse)?.map(|found| found.key))
    }
}
