//! Which requests get a pass, and what the inner service finds in them.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Method, Request};
use tower::Service;

use super::world::{Answers, Hand, World, block_on, decide, gate, record, text};
use crate::auth_error::AuthErrorKind;
use crate::credentials::{Credentials, Head};
use crate::endpoint::{Declared, Endpoint, Endpoints};
use crate::gate::{Access, Entry, GatedService, Nobody, Pass, Principal};
use crate::key::Environment;
use crate::restriction::RequestContext;

fn principal() -> Principal {
    let world = World::new();
    *world.keys.lock().unwrap() = Answers::AtHand;
    let text = text(Environment::Live);
    world.holds(Arc::new(record(&text, Environment::Live)));
    let gate = gate(&world, &Hand::new());
    let credentials = Credentials::new(&*text);
    let decided = block_on(decide(&gate, &credentials, Endpoint::READ, RequestContext::new));
    decided.ok().unwrap().principal
}

fn entry(declared: Declared, found: Option<&Credentials<'_>>) -> Result<Option<Nobody>, AuthErrorKind> {
    match Access::from(declared).enter(found)? {
        Entry::Pass(pass) => Ok(pass.holder().err()),
        Entry::Claims(_, endpoint) => {
            assert_eq!(endpoint, Endpoint::WRITE);
            Ok(None)
        }
    }
}

#[test]
fn c17_a3_who_needs_no_credential_and_who_does() {
    let (some, null) = (Credentials::new("anything"), Credentials::null());
    let (optional, required) = (Declared::Optional(Endpoint::WRITE), Declared::Required(Endpoint::WRITE));
    assert!(matches!(entry(Declared::Public, None), Ok(Some(Nobody::Open))));
    assert!(matches!(entry(optional, None), Ok(Some(Nobody::Anonymous))));
    assert!(matches!(entry(required, None), Err(AuthErrorKind::MissingCredentials)));
    for access in [optional, required] {
        assert!(matches!(entry(access, Some(&some)), Ok(None)));
        assert!(matches!(entry(access, Some(&null)), Err(AuthErrorKind::MissingCredentials)));
    }
}

/// A service that returns the principal in its request.
#[derive(Clone)]
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = (Option<Principal>, Option<Nobody>);
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let extensions = request.extensions();
        ready(Ok((extensions.get::<Principal>().cloned(), extensions.get::<Nobody>().copied())))
    }
}

fn call(pass: Pass) -> (Option<Principal>, Option<Nobody>) {
    let mut guarded = GatedService::new(Inner);
    assert!(guarded.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    let mut request = Request::new(());
    // An outer service has put another principal there.
    request.extensions_mut().insert(principal());
    block_on(guarded.call(pass, request)).unwrap()
}

#[test]
fn c17_the_inner_service_finds_the_holder_of_the_pass_and_nobody_else() {
    let ours = principal();
    let pass = Pass::from(ours.clone());
    assert!(pass.holder().is_ok());
    let (who, nobody) = call(pass);
    assert!(std::ptr::eq(who.unwrap().record(), ours.record()) && nobody.is_none());

    for (declared, why) in [(Declared::Public, "Open"), (Declared::Optional(Endpoint::READ), "Anonymous")] {
        let Ok(Entry::Pass(pass)) = Access::from(declared).enter(None) else { panic!("{declared:?}") };
        let (who, nobody) = call(pass);
        assert!(who.is_none(), "{declared:?}");
        assert_eq!(format!("{:?}", nobody.unwrap()), why);
    }
}

/// Which declaration applies to a request, and which request is a preflight.
#[test]
fn c17_a3_a_preflight_is_open_only_where_it_is_passed_and_only_if_it_is_one() {
    let table = Endpoints::new().public(Method::GET, "/open").optional(Method::GET, "/opt").by_path();
    let table = table.build().unwrap();
    let access = |method: Method, path: &str, headers: &[&'static str], pass_preflight: bool| {
        let mut request = Request::builder().method(method).uri(path);
        for name in headers {
            request = request.header(*name, "x");
        }
        let request = request.body(()).unwrap();
        let access = Access::of(&table, Head::of(&request), pass_preflight);
        (access.is_open(), access.is_required())
    };
    let (open, optional, required) = ((true, false), (false, false), (false, true));
    assert_eq!(access(Method::GET, "/open", &[], false), open);
    assert_eq!(access(Method::GET, "/opt", &[], false), optional);
    assert_eq!(access(Method::GET, "/other", &[], false), required);
    let both = ["origin", "access-control-request-method"];
    assert_eq!(access(Method::OPTIONS, "/other", &both, true), open);
    assert_eq!(access(Method::OPTIONS, "/other", &both, false), required);
    assert_eq!(access(Method::OPTIONS, "/other", &both[..1], true), required);
    assert_eq!(access(Method::OPTIONS, "/other", &both[1..], true), required);
    assert_eq!(access(Method::OPTIONS, "/other", &[], true), required);
    assert_eq!(access(Method::GET, "/other", &both, true), required);
}

/// The layer is ready if, and only if, the inner service is.
#[test]
fn c14_01_readiness_is_the_inner_services() {
    struct Busy;

    impl Service<Request<()>> for Busy {
        type Response = ();
        type Error = Infallible;
        type Future = Ready<Result<(), Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Pending
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(Ok(()))
        }
    }

    let mut context = Context::from_waker(Waker::noop());
    assert!(GatedService::new(Busy).poll_ready::<()>(&mut context).is_pending());
    assert!(GatedService::new(Inner).poll_ready::<()>(&mut context).is_ready());
}
