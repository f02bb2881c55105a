//! What the layer adds to answers, whoever made them: challenges, `Vary`, `Cache-Control`, `Retry-After`, deprecations.

use http::header::{CACHE_CONTROL, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::auth_error::{AuthError, AuthErrorKind, Wait};
use crate::deprecation::{self, Deprecation, Link};
use crate::limit::retry_after;
use crate::response_notes::ResponseNotes;
use crate::scheme::Describe;
use crate::scheme_info::SchemeInfo;

/// What the layer adds to answers, worked out once from what its schemes say of themselves.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHeaders {
    schemes: Vec<SchemeInfo>,
    secret_headers: Vec<HeaderName>,
    vary: HeaderValue,
    /// For those who call with a key that was replaced.
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
        // Names of headers joined by commas are always a value.
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

    /// The scheme whose words are used when no credential was sent.
    pub(crate) fn first(&self) -> Option<&SchemeInfo> {
        self.schemes.first()
    }

    /// Keeps secrets out of whatever prints headers from here on.
    pub(crate) fn mark_secrets(&self, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            if self.secret_headers.contains(name) {
                value.set_sensitive(true);
            }
        }
    }

    /// On answers that were authenticated: a shared cache must not give one client's answer to another (RFC 9111
    /// protects requests with `Authorization` only).
    pub(crate) fn authenticated<B>(&self, response: &mut Response<B>, notes: Option<&ResponseNotes>) {
        let headers = response.headers_mut();
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
        self.vary(headers);
        if let Some(notes) = notes {
            self.noted(response, notes);
        }
    }

    /// On answers to nobody, where a key is optional: they may be kept, but for a request with a key the answer is
    /// another.
    pub(crate) fn anonymous<B>(&self, response: &mut Response<B>) {
        self.vary(response.headers_mut());
    }

    /// What there is to say of a key. Of its limits never in a 401, which somebody may have sent who holds no key.
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

    /// On refusals, whoever rendered them.
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

    /// A challenge per scheme on 401, one a line and the well-known ones first (RFC 9110 section 11.6.1); with 400 and
    /// 403 only one that says what was wrong.
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
        // Of a credential that was not looked at, nothing is said.
        let sent =
            !matches!(error.kind(), AuthErrorKind::MissingCredentials | AuthErrorKind::InsecureTransport);
        let explaining = |wanted| move |scheme: &&SchemeInfo| scheme.challenge().is_bearer() == wanted;
        // Schemes that have ended are not worth a try. A 401 must name one all the same.
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
