//! [`Target`]: the part of a request that is compared with route patterns.

use crate::credentials::Head;

/// The part of a request that is compared with route patterns; see [`Endpoints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Target<'r> {
    /// The pattern of the route that the whole router matched. It is compared except for the names of parameters.
    #[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "only axum says what it matched"))]
    Route(&'r str),
    /// A path with a single spelling. It is matched against patterns.
    Path(&'r str),
    /// Unknown: no pattern matches.
    #[default]
    Unknown,
}

impl<'r> Target<'r> {
    pub(crate) fn of(head: &Head<'r>) -> Self {
        #[cfg(feature = "axum")]
        {
            use axum::extract::{MatchedPath, OriginalUri};
            if let Some(matched) = head.extensions.get::<MatchedPath>() {
                return Self::Route(matched.as_str());
            }
            // Inside a router that matched nothing, the path may have been rewritten, so it proves nothing.
            if head.extensions.get::<OriginalUri>().is_some() {
                return Self::Unknown;
            }
        }
        Self::path(head.uri.path())
    }

    /// The target of a request that no router has seen.
    pub(crate) fn path(path: &'r str) -> Self {
        if is_plain(path) { Self::Path(path) } else { Self::Unknown }
    }
}

/// The path of a request as it arrived and as it is after outer services removed a prefix, each if it has a single
/// spelling.
pub(super) fn plain_paths<'r>(head: &Head<'r>) -> [Option<&'r str>; 2] {
    #[cfg(feature = "axum")]
    let original = head.extensions.get::<axum::extract::OriginalUri>().map(|uri| uri.path());
    #[cfg(not(feature = "axum"))]
    let original = None;
    plain([original, Some(head.uri.path())])
}

/// Keeps the paths that have a single spelling.
pub(crate) fn plain(paths: [Option<&str>; 2]) -> [Option<&str>; 2] {
    paths.map(|path| path.filter(|path| is_plain(path)))
}

/// Whether a path has only one spelling, so that a router behind the layer cannot interpret it differently.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'\\');
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.bytes().all(plain) && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        })
}
