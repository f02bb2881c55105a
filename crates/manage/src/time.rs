//! Formats times for these routes: RFC 3339, in UTC and whole seconds (R38).

use tower_api_key::Timestamp;

pub(crate) fn format(time: Timestamp) -> String {
    time.to_string()
}
