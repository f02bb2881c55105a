//! [`Clock`] and [`Timestamp`]: time is injected, and one clock decides what has expired, whatever the store.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::serde_text::{self, serialize_as_text};

/// A point in time: microseconds since the Unix epoch, UTC.
///
/// Serde writes and reads RFC 3339 text, as `Display` and `FromStr` do: whole seconds are written, and a fraction
/// is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a time from microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Creates a time from whole seconds since the Unix epoch; saturates at the ends of the range.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Returns microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns this time plus `by`; saturates at the end of the range.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl From<SystemTime> for Timestamp {
    /// Saturates outside the range of 64-bit microseconds.
    fn from(time: SystemTime) -> Self {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(micros(before.duration()).saturating_neg()),
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// Exact if the platform can express the time. Unix always can. Windows can from the year 1601 to about the
    /// year 30828: an earlier time becomes the start of 1601, and a later one the end of 9999.
    fn from(time: Timestamp) -> Self {
        const START_OF_1601: Duration = Duration::from_secs(11_644_473_600);
        const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);
        let span = Duration::from_micros(time.0.unsigned_abs());
        let at = if time.0 < 0 {
            UNIX_EPOCH.checked_sub(span).or_else(|| UNIX_EPOCH.checked_sub(START_OF_1601))
        } else {
            UNIX_EPOCH.checked_add(span).or_else(|| UNIX_EPOCH.checked_add(END_OF_9999))
        };
        at.unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(feature = "jiff")]
#[cfg_attr(docsrs, doc(cfg(feature = "jiff")))]
impl From<jiff::Timestamp> for Timestamp {
    /// Nanoseconds below a microsecond are cut off, towards the past.
    fn from(time: jiff::Timestamp) -> Self {
        let micros = time.as_nanosecond().div_euclid(1000);
        Self(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
    }
}

/// An error for times before the year -9999 and after 9999, which jiff cannot express.
#[cfg(feature = "jiff")]
#[cfg_attr(docsrs, doc(cfg(feature = "jiff")))]
impl TryFrom<Timestamp> for jiff::Timestamp {
    type Error = jiff::Error;

    fn try_from(time: Timestamp) -> Result<Self, jiff::Error> {
        Self::from_microsecond(time.0)
    }
}

/// The first and the last second that RFC 3339 can express with its four-digit years.
const WORDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Writes RFC 3339 in UTC and whole seconds: `2026-01-01T00:00:00Z`. A time outside of the years 0000 to 9999, which it
/// cannot express, is written as the nearest time inside.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.div_euclid(1_000_000).clamp(*WORDS.start(), *WORDS.end());
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The error for a text that is not an RFC 3339 time, such as `2030-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time is written as in RFC 3339: 2030-01-01T00:00:00Z, or with an offset: 2030-01-01T00:00:00+01:00"
)]
pub struct ParseTimestampError;

/// Accepts exactly RFC 3339 section 5.6: a date, `T` or `t`, a time with seconds and an optional fraction, of which
/// microseconds are kept, and `Z`, `z` or an offset of hours and minutes. A leap second, which is only allowed at
/// the end of a month in UTC, becomes the second after it.
///
/// ```
/// use tower_api_key::Timestamp;
///
/// let noon: Timestamp = "2025-01-01T13:00:00.000+01:00".parse()?;
/// assert_eq!(noon.to_string(), "2025-01-01T12:00:00Z");
/// assert!("2025-01-01 12:00:00Z".parse::<Timestamp>().is_err());
/// # Ok::<(), tower_api_key::ParseTimestampError>(())
/// ```
impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text.as_bytes()).ok_or(ParseTimestampError)
    }
}

serialize_as_text!(Timestamp);

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_text::deserialize(deserializer)
    }
}

fn parse(text: &[u8]) -> Option<Timestamp> {
    let (date_and_time, rest) = text.split_first_chunk::<19>()?;
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't', hour @ .., b':', s0, s1] = *date_and_time
    else {
        return None;
    };
    let days = day_of(number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?)?;
    let second = number(&[s0, s1]).filter(|second| *second <= 60)?;
    let (fraction, offset) = match rest {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest.split_at_checked(digits).filter(|_| digits > 0)?
        }
        _ => (&[][..], rest),
    };
    let micros = fraction.iter().chain(&[b'0'; 6]).take(6).try_fold(0, |micros, digit| {
        let digit = number(&[*digit])?;
        Some(micros * 10 + digit)
    })?;
    let offset = match *offset {
        [b'Z' | b'z'] => 0,
        [b'+', ref offset @ ..] => hours_and_minutes(offset)?,
        [b'-', ref offset @ ..] => -hours_and_minutes(offset)?,
        _ => return None,
    };
    let seconds = days * 86_400 + hours_and_minutes(&hour)? + second - offset;
    let ends_month = seconds.rem_euclid(86_400) == 0 && civil(seconds.div_euclid(86_400)).2 == 1;
    (second < 60 || ends_month).then_some(Timestamp(seconds * 1_000_000 + micros))
}

