//! The queue of unsent mails, with bounds for each owner and overall, and retries.
//!
//! Each owner has a queue and one task, which sends one mail at a time: notices that arrive meanwhile go into the
//! next mail together. So one owner's notices take no place from others, and at most one of the few connections.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::sync::Semaphore;
use tower_api_key::delivery::Delivery;
use tower_api_key::{KeyId, UserId};

use crate::mail::{Mail, Templates};

/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How many notices of one owner are kept, and how many bytes. The first one is kept whatever its size.
const PER_OWNER: usize = 16;
const PER_OWNER_BYTES: usize = 64 * 1024;

/// Provides the mail addresses of users. A closure `|user: &UserId| -> Option<String>` can be one.
#[async_trait]
pub trait Recipients: Send + Sync + 'static {
    /// The address of a user, `alice@example.com` or `Alice <alice@example.com>`; `None` if they have none.
    ///
    /// # Errors
    ///
    /// Any failure: it is asked again.
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

/// The result for a notice about one key. It contains no text of the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmailEvent {
    /// The server accepted it.
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
    /// It was not sent, and will not be.
    GivenUp {
        /// The key that it is about.
        key: KeyId,
        /// What went wrong at the last attempt.
        failure: EmailFailure,
    },
}

/// Why a mail was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmailFailure {
    /// This owner's queue or the whole is full, or there is no runtime to send it. The owner's next mail says how
    /// many notices are missing.
    Full,
    /// The owner has no address, or an invalid one.
    NoAddress,
    /// [`Recipients`] failed.
    Recipients,
    /// The server could not be reached, or violated the protocol.
    Unreachable,
    /// The server refused it with this status: 4xx temporarily, 5xx permanently.
    Refused(u16),
}

impl EmailFailure {
    fn is_final(self) -> bool {
        matches!(self, Self::NoAddress | Self::Refused(500..))
    }
}

#[derive(Clone)]
pub(crate) struct Outbox {
    pub(crate) transport: AsyncSmtpTransport<Tokio1Executor>,
    pub(crate) from: Mailbox,
    pub(crate) recipients: Arc<dyn Recipients>,
    pub(crate) templates: Arc<dyn Templates>,
    pub(crate) owners: Arc<Mutex<Owners>>,
    /// For how many owners notices are kept.
    pub(crate) capacity: usize,
    pub(crate) lanes: Arc<Semaphore>,
    pub(crate) attempts: u32,
    pub(crate) first_wait: Duration,
    pub(crate) listener: Arc<dyn Fn(&EmailEvent) + Send + Sync>,
}

/// The queues by owner. Each has a task that sends it.
pub(crate) type Owners = BTreeMap<UserId, OwnerQueue>;

/// The queue of one owner.
#[derive(Default)]
pub(crate) struct OwnerQueue {
    waiting: VecDeque<QueuedMail>,
    /// How many of them are sent each in its own mail, because a mail with several was refused.
    alone: usize,
    /// The number of jobs that wait or are being sent.
    count: usize,
    bytes: usize,
    missing: Missing,
}

struct QueuedMail {
    key: KeyId,
    mail: Mail,
    /// How often it was tried.
    attempts: u32,
}

/// Notices without a place. The next mail says how many.
#[derive(Default)]
struct Missing {
    count: usize,
    /// How often a mail with this number alone was tried.
    attempts: u32,
}

/// The content of one mail.
struct Bundle {
    jobs: Vec<QueuedMail>,
    missing: Missing,
}

