//! Times as people read them: UTC, to the minute.

use crate::clock::Timestamp;
use crate::manage::time;

/// A time, for people and for machines.
#[derive(Clone)]
pub(super) struct Time {
    pub(super) text: String,
    /// The day alone, where there is little room.
    pub(super) day: String,
    pub(super) machine: String,
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        let machine = time::format(time);
        // `2025-01-05T10:30:00Z` as `5 Jan 2025, 10:30`.
        let shown = |format: &str| {
            let parsed = machine.parse::<jiff::Timestamp>();
            parsed.map_or_else(|_| machine.clone(), |time| time.strftime(format).to_string())
        };
        Self { text: shown("%-d %b %Y, %H:%M"), day: shown("%-d %b %Y"), machine }
    }
}

/// The day of a time, as a date field wants it.
pub(super) fn day(time: Timestamp) -> String {
    time::format(time).chars().take(10).collect()
}

/// The first moment after a day that a date field names.
pub(super) fn end_of_day(day: &str) -> Option<Timestamp> {
    let day: jiff::civil::Date = day.parse().ok()?;
    time::parse(&format!("{}T00:00:00Z", day.tomorrow().ok()?))
}

pub(super) const DAY_SECS: i64 = 24 * 60 * 60;

/// Whole days from one time to a later one.
pub(super) fn days_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_micros().saturating_sub(from.as_micros()).div_euclid(DAY_SECS * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(Time::from(Timestamp::from_secs(1_736_073_000)).text, "5 Jan 2025, 10:30");
        assert_eq!(day(Timestamp::from_secs(1_736_073_000)), "2025-01-05");
        assert!(!Time::from(Timestamp::from_micros(i64::MAX)).text.is_empty());
        assert_eq!(end_of_day("2025-01-05"), Some(Timestamp::from_secs(1_736_121_600)));
        for wrong in ["", "2025-02-30", "tomorrow", "9999-12-31", "2025-01-05T10:00:00Z"] {
            assert_eq!(end_of_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_are_whole() {
        let at = Timestamp::from_secs;
        assert_eq!(days_between(at(0), at(90 * DAY_SECS - 1)), 89);
        assert_eq!(days_between(at(0), at(90 * DAY_SECS)), 90);
    }
}
