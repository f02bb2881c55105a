//! [`EmailDelivery`]: accepts notices and sends them by e-mail.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use tokio::sync::Semaphore;
use tower_api_key::ApiKey;
use tower_api_key::delivery::{Delivery, KeyDelivery, Notice};

use crate::email_config_error::EmailConfigError;
use crate::mail::{Mail, PlainEnglish, Templates};
use crate::outbox::{EmailEvent, Outbox, Owners, Recipients};

/// For how many owners notices are kept at once, and how many connections to the server are open.
const OWNERS: usize = 1024;
const LANES: usize = 4;
/// Ten attempts with doubled waits between them: seventeen minutes in all.
const ATTEMPTS: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// A wait of zero cannot be doubled.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const SMTP_DEADLINE: Duration = Duration::from_secs(30);

/// Notifies owners by SMTP that they have a new key, **without the key**.
///
/// ```no_run
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{Keyring, UserId};
/// use tower_api_key_email::EmailDelivery;
///
/// let address = |user: &UserId| Some(format!("{user}@example.com"));
/// let email = EmailDelivery::smtp(
///     "smtps://user:password@mail.example.com",
///     "Keys <keys@example.com>",
///     address,
/// )?
/// .on_event(|event| eprintln!("{event:?}"));
/// let keyring = Keyring::new(MemoryStore::new()).deliver(email);
/// # Ok::<(), tower_api_key_email::EmailConfigError>(())
/// ```
///
/// # Failures
///
/// A notice is accepted at once ([`Delivery::Queued`]) and tried up to ten times over about seventeen minutes; the
/// result is an [event](Self::on_event). A permanent refusal by the server (5xx) is not retried.
///
/// Each owner has 16 places for notices (or 64 KiB of them) and one connection. Notices that arrive while a mail is
/// being sent go [together](Templates::together) into the next one. A notice without a place is not accepted
/// ([`Delivery::Failed`]), and the owner's next mail says how many are missing, so that nobody can hide a new key
/// behind many others. [`capacity`](Self::capacity) limits how many owners have places at once.
///
/// # Deployment caveat
///
/// Mails are kept in memory. Mails that are unsent when the process ends are lost.
///
/// It must be used in a tokio runtime with its timer and network enabled.
#[derive(Clone)]
pub struct EmailDelivery {
    outbox: Arc<Outbox>,
    secrets: bool,
}

impl EmailDelivery {
    /// Sends through this server, with this mailbox as the sender.
    ///
    /// The URL is `smtps://user:password@host` (port 465) or `smtp://user:password@host?tls=required` (port 587).
    /// Unencrypted connections are allowed only to this machine (`smtp://127.0.0.1:25`).
    ///
    /// # Errors
    ///
    /// [`EmailConfigError::Smtp`] or [`EmailConfigError::Mailbox`]. Neither contains the URL, which may contain a password.
    pub fn smtp(url: &str, from: &str, recipients: impl Recipients) -> Result<Self, EmailConfigError> {
        const SHAPE: &str = "write smtps://user:password@host, or smtp://user:password@host?tls=required";
        if !is_confidential(url) {
            return Err(EmailConfigError::Smtp(
                "unencrypted mail is only allowed to this machine: use smtps://, or smtp://host?tls=required",
            ));
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url);
        let transport = transport.map_err(|_| EmailConfigError::Smtp(SHAPE))?.timeout(Some(SMTP_DEADLINE));
        let from: Mailbox = from.parse().map_err(|_| EmailConfigError::Mailbox(from.to_owned()))?;
        let outbox = Outbox {
            transport: transport.build(),
            from,
            recipients: Arc::new(recipients),
            templates: Arc::new(PlainEnglish),
            owners: Arc::new(Mutex::new(Owners::new())),
            capacity: OWNERS,
            lanes: Arc::new(Semaphore::new(LANES)),
            attempts: ATTEMPTS,
            first_wait: FIRST_WAIT,
            listener: Arc::new(|_| ()),
        };
        Ok(Self { outbox: Arc::new(outbox), secrets: false })
    }

    /// Sets other texts.
    #[must_use]
    pub fn templates(self, templates: impl Templates) -> Self {
        self.with(|outbox| outbox.templates = Arc::new(templates))
    }

    /// Sets a function that is called with the result of each notice.
    #[must_use]
    pub fn on_event(self, listener: impl Fn(&EmailEvent) + Send + Sync + 'static) -> Self {
        self.with(|outbox| outbox.listener = Arc::new(listener))
    }

    /// Sets how often a notice is tried, and the wait after the first attempt. Each further wait is doubled, up to
    /// five minutes. The default is ten attempts and two seconds; a wait below a millisecond counts as one.
    #[must_use]
    pub fn retry(self, attempts: NonZeroU32, first_wait: Duration) -> Self {
        let first_wait = first_wait.max(SHORTEST_WAIT);
        self.with(|outbox| (outbox.attempts, outbox.first_wait) = (attempts.get(), first_wait))
    }

