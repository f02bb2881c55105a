//! [`Challenge`]: what a 401 says in `WWW-Authenticate` (RFC 9110 section 11.6.1).

use http::HeaderValue;

use crate::config_error::ConfigError;

/// One `WWW-Authenticate` challenge (RFC 9110 section 11.6.1).
#[derive(Clone, Debug)]
pub struct Challenge {
    value: HeaderValue,
    /// The same with RFC 6750's error codes; only for bearer challenges.
    errors: Option<BearerErrors>,
    /// The names of its parameters, which must not be repeated.
    params: Vec<String>,
}

#[derive(Clone, Debug)]
struct BearerErrors {
    invalid_request: HeaderValue,
    invalid_token: HeaderValue,
    insufficient_scope: HeaderValue,
}

impl Challenge {
    /// Creates `scheme realm="..."`. Quotes and backslashes in the realm are escaped.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Challenge`] if the scheme is not a token, or the realm is not visible ASCII and spaces.
    pub fn new(scheme: &str, realm: &str) -> Result<Self, ConfigError> {
        if !is_token(scheme) {
            return Err(ConfigError::Challenge);
        }
        let scheme = HeaderValue::from_str(scheme).map_err(|_| ConfigError::Challenge)?;
        let value = with_param(scheme, " ", "realm", realm)?;
        Ok(Self { value, errors: None, params: vec!["realm".to_owned()] })
    }

    /// Creates a `Bearer` challenge. It includes RFC 6750's error codes for clients that sent a token.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Challenge`] if the realm is not visible ASCII and spaces.
    pub fn bearer(realm: &str) -> Result<Self, ConfigError> {
        let plain = Self::new("Bearer", realm)?;
        let with = |code| with_param(plain.value.clone(), ", ", "error", code);
        let errors = BearerErrors {
            invalid_request: with("invalid_request")?,
            invalid_token: with("invalid_token")?,
            insufficient_scope: with("insufficient_scope")?,
        };
        let params = vec!["realm".to_owned(), "error".to_owned()];
        Ok(Self { value: plain.value, errors: Some(errors), params })
    }

    /// The challenge of the default schemes, whose text is known to be valid.
    pub(crate) fn api_bearer() -> Self {
        let value = HeaderValue::from_static;
        let errors = BearerErrors {
            invalid_request: value(r#"Bearer realm="api", error="invalid_request""#),
            invalid_token: value(r#"Bearer realm="api", error="invalid_token""#),
            insufficient_scope: value(r#"Bearer realm="api", error="insufficient_scope""#),
        };
        let params = vec!["realm".to_owned(), "error".to_owned()];
        Self { value: value(r#"Bearer realm="api""#), errors: Some(errors), params }
    }

    pub(crate) fn from_static(value: &'static str) -> Self {
        Self { value: HeaderValue::from_static(value), errors: None, params: Vec::new() }
    }

    /// Adds a parameter, always as a quoted string.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Challenge`] if the name is not a token or is already used, or the value is not visible ASCII
    /// and spaces.
    pub fn param(mut self, name: &str, value: &str) -> Result<Self, ConfigError> {
        if self.params.iter().any(|param| param.eq_ignore_ascii_case(name)) {
            return Err(ConfigError::Challenge);
        }
        self.params.push(name.to_owned());
        self.map(|challenge| with_param(challenge, ", ", name, value))
    }

    fn map(
        self,
        change: impl Fn(HeaderValue) -> Result<HeaderValue, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let errors = match self.errors {
            None => None,
            Some(errors) => Some(BearerErrors {
                invalid_request: change(errors.invalid_request)?,
                invalid_token: change(errors.invalid_token)?,
                insufficient_scope: change(errors.insufficient_scope)?,
            }),
        };
        Ok(Self { value: change(self.value)?, errors, params: self.params })
    }

    /// The challenge for a client that did not use this scheme.
    pub(crate) fn plain(&self) -> &HeaderValue {
        &self.value
    }

    /// The challenge for a client that used this scheme and gets this status (RFC 6750 section 3.1).
    pub(crate) fn answering(&self, status: http::StatusCode) -> &HeaderValue {
        match (&self.errors, status) {
            (Some(errors), http::StatusCode::BAD_REQUEST) => &errors.invalid_request,
            (Some(errors), http::StatusCode::UNAUTHORIZED) => &errors.invalid_token,
            (Some(errors), http::StatusCode::FORBIDDEN) => &errors.insufficient_scope,
            _ => &self.value,
        }
    }

    /// Whether this is a bearer challenge (RFC 6750). It says what was wrong with a token, so it is also sent with
    /// 400 and 403.
    #[must_use]
    pub fn is_bearer(&self) -> bool {
        self.errors.is_some()
    }
}

fn with_param(
    challenge: HeaderValue,
    separator: &str,
    name: &str,
    value: &str,
) -> Result<HeaderValue, ConfigError> {
    if !is_token(name) || !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(ConfigError::Challenge);
    }
    let quoted = value.replace('\\', r"\\").replace('"', "\\\"");
    let so_far = challenge.to_str().map_err(|_| ConfigError::Challenge)?;
    let value = HeaderValue::from_str(&format!("{so_far}{separator}{name}=\"{quoted}\""));
    value.map_err(|_| ConfigError::Challenge)
}

/// Whether a text is a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(tchar)
}
