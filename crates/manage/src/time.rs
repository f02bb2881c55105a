//! Times as these routes write them: as RFC 3339 does, in UTC and whole seconds (R38).

use tower_api_key::clock::Timestamp;

pub(crate) fn format(time: Timestamp) -> String {
    time.to_string()
}
