//! [`Deprecation`] of a scheme or a key, and its headers `Deprecation`, `Sunset` and `Link`.

use std::fmt;

use http::header::{HeaderName, LINK};
use http::{HeaderMap, HeaderValue};

use crate::clock::{Timestamp, civil};
use crate::config_error::ConfigError;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Since when something is deprecated, when it stops working, and where to read about it.
///
/// ```
/// use tower_api_key::{Deprecation, Timestamp};
///
/// let deprecation = Deprecation::new(Timestamp::from_secs(1_767_225_600))?
///     .sunset(Timestamp::from_secs(1_782_864_000))?
///     .link("https://example.com/migration")?;
/// let mut headers = http::HeaderMap::new();
/// deprecation.stamp(&mut headers);
/// assert_eq!(headers["deprecation"], "@1767225600");
/// assert_eq!(headers["sunset"], "Wed, 01 Jul 2026 00:00:00 GMT");
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// # Format
///
/// ```text
/// Deprecation: @1767225600                                     (RFC 9745: a Structured Field date)
/// Sunset: Wed, 01 Jul 2026 00:00:00 GMT                        (RFC 8594: an HTTP date)
/// Link: <https://example.com/migration>; rel="deprecation"
/// Link: <https://example.com/migration>; rel="sunset"
/// ```
#[derive(Clone, Debug)]
pub struct Deprecation {
    since: Timestamp,
    ends: Option<Timestamp>,
    deprecation: HeaderValue,
    sunset: Option<HeaderValue>,
    link: Option<Link>,
}

/// The URL of the page that tells people what to do.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    deprecation: HeaderValue,
    sunset: HeaderValue,
}

impl Link {
    pub(crate) fn to(url: &str) -> Result<Self, ConfigError> {
        let refused = || ConfigError::Link(url.to_owned());
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte);
        let host =
            url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or_else(refused)?;
        if host.is_empty() || host.starts_with(['/', '?', '#']) || !url.bytes().all(plain) {
            return Err(refused());
        }
        let line = |rel| HeaderValue::from_str(&format!("<{url}>; rel=\"{rel}\"")).map_err(|_| refused());
        Ok(Self { deprecation: line("deprecation")?, sunset: line("sunset")? })
    }
}

impl Deprecation {
    /// Deprecated since `since`, which may lie in the future, without an end.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Sunset`] if it is not in the years 1970 to 9999.
    pub fn new(since: Timestamp) -> Result<Self, ConfigError> {
        let seconds = seconds(since)?;
        let deprecation = HeaderValue::from_str(&format!("@{seconds}")).map_err(|_| ConfigError::Sunset)?;
        Ok(Self { since, ends: None, deprecation, sunset: None, link: None })
    }

    /// Sets when it stops working.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Sunset`] if it is before the deprecation (RFC 9745 section 4), or not in the years 1970 to 9999.
    pub fn sunset(mut self, ends: Timestamp) -> Result<Self, ConfigError> {
        if ends < self.since {
            return Err(ConfigError::Sunset);
        }
        let date = http_date(seconds(ends)?);
        self.sunset = Some(HeaderValue::from_str(&date).map_err(|_| ConfigError::Sunset)?);
        self.ends = Some(ends);
        Ok(self)
    }

    /// Sets the URL of the page that tells people what to do.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Link`] if it is not an absolute `http` or `https` URL.
    pub fn link(mut self, url: &str) -> Result<Self, ConfigError> {
        self.link = Some(Link::to(url)?);
        Ok(self)
    }

    /// The deprecation of a key that was replaced at `since` and ends at `ends`; `None` if a date is out of range.
    pub(crate) fn of_key(since: Timestamp, ends: Timestamp, link: Option<&Link>) -> Option<Self> {
        let deprecation = Self::new(since).ok()?.sunset(ends).ok()?;
        Some(Self { link: link.cloned(), ..deprecation })
    }

    /// Since when it is deprecated.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// When it stops working.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    /// Whether it has stopped working at `now`. At the exact moment of its sunset it has.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// Writes the headers. Existing `Deprecation` and `Sunset` headers are replaced; links are added to existing ones.
    pub fn stamp(&self, headers: &mut HeaderMap) {
        stamp(&[self], headers);
    }
}

/// Writes the headers for several deprecations: the earliest date of each kind, and every link. The sunset is never
/// before the deprecation, because the one it comes from began no earlier than the earliest.
pub(crate) fn stamp(all: &[&Deprecation], headers: &mut HeaderMap) {
    if let Some(first) = all.iter().min_by_key(|one| one.since) {
        headers.insert(DEPRECATION, first.deprecation.clone());
    }
    let ending = all.iter().filter_map(|one| Some((one.ends?, one.sunset.as_ref()?)));
    if let Some((_, sunset)) = ending.min_by_key(|(ends, _)| *ends) {
        headers.insert(SUNSET, sunset.clone());
    }
    for one in all {
        let Some(link) = &one.link else { continue };
        headers.append(LINK, link.deprecation.clone());
        if one.sunset.is_some() {
            headers.append(LINK, link.sunset.clone());
        }
    }
}

