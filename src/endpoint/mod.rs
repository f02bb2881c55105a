//! Declarations of endpoints: which need a key, what they do, and whether a project must be named.

mod declaration;
mod declared;
mod endpoints;
mod table;
mod target;

pub use self::declared::{Declared, Endpoint};
pub use self::endpoints::Endpoints;
pub(crate) use self::table::EndpointTable;
pub use self::table::Undeclared;
pub(crate) use self::target::{Target, plain};