impl Outbox {
    /// Accepts a notice if there is a place for it.
    pub(crate) fn queue(outbox: &Arc<Self>, owner: &UserId, key: KeyId, mail: Mail) -> Delivery {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return outbox.full(key) };
        let size = mail.len();
        {
            let mut owners = outbox.owners();
            if let Some(kept) = owners.get_mut(owner) {
                let bytes = kept.bytes.saturating_add(size);
                if kept.count >= PER_OWNER || (kept.count > 0 && bytes > PER_OWNER_BYTES) {
                    kept.missing.count = kept.missing.count.saturating_add(1);
                    drop(owners);
                    return outbox.full(key);
                }
                kept.count += 1;
                kept.bytes = bytes;
                kept.waiting.push_back(QueuedMail { key, mail, attempts: 0 });
                // The owner's task is running and will find it.
                return Delivery::Queued;
            }
            if owners.len() >= outbox.capacity {
                drop(owners);
                return outbox.full(key);
            }
            let waiting = VecDeque::from([QueuedMail { key, mail, attempts: 0 }]);
            owners.insert(
                owner.clone(),
                OwnerQueue { waiting, count: 1, bytes: size, ..OwnerQueue::default() },
            );
        }
        let turn = OwnerTask { outbox: Arc::clone(outbox), owner: owner.clone(), is_over: false };
        runtime.spawn(turn.see_off());
        Delivery::Queued
    }

    fn owners(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, key: KeyId) -> Delivery {
        self.say(EmailEvent::GivenUp { key, failure: EmailFailure::Full });
        Delivery::Failed
    }

    async fn send(&self, owner: &UserId, bundle: &Bundle) -> Result<(), EmailFailure> {
        // The semaphore is never closed.
        let _lane = self.lanes.acquire().await.map_err(|_| EmailFailure::Unreachable)?;
        let address = self.recipients.address(owner).await.map_err(|_| EmailFailure::Recipients)?;
        let to: Mailbox = address.and_then(|address| address.parse().ok()).ok_or(EmailFailure::NoAddress)?;
        let composed = match (bundle.jobs.as_slice(), bundle.missing.count) {
            ([one], 0) => one.mail.compose(&self.from, to),
            (jobs, missing) => {
                let mails: Vec<&Mail> = jobs.iter().map(|job| &job.mail).collect();
                self.templates.together(&mails, missing).compose(&self.from, to)
            }
        };
        let (envelope, mail) = composed.ok_or(EmailFailure::NoAddress)?;
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

/// The task of one owner.
struct OwnerTask {
    outbox: Arc<Outbox>,
    owner: UserId,
    is_over: bool,
}

impl OwnerTask {
    async fn see_off(mut self) {
        let mut pause = Duration::ZERO;
        while let Some(bundle) = self.next() {
            pause = self.send(bundle).await.max(pause);
            // Jobs with their own mail follow each other without a pause, and those that failed wait together.
            if !pause.is_zero() && !self.goes_on_alone() {
                tokio::time::sleep(mem::take(&mut pause)).await;
            }
        }
    }

    fn goes_on_alone(&self) -> bool {
        self.outbox.owners().get(&self.owner).is_some_and(|kept| kept.alone > 0)
    }

    /// Takes everything that waits, for the next mail. If nothing is left, the owner's place is released at the
    /// same moment.
    fn next(&mut self) -> Option<Bundle> {
        let mut owners = self.outbox.owners();
        let kept = owners.get_mut(&self.owner)?;
        if kept.waiting.is_empty() && kept.missing.count == 0 {
            owners.remove(&self.owner);
            self.is_over = true;
            return None;
        }
        let count = if kept.alone > 0 { 1 } else { kept.waiting.len() };
        kept.alone = kept.alone.saturating_sub(1);
        let jobs = kept.waiting.drain(..count.min(kept.waiting.len())).collect();
        Some(Bundle { jobs, missing: mem::take(&mut kept.missing) })
    }

    /// Sends a mail; returns how long to wait before the next attempt.
    async fn send(&self, mut bundle: Bundle) -> Duration {
        let Err(failure) = self.outbox.send(&self.owner, &bundle).await else {
            self.gone(&bundle.jobs);
            for job in bundle.jobs {
                self.outbox.say(EmailEvent::Sent { key: job.key });
            }
            return Duration::ZERO;
        };
        if matches!(failure, EmailFailure::Refused(_)) && bundle.jobs.len() > 1 {
            // One of the notices may be the reason, and must not prevent the others from being sent.
            self.keep(bundle, true);
            return Duration::ZERO;
        }
        for job in &mut bundle.jobs {
            job.attempts = job.attempts.saturating_add(1);
        }
        let refused_others = matches!(failure, EmailFailure::Refused(_)) && !bundle.jobs.is_empty();
        if bundle.missing.count > 0 && !refused_others {
            bundle.missing.attempts = bundle.missing.attempts.saturating_add(1);
        }
        self.failed(bundle, failure)
    }

    /// Gives up jobs that were tried often enough, and keeps the others.
    fn failed(&self, bundle: Bundle, failure: EmailFailure) -> Duration {
        let Bundle { jobs, mut missing } = bundle;
        // By the oldest job, so that newer ones do not shorten the wait.
        let attempts = jobs.iter().map(|job| job.attempts).max().unwrap_or(missing.attempts);
        let doublings = attempts.saturating_sub(1).min(16);
        let wait = self.outbox.first_wait.saturating_mul(1 << doublings).min(LONGEST_WAIT);
        if missing.attempts >= self.outbox.attempts
            || failure == EmailFailure::NoAddress
            || (failure.is_final() && jobs.is_empty())
        {
            missing = Missing::default();
        }
        let is_over = |job: &QueuedMail| failure.is_final() || job.attempts >= self.outbox.attempts;
        let (over, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_over);
        let delayed: Vec<KeyId> = jobs.iter().map(|job| job.key.clone()).collect();
        let again = !jobs.is_empty() || missing.count > 0;
        self.gone(&over);
        self.keep(Bundle { jobs, missing }, false);
        for job in over {
            self.outbox.say(EmailEvent::GivenUp { key: job.key, failure });
        }
        for key in delayed {
            self.outbox.say(EmailEvent::Delayed { key, failure, wait });
        }
        if again { wait } else { Duration::ZERO }
    }

    /// Puts jobs back for another attempt, before newer ones. If `part` is set, each gets its own mail.
    fn keep(&self, bundle: Bundle, part: bool) {
        let mut owners = self.outbox.owners();
        let Some(kept) = owners.get_mut(&self.owner) else { return };
        let Bundle { jobs, missing } = bundle;
        if missing.count > 0 {
            kept.missing.count = kept.missing.count.saturating_add(missing.count);
            kept.missing.attempts = missing.attempts;
        }
        if part {
            kept.alone = jobs.len();
        } else if kept.alone > 0 {
            // The other jobs with their own mail do not wait for it.
            return kept.waiting.extend(jobs);
        }
        jobs.into_iter().rev().for_each(|job| kept.waiting.push_front(job));
    }

    /// Releases the places of these jobs.
    fn gone(&self, jobs: &[QueuedMail]) {
        if let Some(kept) = self.outbox.owners().get_mut(&self.owner) {
            kept.count = kept.count.saturating_sub(jobs.len());
            kept.bytes = kept.bytes.saturating_sub(jobs.iter().map(|job| job.mail.len()).sum());
        }
    }
}

impl Drop for OwnerTask {
    /// Releases the owner's place if the task ends by a panic of a template or with the runtime.
    fn drop(&mut self) {
        if !self.is_over {
            self.outbox.owners().remove(&self.owner);
        }
    }
}
