//! A user who revokes keys while others work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tower_api_key::{KeyQuery, Keyring, UserId};

use crate::Result;
use crate::world::{Store, World};

const EVERY: Duration = Duration::from_millis(5);
/// More than can be revoked meanwhile.
const VICTIMS: usize = 20_000;

pub(crate) struct Neighbour {
    user: UserId,
    keyring: Keyring,
}

/// The measurements.
pub(crate) struct Seen {
    times: Vec<Duration>,
    /// The most memory that the process used, in kB.
    pub(crate) memory: u64,
}

pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Seen>>,
}

impl Neighbour {
    pub(crate) async fn new<S: Store>(world: &World<S>, count: usize) -> Result<Self> {
        let user = world.add_member("neighbour").await?;
        world.import("victim", std::slice::from_ref(&user), VICTIMS.min(count)).await?;
        Ok(Self { user, keyring: world.keyring.clone() })
    }

    pub(crate) async fn watch(&self) -> Result<Watch> {
        let (keyring, user) = (self.keyring.clone(), self.user.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let query =
            KeyQuery::new().active(tower_api_key::Timestamp::from_secs(1_800_000_000)).limit(u32::MAX);
        let victims = keyring.list(&user, &query).await?;
        let task = tokio::spawn(async move {
            let mut seen = Seen { times: Vec::new(), memory: memory() };
            for key in victims {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                keyring.revoke(&key.id).await?;
                seen.times.push(began.elapsed());
                seen.memory = seen.memory.max(memory());
                tokio::time::sleep(EVERY).await;
            }
            Ok(seen)
        });
        Ok(Watch { stop, task })
    }
}

impl Watch {
    pub(crate) async fn end(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

impl Seen {
    pub(crate) fn p99(&mut self) -> Duration {
        self.times.sort_unstable();
        self.times.get(self.times.len() * 99 / 100).copied().unwrap_or_default()
    }

    pub(crate) fn longest(&self) -> Duration {
        self.times.iter().max().copied().unwrap_or_default()
    }
}

/// The memory that the process uses, in kB; 0 if that is unknown.
pub(crate) fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}

/// The CPU time of the process, in seconds, without that of a database server.
pub(crate) fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let main: f64 = stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
    let mut all = main;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        if task.file_name().to_string_lossy() != std::process::id().to_string() {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            all += stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default();
        }
    }
    all / 1e9
}
