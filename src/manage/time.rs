//! Times as RFC 3339 writes them. Times are exact inside; clients see UTC and whole seconds (R38).

use crate::clock::Timestamp;

pub(crate) fn format(time: Timestamp) -> String {
    let range = jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second();
    // Beyond the years -9999 to 9999 RFC 3339 has no words: the nearest it has.
    let secs = time.as_micros().div_euclid(1_000_000).clamp(*range.start(), *range.end());
    jiff::Timestamp::from_second(secs).unwrap_or_default().to_string()
}

pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp::from_micros(time.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::{format, parse};
    use crate::clock::Timestamp;

    #[test]
    fn r38_times_are_utc_with_z_and_whole_seconds() {
        assert_eq!(format(Timestamp::from_secs(1_735_689_600)), "2025-01-01T00:00:00Z");
        assert_eq!(format(Timestamp::from_micros(1_735_689_600_999_999)), "2025-01-01T00:00:00Z");
        assert_eq!(format(Timestamp::from_micros(-1)), "1969-12-31T23:59:59Z");
        assert!(format(Timestamp::from_micros(i64::MAX)).starts_with("9999-12-30T"));
        assert!(format(Timestamp::from_micros(i64::MIN)).starts_with("-009999-01-"));
    }

    #[test]
    fn times_with_an_offset_are_read_and_times_without_are_not() {
        let noon = Some(Timestamp::from_secs(1_735_732_800));
        for text in ["2025-01-01T12:00:00Z", "2025-01-01T14:00:00+02:00", "2025-01-01t12:00:00.000z"] {
            assert_eq!(parse(text), noon, "{text}");
        }
        for text in
            ["", "2025-01-01", "2025-01-01T12:00:00", "1735732800", "tomorrow", "2025-02-30T00:00:00Z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
