//! A command line for the keys, people and projects of a store: see docs/cli.md.
//!
//! ```text
//! cargo install tower-api-key-cli
//! tower-api-key --help
//! ```
//!
//! Results go to stdout; messages and errors go to stderr.

mod args;
mod error;
mod explain;
mod import;
mod keys;
mod lines;
mod people;
mod show;
mod store;
mod tls;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::args::{Args, Command};
use crate::error::CliError;
use crate::show::{Out, say};
use crate::store::StoreOptions;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(CliError::Store(error.to_string())),
    };
    let (why, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CliError::Refused(why)) => (why, 1),
        Err(CliError::Usage(why)) => (why, 2),
        Err(CliError::Store(why)) => (why, 3),
    };
    say(format_args!("error: {why}"));
    ExitCode::from(code)
}

/// Each command checks its arguments before it opens the store.
async fn run(args: Args) -> Result<(), CliError> {
    let out = Out { json: args.json };
    if let Command::Completions { shell } = args.command {
        let (mut script, mut command) = (Vec::new(), Args::command());
        clap_complete::generate(shell, &mut command, "tower-api-key", &mut script);
        return out.raw(&script);
    }
    let store = StoreOptions::judged(&args.store)?;
    match args.command {
        Command::Create(new) => keys::create(&store, &out, new).await,
        Command::List(which) => keys::list(&store, &out, which).await,
        Command::Show { id } => keys::show(&store, &out, &id).await,
        Command::Rotate { id, grace } => keys::rotate(&store, &out, &id, grace.as_deref()).await,
        Command::Revoke { ids } => keys::revoke(&store, &out, &ids).await,
        Command::Amend(change) => keys::update(&store, &out, change).await,
        Command::Import(import) => import::import(&store, &out, &import).await,
        Command::Explain(request) => explain::explain(&store, &out, &request).await,
        Command::Account(what) => people::account(&store, &out, what).await,
        Command::Project(what) => people::project(&store, &out, what).await,
        Command::Member(what) => people::member(&store, &out, what).await,
        Command::Completions { .. } => Ok(()),
    }
}
