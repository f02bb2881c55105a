//! Connections to other services: the mail server and secret scanners.

#[cfg(any(feature = "leaks", feature = "smtp"))]
use std::env;

#[cfg(any(feature = "leaks", feature = "smtp"))]
use tower_api_key::Keyring;

#[cfg(any(feature = "leaks", feature = "smtp"))]
use crate::Failure;

/// The route at which secret scanners report leaked keys.
pub(crate) const LEAKS: &str = "/leaks";

/// Notifies owners of new keys by mail, without the key, if `SMTP_URL` names a server.
#[cfg(feature = "smtp")]
pub(crate) fn told_by_mail(keyring: Keyring) -> Result<Keyring, Failure> {
    use tower_api_key::UserId;
    use tower_api_key_email::EmailDelivery;

    let Ok(url) = env::var("SMTP_URL") else { return Ok(keyring) };
    let from = env::var("SMTP_FROM").unwrap_or_else(|_| "Example API <keys@example.com>".to_owned());
    let domain = env::var("SMTP_TO").unwrap_or_else(|_| "example.com".to_owned());
    // Everybody's mailbox is their id; a real service looks it up in its own table of people.
    let mailbox = move |user: &UserId| Some(format!("{user}@{domain}"));
    let mail =
        EmailDelivery::smtp(&url, &from, mailbox).map_err(|error| format!("SMTP_URL, SMTP_FROM: {error}"))?;
    Ok(keyring.deliver(mail.on_event(|event| eprintln!("mail: {event:?}"))))
}

/// The route at [`LEAKS`], if `LEAK_KEYS` names a file with a scanner's public keys. It is read once; a real
/// service fetches them.
#[cfg(feature = "leaks")]
pub(crate) fn leaks(
    keyring: &Keyring,
    verifier: &tower_api_key::Verifier,
    clients: &tower_api_key::client_addr::ClientAddr,
) -> Result<Option<axum::routing::MethodRouter>, Failure> {
    use tower_api_key_manage::{Leaks, PublicKeyList};

    let Some(file) = env::var_os("LEAK_KEYS") else { return Ok(None) };
    let file = std::path::PathBuf::from(file);
    let said = |error: &dyn std::fmt::Display| format!("LEAK_KEYS: {}: {error}", file.display());
    let text = std::fs::read_to_string(&file).map_err(|error| said(&error))?;
    let keys = PublicKeyList::from_json(&text).map_err(|error| said(&error))?;
    let leaks = Leaks::new(keyring.clone(), verifier.clone(), keys)
        .client_addr(clients.clone())
        .on_leak(|leak| eprintln!("leak: {leak:?}"));
    Ok(Some(leaks.route()))
}