/// `deprecated since Thu, 01 Jan 2026 00:00:00 GMT, ends Wed, 01 Jul 2026 00:00:00 GMT: https://example.com/migration`
impl fmt::Display for Deprecation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |time| seconds(time).map(http_date).unwrap_or_default();
        write!(f, "deprecated since {}", date(self.since))?;
        if let Some(ends) = self.ends {
            write!(f, ", ends {}", date(ends))?;
        }
        let link = self.link.as_ref().and_then(|link| link.deprecation.to_str().ok());
        match link.and_then(|line| line.strip_prefix('<')?.split_once('>')) {
            Some((url, _)) => write!(f, ": {url}"),
            None => Ok(()),
        }
    }
}

const SECONDS_PER_DAY: i64 = 86_400;
/// The first second of the year 10000, which an HTTP date cannot express.
const YEAR_10000: i64 = 253_402_300_800;

fn seconds(time: Timestamp) -> Result<i64, ConfigError> {
    let seconds = time.as_micros().div_euclid(1_000_000);
    if (0..YEAR_10000).contains(&seconds) { Ok(seconds) } else { Err(ConfigError::Sunset) }
}

/// Formats an HTTP date (RFC 9110 section 5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(seconds: i64) -> String {
    let (days, of_day) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let weekday = match days % 7 {
        0 => "Thu",
        1 => "Fri",
        2 => "Sat",
        3 => "Sun",
        4 => "Mon",
        5 => "Tue",
        _ => "Wed",
    };
    let (year, month, day) = civil(days);
    let month = match month {
        1 => "Jan",
        2 => "Feb",
        3 => "Mar",
        4 => "Apr",
        5 => "May",
        6 => "Jun",
        7 => "Jul",
        8 => "Aug",
        9 => "Sep",
        10 => "Oct",
        11 => "Nov",
        _ => "Dec",
    };
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Timestamp = Timestamp::from_secs(1_767_225_600);

    fn stamped(deprecation: &Deprecation) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_static("<https://a.example>; rel=\"next\""));
        headers.insert(SUNSET, HeaderValue::from_static("tomorrow"));
        deprecation.stamp(&mut headers);
        headers
    }

    #[test]
    fn c15_14_the_headers_are_well_formed() {
        let deprecation = Deprecation::new(SINCE).unwrap();
        let headers = stamped(&deprecation.clone().link("https://example.com/migration").unwrap());
        assert_eq!(headers["deprecation"], "@1767225600");
        assert_eq!(headers["sunset"], "tomorrow");
        assert_eq!(headers.get_all(LINK).iter().count(), 2);

        let headers = stamped(
            &deprecation
                .link("https://example.com/migration?a=b,c;d#e")
                .unwrap()
                .sunset(Timestamp::from_secs(1_782_864_000))
                .unwrap(),
        );
        assert_eq!(headers["sunset"], "Wed, 01 Jul 2026 00:00:00 GMT");
        let links: Vec<_> = headers.get_all(LINK).iter().collect();
        assert_eq!(
            links,
            [
                "<https://a.example>; rel=\"next\"",
                "<https://example.com/migration?a=b,c;d#e>; rel=\"deprecation\"",
                "<https://example.com/migration?a=b,c;d#e>; rel=\"sunset\"",
            ]
        );
    }

    #[test]
    fn c15_14_a_sunset_is_not_before_the_deprecation_and_ends_it() {
        let deprecation = Deprecation::new(SINCE).unwrap();
        assert!(!deprecation.is_over(Timestamp::from_micros(i64::MAX)));
        let before = Timestamp::from_micros(SINCE.as_micros() - 1);
        assert_eq!(deprecation.clone().sunset(before).unwrap_err(), ConfigError::Sunset);
        let at_once = deprecation.sunset(SINCE).unwrap();
        assert!(!at_once.is_over(before));
        assert!(at_once.is_over(SINCE));
        for out_of_range in [-1, 253_402_300_800, i64::MAX, i64::MIN] {
            assert!(Deprecation::new(Timestamp::from_secs(out_of_range)).is_err());
        }
    }

    #[test]
    fn links_cannot_break_out_of_their_brackets() {
        for url in [
            "",
            "/migration",
            "example.com",
            "https://",
            "https:///x",
            "https://a>; rel=\"x",
            "https://a\"",
            "https://a b",
            "https://a\r\nSet-Cookie: x",
            "https://ü.example",
            "javascript:alert(1)",
            "https://a\\b",
        ] {
            let deprecation = Deprecation::new(SINCE).unwrap();
            assert_eq!(deprecation.link(url).unwrap_err(), ConfigError::Link(url.to_owned()));
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(seconds), date);
        }
        // Checks every day until the year 10000 against the day before.
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..YEAR_10000 / SECONDS_PER_DAY {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
