//! Parses a connection string: the driver's parameters are passed to the driver, and `sslmode=verify-full` and
//! `sslrootcert`, which the driver does not support, are handled here.

use std::borrow::Cow;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use tower_api_key::ConfigError;

/// A parsed connection string.
#[derive(Clone)]
pub(crate) struct ConnectionString {
    pub(crate) server: Config,
    /// The file of certificates, one of which must have signed the server's.
    pub(crate) roots: Option<PathBuf>,
}

const UNREADABLE: &str = "the connection string cannot be read: write `postgres://user:password@host:port/database?..`, \
                          or `host=.. user=.. dbname=..`, with characters such as @ / ? in a password as %40 %2F %3F in \
                          the first and in '..' in the second";

const UNKNOWN: &str = "the connection string has a parameter that is not known, or a value with white space that does not \
                       stand in '..'";

/// Parameters that the driver supports.
const KNOWN: [&str; 18] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
    "sslnegotiation",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// Parameters of libpq that the driver does not support, and of other programs with the same syntax.
const OTHERS: [&str; 19] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "passfile",
    "pgbouncer",
    "pool_timeout",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslpassword",
    "sslsni",
];

/// Parameters for which there is an alternative other than omitting them.
const ELSEWHERE: [(&str, &str); 8] = [
    ("schema", "is not understood: `PostgresOptions::schema` names the schema"),
    ("currentSchema", "is not understood: `PostgresOptions::schema` names the schema"),
    ("search_path", "is not understood: `PostgresOptions::schema` names the schema"),
    ("connection_limit", "is not understood: `PostgresOptions::connections` says how many"),
    ("statement_timeout", "is not understood: `PostgresOptions::deadline` says how long"),
    ("sslcert", "is not understood: give `PostgresOptions::tls` the client's certificate"),
    ("sslkey", "is not understood: give `PostgresOptions::tls` the client's key"),
    ("sslcrl", "is not understood: give `PostgresOptions::tls` what is revoked"),
];

impl ConnectionString {
    /// The error contains nothing of the text except a parameter's name, and that only if it cannot be part of an
    /// unquoted password.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let parameters = Parameters::of(text).ok_or(ConfigError::Database(UNREADABLE))?;
        let (mut verified, mut mode, mut roots) = (false, None, None);
        let mut rest = parameters.before.to_owned();
        for parameter in &parameters.all {
            match &*parameter.name {
                "sslmode" => (mode, verified) = ssl_mode(&parameter.value)?,
                "sslrootcert" => roots = Some(root_certificates(&parameter.value)?),
                _ => {
                    parameter.check(&parameters)?;
                    rest.push_str(parameter.text);
                    rest.push(parameters.separator);
                }
            }
        }
        let mut server: Config = rest.parse().map_err(|_| ConfigError::Database(UNREADABLE))?;
        // If certificates are given, the connection must be verified.
        let named = roots.is_some() && mode != Some(SslMode::Disable);
        server.ssl_mode(if verified || named { SslMode::Require } else { mode.unwrap_or(SslMode::Prefer) });
        Ok(Self { server, roots: roots.filter(|_| named) })
    }
}

/// Parses `sslmode`. `None` is the driver's default, `prefer`.
fn ssl_mode(value: &str) -> Result<(Option<SslMode>, bool), ConfigError> {
    Ok(match value {
        "disable" => (Some(SslMode::Disable), false),
        "allow" | "prefer" => (None, false),
        "require" => (Some(SslMode::Require), false),
        // The host name is checked too, which is more than `verify-ca` requires.
        "verify-ca" | "verify-full" => (Some(SslMode::Require), true),
        _ => {
            return Err(wrong(
                "sslmode",
                "is one of disable, allow, prefer, require, verify-ca and verify-full",
            ));
        }
    })
}

