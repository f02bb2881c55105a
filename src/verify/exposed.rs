//! Keys that others hold: whose are they?

use std::net::IpAddr;
use std::sync::Arc;

use super::Verifier;
use crate::credentials::Credentials;
use crate::error::{AuthError, Wait};
use crate::record::KeyRecord;

impl Verifier {
    /// The key of a text that is to be revoked, ended or not; `None` if there is none. Nobody is let in by this.
    ///
    /// Every attempt of a client counts for the throttle, whatever it finds: if only failures did, the brake would tell
    /// known keys from unknown ones.
    pub(crate) async fn find_exposed(
        &self,
        credentials: &Credentials<'_>,
        client: Option<IpAddr>,
    ) -> Result<Option<Arc<KeyRecord>>, AuthError> {
        let refuse = |refusal| self.refuse(refusal, credentials);
        let Ok(candidate) = self.candidate(credentials) else { return Ok(None) };
        if let (Some(throttle), Some(client)) = (&self.throttle, client) {
            let now = self.clock.now();
            if let Some(wait) = throttle.retry_after(client, now) {
                return Err(refuse(Wait::Failures(wait).into()));
            }
            throttle.failed(client, now);
        }
        Ok(self.find(&candidate, true).await.map_err(refuse)?.map(|found| found.key))
    }
}
