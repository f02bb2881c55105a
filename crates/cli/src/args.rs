//! The command-line arguments.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Manage the keys, people and projects of a store.
///
/// Results go to stdout, a new key's secret alone on a line; everything else goes to stderr.
#[derive(Parser)]
#[command(name = "tower-api-key", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Write JSON to stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused or not found, 2 written wrongly, 3 the store failed (repeat it).";

#[derive(clap::Args)]
pub(crate) struct StoreArgs {
    /// The SQLite file, or postgres://user@host/database
    // --help does not show its value, which may contain a password.
    #[arg(
        long,
        global = true,
        env = "TOWER_API_KEY_DATABASE",
        hide_env_values = true,
        default_value = "keys.db",
        value_name = "PATH|URL"
    )]
    pub(crate) database: String,
    /// The PostgreSQL schema with the tables
    #[arg(long, global = true, default_value = "tower_api_key", value_name = "NAME")]
    pub(crate) schema: String,
    /// The prefix of keys, as the service sets it
    #[arg(long, global = true, default_value = "sk", value_name = "PREFIX")]
    pub(crate) key_prefix: String,
    /// A pepper of the service: its id and a file with its secret; the first one issues keys
    #[arg(long = "pepper", global = true, value_name = "ID=FILE")]
    pub(crate) peppers: Vec<String>,
    /// Encrypt connections to PostgreSQL: a PEM file of certificates, one of which must have signed the server's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How many keys a user may have per environment, as the service sets it
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) max_keys: Option<NonZeroU32>,
    /// The service has its own directory of people, or none: do not ask this store about owners
    #[arg(long, global = true)]
    pub(crate) no_directory: bool,
    /// Also accept keys with this kind of digest
    #[arg(long = "accept", global = true, value_name = "DIGEST")]
    pub(crate) accept: Vec<Accepted>,
    /// Also accept keys with a slow hash, whose public start ends before this character or has this many bytes
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
    /// Make a key; its secret is written to stdout, only this once
    Create(NewKeyArgs),
    /// List the keys of a user, or of all owners, oldest first
    List(ListArgs),
    /// Show one key, its usage and its audit log
    Show {
        /// The key's id
        id: String,
    },
    /// Replace a key by a new one; its secret is written to stdout, only this once
    Rotate {
        /// The key's id
        id: String,
        /// How long the old key still works, such as 12h or 7d; by default not at all
        #[arg(long, value_name = "TIME")]
        grace: Option<String>,
    },
    /// Revoke keys; a key that has already ended is not an error
    Revoke {
        /// The keys' ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Change a key's name, restrictions or limits
    Amend(Amend),
    /// Import keys from another service, in bulk
    Import(ImportArgs),
    /// Explain what a service answers to a request with a key, check by check
    Explain(Explain),
    /// Accounts and their owners
    #[command(subcommand)]
    Account(AccountCommand),
    /// Projects of an account
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Members of an account, and their rights
    #[command(subcommand)]
    Member(MemberCommand),
    /// Write shell completions to stdout
    Completions { shell: clap_complete::Shell },
}

#[derive(clap::Args)]
pub(crate) struct NewKeyArgs {
    /// The owner of the key
    #[arg(long, value_name = "USER")]
    pub(crate) owner: String,
    /// The name of the key
    #[arg(long)]
    pub(crate) name: String,
    /// Restrict the key to this project
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// live or test
    #[arg(long, default_value = "live")]
    pub(crate) environment: String,
    /// When it expires: a duration such as 90d, or a time such as 2030-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// A scope; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// An entry of metadata; may be repeated
    #[arg(long = "metadata", value_name = "NAME=VALUE")]
    pub(crate) metadata: Vec<String>,
    /// Restrictions as JSON: {"ip":{"allow":["192.0.2.0/24"]}}
    #[arg(long, value_name = "JSON")]
    pub(crate) restrictions: Option<String>,
    /// Rate limits, such as 12/min,200/30d
    #[arg(long)]
    pub(crate) limits: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// The owner of the keys
    #[arg(long, value_name = "USER", required_unless_present = "all_owners")]
    pub(crate) owner: Option<String>,
    /// The keys of all owners, one owner after the other
    #[arg(long, conflicts_with = "owner")]
    pub(crate) all_owners: bool,
    /// Include keys that have ended
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
    /// The new name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The new restrictions, which replace all; {} for none
    #[arg(long, value_name = "JSON")]
    pub(crate) restrictions: Option<String>,
    /// The new rate limits, which replace all
    #[arg(long, conflicts_with = "no_limits")]
    pub(crate) limits: Option<String>,
    /// Remove all rate limits
    #[arg(long)]
    pub(crate) no_limits: bool,
}

#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    /// A file with one JSON object per line, or CSV with a header line; - is stdin
    pub(crate) file: PathBuf,
    /// The format of the file; by default from its name, or else jsonl
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
    /// What the endpoint does, if its method does not tell: read, write or manage
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
    /// The project that the request names
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// The user that the request claims
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
pub(crate) enum AccountCommand {
    /// Create an account with its owner, and the store if it does not exist
    Create {
        account: String,
        #[arg(long, value_name = "USER")]
        owner: String,
    },
    /// Suspend an account: every key of its people is refused with 401
    Suspend { account: String },
    /// End a suspension
    Resume { account: String },
    /// List all accounts with their owners
    List,
}

#[derive(Subcommand)]
pub(crate) enum ProjectCommand {
    /// Create a project
    Create {
        account: String,
        project: String,
        /// The name for people; by default the id
        #[arg(long)]
        name: Option<String>,
    },
    /// Delete a project; its keys are then refused
    Delete { account: String, project: String },
    /// List the projects of an account
    List { account: String },
}

#[derive(Subcommand)]
pub(crate) enum MemberCommand {
    /// Add a member to an account, or change a member's rights
    Set {
        account: String,
        user: String,
        #[arg(long)]
        role: RoleArg,
        /// A project that the member may access; may be repeated
        #[arg(long = "project", value_name = "PROJECT")]
        projects: Vec<String>,
    },
    /// Remove a member and revoke their keys
    Remove { account: String, user: String },
    /// List the owner and the members of an account
    List { account: String },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    Full,
    Readonly,
}
