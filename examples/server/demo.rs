//! Creates the demo data: two accounts with people, projects and keys.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tower_api_key::keyring::{ImportedDigest, ImportedKey};
use tower_api_key::restriction::{IpRestriction, Restrictions};
use tower_api_key::store::{Accounts, Member, MemberRole, Project, RegistryError};
use tower_api_key::{
    ApiKey, Environment, KeyFormat, KeyId, KeyQuery, Keyring, NewKey, ProjectId, Timestamp, UserId,
};

use crate::Failure;
use crate::auth::People;

/// The keys that were made: their name in the fixture, a description, and their text, which exists only here; and
/// the passwords for the portal.
pub(crate) struct Demo {
    passwords: Vec<(&'static str, String)>,
    keys: Vec<(&'static str, &'static str, ApiKey)>,
}

/// Creates the demo. After an interrupted start, the existing data is used, and its keys are revoked.
pub(crate) async fn make(store: &impl Accounts, keyring: &Keyring, people: &People) -> Result<Demo, Failure> {
    let user = UserId::new;
    let (alice, bob, carol, dave) = (user("alice")?, user("bob")?, user("carol")?, user("dave")?);
    unless_made(store.create_account("A", &alice).await)?;
    unless_made(store.create_account("B", &dave).await)?;
    for (account, id, name) in [
        ("A", "p1", "Project 1"),
        ("A", "p2", "Project 2"),
        ("A", "p3", "Project 3"),
        ("B", "q1", "Project Q"),
    ] {
        let project = Project::new(ProjectId::new(id)?, name);
        unless_made(store.create_project(account, &project).await)?;
    }
    let p1 = ProjectId::new("p1")?;
    for (member, role) in [(&bob, MemberRole::Full), (&carol, MemberRole::ReadOnly)] {
        store.set_member("A", member, &Member::new(role, [p1.clone()])).await?;
    }
    for owner in [&alice, &bob, &carol, &dave] {
        let mut all = KeyQuery::default();
        all.limit = u32::MAX;
        for key in keyring.list(owner, &all).await? {
            keyring.revoke(&key.id).await?;
        }
    }

    let office = Restrictions::none().ip(IpRestriction::allow(["192.0.2.0/24"])?);
    let mut keys = Vec::new();
    for (name, what, new) in [
        ("alice", "owner of account A", NewKey::user_level(alice.clone(), "Alice's key")),
        (
            "alice_test",
            "hers for tests",
            NewKey::user_level(alice.clone(), "Alice's test key").environment(Environment::Test),
        ),
        (
            "alice_office",
            "hers from 192.0.2.0/24",
            NewKey::user_level(alice.clone(), "Alice's key at the office").restrictions(office),
        ),
        ("bob", "FULL on p1", NewKey::user_level(bob, "Bob's key")),
        ("carol", "READONLY on p1", NewKey::user_level(carol, "Carol's key")),
        ("alice_p1", "alice's for p1 only", NewKey::project_level(alice.clone(), "Alice's key for p1", p1)),
        ("dave", "owner of account B", NewKey::user_level(dave, "Dave's key")),
    ] {
        keys.push((name, what, keyring.issue(new).await?.into_parts().0));
    }
    keys.push(("expired", "was alice's", expired(keyring, &alice).await?));
    let revoked = keyring.issue(NewKey::user_level(alice, "Alice's revoked key")).await?;
    keyring.revoke(revoked.id()).await?;
    keys.push(("revoked", "was alice's", revoked.into_parts().0));
    let mut passwords = Vec::new();
    for (id, name) in [("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol"), ("dave", "Dave")] {
        passwords.push((id, people.welcome(id, name).await?));
    }
    Ok(Demo { passwords, keys })
}

fn unless_made(made: Result<(), RegistryError>) -> Result<(), RegistryError> {
    match made {
        Err(RegistryError::Conflict) => Ok(()),
        other => other,
    }
}

/// A key that expired in 2001. A keyring cannot issue one, so it is imported.
async fn expired(keyring: &Keyring, owner: &UserId) -> Result<ApiKey, Failure> {
    let key = KeyFormat::default().generate(Environment::Live)?;
    // A new id for each start, in case the start is repeated.
    let id = KeyId::new(format!("key_expired_{}", Timestamp::from(SystemTime::now()).as_micros()))?;
    let new = NewKey::user_level(owner.clone(), "Alice's expired key")
        .expires_at(Timestamp::from_secs(1_000_000_000));
    let digest = ImportedDigest::plaintext(key.expose_secret());
    let imported = ImportedKey::new(id, new, digest).created_at(Timestamp::from_secs(978_307_200));
    let report = keyring.import([imported]).await?;
    match report.refused.into_iter().next() {
        None => Ok(key),
        Some(refused) => Err(refused.reason.into()),
    }
}

impl Demo {
    fn key(&self, name: &str) -> &str {
        let found = self.keys.iter().find(|(key, ..)| *key == name);
        found.map_or("", |(.., key)| key.expose_secret())
    }

