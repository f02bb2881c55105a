//! The program `tower-api-key` with a PostgreSQL server over TLS, and with an impostor.
//!
//! The server is the one of the other tests, behind a few lines that terminate TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate authority, which signs the certificates of servers.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A server with a certificate for this name. It counts the encrypted connections.
    async fn server(&self, name: &str) -> (u16, Arc<AtomicUsize>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let (acceptor, encrypted) = (TlsAcceptor::from(Arc::new(config)), Arc::<AtomicUsize>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::clone(&encrypted);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, acceptor.clone(), Arc::clone(&count)));
            }
        });
        (port, encrypted)
    }
}

/// Accepts nothing unencrypted, except the question whether the server speaks TLS.
async fn serve(mut client: TcpStream, acceptor: TlsAcceptor, count: Arc<AtomicUsize>) -> Option<()> {
    let mut question = [0; 8];
    client.read_exact(&mut question).await.ok()?;
    assert_eq!(question, [0, 0, 0, 8, 4, 210, 22, 47], "something came in clear");
    client.write_all(b"S").await.ok()?;
    let mut client = acceptor.accept(client).await.ok()?;
    count.fetch_add(1, Ordering::SeqCst);
    let mut server = TcpStream::connect(behind()).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
}

fn config() -> tokio_postgres::Config {
    let server = std::env::var("TOWER_API_KEY_POSTGRES");
    server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned()).parse().unwrap()
}

fn behind() -> SocketAddr {
    let config = config();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    ([127, 0, 0, 1], port).into()
}

async fn run(args: &[&str]) -> (i32, String, String) {
    let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_tower-api-key")).args(args).output().unwrap()
    });
    let output = output.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL at 127.0.0.1:5432 or TOWER_API_KEY_POSTGRES"]
async fn c17_f3_the_server_is_reached_by_tls_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) =
        (Authority::new(folder.path(), "ours.pem"), Authority::new(folder.path(), "theirs.pem"));
    let (port, encrypted) = ours.server("127.0.0.1").await;
    let schema = format!("test_cli_tls_{}", std::process::id());
    let config = config();
    let (user, name) = (config.get_user().unwrap(), config.get_dbname().unwrap_or("postgres"));
    let at = |port: u16, options: &str| format!("postgres://{user}@127.0.0.1:{port}/{name}{options}");
    let (ours_file, theirs_file) = (ours.file.to_str().unwrap(), theirs.file.to_str().unwrap());

    let create = ["account", "create", "A", "--owner", "alice", "--schema", &schema, "--database"];
    let full = at(port, "?sslmode=verify-full");
    let made = run(&[&create[..], &[&full, "--ca-file", ours_file]].concat()).await;
    assert_eq!(made.0, 0, "{made:?}");
    let list = ["account", "list", "--json", "--schema", &schema, "--database"];
    for (database, more) in [
        (at(port, "?sslmode=require"), vec!["--ca-file", ours_file]),
        (at(port, "?connect_timeout=9&sslmode=verify-ca&application_name=x"), vec!["--ca-file", ours_file]),
        (at(port, ""), vec!["--ca-file", ours_file]),
        (at(port, "?sslmode=prefer"), vec!["--ca-file", ours_file]),
        (at(port, &format!("?sslmode=verify-full&sslrootcert={ours_file}")), vec![]),
        (at(port, &format!("?sslrootcert={ours_file}")), vec![]),
    ] {
        let before = encrypted.load(Ordering::SeqCst);
        let listed = run(&[&list[..], &[&*database], &more].concat()).await;
        assert!(listed.0 == 0 && listed.1.contains("alice"), "{database} {more:?}: {listed:?}");
        assert!(encrypted.load(Ordering::SeqCst) > before, "{database} {more:?}");
    }

    // A man in the middle with a certificate of another authority or for another name, and one who does not encrypt.
    let (other_name, _) = ours.server("localhost").await;
    for (port, file) in [(port, theirs_file), (other_name, ours_file), (behind().port(), ours_file)] {
        let before = encrypted.load(Ordering::SeqCst);
        let refused =
            run(&[&list[..], &[&at(port, "?sslmode=verify-full"), "--ca-file", file]].concat()).await;
        assert_eq!((refused.0, &*refused.1), (3, ""), "{port} {file}: {refused:?}");
        assert_eq!(encrypted.load(Ordering::SeqCst), before, "{port} {file}");
    }
    let (client, connection) =
        tokio_postgres::connect(&at(behind().port(), ""), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
}

/// If TLS is required and impossible, the program says so before it connects.
#[tokio::test]
async fn c17_f3_required_tls_is_not_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let empty = empty.to_str().unwrap();
    let ours = Authority::new(folder.path(), "ours.pem");
    let ours = ours.file.to_str().unwrap();
    let at = |options: &str| format!("postgres://u:canary%3F@127.0.0.1:1/x{options}");
    for (database, ca_file, says) in [
        (at("?sslmode=require"), None, "--ca-file must name"),
        (at("?sslmode=verify-full"), None, "--ca-file must name"),
        (at("?connect_timeout=1&sslmode=verify-ca"), None, "--ca-file must name"),
        (at("?sslmode=require"), Some("nowhere.pem"), "no certificates can be read from nowhere.pem"),
        (at(""), Some(empty), "it contains no PEM certificates"),
        (at("?sslmode=disable"), Some(ours), "contradicts"),
        (at("?sslmode=disable&sslrootcert=x"), None, "contradicts"),
        (at("?sslrootcert=a%20b"), None, "--ca-file instead"),
        ("keys.db".to_owned(), Some(ours), "--ca-file is for PostgreSQL"),
    ] {
        let mut args = vec!["list", "--owner", "alice", "--database", &database];
        args.extend(ca_file.into_iter().flat_map(|file| ["--ca-file", file]));
        let (code, stdout, stderr) = run(&args).await;
        assert_eq!((code, &*stdout), (2, ""), "{database}: {stderr}");
        assert!(stderr.contains(says) && !stderr.contains("canary"), "{database}: {stderr}");
    }
}
