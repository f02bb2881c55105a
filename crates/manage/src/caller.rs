//! Who calls, and what they may do to other keys.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tower_api_key::Principal;
use tower_api_key::access::{AccessClass, AccountStatus, Role};
use tower_api_key::auth_error::{AuthError, AuthErrorKind};
use tower_api_key::authority::{Denied, covers};
use tower_api_key::credentials::Head;
use tower_api_key::extract::MissingPrincipal;
use tower_api_key::keyring::{Keyring, KeyringError};
use tower_api_key::record::{KeyLevel, KeyRecord};
use tower_api_key::store::StoreError;

use super::refusal::{self, Refusal};

/// After this long a key may be changed again that was changed too often.
const CHANGES_PER: Duration = Duration::from_secs(60 * 60);

/// The principal of a request to these routes.
pub(super) struct Caller {
    pub(super) who: Principal,
    grpc: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = MissingPrincipal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, MissingPrincipal> {
        let who = Principal::from_request_parts(parts, state).await?;
        Ok(Self { who, grpc: Head::from(&*parts).is_grpc() })
    }
}

impl Caller {
    /// The keyring in the hands of the caller's key: the trail names it.
    pub(super) fn with(&self, keyring: &Keyring) -> Keyring {
        keyring.acting_as_principal(&self.who)
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
        match self.with(keyring).account_status(self.who.user_id(), &KeyLevel::User).await {
            Ok(AccountStatus::Active { role }) => Ok(role),
            Ok(AccountStatus::Disabled) => Ok(None),
            Err(error) => Err(self.store_failed(error)),
        }
    }

    /// Whether the caller's key may know everything of another key, by what the store says of both now: bodies may come
    /// slowly. A key may know everything of itself. (Whether it may change one, the registry judges.)
    pub(super) async fn still_covers(&self, keyring: &Keyring, key: &KeyRecord) -> Result<(), Refusal> {
        let own = self.with(keyring).get(self.who.key_id()).await.map_err(|error| self.explain(error))?;
        let covered = match own {
            None => Err(Denied::UnknownKey),
            Some(own) if own.id == key.id && own.is_active(keyring.now()) => Ok(()),
            Some(own) => covers(&own, key, keyring.now()),
        };
        covered.map_err(|denied| self.explain(KeyringError::Denied(denied)))?;
        self.manages_as(self.account_role(keyring).await?)
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
            KeyringError::Denied(denied) => self.refuse(match denied {
                Denied::UnknownKey => AuthErrorKind::UnknownKey,
                Denied::RevokedKey => AuthErrorKind::RevokedKey,
                Denied::ExpiredKey => AuthErrorKind::ExpiredKey,
                Denied::ReadOnly => AuthErrorKind::ReadOnly,
                _ => AuthErrorKind::Forbidden,
            }),
            KeyringError::NoGrace => (&refusal::NO_GRACE).into(),
            KeyringError::TooManyChanges => {
                Refusal::Auth(self.error(AuthErrorKind::RateLimited).with_retry_after(CHANGES_PER))
            }
            KeyringError::OutcomeUnknown(_) => (&refusal::OUTCOME_UNKNOWN).into(),
            KeyringError::NotFound => (&refusal::KEY_NOT_FOUND).into(),
            KeyringError::Ended => (&refusal::KEY_ENDED).into(),
            KeyringError::TooManyKeys => (&refusal::TOO_MANY_KEYS).into(),
            KeyringError::Store(error) => self.store_failed(error),
            // No randomness, and what a later version adds.
            error => Refusal::Auth(self.error(AuthErrorKind::StoreFailed).with_source(error)),
        }
    }

    fn error(&self, kind: AuthErrorKind) -> AuthError {
        self.who.refuse(kind).for_grpc(self.grpc)
    }
}