    /// Writes the demo as JSON for scripts: atomically, and readable only by its owner.
    pub(crate) fn write_fixture(&self, path: &Path, address: &str) -> io::Result<()> {
        let keys: Map<String, Value> =
            self.keys.iter().map(|(name, _, key)| ((*name).to_owned(), key.expose_secret().into())).collect();
        let fixture = json!({
            "address": address,
            "accounts": {
                "A": {
                    "owner": "alice",
                    "members": {
                        "bob": {"role": "FULL", "projects": ["p1"]},
                        "carol": {"role": "READONLY", "projects": ["p1"]},
                    },
                    "projects": ["p1", "p2", "p3"],
                },
                "B": {"owner": "dave", "members": {}, "projects": ["q1"]},
            },
            "keys": keys,
            "passwords": self.passwords.iter().cloned().collect::<BTreeMap<_, _>>(),
        });
        let mut unfinished = path.to_owned().into_os_string();
        unfinished.push(".unfinished");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished)?;
        file.write_all(format!("{fixture:#}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    }

    /// Prints the keys, and requests to try.
    pub(crate) fn print(&self, url: &str) {
        println!(
            "\nThe key portal is at {url}/portal. Sign in with one of these; they are shown this once:\n"
        );
        for (id, password) in &self.passwords {
            println!("  name {id:<6}  password {password}");
        }
        println!("\nThe demo keys. They are shown this once:\n");
        for (name, what, key) in &self.keys {
            println!("  {name:<12}  {}  {what}", key.expose_secret());
        }
        let json = |path: &str, key: &str, user: &str, project: &str, more: &str| {
            println!("curl -X POST {url}{path} \\\n  -H 'Content-Type: application/json' \\");
            println!(
                r#"  -d '{{"apiKey": "{}", "userId": "{user}", "projectId": "{project}"{more}}}'"#,
                self.key(key)
            );
        };
        let upload = r#", "fileUrl": "https://storage.example.com/build.zip""#;
        println!("\nTry, in this order:\n");
        println!("# 200, with the key in the body");
        json("/pixelStripeApi/projects/upload-file", "alice", "alice", "p1", upload);
        println!("# 200, because status only reads");
        json("/pixelStripeApi/projects/status", "carol", "carol", "p1", "");
        println!("# 403 Forbidden, because carol is READONLY");
        json("/pixelStripeApi/projects/upload-file", "carol", "carol", "p1", upload);
        println!("# 403 Forbidden, because bob has no access to p2");
        json("/pixelStripeApi/projects/status", "bob", "bob", "p2", "");
        println!("# 401 Invalid User");
        json("/pixelStripeApi/projects/status", "alice", "bob", "p1", "");
        println!("# 401 Unauthorized: Invalid API Key");
        json("/pixelStripeApi/projects/status", "revoked", "alice", "p1", "");

        let header = |path: &str, key: &str, more: &str| {
            println!("curl {url}{path} -H 'X-API-Key: {}'{more}", self.key(key));
        };
        println!("# 200, with the key in a header");
        header("/api/v1/validate", "alice", "");
        println!("# 200");
        header("/api/v1/projects", "bob", "");
        println!("# 200");
        header("/api/v1/sites", "alice", " -H 'X-Project-ID: p1'");
        println!("# 200, because the key is for p1 alone");
        header("/api/v1/projects/p1", "alice_p1", "");
        println!("# 403 Insufficient permissions");
        header("/api/v1/projects/p2", "alice_p1", "");
        println!("# 400 X-Project-ID header is required");
        header("/api/v1/sites", "alice", "");
        println!("# 401 Invalid API key");
        header("/api/v1/validate", "expired", "");

        let bearer = |method: &str, path: &str, key: &str, more: &str| {
            println!("curl -X {method} {url}{path} -H 'Authorization: Bearer {}'{more}", self.key(key));
        };
        println!("# 200, with the key as a bearer token");
        bearer("GET", "/v1/users/usr_123", "alice", "");
        println!("# 200, and nothing is charged or persisted");
        bearer("POST", "/v1/charges", "alice_test", r#" -d '{"amount": 100}'"#);
        println!("# 200, with the keys that alice has");
        bearer("GET", "/v1/api-keys", "alice", "");
        println!("# 201, with a new key, which is shown once");
        let new = r#" -H 'Content-Type: application/json' -d '{"name": "Production Key"}'"#;
        bearer("POST", "/v1/api-keys", "alice", new);
        println!("# 201, with a new key that works from 192.0.2.0/24 alone");
        let new = concat!(
            r#" -H 'Content-Type: application/json' -d '{"name": "Office Key", "#,
            r#""restrictions": {"ip": {"allow": ["192.0.2.0/24"]}}}'"#
        );
        bearer("POST", "/v1/api-keys", "alice", new);
        println!("# 403 API key doesn't have permission for this resource, because you are somewhere else");
        bearer("GET", "/v1/users/usr_123", "alice_office", "");
        println!("# 401 Missing or invalid API key\ncurl -X GET {url}/v1/api-keys");
        println!("# 200, with any of the three");
        bearer("POST", "/migrate/echo", "dave", "");
        println!("# 400 More than one credential was sent");
        let second = format!(" -H 'X-API-Key: {}'", self.key("dave"));
        bearer("POST", "/migrate/echo", "dave", &second);
        println!("# 200, without any\ncurl {url}/health");
    }
}
