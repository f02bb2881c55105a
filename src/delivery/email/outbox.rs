//! Mails on their way: bounded, and tried again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::sync::Semaphore;

use super::super::Delivery;
use super::mail::Mail;
use crate::key::{KeyId, UserId};

/// No wait between two attempts is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Knows the mail addresses of users. A closure `|user: &UserId| -> Option<String>` will do.
#[async_trait]
pub trait Recipients: Send + Sync + 'static {
    /// The address of a user, `alice@example.com` or `Alice <alice@example.com>`; `None` if they have none.
    ///
    /// # Errors
    ///
    /// Whatever stood in the way: it is asked again.
    async fn address(&self, user: &UserId) -> Result<Option<String>, Box<dyn Error + Send + Sync>>;
}

#[async_trait]
impl<F> Recipients for F
where
    F: Fn(&UserId) -> Option<String> + Send + Sync + 'static,
{
    async fn address(&self, user: &UserId) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        Ok(self(user))
    }
}

/// What became of a mail. No text of it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmailEvent {
    /// The server has it.
    Sent {
        /// The key that it is about.
        key: KeyId,
    },
    /// An attempt failed, and another will be made.
    Delayed {
        /// The key that it is about.
        key: KeyId,
        /// What went wrong.
        failure: EmailFailure,
        /// How long until the next attempt.
        wait: Duration,
    },
    /// It was not sent and will not be.
    GivenUp {
        /// The key that it is about.
        key: KeyId,
        /// What went wrong at last.
        failure: EmailFailure,
    },
}

/// Why a mail was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmailFailure {
    /// As many mails are kept as may be, or there is no runtime to send them.
    Full,
    /// The owner has no address, or one that is none.
    NoAddress,
    /// [`Recipients`] could not tell.
    Recipients,
    /// The server could not be reached, or did not speak as it should.
    Unreachable,
    /// The server said no: its status, 4xx for now or 5xx for good.
    Refused(u16),
}

impl EmailFailure {
    fn is_final(self) -> bool {
        matches!(self, Self::NoAddress | Self::Refused(500..))
    }
}

#[derive(Clone)]
pub(super) struct Outbox {
    pub(super) transport: AsyncSmtpTransport<Tokio1Executor>,
    pub(super) from: Mailbox,
    pub(super) recipients: Arc<dyn Recipients>,
    pub(super) places: Arc<Semaphore>,
    pub(super) lanes: Arc<Semaphore>,
    pub(super) attempts: u32,
    pub(super) first_wait: Duration,
    pub(super) listener: Arc<dyn Fn(&EmailEvent) + Send + Sync>,
}

pub(super) struct Job {
    pub(super) owner: UserId,
    pub(super) key: KeyId,
    pub(super) mail: Mail,
}

impl Outbox {
    /// Takes a mail if there is a place for it.
    pub(super) fn queue(outbox: &Arc<Self>, job: Job) -> Delivery {
        let place = Arc::clone(&outbox.places).try_acquire_owned();
        let (Ok(place), Ok(runtime)) = (place, tokio::runtime::Handle::try_current()) else {
            outbox.say(EmailEvent::GivenUp { key: job.key, failure: EmailFailure::Full });
            return Delivery::Failed;
        };
        let outbox = Arc::clone(outbox);
        // A task for each: one recipient's trouble holds up nobody else's mail.
        runtime.spawn(async move {
            outbox.see_off(job).await;
            drop(place);
        });
        Delivery::Queued
    }

    async fn see_off(&self, job: Job) {
        let mut wait = self.first_wait;
        for attempt in 1.. {
            let Err(failure) = self.send(&job).await else {
                return self.say(EmailEvent::Sent { key: job.key });
            };
            if failure.is_final() || attempt >= self.attempts {
                return self.say(EmailEvent::GivenUp { key: job.key, failure });
            }
            self.say(EmailEvent::Delayed { key: job.key.clone(), failure, wait });
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    }

    async fn send(&self, job: &Job) -> Result<(), EmailFailure> {
        // It is never closed.
        let _lane = self.lanes.acquire().await.map_err(|_| EmailFailure::Unreachable)?;
        let address = self.recipients.address(&job.owner).await.map_err(|_| EmailFailure::Recipients)?;
        let to: Mailbox = address.and_then(|address| address.parse().ok()).ok_or(EmailFailure::NoAddress)?;
        let (envelope, mail) = job.mail.compose(&self.from, to).ok_or(EmailFailure::NoAddress)?;
        match self.transport.send_raw(&envelope, &mail).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error
                .status()
                .map_or(EmailFailure::Unreachable, |status| EmailFailure::Refused(status.into()))),
        }
    }

    fn say(&self, event: EmailEvent) {
        (self.listener)(&event);
    }
}