fn root_certificates(value: &str) -> Result<PathBuf, ConfigError> {
    match value {
        "system" => {
            Err(wrong("sslrootcert", "names a file of certificates in PEM; `system` is not understood"))
        }
        file => Ok(PathBuf::from(file)),
    }
}

fn wrong(name: impl Into<String>, reason: &'static str) -> ConfigError {
    ConfigError::ConnectionParameter { name: name.into(), reason }
}

/// The parameters of a connection string in either form.
struct Parameters<'t> {
    /// The part of a URL before the parameters.
    before: &'t str,
    separator: char,
    all: Vec<Parameter<'t>>,
    /// Whether no part of `before` could be mistaken for a parameter.
    certain: bool,
}

struct Parameter<'t> {
    name: Cow<'t, str>,
    value: Cow<'t, str>,
    /// Name and value as written.
    text: &'t str,
}

impl<'t> Parameters<'t> {
    fn of(text: &'t str) -> Option<Self> {
        let url = ["postgres://", "postgresql://"].iter().find_map(|prefix| text.strip_prefix(prefix));
        match url {
            Some(url) => Self::of_url(text, url),
            None => Self::of_words(text),
        }
    }

    /// Splits a URL as the driver does.
    fn of_url(text: &'t str, url: &'t str) -> Option<Self> {
        let place = url.split_once('@').map_or(url, |(_, place)| place);
        let query = place.split_once('?').map(|(_, query)| query);
        let before = text.len().checked_sub(query.map_or(0, str::len))?;
        let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let all = parts.map(|text| {
            let (name, value) = text.split_once('=')?;
            Some(Parameter { name: decoded(name)?, value: decoded(value)?, text })
        });
        Some(Self {
            before: text.get(..before)?,
            separator: '&',
            all: all.collect::<Option<_>>()?,
            certain: !place.contains('@'),
        })
    }

    /// Splits `name = value` pairs, separated by white space, with libpq's rules for `'` and `\`.
    fn of_words(text: &'t str) -> Option<Self> {
        let mut all = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, after) = rest.split_at(rest.find(|c: char| c == '=' || c.is_whitespace())?);
            let after = after.trim_start().strip_prefix('=')?.trim_start();
            let (value, len) = value(after)?;
            let text = rest.get(..rest.len().checked_sub(after.len())?.checked_add(len)?)?;
            all.push(Parameter { name: name.into(), value: value.into(), text });
            rest = after.get(len..)?.trim_start();
        }
        Some(Self { before: "", separator: ' ', all, certain: false })
    }
}

/// Parses a value at the start of a text; returns it with its length in the text.
fn value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let (mut value, mut escaped) = (String::new(), false);
    for (at, letter) in text.char_indices().skip(usize::from(quoted)) {
        match letter {
            _ if escaped => {
                value.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '\'' if quoted => return Some((value, at.checked_add(1)?)),
            letter if letter.is_whitespace() && !quoted => return Some((value, at)),
            letter => value.push(letter),
        }
    }
    (!quoted).then_some((value, text.len()))
}

