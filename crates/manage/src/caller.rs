//! [`Caller`]: the principal of a request, and what it may do to other keys.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tower_api_key::extract::MissingPrincipal;
use tower_api_key::store::{Denied, StoreError, covers};
use tower_api_key::{
    AccessClass, AccountStatus, AuthError, AuthErrorKind, Head, KeyLevel, KeyRecord, Keyring, KeyringError,
    Principal, Role,
};

use super::refusal::{self, RouteError};

/// The period in which the number of changes of one key is limited.
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
    /// Returns the keyring with the caller's key as authority, which the audit log names.
    pub(super) fn with(&self, keyring: &Keyring) -> Keyring {
        keyring.acting_as_principal(&self.who)
    }

    /// Whether the caller may list keys: project-level keys may not see other keys (R40).
    pub(super) fn may_list(&self) -> Result<(), RouteError> {
        match self.who.level() {
            KeyLevel::User => Ok(()),
            _ => Err(self.refuse(AuthErrorKind::Forbidden)),
        }
    }

    /// Whether the caller may manage keys: only user-level keys of people who may write in their account (R40).
    pub(super) async fn may_manage(&self, keyring: &Keyring) -> Result<(), RouteError> {
        self.may_list()?;
        let role = match self.who.project() {
            None => Some(self.who.role()),
            // The principal's role is for the project that the request named, but keys belong to the account.
            Some(_) => self.account_role(keyring).await?,
        };
        self.manages_as(role)
    }

    fn manages_as(&self, role: Option<Role>) -> Result<(), RouteError> {
        match role {
            Some(role) if role.allows(AccessClass::Manage) => Ok(()),
            Some(_) => Err(self.refuse(AuthErrorKind::ReadOnly)),
            None => Err(self.refuse(AuthErrorKind::Forbidden)),
        }
    }

    async fn account_role(&self, keyring: &Keyring) -> Result<Option<Role>, RouteError> {
        match self.with(keyring).account_status(self.who.user_id(), &KeyLevel::User).await {
            Ok(AccountStatus::Active { role }) => Ok(role),
            Ok(_) => Ok(None),
            Err(error) => Err(self.store_failed(error)),
        }
    }

    /// Checks that the caller's key may know everything about another key, with the store's current records of
    /// both, because the body may have taken long to arrive. A key may know everything about itself. (For a change,
    /// the registry checks again.)
    pub(super) async fn still_covers(&self, keyring: &Keyring, key: &KeyRecord) -> Result<(), RouteError> {
        let own = self.with(keyring).get(self.who.key_id()).await.map_err(|error| self.explain(error))?;
        let covered = match own {
            None => Err(Denied::UnknownKey),
            Some(own) if own.id == key.id && own.is_active(keyring.now()) => Ok(()),
            Some(own) => covers(&own, key, keyring.now()),
        };
        covered.map_err(|denied| self.explain(KeyringError::Denied(denied)))?;
        self.manages_as(self.account_role(keyring).await?)
    }

    /// Whether a key is one that the caller may see.
    pub(super) fn knows(&self, key: &KeyRecord) -> bool {
        key.owner == *self.who.user_id() && key.environment == self.who.environment()
    }

    pub(super) fn refuse(&self, kind: AuthErrorKind) -> RouteError {
        RouteError::Auth(self.error(kind))
    }

    pub(super) fn store_failed(&self, error: StoreError) -> RouteError {
        let kind = match error {
            StoreError::Timeout => AuthErrorKind::StoreTimeout,
            _ => AuthErrorKind::StoreFailed,
        };
        RouteError::Auth(self.error(kind).with_source(error))
    }

    /// Translates a keyring's error for the caller.
    pub(super) fn explain(&self, error: KeyringError) -> RouteError {
        match error {
            KeyringError::Name => (&refusal::INVALID_NAME).into(),
            KeyringError::Expiry => (&refusal::INVALID_EXPIRES_AT).into(),
            // The scopes and metadata are the caller's own: an imported key with more than a keyring allows cannot
            // pass them on.
            KeyringError::Scopes | KeyringError::Metadata => self.refuse(AuthErrorKind::Forbidden),
            KeyringError::Restrictions => {
                RouteError::unprocessable("invalid_restrictions", &KeyringError::Restrictions)
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
                RouteError::Auth(self.error(AuthErrorKind::RateLimited).with_retry_after(CHANGES_PER))
            }
            KeyringError::OutcomeUnknown(_) => (&refusal::OUTCOME_UNKNOWN).into(),
            KeyringError::NotFound => (&refusal::KEY_NOT_FOUND).into(),
            KeyringError::Ended => (&refusal::KEY_ENDED).into(),
            KeyringError::TooManyKeys => (&refusal::TOO_MANY_KEYS).into(),
            KeyringError::Store(error) => self.store_failed(error),
            // The random source failed, or an error that a later version adds.
            error => RouteError::Auth(self.error(AuthErrorKind::StoreFailed).with_source(error)),
        }
    }

    fn error(&self, kind: AuthErrorKind) -> AuthError {
        self.who.refuse(kind).for_grpc(self.grpc)
    }
}
