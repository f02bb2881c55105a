//! Checks and compares route patterns in axum's syntax: `/projects/{id}`, `/files/{*path}`.

/// axum's router panics on a pattern with more parameters.
const MAX_PARAMETERS: usize = 25;

/// Checks that a text is a route pattern in axum's syntax, or returns what is wrong with it.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b'?' | b'#' | b'\\');
    if !pattern.starts_with('/') {
        Err("it must start with /")
    } else if !pattern.bytes().all(plain) {
        Err("it may hold visible ASCII only, and none of % ; ? # \\")
    } else if pattern.split('/').any(|segment| segment.starts_with([':', '*'])) {
        Err("parameters are written {name}, and {*name} for the rest of the path")
    } else if pattern.split('/').filter(|segment| segment.contains('{')).count() > MAX_PARAMETERS {
        Err("it may have at most 25 parameters")
    } else {
        Ok(())
    }
}

/// If a segment is a parameter, returns it without its name: `*` for a catch-all, an empty text for one segment.
pub(crate) fn nameless(segment: &str) -> Option<&'static str> {
    match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) if name.starts_with('*') => Some("*"),
        Some(name) if !name.starts_with('{') => Some(""),
        _ => None,
    }
}

pub(crate) fn is_catch_all(segment: &str) -> bool {
    nameless(segment) == Some("*")
}

/// Whether a pattern continues after a catch-all, because one router's pattern precedes another's.
pub(crate) fn has_inner_catch_all(pattern: &str) -> bool {
    pattern.rsplit('/').skip(1).any(is_catch_all)
}

/// Whether a pattern ends with another, starting at a `/`.
pub(crate) fn ends_with(pattern: &str, end: &str) -> bool {
    let last = end.matches('/').count().saturating_sub(1);
    let from = pattern.rmatch_indices('/').nth(last).map(|(from, _)| from);
    from.and_then(|from| pattern.get(from..)).is_some_and(|tail| same_route(tail, end))
}

/// Whether one of two patterns ends in a catch-all that may cover the other.
pub(crate) fn may_be_below(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some(one), Some(_)) if is_catch_all(one) => return true,
            (Some(_), Some(other)) if is_catch_all(other) => return true,
            (Some(one), Some(other))
                if one == other || nameless(one).is_some() || nameless(other).is_some() => {}
            _ => return false,
        }
    }
}

/// Whether two patterns describe the same route: equal except for the names of their parameters.
pub(crate) fn same_route(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) if nameless(one).is_some() && nameless(one) == nameless(other) => {}
            _ => return false,
        }
    }
}
