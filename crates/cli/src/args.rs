//! What can be said on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Keys, people and projects of a store.
///
/// What was asked for goes to stdout, a new key's secret alone in a line; all else goes to stderr.
#[derive(Parser)]
#[command(name = "tower-api-key", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Write JSON to stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused or not found, 2 written wrongly, 3 the store failed (repeat it).";

#[derive(clap::Args)]
pub(crate) struct Store {
    /// The SQLite file, or postgres://user@host/database
    // Not shown by --help: it may hold a password.
    #[arg(
        long,
        global = true,
        env = "TOWER_API_KEY_DATABASE",
        hide_env_values = true,
        default_value = "keys.db",
        value_name = "PATH|URL"
    )]
    pub(crate) database: String,
    /// In PostgreSQL, the schema with the tables
    #[arg(long, global = true, default_value = "tower_api_key", value_name = "NAME")]
    pub(crate) schema: String,
    /// The prefix of keys, as the service sets it
    #[arg(long, global = true, default_value = "sk", value_name = "PREFIX")]
    pub(crate) key_prefix: String,
    /// A pepper as the service has it: its id and a file with its secret; the first issues
    #[arg(long = "pepper", global = true, value_name = "ID=FILE")]
    pub(crate) peppers: Vec<String>,
    /// With PostgreSQL, encrypt: a file with the certificates (PEM) that the server's must be signed by
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How many keys a user may have per environment, as the service sets it
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) max_keys: Option<u32>,
    /// The service keeps people and projects elsewhere, or has none: ask the store about no owner
    #[arg(long, global = true)]
    pub(crate) no_directory: bool,
    /// Also find keys that were digested so
    #[arg(long = "accept", global = true, value_name = "DIGEST")]
    pub(crate) accept: Vec<Accepted>,
    /// Also find keys that have a slow hash: by what stands before this character, or by so many first bytes
    #[arg(long, global = true, value_name = "CHARACTER|BYTES")]
    pub(crate) accept_slow: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accepted {
    Sha256,
    Sha512,
    Sanctum,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key; its secret is written to stdout, this once
    Create(NewKey),
    /// List the keys of a user, or of all owners, oldest first
    List(List),
    /// Show one key, how it is used, and what became of it
    Show {
        /// The key's id
        id: String,
    },
    /// Put a new key in the place of another; its secret is written to stdout, this once
    Rotate {
        /// The key's id
        id: String,
        /// How long the old key works on, such as 12h or 7d; not at all if left out
        #[arg(long, value_name = "TIME")]
        grace: Option<String>,
    },
    /// End keys for good; one that has ended already is no error
    Revoke {
        /// The keys' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Change a key's name, restrictions or limits
    Amend(Amend),
    /// Import keys from elsewhere, in bulk
    Import(Import),
    /// Explain what a service answers to a request with a key, check by check
    Explain(Explain),
    /// Accounts and their owners
    #[command(subcommand)]
    Account(Account),
    /// Projects of an account
    #[command(subcommand)]
    Project(Project),
    /// Members of an account, and what they may do
    #[command(subcommand)]
    Member(Member),
    /// Write the completions of a shell to stdout
    Completions { shell: clap_complete::Shell },
}

#[derive(clap::Args)]
pub(crate) struct NewKey {
    /// Whose key it is
    #[arg(long, value_name = "USER")]
    pub(crate) owner: String,
    /// What the owner calls it
    #[arg(long)]
    pub(crate) name: String,
    /// Only for this project
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// live or test
    #[arg(long, default_value = "live")]
    pub(crate) environment: String,
    /// When it ends: a span such as 90d, or a time such as 2030-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// A scope; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// An entry of metadata; may be repeated
    #[arg(long = "metadata", value_name = "NAME=VALUE")]
    pub(crate) metadata: Vec<String>,
    /// As JSON: {"ip":{"allow":["192.0.2.0/24"]}}
    #[arg(long, value_name = "JSON")]
    pub(crate) restrictions: Option<String>,
    /// Such as 12/min,200/30d
    #[arg(long)]
    pub(crate) limits: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Whose keys
    #[arg(long, value_name = "USER", required_unless_present = "all_owners")]
    pub(crate) owner: Option<String>,
    /// Those of everybody who has or had keys, one owner after the other
    #[arg(long, conflicts_with = "owner")]
    pub(crate) all_owners: bool,
    /// Ended ones too
    #[arg(long)]
    pub(crate) all: bool,
    /// live or test
    #[arg(long)]
    pub(crate) environment: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct Amend {
    /// The key's id
    pub(crate) id: String,
    /// Another name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Other restrictions in the place of all; {} for none
    #[arg(long, value_name = "JSON")]
    pub(crate) restrictions: Option<String>,
    /// Other limits in the place of all
    #[arg(long, conflicts_with = "no_limits")]
    pub(crate) limits: Option<String>,
    /// No limits
    #[arg(long)]
    pub(crate) no_limits: bool,
}

#[derive(clap::Args)]
pub(crate) struct Import {
    /// A file with one JSON object a line, or CSV with a head; - is stdin
    pub(crate) file: PathBuf,
    /// What the file is; by its name if left out, and jsonl if that says nothing
    #[arg(long)]
    pub(crate) format: Option<Format>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Jsonl,
    Csv,
}

#[derive(clap::Args)]
pub(crate) struct Explain {
    /// The key's id
    pub(crate) id: String,
    /// The request's method
    #[arg(long, default_value = "GET")]
    pub(crate) method: String,
    /// The route, as the router declares it: /v1/users/{id}
    #[arg(long)]
    pub(crate) route: Option<String>,
    /// What the endpoint does, where its method does not say it: read, write or manage
    #[arg(long, requires = "route")]
    pub(crate) class: Option<Class>,
    /// The client's address
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    /// The request's Referer
    #[arg(long)]
    pub(crate) referrer: Option<String>,
    /// The request's Origin
    #[arg(long)]
    pub(crate) origin: Option<String>,
    /// The project that it names
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// The user that it claims
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// bearer, api-key-header or json-body
    #[arg(long, default_value = "bearer")]
    pub(crate) scheme: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    Read,
    Write,
    Manage,
}

#[derive(Subcommand)]
pub(crate) enum Account {
    /// Make an account with its owner, and the database if there is none
    Create {
        account: String,
        #[arg(long, value_name = "USER")]
        owner: String,
    },
    /// Refuse every key of an account's people with 401
    Suspend { account: String },
    /// Lift a suspension
    Resume { account: String },
    /// List all accounts with their owners
    List,
}

#[derive(Subcommand)]
pub(crate) enum Project {
    /// Make a project
    Create {
        account: String,
        project: String,
        /// For people; the id if left out
        #[arg(long)]
        name: Option<String>,
    },
    /// Delete a project; its keys are refused from then on
    Delete { account: String, project: String },
    /// List the projects of an account
    List { account: String },
}

#[derive(Subcommand)]
pub(crate) enum Member {
    /// Add a member to an account, or change what they may do
    Set {
        account: String,
        user: String,
        #[arg(long)]
        role: Role,
        /// A project that they may access; may be repeated
        #[arg(long = "project", value_name = "PROJECT")]
        projects: Vec<String>,
    },
    /// Remove a member, and revoke their keys
    Remove { account: String, user: String },
    /// List the owner and the members of an account
    List { account: String },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Full,
    Readonly,
}
