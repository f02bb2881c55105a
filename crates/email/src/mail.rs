//! [`Mail`] and [`Templates`]: the texts of mails, and how a mail is encoded.

use data_encoding::BASE64;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, Mailbox, Message};
use tower_api_key::ApiKey;
use tower_api_key::delivery::{Notice, NoticeKind};
use zeroize::Zeroizing;

/// A mail: a subject and a text. It is overwritten on drop, because it may contain a secret.
///
/// Line breaks and other control characters in the subject become spaces.
pub struct Mail {
    subject: String,
    text: Zeroizing<String>,
}

impl Mail {
    /// Creates a mail.
    #[must_use]
    pub fn new(subject: impl Into<String>, text: impl Into<Zeroizing<String>>) -> Self {
        Self { subject: subject.into(), text: text.into() }
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The text, which may contain a secret.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn len(&self) -> usize {
        self.subject.len().saturating_add(self.text.len())
    }

    /// Encodes the mail for SMTP; `None` if that is not possible.
    pub(crate) fn compose(
        &self,
        from: &Mailbox,
        to: Mailbox,
    ) -> Option<(lettre::address::Envelope, EncodedMail)> {
        // A key's name comes from a store and may contain anything: a line break would start a new header.
        let subject: String =
            self.subject.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let head = Message::builder()
            .from(from.clone())
            .to(to)
            .subject(subject)
            .message_id(None)
            .header(ContentType::TEXT_PLAIN)
            .body(Body::dangerous_pre_encoded(Vec::new(), ContentTransferEncoding::Base64))
            .ok()?;
        Some((head.envelope().clone(), self.written(&head.formatted())?))
    }

    /// Encodes the text into one buffer of our own, which is overwritten, instead of buffers of the mail library.
    fn written(&self, head: &[u8]) -> Option<EncodedMail> {
        // Base64 lines of 76 characters.
        const CHUNK: usize = 57;
        const LINE: usize = 76;
        let mut text = Zeroizing::new(Vec::with_capacity(self.text.len() + self.text.lines().count() * 2));
        for line in self.text.lines() {
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        let lines = text.len().div_ceil(CHUNK);
        let mut written = Zeroizing::new(Vec::with_capacity(head.len() + lines * (LINE + 2)));
        written.extend_from_slice(head);
        for chunk in text.chunks(CHUNK) {
            let mut line = Zeroizing::new([0; LINE]);
            let line = line.get_mut(..BASE64.encode_len(chunk.len()))?;
            BASE64.encode_mut(chunk, line);
            written.extend_from_slice(line);
            written.extend_from_slice(b"\r\n");
        }
        Some(written)
    }
}

type EncodedMail = Zeroizing<Vec<u8>>;

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mail(..)")
    }
}

/// The texts of mails.
pub trait Templates: Send + Sync + 'static {
    /// The mail about an event. It contains no secret.
    fn notice(&self, notice: &Notice<'_>) -> Mail;

    /// The same with the secret. It is called only if
    /// [`dangerously_mail_secrets`](crate::EmailDelivery::dangerously_mail_secrets) is set.
    /// [`dangerously_mail_secrets`](crate::EmailDelivery::dangerously_mail_secrets) asks for it.
    fn secret(&self, secret: &ApiKey, notice: &Notice<'_>) -> Mail {
        let Mail { subject, text } = self.notice(notice);
        let secret = secret.expose_secret();
        const SAID: &str = "\nThe key is shown this once. Keep it where others cannot read it:\n\n";
        // One allocation, because growing would leave a copy behind that is not overwritten.
        let mut whole = Zeroizing::new(String::with_capacity(text.len() + SAID.len() + secret.len() + 1));
        for part in [&**text, SAID, secret, "\n"] {
            whole.push_str(part);
        }
        Mail { subject, text: whole }
    }

    /// One mail instead of several to the same person that could not be sent as fast as they came.
    ///
    /// Sixteen notices are kept for each person. `missing` is how many more there were. Only this number tells the
    /// person about them, so there may also be a mail with this number and no notices. The default is in English.
    fn together(&self, mails: &[&Mail], missing: usize) -> Mail {
        let subject = match (mails, missing) {
            ([one], 0) => one.subject.clone(),
            _ => format!("Notices about your API keys: {}", mails.len().saturating_add(missing)),
        };
        let told = match missing {
            0 => String::new(),
            _ => format!(
                "So much happened to your API keys at once that this mail does not name all of it. Missing notices: \
                 {missing}. Look at your keys, and revoke those that you do not know.\n\n"
            ),
        };
        let heads: Vec<String> = mails.iter().map(|mail| format!("* {}\n\n", plain(&mail.subject))).collect();
        let len = told.len()
            + heads.iter().map(String::len).sum::<usize>()
            + mails.iter().map(|mail| mail.text.len() + 1).sum::<usize>();
        // One allocation, as above.
        let mut whole = Zeroizing::new(String::with_capacity(len));
        whole.push_str(&told);
        for (head, mail) in heads.iter().zip(mails) {
            whole.push_str(head);
            whole.push_str(&mail.text);
            whole.push('\n');
        }
        Mail { subject, text: whole }
    }
}

/// The default texts.
pub(crate) struct PlainEnglish;

impl Templates for PlainEnglish {
    fn notice(&self, notice: &Notice<'_>) -> Mail {
        let key = notice.key();
        let name = plain(&key.name);
        let (subject, happened) = match notice.kind() {
            NoticeKind::Issued => (
                format!("New API key: {name}"),
                "A new API key was made for your account. If it was not you, revoke it now.".to_owned(),
            ),
            NoticeKind::Rotated { old } => (
                format!("API key replaced: {name}"),
                format!("An API key of your account was replaced by a new one, and {old} ends. If it was not you, revoke the new one now."),
            ),
            NoticeKind::Leaked { url } => {
                let found = url.as_deref().map(|url| format!("\nIt was found here: {}\n", plain(url)));
                (
                    format!("API key leaked and revoked: {name}"),
                    format!(
                        "An API key of your account was found where others can read it, and was revoked. Make a new one, \
                         and look for what was done with this one.\n{}",
                        found.unwrap_or_default()
                    ),
                )
            }
            NoticeKind::SelfRevoked => (
                format!("API key revoked: {name}"),
                "An API key of your account was revoked by somebody who has the key. If it was not you, others have it as \
                 well: look for what was done with it."
                    .to_owned(),
            ),
            // A kind that is newer than this package.
            _ => (
                format!("API key changed: {name}"),
                "Something happened to an API key of your account. Look at your keys.".to_owned(),
            ),
        };
        let shown =
            if key.last4.is_empty() { String::new() } else { format!(" {}…{}", key.prefix, key.last4) };
        let environment = key.environment.as_str();
        let text = format!("{happened}\n\nName: {name}\nKey:  {}{shown} ({environment})\n", key.id);
        Mail::new(subject, text)
    }
}

/// Makes one line of a text from outside.
fn plain(text: &str) -> String {
    const SHOWN: usize = 500;
    text.chars().take(SHOWN).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
