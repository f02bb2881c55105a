//! [`Portal`]: the settings of the portal, and the state that its pages share.

use std::fmt;
use std::sync::Arc;

use http::Method;
use tokio::sync::Semaphore;
use tower_api_key::body_budget::Budget;
use tower_api_key::scheme_info::SchemeInfo;
use tower_api_key::store::ProjectDirectory;
use tower_api_key::{ConfigError, Keyring, LayerDescription};

use super::csrf_token::CsrfTokens;
use super::curl::Curl;
use super::drafts::Drafts;
use super::session::PortalSession;

/// The portal: see [the crate](crate).
#[must_use = "a portal has no effect until `router` makes a router of it"]
pub struct Portal {
    pub(crate) keyring: Keyring,
    pub(crate) projects: Box<dyn ProjectDirectory>,
    pub(crate) session: Box<dyn PortalSession>,
    pub(crate) title: String,
    pub(crate) account_at: Option<String>,
    pub(crate) curl: Vec<Curl>,
    pub(crate) public_origin: Option<String>,
    pub(crate) tickets: CsrfTokens,
    pub(crate) drafts: Drafts,
    pub(crate) nobodys: Semaphore,
    pub(crate) budget: Budget,
}

/// Three lists of a hundred entries of 512 characters, of three encoded bytes each. The fourth list is short.
pub(crate) const MAX_FORM_LEN: usize = 512 * 1024;
/// The budget for the forms of all people together.
const CAP: usize = 16 << 20;
/// How many forms of people who are not signed in are read at once.
const NOBODYS: usize = 64;

/// The state of every handler.
pub(crate) type SharedPortal = Arc<Portal>;

impl Portal {
    /// Creates a portal for the keys of this keyring and the users of this session. `projects` lists the projects that a
    /// user can choose for a key.
    pub fn new(keyring: Keyring, projects: impl ProjectDirectory, session: impl PortalSession) -> Self {
        Self {
            keyring,
            projects: Box::new(projects),
            session: Box::new(session),
            title: "API keys".to_owned(),
            account_at: None,
            curl: Vec::new(),
            public_origin: None,
            tickets: CsrfTokens::default(),
            drafts: Drafts::default(),
            nobodys: Semaphore::new(NOBODYS),
            budget: Budget::new(CAP, MAX_FORM_LEN),
        }
    }

    /// Sets the title of every page, the name of your API. The default is `API keys`.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Sets the page of the user's account, where they can sign out: the user's name becomes a link to it.
    pub fn account_at(mut self, address: impl Into<String>) -> Self {
        self.account_at = Some(address.into());
        self
    }

    /// Shows, for a new key, a command line for each way in which this layer reads the key of such a request. The
    /// description is [`ApiKeyAuth::description`](tower_api_key::ApiKeyAuth::description).
    pub fn curl(mut self, method: Method, url: impl Into<String>, layer: &LayerDescription) -> Self {
        let url = url.into();
        let line = |scheme: &SchemeInfo| Curl::new(method.clone(), url.clone(), scheme.clone());
        self.curl.extend(layer.schemes_of(&method).map(line));
        self
    }

    /// Sets the origin at which browsers see the portal, such as `https://keys.example.com`. The default is the
    /// request's `Host` with either scheme.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Link`] if it is not an origin: a scheme, a host, and a port unless it is the scheme's default.
    pub fn public_origin(mut self, origin: impl Into<String>) -> Result<Self, ConfigError> {
        let origin = origin.into();
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@', ' '])) {
            return Err(ConfigError::Link(origin));
        }
        self.public_origin = Some(origin.to_ascii_lowercase());
        Ok(self)
    }
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("keyring", &self.keyring)
            .field("title", &self.title)
            .field("public_origin", &self.public_origin)
            .finish_non_exhaustive()
    }
}