/// Parses `hh:mm`, in seconds.
fn hours_and_minutes(text: &[u8]) -> Option<i64> {
    let [h0, h1, b':', m0, m1] = *text else { return None };
    let hours = number(&[h0, h1]).filter(|hours| *hours < 24)?;
    let minutes = number(&[m0, m1]).filter(|minutes| *minutes < 60)?;
    Some(hours * 3600 + minutes * 60)
}

/// Parses digits and nothing else.
fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// The day since 1970 of a valid year, month and day: the inverse of [`civil`].
fn day_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let from_march = (month + 9) % 12;
    let year_from_march = year - i64::from(month < 3);
    let (era, of_era) = (year_from_march.div_euclid(400), year_from_march.rem_euclid(400));
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

/// Year, month and day of a day since 1970. Years are counted from March, so that a leap day is the last day of its
/// year; 400 years have 146 097 days.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days.saturating_add(719_468);
    let (era, of_era) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, next_year) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

/// The source of the current time for all checks of expiry.
///
/// The default is the system clock. If a clock jumps back, an *expired* key may become valid until the clock
/// catches up. A revoked key stays revoked, because revocation is a state and not a time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::*;

    fn read(text: &str) -> Option<i64> {
        text.parse::<Timestamp>().ok().map(Timestamp::as_micros)
    }

    #[test]
    fn c17_d5_times_are_exactly_what_rfc_3339_writes() {
        let noon = Some(1_735_732_800_000_000);
        for text in [
            "2025-01-01T12:00:00Z",
            "2025-01-01t12:00:00z",
            "2025-01-01T12:00:00.000z",
            "2025-01-01T14:00:00+02:00",
            "2025-01-01T12:00:00+00:00",
            // The local offset is unknown (section 4.3).
            "2025-01-01T12:00:00-00:00",
            "2025-01-02T11:59:00+23:59",
            "2024-12-31T12:01:00-23:59",
            "2025-01-01T12:00:00.0000009999999999999999999999999Z",
        ] {
            assert_eq!(read(text), noon, "{text}");
        }
        assert_eq!(read("2025-01-01T12:00:00.25Z"), Some(1_735_732_800_250_000));
        assert_eq!(read("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(read("9999-12-31T23:59:59Z"), Some(253_402_300_799_000_000));
        assert_eq!(read("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000_000));
        assert!(read("2024-02-29T00:00:00Z").is_some() && read("2000-02-29T00:00:00Z").is_some());
        // The same leap second in different offsets (section 5.8).
        let leap = Some(662_688_000_000_000);
        for text in ["1990-12-31T23:59:60Z", "1990-12-31T15:59:60-08:00", "1991-01-01T05:29:60+05:30"] {
            assert_eq!(read(text), leap, "{text}");
        }
        for text in [
            "",
            "Z",
            "2025-01-01",
            "2025-01-01T12:00:00",
            "2025-01-01T12:00Z",
            "2025-01-01T12Z",
            "20250101T120000Z",
            "2025-01-01T120000Z",
            "20250101T12:00:00Z",
            "2025-W01-3T12:00:00Z",
            "2025-001T12:00:00Z",
            "2025-01-01 12:00:00Z",
            "2025-01-01_12:00:00Z",
            " 2025-01-01T12:00:00Z",
            "2025-01-01T12:00:00Z ",
            "2025-01-01T12:00:00 Z",
            "2025-01-01T12:00:00Z\0",
            "+2025-01-01T12:00:00Z",
            "-2025-01-01T12:00:00Z",
            "+002025-01-01T12:00:00Z",
            "12025-01-01T12:00:00Z",
            "025-01-01T12:00:00Z",
            "2025-1-1T12:00:00Z",
            "2025-00-01T12:00:00Z",
            "2025-13-01T12:00:00Z",
            "2025-01-00T12:00:00Z",
            "2025-01-32T12:00:00Z",
            "2025-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2025-04-31T00:00:00Z",
            "2025-01-01T24:00:00Z",
            "2025-01-01T12:60:00Z",
            "2025-01-01T12:00:61Z",
            "2025-01-01T12:00:60Z",
            "2025-01-01T23:59:60Z",
            "1990-12-31T23:59:60-08:00",
            "2025-01-01T12:00:00.Z",
            "2025-01-01T12:00:00,5Z",
            "2025-01-01T12:00:00.5",
            "2025-01-01T12:00:00.5.5Z",
            "2025-01-01T12:00:00+24:00",
            "2025-01-01T12:00:00+25:59",
            "2025-01-01T12:00:00+02:60",
            "2025-01-01T12:00:00+0200",
            "2025-01-01T12:00:00+02",
            "2025-01-01T12:00:00+2:00",
            "2025-01-01T12:00:00+02:00:00",
            "2025-01-01T12:00:00\u{2212}02:00",
            "2025-01-01T12:00:00Z[UTC]",
            "2025-01-01T12:00:00+01:00[Europe/Berlin]",
            "2025-01-01T12:00:00[UTC]",
            "2025-01-01T12:00:00UTC",
            "\u{0662}025-01-01T12:00:00Z",
            "２025-01-01T12:00:00Z",
            "1735732800",
            "tomorrow",
            "Wed, 01 Jan 2025 12:00:00 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn r38_times_are_written_in_utc_with_z_and_whole_seconds() {
        assert_eq!(Timestamp::from_secs(1_735_689_600).to_string(), "2025-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_micros(1_735_689_600_999_999).to_string(), "2025-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_micros(-1).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_micros(253_402_300_799_999_999).to_string(), "9999-12-31T23:59:59Z");
        // A time outside the range is written as the nearest inside.
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "0000-01-01T00:00:00Z");
    }

    #[test]
    fn times_are_rfc_3339_for_serde() {
        let time = Timestamp::from_secs(1_735_689_600);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, r#""2025-01-01T00:00:00Z""#);
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        let in_part = serde_json::from_str::<Timestamp>(r#""2025-01-01T01:00:00.5+01:00""#).unwrap();
        assert_eq!(in_part, Timestamp::from_micros(1_735_689_600_500_000));
        for text in ["1735689600", r#""tomorrow""#, r#""2025-01-01""#, "null"] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_go_to_std_and_back() {
        for micros in [0, 1, -1, 1_735_689_600_000_001, -62_167_219_200_000_000, i64::MAX, i64::MIN + 1] {
            let time = Timestamp::from_micros(micros);
            let there = SystemTime::from(time);
            if cfg!(unix) {
                assert_eq!(Timestamp::from(there), time);
            }
        }
    }

    #[cfg(feature = "jiff")]
    #[test]
    fn times_go_to_jiff_and_back() {
        for micros in [0, 1, -1, 1_735_689_600_000_001, -62_167_219_200_000_000] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::from(jiff::Timestamp::try_from(time).unwrap()), time);
        }
        let before = jiff::Timestamp::from_nanosecond(-1).unwrap();
        assert_eq!(Timestamp::from(before), Timestamp::from_micros(-1));
        assert!(jiff::Timestamp::try_from(Timestamp::from_micros(i64::MAX)).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn c17_d5_what_is_written_is_read_and_another_reader_agrees(
            seconds in WORDS, offset in -1439_i64..=1439, micros in 0_i64..1_000_000,
        ) {
            let (written, time) = (Timestamp::from_secs(seconds), Timestamp(seconds * 1_000_000 + micros));
            prop_assert_eq!(written.to_string().parse(), Ok(written));
            // jiff ends a day before RFC 3339 does, and reads much else.
            if let Ok(theirs) = jiff::Timestamp::from_microsecond(time.as_micros())
                && let Ok(offset) = jiff::tz::Offset::from_seconds(i32::try_from(offset * 60).unwrap())
                && (0..=9999).contains(&offset.to_datetime(theirs).year())
            {
                let text = theirs.display_with_offset(offset).to_string();
                prop_assert_eq!(text.parse(), Ok(time), "{}", text);
            }
        }

        #[test]
        fn c17_b3_no_text_makes_the_reader_of_times_panic(
            text in "[0-9]{0,5}-?[0-9]{0,3}-?[0-9]{0,3}[Tt ]?([0-9]{0,3}:?){0,3}(\\.[0-9]{0,9})?([Zz]|[+-][0-9:]{0,6})?|\\PC{0,40}",
        ) {
            if let Ok(time) = text.parse::<Timestamp>() {
                prop_assert_eq!(time.to_string().len(), 20);
            }
        }
    }
}
