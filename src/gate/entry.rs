//! [`Access`]: whether the endpoint of a request needs a credential.

use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};

use super::admit::{Nobody, Pass};
use crate::auth_error::AuthErrorKind;
use crate::credentials::{Credentials, Head};
use crate::endpoint::{Declared, Endpoint, EndpointTable};

/// Whether an endpoint needs a credential. Only a layer's declarations make one, so that nothing else can open an
/// endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Access(Declared);

/// What a request brings.
pub(crate) enum Entry<'c, 'r> {
    /// No credential, and the endpoint needs none.
    Pass(Pass),
    /// Claims that must be verified.
    Claims(&'c Credentials<'r>, Endpoint),
}

impl Access {
    /// Returns what is declared for the request with this head. A CORS preflight carries no credential, and is open if
    /// `pass_preflight` is set.
    #[inline(always)]
    pub(crate) fn of(endpoints: &EndpointTable, head: Head<'_>, pass_preflight: bool) -> Self {
        Self(if pass_preflight && is_preflight(head) { Declared::Public } else { endpoints.of(&head) })
    }

    /// Whether the endpoint is open to everybody and no credential is looked at.
    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        self.0 == Declared::Public
    }

    /// Whether a credential is needed.
    pub(crate) fn is_required(self) -> bool {
        matches!(self.0, Declared::Required(_))
    }

    /// Lets a request in that needs no credential and has sent none. A credential that a scheme has `found` must be
    /// verified, even where it is optional.
    #[inline(always)]
    pub(crate) fn enter<'c, 'r>(
        self,
        found: Option<&'c Credentials<'r>>,
    ) -> Result<Entry<'c, 'r>, AuthErrorKind> {
        match (self.0, found) {
            (Declared::Public, _) => Ok(Entry::Pass(Pass::nobody(Nobody::Open))),
            (Declared::Optional(_), None) => Ok(Entry::Pass(Pass::nobody(Nobody::Anonymous))),
            (Declared::Required(_), None) => Err(AuthErrorKind::MissingCredentials),
            (Declared::Optional(endpoint) | Declared::Required(endpoint), Some(credentials)) => {
                if credentials.are_null() {
                    return Err(AuthErrorKind::MissingCredentials);
                }
                Ok(Entry::Claims(credentials, endpoint))
            }
        }
    }
}

fn is_preflight(head: Head<'_>) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(ORIGIN)
        && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// For tests of the gate, which have no endpoint table.
#[cfg(test)]
impl From<Declared> for Access {
    fn from(declared: Declared) -> Self {
        Self(declared)
    }
}
