//! What of a request is compared with the patterns of routes.

use crate::credentials::Head;

/// What of a request may be compared with patterns; see [`Endpoints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Target<'r> {
    /// The pattern of the route that the whole router matched: compared but for the names of parameters.
    #[cfg_attr(not(feature = "axum"), allow(dead_code, reason = "only axum says what it matched"))]
    Route(&'r str),
    /// The path, which has only one spelling: matched.
    Path(&'r str),
    /// Nothing matches.
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
            // Inside a router that matched nothing, the path may have been rewritten: it proves nothing.
            if head.extensions.get::<OriginalUri>().is_some() {
                return Self::Unknown;
            }
        }
        Self::path(head.uri.path())
    }

    /// A path that no router has looked at.
    pub(crate) fn path(path: &'r str) -> Self {
        if is_plain(path) { Self::Path(path) } else { Self::Unknown }
    }
}

/// The path of a request as it came, and as it is after what was cut off, where they have one spelling.
pub(super) fn plain_paths<'r>(head: &Head<'r>) -> [Option<&'r str>; 2] {
    #[cfg(feature = "axum")]
    let original = head.extensions.get::<axum::extract::OriginalUri>().map(|uri| uri.path());
    #[cfg(not(feature = "axum"))]
    let original = None;
    plain([original, Some(head.uri.path())])
}

/// Those of some paths that have one spelling.
pub(crate) fn plain(paths: [Option<&str>; 2]) -> [Option<&str>; 2] {
    paths.map(|path| path.filter(|path| is_plain(path)))
}

/// Whether a path has only one spelling, so that a router behind us cannot read another into it.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'\\');
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.bytes().all(plain) && rest.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        })
}
