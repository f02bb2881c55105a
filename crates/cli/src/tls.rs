//! Encryption of connections to PostgreSQL, which always verifies the server's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::CliError;

/// Separates what only libpq understands from the connection string, and returns the TLS configuration if encryption is
/// requested: by `--ca-file`, by `sslrootcert`, or by an `sslmode` from `require` on.
pub(crate) fn judged(
    connection: &str,
    ca_file: Option<&Path>,
) -> Result<(String, Option<ClientConfig>), CliError> {
    let (mut ca_file, mut demanded, mut disabled) = (ca_file.map(Path::to_owned), false, false);
    // A password may contain a question mark.
    let user = connection.find('@').unwrap_or(0);
    let question = connection.get(user..).and_then(|rest| rest.find('?')).map(|at| user + at);
    let Some((server, options)) = question.and_then(|at| connection.split_at_checked(at)) else {
        return Ok((connection.to_owned(), config(ca_file.as_deref(), demanded)?));
    };
    let mut kept = Vec::new();
    for option in options.trim_start_matches('?').split('&') {
        match option.split_once('=') {
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => {
                demanded = true;
                kept.push("sslmode=require");
            }
            Some(("sslmode", "disable")) => {
                disabled = true;
                kept.push(option);
            }
            Some(("sslrootcert", file)) if file.contains('%') => {
                return Err(CliError::usage("use --ca-file instead of sslrootcert"));
            }
            Some(("sslrootcert", file)) => {
                ca_file.get_or_insert_with(|| PathBuf::from(file));
            }
            _ => kept.push(option),
        }
    }
    if disabled && (demanded || ca_file.is_some()) {
        return Err(CliError::usage("sslmode=disable contradicts --ca-file and sslrootcert"));
    }
    let connection = if kept.is_empty() { server.to_owned() } else { format!("{server}?{}", kept.join("&")) };
    Ok((connection, config(ca_file.as_deref(), demanded)?))
}

fn config(ca_file: Option<&Path>, demanded: bool) -> Result<Option<ClientConfig>, CliError> {
    let Some(file) = ca_file else {
        return if demanded {
            Err(CliError::usage(
                "TLS is required, so --ca-file must name the certificates that signed the server's, such as those of your \
                 provider, or /etc/ssl/certs/ca-certificates.crt",
            ))
        } else {
            Ok(None)
        };
    };
    let unreadable = |why: &dyn std::fmt::Display| {
        CliError::usage(format!("--ca-file: no certificates can be read from {}: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it contains no PEM certificates"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| CliError::Store(error.to_string()))?;
    Ok(Some(config.with_root_certificates(roots).with_no_client_auth()))
}
