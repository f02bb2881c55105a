//! C15-01, C15-02: live and test keys.

use tower_api_key::{AuthError, AuthErrorKind, Environment, KeyFormat};

use super::{Setup, Sites, Visit};
use test_kit::World;

#[tokio::test]
async fn c15_01_a_key_of_the_other_environment_is_like_an_unknown_one() {
    let world = World::new().await;
    for (environment, right, wrong) in
        [(Environment::Live, &world.own, &world.test), (Environment::Test, &world.test, &world.own)]
    {
        let setup = Setup { environment: Some(environment), ..Setup::default() };
        let sites = Sites::with(&world, &setup);
        sites.lets_in("C15-01", &Visit::plain(), right).await;
        let other = sites.ask(&Visit::plain(), Some(wrong.expose_secret())).await;
        let unknown = KeyFormat::default().generate(environment).unwrap();
        let unknown = sites.ask(&Visit::plain(), Some(unknown.expose_secret())).await;
        for ((side, other, _), (_, unknown, _)) in other.into_iter().zip(unknown) {
            assert_eq!(other.status, 401, "{}", side.name);
            assert_eq!(other.body, unknown.body, "{}", side.name);
            assert_eq!(other.headers, unknown.headers, "{}", side.name);
            let kind = |answer: &super::Answer| answer.extensions.get::<AuthError>().unwrap().kind();
            assert_eq!(
                kind(&other),
                AuthErrorKind::WrongEnvironment,
                "{environment:?}, {right:?}, {wrong:?}"
            );
            assert_eq!(kind(&unknown), AuthErrorKind::UnknownKey, "{environment:?}, {right:?}, {wrong:?}");
        }
    }
    // By default, both environments are accepted.
    let sites = Sites::new(&world);
    sites.lets_in("C15-01", &Visit::plain(), &world.own).await;
    sites.lets_in("C15-01", &Visit::plain(), &world.test).await;
}

#[tokio::test]
async fn c15_02_a_handler_asks_for_an_environment() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let (live, test) = (Visit::new("POST", "/live"), Visit::new("POST", "/test"));
    sites.lets_in("C15-02", &live, &world.own).await;
    sites.lets_in("C15-02", &test, &world.test).await;
    sites.refuses("C15-02", &live, &world.test, "403/forbidden").await;
    sites.refuses("C15-02", &test, &world.own, "403/forbidden").await;
}
