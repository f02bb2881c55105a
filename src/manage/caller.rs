//! Who calls, and what they may do to other keys.

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::refusal::{self, Refusal};
use crate::access::{AccessClass, Role, Standing};
use crate::audit::Actor;
use crate::credentials::Head;
use crate::error::{AuthError, AuthErrorKind};
use crate::extract::MissingPrincipal;
use crate::keyring::{Keyring, KeyringError};
use crate::principal::Principal;
use crate::record::{KeyLevel, KeyRecord};
use crate::render;
use crate::restriction::Restrictions;
use crate::store::StoreError;

/// The principal of a request to these routes.
pub(super) struct Caller {
    pub(super) who: Principal,
    grpc: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = MissingPrincipal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, MissingPrincipal> {
        let who = Principal::from_request_parts(parts, state).await?;
        Ok(Self { who, grpc: render::is_grpc(Head::from(&*parts)) })
    }
}

impl Caller {
    /// The keyring in the hands of the caller's key: the trail names it.
    pub(super) fn with(&self, keyring: &Keyring) -> Keyring {
        keyring.acting_as(Actor::Key(self.who.key_id().clone()))
    }

    /// Keys for one project know nothing of other keys (R40).
    pub(super) fn may_list(&self) -> Result<(), Refusal> {
        match self.who.level() {
            KeyLevel::User => Ok(()),
            KeyLevel::Project(_) => Err(self.refuse(AuthErrorKind::Forbidden)),
        }
    }

    /// User-level keys of people who may write in their account (R40).
    pub(super) async fn may_manage(&self, keyring: &Keyring) -> Result<(), Refusal> {
        self.may_list()?;
        let role = match self.who.project() {
            None => Some(self.who.role()),
            // The principal's role is the one on the project that the request named; keys are the account's.
            Some(_) => self.account_role(keyring).await?,
        };
        self.manages_as(role)
    }

    fn manages_as(&self, role: Option<Role>) -> Result<(), Refusal> {
        match role {
            Some(role) if role.allows(AccessClass::Manage) => Ok(()),
            Some(_) => Err(self.refuse(AuthErrorKind::ReadOnly)),
            None => Err(self.refuse(AuthErrorKind::Forbidden)),
        }
    }

    async fn account_role(&self, keyring: &Keyring) -> Result<Option<Role>, Refusal> {
        match keyring.standing(self.who.user_id()).await {
            Ok(Standing::Active { role }) => Ok(role),
            Ok(Standing::Disabled) => Ok(None),
            Err(error) => Err(self.store_failed(error)),
        }
    }

    /// Whether the caller's own key has neither ended nor been narrowed since the request was let in, and its owner may
    /// still do as much: bodies may come slowly, and what the key may pass on was read from it before.
    pub(super) async fn is_still_good(&self, keyring: &Keyring) -> Result<(), Refusal> {
        let own = keyring.get(self.who.key_id()).await.map_err(|error| self.explain(error))?;
        match own {
            Some(own) if own.is_active(keyring.now()) => {
                let same = own.restrictions == *self.who.restrictions()
                    && own.limits.as_ref() == self.who.limits()
                    && own.expires_at == self.who.expires_at();
                if !same {
                    return Err(self.refuse(AuthErrorKind::Forbidden));
                }
                self.manages_as(self.account_role(keyring).await?)
            }
            Some(own) if own.revoked_at.is_none() => Err(self.refuse(AuthErrorKind::ExpiredKey)),
            Some(_) => Err(self.refuse(AuthErrorKind::RevokedKey)),
            None => Err(self.refuse(AuthErrorKind::UnknownKey)),
        }
    }

    /// Whether a key gives nothing that the caller's does not give: no other scope, no later end, no other restrictions
    /// or limits where the caller's has some. Owner and environment are the caller's already, and a user-level key
    /// covers both levels.
    pub(super) fn covers(&self, key: &KeyRecord) -> bool {
        let ends_in_time = match (self.who.expires_at(), key.expires_at) {
            (None, _) => true,
            (Some(own), Some(end)) => end <= own,
            (Some(_), None) => false,
        };
        // A key outside of the family would be another count, and one of it with other limits as well.
        let as_limited = self
            .who
            .limits()
            .is_none_or(|own| key.family == *self.who.family() && key.limits.as_ref() == Some(own));
        ends_in_time
            && self.may_restrict_to(&key.restrictions)
            && as_limited
            && key.scopes.is_subset(self.who.scopes())
    }

    /// Whether one set of restrictions is within another is not worked out: a restricted caller passes on its own.
    pub(super) fn may_restrict_to(&self, restrictions: &Restrictions) -> bool {
        let own = self.who.restrictions();
        own.is_none() || restrictions == own
    }

    /// Whether a key is one of those that the caller knows of.
    pub(super) fn knows(&self, key: &KeyRecord) -> bool {
        key.owner == *self.who.user_id() && key.environment == self.who.environment()
    }

    pub(super) fn refuse(&self, kind: AuthErrorKind) -> Refusal {
        Refusal::Auth(self.error(kind))
    }

    pub(super) fn store_failed(&self, error: StoreError) -> Refusal {
        let kind = match error {
            StoreError::Timeout => AuthErrorKind::StoreTimeout,
            _ => AuthErrorKind::StoreFailed,
        };
        Refusal::Auth(self.error(kind).with_source(error))
    }

    /// What a keyring's error means to the caller.
    pub(super) fn explain(&self, error: KeyringError) -> Refusal {
        match error {
            KeyringError::Name => (&refusal::INVALID_NAME).into(),
            KeyringError::Expiry => (&refusal::INVALID_EXPIRES_AT).into(),
            // They are the caller's own: a key that was imported with more than a keyring gives cannot pass them on.
            KeyringError::Scopes | KeyringError::Metadata => self.refuse(AuthErrorKind::Forbidden),
            KeyringError::Restrictions => {
                Refusal::unprocessable("invalid_restrictions", &KeyringError::Restrictions)
            }
            KeyringError::Forbidden => self.refuse(AuthErrorKind::Forbidden),
            KeyringError::NotFound => (&refusal::KEY_NOT_FOUND).into(),
            KeyringError::Ended => (&refusal::KEY_ENDED).into(),
            KeyringError::TooManyKeys => (&refusal::TOO_MANY_KEYS).into(),
            KeyringError::Store(error) => self.store_failed(error),
            KeyringError::RandomSource(error) => {
                Refusal::Auth(self.error(AuthErrorKind::StoreFailed).with_source(error))
            }
        }
    }

    fn error(&self, kind: AuthErrorKind) -> AuthError {
        self.who.refused(kind).answering(None, self.grpc)
    }
}

/// What a keyring's error means where nobody calls that may know more.
pub(super) fn could_not_tell(error: KeyringError) -> AuthError {
    AuthError::new(AuthErrorKind::StoreFailed, None).with_source(error)
}
