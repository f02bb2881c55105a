//! One cache, and every order of look-ups, changes and failures. Futures are polled by hand, because their locks
//! are tokio's.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::advance;

use super::Dice;
use crate::clock::{Clock, Timestamp};
use crate::key::{KeyDigest, KeyId, UserId};
use crate::record::KeyRecord;
use crate::store::StoreError;
use crate::store::cached::faults::{Fault, Faults};
use crate::store::cached::lease::Lease;
use crate::store::cached::versioned::{CacheLimits, VersionedMap};

const LEASE: Duration = Duration::from_secs(2);

type Keys = VersionedMap<[u8; 32], Option<Arc<KeyRecord>>>;
type Found = Result<Option<Arc<KeyRecord>>, StoreError>;

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Clone, Default)]
struct Wall {
    jumped: Arc<Mutex<i64>>,
    /// A hook that is called once, when the time is read.
    asked: Arc<Mutex<Option<Hook>>>,
}

impl Wall {
    fn jump(&self, by: i64) {
        *self.jumped.lock().unwrap() += by;
    }

    fn when_asked(&self, hook: impl FnOnce() + Send + 'static) {
        *self.asked.lock().unwrap() = Some(Box::new(hook));
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let hook = self.asked.lock().unwrap().take();
        hook.into_iter().for_each(|hook| hook());
        Timestamp::from_secs(1_000_000 + *self.jumped.lock().unwrap())
    }
}

/// A cache with a lease, and a store whose answers the test releases one by one.
struct Desk {
    keys: Keys,
    lease: Lease,
    wall: Wall,
    /// The contents of the store.
    truth: Mutex<BTreeMap<[u8; 32], Arc<KeyRecord>>>,
    calls: AtomicUsize,
    answers: Notify,
}

impl Desk {
    fn new(faults: Faults) -> Self {
        Self::with(8, 8, faults)
    }

    fn with(open: usize, closed: usize, faults: Faults) -> Self {
        let room = CacheLimits {
            open,
            closed,
            bytes: usize::MAX,
            open_for: Duration::from_secs(600),
            closed_for: Duration::from_secs(5),
        };
        let wall = Wall::default();
        let desk = Self {
            keys: VersionedMap::new(room, faults.clone()),
            lease: Lease::new(Arc::new(wall.clone()), faults),
            wall,
            truth: Mutex::default(),
            calls: AtomicUsize::new(0),
            answers: Notify::new(),
        };
        desk.lease.begin();
        desk.renew();
        desk
    }

    fn renew(&self) {
        self.lease.grant(self.lease.now().plus(LEASE));
    }

    fn put(&self, digest: &KeyDigest, revoked: bool) {
        let (id, owner) = (KeyId::new("key_1").unwrap(), UserId::new("u1").unwrap());
        let mut record = KeyRecord::new(id, *digest, owner, Timestamp::from_secs(1));
        record.revoked_at = revoked.then_some(Timestamp::from_secs(2));
        self.truth.lock().unwrap().insert(*digest.as_bytes(), Arc::new(record));
    }

    /// A look-up that reads at once, but whose answer waits until it is released.
    async fn ask(&self, digest: &KeyDigest) -> Found {
        let slow = async || {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let read = self.truth.lock().unwrap().get(digest.as_bytes()).cloned();
            self.answers.notified().await;
            Ok(read)
        };
        self.keys.get(&self.lease, digest, slow).await
    }

    /// A look-up whose answer is released at once.
    async fn ask_now(&self, digest: &KeyDigest) -> Option<Arc<KeyRecord>> {
        let quick = async || {
            self.calls.fetch_add(1, Ordering::SeqCst);
            Ok(self.truth.lock().unwrap().get(digest.as_bytes()).cloned())
        };
        self.keys.get(&self.lease, digest, quick).await.unwrap()
    }

