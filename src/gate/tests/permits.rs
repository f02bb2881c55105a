//! Permits for the store: how many requests of one client wait for one, and how long.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;

use super::world::{Answers, CLIENT, Hand, World, block_on, decide, gate, record, refused, text};
use crate::auth_error::{AuthError, AuthErrorKind};
use crate::bulkhead::{Bulkhead, Capacity};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::gate::asker::Asker;
use crate::gate::{Admission, Gate};
use crate::key::{Digests, Environment, KeyDigest};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::store::{KeyStore, NoProjects, StoreError};

struct Silent;

#[async_trait::async_trait]
impl KeyStore for Silent {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        pending().await
    }
}

fn silent() -> Gate {
    Gate::new(Arc::new(NoProjects(Silent)), &crate::settings::Settings::default())
}

fn client() -> RequestContext<'static> {
    RequestContext::new().address(CLIENT)
}

fn neighbour() -> RequestContext<'static> {
    RequestContext::new().address([198, 51, 100, 1])
}

type Asking<'g> = Pin<Box<dyn Future<Output = Result<Admission, AuthError>> + 'g>>;

/// Starts a request that must ask the store. Returns it if it waits, or its refusal.
fn come<'g>(
    gate: &'g Gate,
    credentials: &'g Credentials<'_>,
    facts: fn() -> RequestContext<'static>,
) -> Result<Asking<'g>, AuthErrorKind> {
    let paused = gate.now(credentials, Endpoint::READ, facts).ok().unwrap().err().unwrap();
    let mut asking: Asking<'g> = Box::pin(gate.asking(paused, credentials, facts));
    match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Ok(asking),
        Poll::Ready(answer) => Err(answer.err().unwrap().kind()),
    }
}

#[test]
fn c17_b1_one_client_takes_at_most_16_384_places_at_a_silent_store() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let gate = silent();
    let text = text(Environment::Live);
    let credentials = Credentials::new(&*text);
    let mut waiting = Vec::new();
    for _ in 0..16_384 {
        waiting.push(come(&gate, &credentials, client).ok().unwrap());
    }
    assert_eq!(come(&gate, &credentials, client).err(), Some(AuthErrorKind::Overloaded));
    assert!(come(&gate, &credentials, neighbour).is_ok());
    waiting.pop();
    assert!(come(&gate, &credentials, client).is_ok());
}

/// The runtime's clock is paused: it advances only when all tasks wait.
#[test]
fn c10_02_the_wait_for_a_permit_counts_against_the_stores_deadline() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut gate = silent();
        gate.store_deadline = Duration::from_secs(10);
        gate.lookups = Arc::new(Bulkhead::new(Capacity { permits: 1, permits_per_key: 1, places: 8 }));
        let others = gate.lookups.acquire(&Asker::Request(None)).await.unwrap();
        let text = text(Environment::Live);
        let credentials = Credentials::new(&*text);
        let came = Instant::now();
        let paused = gate.now(&credentials, Endpoint::READ, client).ok().unwrap().err().unwrap();
        let mut asking = pin!(gate.asking(paused, &credentials, client));
        let early = tokio::time::timeout(Duration::from_secs(6), asking.as_mut()).await;
        assert!(early.is_err());
        drop(others);
        assert_eq!(asking.await.err().unwrap().kind(), AuthErrorKind::StoreTimeout);
        assert_eq!(came.elapsed(), Duration::from_secs(10));
    });
}

/// One request holds one permit, whatever it must ask for.
#[test]
fn c17_b1_the_key_and_its_owner_are_looked_up_with_one_permit() {
    let world = World::new();
    *world.directory.lock().unwrap() = Answers::WhenAsked;
    let text = text(Environment::Live);
    world.holds(Arc::new(record(&text, Environment::Live)));
    let mut gate = gate(&world, &Hand::new());
    gate.lookups = Arc::new(Bulkhead::new(Capacity { permits: 1, permits_per_key: 1, places: 2 }));
    let decided = block_on(decide(&gate, &Credentials::new(&*text), Endpoint::READ, client));
    assert_eq!(refused(decided), None);
    assert_eq!((world.found.lock().unwrap().len(), world.standings.load(Ordering::Relaxed)), (1, 1));
}

/// A request that gets a permit at once may ask for each digest as long as the store's deadline.
#[test]
fn c10_02_the_stores_deadline_is_for_each_look_up() {
    struct Late;

    #[async_trait::async_trait]
    impl KeyStore for Late {
        async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
            tokio::time::sleep(Duration::from_secs(6)).await;
            Ok(None)
        }
    }

    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut gate = Gate::new(Arc::new(NoProjects(Late)), &crate::settings::Settings::default());
        gate.store_deadline = Duration::from_secs(10);
        gate.rules.digests = Digests::sha256().accept_sha512();
        let text = text(Environment::Live);
        let came = Instant::now();
        let decided = decide(&gate, &Credentials::new(&*text), Endpoint::READ, client).await;
        assert_eq!(refused(decided), Some(AuthErrorKind::UnknownKey));
        // The newest digest, the older one, and the newest again.
        assert_eq!(came.elapsed(), Duration::from_secs(18));
    });
}

#[test]
fn c10_02_a_request_without_a_permit_is_refused_at_the_stores_deadline() {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut gate = silent();
        gate.store_deadline = Duration::from_secs(10);
        gate.lookups = Arc::new(Bulkhead::new(Capacity { permits: 1, permits_per_key: 1, places: 8 }));
        let _others = gate.lookups.acquire(&Asker::Request(None)).await.unwrap();
        let text = text(Environment::Live);
        let credentials = Credentials::new(&*text);
        let came = Instant::now();
        let paused = gate.now(&credentials, Endpoint::READ, client).ok().unwrap().err().unwrap();
        let refused = gate.asking(paused, &credentials, client).await;
        assert_eq!(refused.err().unwrap().kind(), AuthErrorKind::Overloaded);
        assert_eq!(came.elapsed(), Duration::from_secs(10));
    });
}
