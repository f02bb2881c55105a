//! A store with an account, a neighbour in it, and keys to import.

use std::num::NonZeroU32;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::NoTls;
use tower_api_key::keyring::{ImportedDigest, ImportedKey};
use tower_api_key::store::{Accounts, Directory, KeyRegistry, KeyStore, Member, MemberRole};
use tower_api_key::{KeyDigest, KeyId, KeyPolicy, Keyring, NewKey, Timestamp, UserId};

use crate::Result;

pub(crate) const ACCOUNT: &str = "bench";

pub(crate) trait Store: KeyStore + KeyRegistry + Directory + Accounts + Clone {}

impl<S: KeyStore + KeyRegistry + Directory + Accounts + Clone> Store for S {}

pub(crate) struct World<S> {
    pub(crate) store: S,
    pub(crate) keyring: Keyring,
}

impl<S: Store> World<S> {
    pub(crate) async fn new(store: S) -> Result<Self> {
        store.create_account(ACCOUNT, &UserId::new("owner")?).await?;
        let keyring = Keyring::new(store.clone()).policy(KeyPolicy::Multiple { max: NonZeroU32::MAX });
        Ok(Self { store, keyring })
    }

    pub(crate) async fn add_member(&self, user: &str) -> Result<UserId> {
        let user = UserId::new(user)?;
        self.store.set_member(ACCOUNT, &user, &Member::new(MemberRole::Full, [])).await?;
        Ok(user)
    }

    /// Imports keys with this name for these owners in turn, and returns how many existed already.
    pub(crate) async fn import(&self, name: &str, owners: &[UserId], count: usize) -> Result<usize> {
        let keys = (0..count).zip(owners.iter().cycle()).map(|(number, owner)| imported(name, number, owner));
        let report = self.keyring.import(keys).await?;
        if let Some(refused) = report.refused.first() {
            return Err(format!("{} was refused: {}", refused.id, refused.reason).into());
        }
        Ok(report.already_there)
    }
}

/// The same key at each attempt. Ids and digests are in no order, as from another service.
fn imported(name: &str, number: usize, owner: &UserId) -> ImportedKey {
    let digest = KeyDigest::of(&format!("{name} {number}"));
    let hex: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("old_{}", hex.get(..16).unwrap_or_default());
    let new = NewKey::user_level(owner.clone(), format!("{name} {number}")).scopes(["charges:read"]);
    // Every other one expires one day.
    let new =
        if number.is_multiple_of(2) { new } else { new.expires_at(Timestamp::from_secs(4_000_000_000)) };
    let key = ImportedKey::new(id_of(&id), new, ImportedDigest::sha256(hex));
    key.created_at(Timestamp::from_secs(1_700_000_000 + i64::try_from(number).unwrap_or_default()))
}

#[allow(clippy::expect_used)]
fn id_of(text: &str) -> KeyId {
    KeyId::new(text).expect("hexadecimal digits are an id")
}

/// A schema that is dropped at the end.
pub(crate) struct Schema {
    pub(crate) server: String,
    pub(crate) name: String,
}

impl Schema {
    pub(crate) fn new() -> Result<Self> {
        let server = std::env::var("TOWER_API_KEY_POSTGRES")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        Ok(Self { server, name: format!("growth_{now}") })
    }

    pub(crate) async fn end(self) -> Result<()> {
        let (client, connection) = tokio_postgres::connect(&self.server, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&format!("DROP SCHEMA {} CASCADE", self.name)).await?;
        Ok(())
    }
}
