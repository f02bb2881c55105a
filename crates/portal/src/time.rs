//! Formats times for people: UTC, to the minute.

use tower_api_key::Timestamp;

/// A time, for people and for machines.
#[derive(Clone)]
pub(super) struct Time {
    pub(super) text: String,
    /// The day alone, for narrow columns.
    pub(super) day: String,
    pub(super) machine: String,
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        const MONTHS: [&str; 13] =
            ["", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        // `2025-01-05T10:30:00Z` as `5 Jan 2025, 10:30`.
        let machine = time.to_string();
        let mut parts = machine.split(['-', 'T', ':']);
        let mut part = || parts.next().unwrap_or_default();
        let (year, month, day, hour, minute) = (part(), part(), part(), part(), part());
        let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month)).unwrap_or(&month);
        let day = format!("{} {month} {year}", day.trim_start_matches('0'));
        Self { text: format!("{day}, {hour}:{minute}"), day, machine }
    }
}

/// The day of a time, in the format of a date field.
pub(super) fn day(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}

/// The first moment after the day in a date field; for the last possible day, its last second.
pub(super) fn end_of_day(day: &str) -> Option<Timestamp> {
    let last: Timestamp = format!("{day}T23:59:59Z").parse().ok()?;
    let end = Timestamp::from_micros(last.as_micros().saturating_add(1_000_000));
    Some(if end.to_string() == last.to_string() { last } else { end })
}

pub(super) const DAY_SECS: i64 = 24 * 60 * 60;

/// Whole days from one time to a later one.
pub(super) fn days_between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_micros().saturating_sub(from.as_micros()).div_euclid(DAY_SECS * 1_000_000)
}

/// How many days are left, rounded to the nearest; `None` within the last day.
pub(super) fn days_left(now: Timestamp, end: Timestamp) -> i64 {
    match days_between(now, end) {
        days if days < 1 => days,
        _ => {
            days_between(now, end.saturating_add(std::time::Duration::from_secs(DAY_SECS.unsigned_abs() / 2)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(Time::from(Timestamp::from_secs(1_736_073_000)).text, "5 Jan 2025, 10:30");
        assert_eq!(day(Timestamp::from_secs(1_736_073_000)), "2025-01-05");
        assert_eq!(Time::from(Timestamp::from_micros(i64::MAX)).text, "31 Dec 9999, 23:59");
        assert_eq!(Time::from(Timestamp::from_secs(1_752_537_600)).day, "15 Jul 2025");
        assert_eq!(end_of_day("2025-01-05"), Some(Timestamp::from_secs(1_736_121_600)));
        assert_eq!(end_of_day("9999-12-31").unwrap().to_string(), "9999-12-31T23:59:59Z");
        for wrong in [
            "",
            "2025-02-30",
            "tomorrow",
            "2025-01-05T10:00:00Z",
            "20250105",
            "12025-01-05",
            "2025-1-5",
            " 2025-01-05",
        ] {
            assert_eq!(end_of_day(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_are_whole() {
        let at = Timestamp::from_secs;
        assert_eq!(days_between(at(0), at(90 * DAY_SECS - 1)), 89);
        assert_eq!(days_between(at(0), at(90 * DAY_SECS)), 90);
    }

    #[test]
    fn c17_e3_two_days_are_not_said_of_three() {
        const HOUR: i64 = 60 * 60;
        let at = Timestamp::from_secs;
        for (hours, days) in
            [(1, 0), (23, 0), (24, 1), (35, 1), (36, 2), (48, 2), (59, 2), (60, 3), (71, 3), (72, 3), (83, 3)]
        {
            assert_eq!(days_left(at(0), at(hours * HOUR)), days, "{hours}");
        }
        assert_eq!(days_left(at(0), at(3 * DAY_SECS - 1)), 3);
        assert_eq!(days_left(at(10), at(0)), -1);
    }
}
