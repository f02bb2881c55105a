//! [`Access`]: who may come in at the endpoint that a request asks for.

use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};

use super::admit::{Nobody, Pass};
use crate::auth_error::AuthErrorKind;
use crate::credentials::{Credentials, Head};
use crate::endpoint::{Declared, Endpoint, EndpointTable};

/// Who may come in. Only the declarations of a layer make one, so that nothing else can open an endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Access(Declared);

/// What a request comes with.
pub(crate) enum Entry<'c, 'r> {
    /// Nothing, and it needs nothing.
    Pass(Pass),
    /// Claims that must be true.
    Claims(&'c Credentials<'r>, Endpoint),
}

impl Access {
    /// What is declared for the request with this head. A CORS preflight brings no credential, and is open where those are
    /// passed.
    #[inline(always)]
    pub(crate) fn of(endpoints: &EndpointTable, head: Head<'_>, pass_preflight: bool) -> Self {
        Self(if pass_preflight && is_preflight(head) { Declared::Public } else { endpoints.of(&head) })
    }

    /// Whether anybody may come in, and no credential is looked at.
    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        self.0 == Declared::Public
    }

    /// Whether nobody comes in without a credential.
    pub(crate) fn is_required(self) -> bool {
        matches!(self.0, Declared::Required(_))
    }

    /// Lets in who needs no credential and has sent none. What a scheme has `found` must be true, also where nothing need be
    /// sent.
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

/// For tests of the gate, which have no table.
#[cfg(test)]
impl From<Declared> for Access {
    fn from(declared: Declared) -> Self {
        Self(declared)
    }
}
