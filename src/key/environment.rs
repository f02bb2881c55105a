//! [`Environment`]: live or test.

/// The environment to which a key belongs (R53 to R55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// Real transactions and data: `sk_live_`.
    Live,
    /// Development and testing: `sk_test_`.
    Test,
}

impl Environment {
    /// `live` or `test`, as in keys, responses and stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Parses the name that [`as_str`](Self::as_str) returns.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|environment| environment.as_str() == name)
    }
}