    fn warm(&self, digest: &KeyDigest) -> Option<Option<Arc<KeyRecord>>> {
        self.keys.warm(&self.lease, digest)
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn digest(number: u64) -> KeyDigest {
    KeyDigest::of(&number.to_string())
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    // Without tokio's task budget, because one task polls thousands of futures here.
    let mut future = std::pin::pin!(tokio::task::unconstrained(future.as_mut()));
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn is_valid(found: &Option<Arc<KeyRecord>>) -> bool {
    found.as_ref().is_some_and(|record| record.revoked_at.is_none())
}

/// The events, each of which happens at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A request arrives, or continues.
    First,
    Second,
    /// The store releases an answer.
    Answer,
    AnswerAgain,
    /// The key is revoked in the store.
    Commit,
    /// The node applies the revocation, which may return from then on.
    Apply,
    /// The client of the first request disconnects.
    Cancel,
}

/// Every order of these events in which a change is committed before it is applied.
fn orders(left: &[Event], so_far: &mut Vec<Event>, visit: &mut impl FnMut(&[Event])) {
    if left.is_empty() {
        return visit(so_far);
    }
    for at in 0..left.len() {
        let event = left[at];
        if event == Event::Apply && !so_far.contains(&Event::Commit) {
            continue;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        so_far.push(event);
        orders(&rest, so_far, visit);
        so_far.pop();
    }
}

/// Plays one order. Returns whether a request that began after the change had returned got the earlier answer.
fn play(order: &[Event], faults: Faults) -> bool {
    let (desk, key) = (Desk::new(faults), digest(1));
    desk.put(&key, false);
    let (mut first, mut second) = (Some(Box::pin(desk.ask(&key))), None);
    let (mut applied, mut lied) = (false, false);
    for event in order {
        match event {
            Event::First => {
                if let Some(future) = &mut first
                    && poll(future).is_ready()
                {
                    first = None;
                }
            }
            Event::Second => {
                // This request arrives now, so its answer must be one that is true now or later.
                let mut future = Box::pin(desk.ask(&key));
                match poll(&mut future) {
                    Poll::Ready(found) => lied |= applied && is_valid(&found.unwrap()),
                    Poll::Pending => second = Some((future, applied)),
                }
            }
            Event::Answer | Event::AnswerAgain => {
                desk.answers.notify_one();
                if let Some(future) = &mut first
                    && poll(future).is_ready()
                {
                    first = None;
                }
            }
            Event::Commit => desk.put(&key, true),
            Event::Apply => {
                desk.keys.forget(&key);
                applied = true;
            }
            Event::Cancel => first = None,
        }
    }
    // No request hangs, whatever happened to the others (C8-06).
    for _ in 0..8 {
        desk.answers.notify_one();
        if let Some(future) = &mut first
            && poll(future).is_ready()
        {
            first = None;
        }
        if let Some((future, too_late)) = &mut second
            && let Poll::Ready(found) = poll(future)
        {
            lied |= *too_late && is_valid(&found.unwrap());
            second = None;
        }
    }
    assert!(first.is_none() && second.is_none(), "somebody hangs: {order:?}");
    // The earlier answer is not cached either.
    lied || applied && desk.warm(&key).is_some_and(|found| is_valid(&found))
}

fn play_all(fault: Option<Fault>) -> (usize, usize) {
    use Event::{Answer, AnswerAgain, Apply, Cancel, Commit, First, Second};
    let (mut played, mut lies) = (0, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    orders(&[First, Second, Answer, AnswerAgain, Commit, Apply, Cancel], &mut Vec::new(), &mut |order| {
        let faults = Faults::default();
        fault.into_iter().for_each(|fault| faults.plant(fault));
        played += 1;
        lies += usize::from(play(order, faults));
    });
    (played, lies)
}

#[test]
fn c8_06_c8_07_no_order_leaves_what_is_not_true() {
    let (played, lies) = play_all(None);
    println!("{played} orders");
    assert_eq!((played, lies), (2520, 0));
}

#[test]
fn c8_07_the_orders_find_what_they_are_for() {
    for fault in [Fault::StampedAfterRead, Fault::OldAnswerShared] {
        let (played, lies) = play_all(Some(fault));
        println!("{fault:?}: {lies} of {played} orders");
        assert!(lies > 0, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c8_05_many_who_ask_for_one_key_ask_the_store_once() {
    for known in [true, false] {
        let (desk, key) = (Desk::new(Faults::default()), digest(1));
        if known {
            desk.put(&key, false);
        }
        let mut asking: Vec<_> = (0..10_000).map(|_| Box::pin(desk.ask(&key))).collect();
        assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
        desk.answers.notify_one();
        for mut future in asking {
            let Poll::Ready(found) = poll(&mut future) else { panic!("somebody hangs") };
            assert_eq!(found.unwrap().is_some(), known);
        }
        assert_eq!(desk.calls(), 1);
        assert_eq!(desk.keys.waiting(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn c8_05_a_failure_is_shared_with_those_who_wait_and_not_kept() {
    let (desk, key) = (Desk::new(Faults::default()), digest(1));
    let fails = async || {
        desk.calls.fetch_add(1, Ordering::SeqCst);
        desk.answers.notified().await;
        Err(StoreError::Overloaded)
    };
    let mut asking: Vec<_> = (0..100).map(|_| Box::pin(desk.keys.get(&desk.lease, &key, fails))).collect();
    assert!(asking.iter_mut().all(|future| poll(future).is_pending()));
    // Requests that arrived after the first look-up began share one new look-up, because the first failure may be
    // older than they are.
    let failed = |found| matches!(found, Poll::Ready(Err(StoreError::Overloaded)));
    desk.answers.notify_one();
    assert!(failed(poll(&mut asking.remove(0))));
    assert!(poll(&mut asking[0]).is_pending());
    desk.answers.notify_one();
    for mut future in asking {
        assert!(failed(poll(&mut future)));
    }
    assert_eq!(desk.calls(), 2);
    desk.put(&key, false);
    assert!(is_valid(&desk.ask_now(&key).await));
}

/// The requests that wait for one answer are counted. Beyond the maximum, further requests are refused at once, and
/// every waiting request gets its answer.
#[tokio::test(start_paused = true)]
async fn c17_g_so_many_wait_for_one_answer_and_no_more() {
    const WAITING: usize = 16_384;
    let (desk, key, free) = (Desk::new(Faults::default()), digest(1), digest(2));
    desk.put(&key, false);
    let mut asking: Vec<_> = (0..WAITING).map(|_| Box::pin(desk.ask(&key))).collect();
    let came_in = asking.iter_mut().filter_map(|future| match poll(future) {
        Poll::Pending => Some(true),
        Poll::Ready(Err(StoreError::Overloaded)) => None,
        Poll::Ready(other) => panic!("{other:?}"),
    });
    let came_in = came_in.count();
    assert!((WAITING - 1..=WAITING).contains(&came_in), "{came_in}");
    for _ in 0..3 {
        let mut more = Box::pin(desk.ask(&key));
        assert!(matches!(poll(&mut more), Poll::Ready(Err(StoreError::Overloaded))));
    }
    // Look-ups of other keys are not affected.
    let mut other = Box::pin(desk.ask(&free));
    assert!(poll(&mut other).is_pending());
    drop(other);
    desk.answers.notify_one();
    for future in asking.iter_mut().take(came_in) {
        assert!(matches!(poll(future), Poll::Ready(Ok(Some(_)))));
    }
    drop(asking);
    assert_eq!((desk.calls(), desk.keys.waiting()), (2, 0));
    let mut again = Box::pin(desk.ask(&key));
    assert!(matches!(poll(&mut again), Poll::Ready(Ok(Some(_)))), "it is remembered");
}

#[tokio::test(start_paused = true)]
async fn c8_09_a_panic_of_the_store_is_one_request_s() {
    let (desk, key) = (Desk::new(Faults::default()), digest(1));
    desk.put(&key, false);
    let panics = async || {
        desk.answers.notified().await;
        panic!("the driver")
    };
    let mut first = Box::pin(desk.keys.get(&desk.lease, &key, panics));
    assert!(poll(&mut first).is_pending());
    let mut second = Box::pin(desk.ask(&key));
    assert!(poll(&mut second).is_pending());
    desk.answers.notify_one();
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    drop(first);
    // A waiting request takes over, and later requests are answered.
    desk.answers.notify_one();
    for _ in 0..2 {
        if let Poll::Ready(found) = poll(&mut second) {
            assert!(is_valid(&found.unwrap()));
            assert!(is_valid(&desk.ask_now(&key).await));
            return;
        }
        desk.answers.notify_one();
    }
    panic!("the next one hangs");
}

#[tokio::test(start_paused = true)]
async fn c8_01_keys_tried_at_random_push_nobody_out() {
    let desk = Desk::with(1000, 64, Faults::default());
    for number in 0..1000 {
        desk.put(&digest(number), false);
        desk.ask_now(&digest(number)).await;
    }
    let mut dice = Dice::new(1);
    for _ in 0..20_000 {
        desk.ask_now(&KeyDigest::of(&format!("random {}", dice.next()))).await;
    }
    assert!((0..1000).all(|number| desk.warm(&digest(number)).is_some()), "a good one was pushed out");
    assert!(desk.keys.len() <= 1064, "{}", desk.keys.len());
}

#[tokio::test(start_paused = true)]
async fn c8_02_a_key_that_was_unknown_is_known_when_it_comes() {
    let (desk, key) = (Desk::new(Faults::default()), digest(1));
    assert!(desk.ask_now(&key).await.is_none());
    assert!(matches!(desk.warm(&key), Some(None)), "it is remembered that there was none");
    desk.put(&key, false);
    desk.keys.forget(&key);
    assert!(is_valid(&desk.ask_now(&key).await));
    // A change that is missing in the log is noticed after five seconds.
    let other = digest(2);
    assert!(desk.ask_now(&other).await.is_none());
    desk.put(&other, false);
    for _ in 0..5 {
        advance(Duration::from_secs(1)).await;
        desk.renew();
    }
    assert!(desk.warm(&other).is_none());
    assert!(is_valid(&desk.ask_now(&other).await));
}

/// An answer that gives access is cached for ten minutes, and any other for five seconds.
#[tokio::test(start_paused = true)]
async fn c17_g_what_opens_something_is_remembered_longer_than_what_does_not() {
    let (desk, key, none) = (Desk::new(Faults::default()), digest(1), digest(2));
    desk.put(&key, false);
    assert!(is_valid(&desk.ask_now(&key).await) && desk.ask_now(&none).await.is_none());
    for (second, known, unknown) in (1..=601).map(|second| (second, second < 600, second < 5)) {
        advance(Duration::from_secs(1)).await;
        desk.wall.jump(1);
        desk.renew();
        assert_eq!(
            (desk.warm(&key).is_some(), desk.warm(&none).is_some()),
            (known, unknown),
            "after {second} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c8_08_whichever_clock_says_first_that_it_is_over() {
    let (desk, key) = (Desk::new(Faults::default()), digest(1));
    desk.put(&key, false);
    desk.ask_now(&key).await;
    let is_warm = || desk.warm(&key).is_some();
    assert!(is_warm());
    // The machine was suspended: the monotonic clock stood still.
    desk.wall.jump(3600);
    assert!(!is_warm());
    desk.renew();
    desk.ask_now(&key).await;
    assert!(is_warm());
    // The wall clock was set back: the monotonic clock decides.
    desk.wall.jump(-7200);
    assert!(is_warm());
    advance(LEASE).await;
    assert!(!is_warm());
}

/// Events between the steps of one look-up in the cache, at the moment at which it reads the clock to check the
/// lease.
#[tokio::test(start_paused = true)]
async fn c17_g_the_lease_is_asked_after_the_answer_was_taken_and_the_version_after_the_lease() {
    type Meanwhile = fn(&Desk, &KeyDigest);
    let taken_out: Meanwhile = |desk, _| desk.keys.clear();
    let nothing: Meanwhile = |_, _| ();
    let put_in: Meanwhile = |desk, key| {
        let mut put = Box::pin(desk.ask_now(key));
        assert!(poll(&mut put).is_ready());
    };
    let applied_and_returned: Meanwhile = |desk, key| {
        desk.put(key, true);
        desk.keys.forget(key);
        desk.renew();
    };
    let fenced: Meanwhile = |desk, _| desk.lease.end();
    let begun_anew: Meanwhile = |desk, _| {
        desk.lease.begin();
        desk.renew();
    };
    for (what, known, meanwhile, said) in [
        ("nothing happens", true, nothing, true),
        ("the answer was taken out before", true, taken_out, true),
        ("what is put in afterwards was not taken out", false, put_in, false),
        ("a change is applied, and returns", true, applied_and_returned, false),
        ("the lease ends", true, fenced, false),
        ("another term begins", true, begun_anew, false),
    ] {
        let (desk, key) = (Arc::new(Desk::new(Faults::default())), digest(1));
        desk.put(&key, false);
        if known {
            desk.ask_now(&key).await;
        }
        let for_hook = Arc::clone(&desk);
        desk.wall.when_asked(move || meanwhile(&for_hook, &key));
        assert_eq!(desk.warm(&key).is_some(), said, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_the_store_is_asked_each_time() {
    let (desk, key) = (Desk::new(Faults::default()), digest(1));
    desk.put(&key, false);
    desk.ask_now(&key).await;
    desk.lease.end();
    for calls in 2..5 {
        assert!(desk.warm(&key).is_none());
        assert!(is_valid(&desk.ask_now(&key).await));
        assert_eq!(desk.calls(), calls);
    }
    // An entry of this term is valid again when there is a new lease. In another term it is not.
    desk.renew();
    assert!(desk.warm(&key).is_some());
    desk.lease.begin();
    desk.renew();
    assert!(desk.warm(&key).is_none());
}

#[tokio::test(start_paused = true)]
async fn c8_03_the_whole_digest_is_the_question() {
    let desk = Desk::new(Faults::default());
    let key = digest(1);
    desk.put(&key, false);
    desk.ask_now(&key).await;
    for bit in 0..256 {
        let mut bytes = *key.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(desk.warm(&KeyDigest::from_bytes(bytes)).is_none(), "bit {bit}");
    }
}
