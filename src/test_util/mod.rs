//! For tests of what is built on this crate.

mod principal;

pub use self::principal::{PrincipalBuilder, principal};
