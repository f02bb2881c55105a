//! The headers that the layer adds to responses: challenges, `Vary`, `Cache-Control`, `Retry-After`, deprecations.

use http::header::{CACHE_CONTROL, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::auth_error::{AuthError, AuthErrorKind, Wait};
use crate::deprecation::{self, Deprecation, Link};
use crate::limit::retry_after;
use crate::response_notes::ResponseNotes;
use crate::scheme::Describe;
use crate::scheme_info::SchemeInfo;

/// The headers that the layer adds to responses, computed once from the descriptions of its schemes.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHeaders {
    schemes: Vec<SchemeInfo>,
    secret_headers: Vec<HeaderName>,
    vary: HeaderValue,
    /// The link for clients whose key was replaced.
    guide: Option<Link>,
}

impl ResponseHeaders {
    pub(crate) fn of(scheme: &impl Describe) -> Self {
        let mut schemes = Vec::new();
        scheme.describe_each(&mut |info| schemes.push(info.clone()));
        let mut secret_headers = vec![http::header::AUTHORIZATION, HeaderName::from_static("x-api-key")];
        secret_headers.extend(schemes.iter().flat_map(|info| info.secret_headers()).cloned());
        secret_headers.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        secret_headers.dedup();
        let mut vary: Vec<&str> =
            schemes.iter().flat_map(SchemeInfo::all_headers).map(HeaderName::as_str).collect();
        vary.sort_unstable();
        vary.dedup();
        // Header names joined by commas are always a valid value.
        let vary = HeaderValue::from_str(&vary.join(", ")).unwrap_or(HeaderValue::from_static("*"));
        Self { schemes, secret_headers, vary, guide: None }
    }

    /// The same for other schemes.
    pub(crate) fn rebuilt(self, scheme: &impl Describe) -> Self {
        Self { guide: self.guide, ..Self::of(scheme) }
    }

    pub(crate) fn guide_to(&mut self, link: Link) {
        self.guide = Some(link);
    }

    pub(crate) fn schemes(&self) -> &[SchemeInfo] {
        &self.schemes
    }

    /// The scheme whose messages are used if no credential was sent.
    pub(crate) fn first(&self) -> Option<&SchemeInfo> {
        self.schemes.first()
    }

    /// Marks the headers with secrets as sensitive, so that nothing prints their values.
    pub(crate) fn mark_secrets(&self, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            if self.secret_headers.contains(name) {
                value.set_sensitive(true);
            }
        }
    }

    /// For responses to authenticated requests: a shared cache must not give one client's response to another. RFC 9111
    /// protects only requests with `Authorization`.
    pub(crate) fn authenticated<B>(&self, response: &mut Response<B>, notes: Option<&ResponseNotes>) {
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
        self.vary(headers);
        if let Some(notes) = notes {
            self.noted(response, notes);
        }
    }

    /// For responses to requests without a key, where it is optional: caches may keep them, but not for requests
    /// with a key.
    pub(crate) fn anonymous<B>(&self, response: &mut Response<B>) {
        self.vary(response.headers_mut());
    }

    /// Adds what the response says about the key. Rate limits are never included in a 401, whose client may hold no
    /// key.
    #[cold]
    fn noted<B>(&self, response: &mut Response<B>, notes: &ResponseNotes) {
        let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        let of_scheme = notes.scheme.as_ref().and_then(SchemeInfo::deprecation);
        let of_key =
            notes.replaced.and_then(|(since, ends)| Deprecation::of_key(since, ends, self.guide.as_ref()));
        let all: Vec<_> = of_scheme.into_iter().chain(&of_key).collect();
        deprecation::stamp(&all, headers);
        if let Some(tally) = notes.tally.as_ref().filter(|_| !unauthorized) {
            tally.stamp(headers);
        }
    }

    /// For refusals, whichever renderer made them.
    pub(crate) fn refused<B>(
        &self,
        response: &mut Response<B>,
        error: AuthError,
        notes: Option<&ResponseNotes>,
        is_over: impl Fn(&SchemeInfo) -> bool,
    ) {
        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.vary(headers);
        self.challenge(status, headers, &error, is_over);
        let used = error.scheme_info().filter(|_| error.kind() != AuthErrorKind::MissingCredentials);
        if let Some(deprecation) = used.and_then(SchemeInfo::deprecation).filter(|_| notes.is_none()) {
            deprecation.stamp(headers);
        }
        match error.wait() {
            Some(Wait::Failures(wait)) => {
                headers.insert(RETRY_AFTER, retry_after(*wait));
            }
            Some(Wait::Limit(tally)) if status != StatusCode::UNAUTHORIZED => tally.stamp(headers),
            _ => {}
        }
        if error.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.entry(RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
        }
        if let Some(notes) = notes {
            self.noted(response, notes);
        }
        response.extensions_mut().insert(error);
    }

    fn vary(&self, headers: &mut HeaderMap) {
        if !self.vary.is_empty() {
            headers.append(VARY, self.vary.clone());
        }
    }

    /// On a 401, adds one challenge per scheme, each on its own line and well-known ones first (RFC 9110 section
    /// 11.6.1). On a 400 or 403, adds only a challenge that says what was wrong.
    fn challenge(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        error: &AuthError,
        is_over: impl Fn(&SchemeInfo) -> bool,
    ) {
        let unauthorized = status == StatusCode::UNAUTHORIZED;
        let explained = matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
        if !unauthorized && !explained {
            return;
        }
        // A credential that was not read gets no error code.
        let sent =
            !matches!(error.kind(), AuthErrorKind::MissingCredentials | AuthErrorKind::InsecureTransport);
        let explaining = |wanted| move |scheme: &&SchemeInfo| scheme.challenge().is_bearer() == wanted;
        // Schemes after their sunset are omitted, unless that would leave a 401 without a challenge.
        let all_over = self.schemes.iter().all(&is_over);
        let well_known = self.schemes.iter().filter(explaining(true));
        for scheme in well_known.chain(self.schemes.iter().filter(explaining(false))) {
            if is_over(scheme) && !all_over {
                continue;
            }
            let used = sent && error.scheme() == Some(scheme.name());
            let challenge = scheme.challenge();
            if used && (unauthorized || challenge.is_bearer()) {
                headers.append(WWW_AUTHENTICATE, challenge.answering(status).clone());
            } else if unauthorized {
                headers.append(WWW_AUTHENTICATE, challenge.plain().clone());
            }
        }
    }
}