fn decoded(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

impl Parameter<'_> {
    /// Checks that the driver can parse it.
    fn check(&self, among: &Parameters<'_>) -> Result<(), ConfigError> {
        let name = &*self.name;
        if KNOWN.contains(&name) {
            let value = self.value.replace('\\', "\\\\").replace('\'', "\\'");
            let read: Result<Config, _> = format!("{name}='{value}'").parse();
            return read.map(drop).map_err(|_| wrong(name, "has a value that it cannot have"));
        }
        if let Some((name, reason)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
            return Err(wrong(*name, reason));
        }
        if OTHERS.contains(&name) {
            return Err(wrong(name, "is not understood: leave it out"));
        }
        Err(if among.certain { wrong(name, "is not known") } else { ConfigError::Database(UNKNOWN) })
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn parse(text: &str) -> ConnectionString {
        ConnectionString::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        match ConnectionString::parse(text) {
            Ok(_) => panic!("{text} is read"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_the_driver_reads_it_reads_as_before() {
        for text in [
            "postgres://u:p%40ss@h1:1,h2:2/db?application_name=a%20b&connect_timeout=3",
            "postgresql://u@h/db?options=-csearch_path%3Dx%2Cpg_catalog",
            "postgres://h",
            "postgres:///db?host=%2Frun%2Fpostgresql",
            "postgres://u:pa?ss=1@h/db",
            "host=h port=1 user=u",
            "host = h  user='it\\'s' password = 'a b=c' dbname=a\\ b",
            "  user=u\thost=h\n",
            "host=h password=''",
            "host=/run/postgresql user=u keepalives=0 target_session_attrs=any",
        ] {
            let direct: Config = text.parse().unwrap();
            assert_eq!(parse(text).server, direct, "{text}");
        }
        let h: Host = Host::Tcp("h".to_owned());
        assert_eq!(parse("postgres://u:p@h/db?sslmode=verify-full&port=7").server.get_hosts(), [h]);
    }

    #[test]
    fn c17_f2_sslmode_and_sslrootcert_are_understood() {
        use SslMode::{Disable, Prefer, Require};
        for (said, mode, roots) in [
            ("", Prefer, None),
            ("sslmode=disable", Disable, None),
            ("sslmode=allow", Prefer, None),
            ("sslmode=prefer", Prefer, None),
            ("sslmode=require", Require, None),
            ("sslmode=verify-ca", Require, None),
            ("sslmode=verify-full", Require, None),
            ("sslmode=verify-full sslrootcert=/a%20b.pem", Require, Some("/a b.pem")),
            ("sslrootcert=ca.pem sslmode=prefer", Require, Some("ca.pem")),
            ("sslrootcert=ca.pem", Require, Some("ca.pem")),
            ("sslrootcert=ca.pem sslmode=disable", Disable, None),
        ] {
            let words = format!("user=u host=h {} dbname=d", said.replace("%20", "\\ "));
            for text in [format!("postgres://u@h/d?{}", said.replace(' ', "&")), words] {
                let read = parse(&text);
                assert_eq!(read.server.get_ssl_mode(), mode, "{text}");
                assert_eq!(read.roots.as_deref(), roots.map(std::path::Path::new), "{text}");
                assert_eq!(read.server.get_dbname(), Some("d"), "{text}");
            }
        }
        assert!(refusal("postgres://h?sslmode=full").contains("`sslmode`"));
        assert!(refusal("host=h sslrootcert=system").contains("`sslrootcert`"));
    }

    #[test]
    fn c17_f2_a_parameter_that_is_not_known_is_named() {
        for (text, named) in [
            ("postgres://u:p@h/db?conect_timeout=3", "`conect_timeout`"),
            ("postgres://u:p@h/db?connect_timeout=soon", "`connect_timeout`"),
            ("postgres://u:p@h/db?port=x", "`port`"),
            ("postgres://u:p@h/db?sslmode=require&schema=keys", "`PostgresOptions::schema`"),
            ("host=h connection_limit=3", "`PostgresOptions::connections`"),
            ("host=h sslcert=/a", "`sslcert`"),
            ("host=h service=x", "`service`"),
            ("host=h port=x", "`port`"),
            ("host=h conect_timeout=3", "a parameter"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(named), "{text}: {refusal}");
        }
    }

    #[test]
    fn c13_02_no_part_of_a_password_is_in_the_error() {
        for text in [
            "postgres://u:p@canary?canary=canary@h/db",
            "postgres://u:canary@h/db?port=canary",
            "postgres://u:canary@h:canary/db",
            "postgres://u:canary@[",
            "postgres://u:x@h/d?canary",
            "host=h password=a canary=b",
            "host=h password=a canary",
            "host=h password='canary",
            "password=canary port=canary",
            "canary",
            "sslmode=canary",
        ] {
            let refusal = refusal(text);
            assert!(!refusal.contains("canary"), "{text}: {refusal}");
        }
    }
}
