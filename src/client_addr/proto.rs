//! [`Proto`]: whether a request came over HTTPS.

/// How a client reached the outermost trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proto {
    /// Plain HTTP.
    Http,
    /// Over TLS.
    Https,
}
