//! [`ConfigError`]: errors in the configuration.

/// An error in the configuration. It is found at start, never during a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The prefix of keys.
    #[error("a key prefix is 1 to 10 of A-Z a-z 0-9 _, starts with a letter and does not end with _")]
    KeyPrefix,
    /// A pepper, or a list of digests.
    #[error("a pepper is not valid: {0}")]
    Pepper(&'static str),
    /// A challenge's scheme, realm or parameter.
    #[error("a challenge's scheme and parameter names are tokens, its values visible ASCII and spaces")]
    Challenge,
    /// A header's name.
    #[error("{0:?} is not a header name that can carry a credential")]
    HeaderName(String),
    /// The name of a field of the JSON body.
    #[error("the fields of a JSON body need three names, different from each other and not empty")]
    FieldName,
    /// A limit or a deadline of zero.
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
    /// The lease of a cache.
    #[error("the lease of a cache is between 100 milliseconds and one minute")]
    Lease,
    /// The connection settings of a database.
    #[error("{0}")]
    Database(&'static str),
    /// A parameter of a connection string. The error does not contain its value, which may be part of a password.
    #[error("the parameter `{name}` of the connection string {reason}")]
    ConnectionParameter {
        /// The parameter.
        name: String,
        /// What is wrong with it, and what to do instead.
        reason: &'static str,
    },
    /// A pattern of an endpoint.
    #[error("{pattern:?} is not a route pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two declarations of one endpoint that contradict each other.
    #[error("{method} {pattern} is declared twice, and the declarations contradict each other")]
    Contradiction {
        /// The method.
        method: String,
        /// The pattern.
        pattern: String,
    },
    /// A network of trusted proxies.
    #[error("{network:?} is not a network: {reason}")]
    Network {
        /// The network.
        network: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// A rate limit, or several that cannot be combined.
    #[error("{limit:?} is not a rate limit: {reason}")]
    RateLimit {
        /// The limit.
        limit: String,
        /// What is wrong with it, and what to write instead.
        reason: &'static str,
    },
    /// The dates of a deprecation.
    #[error("a sunset is not before the deprecation, and both are in the years 1970 to 9999")]
    Sunset,
    /// The link of a deprecation.
    #[error("{0:?} is not a link: write an absolute URL, such as https://example.com/migration")]
    Link(String),
}