    /// Sets for how many owners notices are kept at once; the default is 1,024. Each takes at most 64 KiB, or one
    /// mail if that is larger, and usually less.
    #[must_use]
    pub fn capacity(self, owners: NonZeroUsize) -> Self {
        let owners = owners.get();
        self.with(|outbox| outbox.capacity = owners)
    }

    /// Sends the key itself. The default is to say only that there is a new key.
    ///
    /// # Security
    ///
    /// This is weaker than showing a key once. A mailbox keeps it for years, in copies that are never overwritten:
    /// at the provider, on each device, in backups, and with everybody to whom it is forwarded. Mail servers on the
    /// way can read it. Anybody with access to the mailbox has access to the API, and only revoking the key helps
    /// then. ASVS does not require it: prefer the notice, and show the key where its owner is signed in.
    ///
    /// Here the mail is kept only in memory, and overwritten when it was sent or given up. The mail library's own
    /// buffers are not overwritten.
    #[must_use]
    pub fn dangerously_mail_secrets(mut self) -> Self {
        self.secrets = true;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Outbox)) -> Self {
        let outbox = Arc::make_mut(&mut self.outbox);
        change(outbox);
        // Notices that clones have already accepted are sent by their settings.
        outbox.owners = Arc::default();
        self
    }

    fn queue(&self, notice: &Notice<'_>, mail: Mail) -> Delivery {
        let key = notice.key();
        Outbox::queue(&self.outbox, &key.owner, key.id.clone(), mail)
    }
}

#[async_trait]
impl KeyDelivery for EmailDelivery {
    async fn deliver(&self, secret: &ApiKey, notice: &Notice<'_>) -> Delivery {
        if self.secrets {
            self.queue(notice, self.outbox.templates.secret(secret, notice))
        } else {
            self.notify(notice).await
        }
    }

    async fn notify(&self, notice: &Notice<'_>) -> Delivery {
        self.queue(notice, self.outbox.templates.notice(notice))
    }
}

/// Whether the connection to this server is encrypted or stays on this machine.
fn is_confidential(url: &str) -> bool {
    // Refuses URLs that the mail library might parse differently.
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return false;
    }
    let Some(rest) = url.strip_prefix("smtp://") else { return url.starts_with("smtps://") };
    let (authority, query) = match rest.split_once(['/', '?']) {
        Some((authority, _)) => (authority, rest.split_once('?').map(|(_, query)| query).unwrap_or_default()),
        None => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => host.rsplit_once(':').map_or(host, |(host, _)| host),
    };
    matches!(host, "127.0.0.1" | "::1" | "localhost")
        || query.split('&').find(|pair| pair.starts_with("tls")) == Some("tls=required")
}

impl fmt::Debug for EmailDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailDelivery").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tower_api_key::UserId;

    use super::*;

    #[test]
    fn mails_go_in_clear_only_to_this_machine() {
        let smtp = |url: &str| EmailDelivery::smtp(url, "keys@example.com", |_: &UserId| None::<String>);
        for url in [
            "smtps://u:p@mail.example.com",
            "smtp://u:p@mail.example.com:587?tls=required",
            "smtp://mail.example.com/here?tls=required",
            "smtp://127.0.0.1:2525",
            "smtp://localhost",
            "smtp://[::1]:25",
        ] {
            assert!(smtp(url).is_ok(), "{url}");
        }
        for url in [
            "smtp://mail.example.com",
            "smtp://u:p@mail.example.com:25",
            "smtp://mail.example.com?tls=opportunistic",
            "smtp://127.0.0.1@mail.example.com",
            "smtp://127.0.0.1.example.com",
            "smtp://mail.example.com/127.0.0.1",
            // URLs that the mail library parses differently: another case, white space, a fragment, the first of
            // two parameters.
            "SMTP://u:p@mail.example.com",
            " smtp://u:p@mail.example.com",
            "sm\ttp://u:p@mail.example.com",
            "smtp://mail.example.com#?tls=required",
            "smtp://mail.example.com#@127.0.0.1",
            "smtp://mail.example.com?tls=opportunistic&tls=required",
            "http://example.com",
            "",
        ] {
            let error = smtp(url).unwrap_err();
            assert!(
                matches!(error, EmailConfigError::Smtp(_)) && !error.to_string().contains("u:p"),
                "{url}"
            );
        }
        let from = EmailDelivery::smtp("smtps://example.com", "keys", |_: &UserId| None::<String>);
        assert_eq!(from.unwrap_err(), EmailConfigError::Mailbox("keys".to_owned()));
    }
}
