//! The command-line options.

use crate::Failure;

pub(crate) struct Options {
    pub(crate) database_url: String,
    pub(crate) schema: String,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) chaos: bool,
    /// Prints what each node answered around each change.
    pub(crate) verbose: bool,
    pub(crate) restart: Option<String>,
    /// Uses a cache with a time to live, and expects violations.
    pub(crate) naive: bool,
    /// Set if this process is a node: the URL of its database.
    pub(crate) node: Option<String>,
}

impl Options {
    pub(crate) fn read() -> Result<Self, Failure> {
        let url = std::env::var("DATABASE_URL");
        let mut options = Self {
            database_url: url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned()),
            schema: format!("tower_api_key_cluster_{}", std::process::id()),
            seconds: 10,
            seed: u64::from(std::process::id()),
            chaos: false,
            verbose: false,
            restart: None,
            naive: false,
            node: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--chaos" => options.chaos = true,
                "--verbose" => options.verbose = true,
                "--naive" => options.naive = true,
                "--database-url" => options.database_url = value()?,
                "--schema" => options.schema = value()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--seed" => options.seed = value()?.parse()?,
                "--restart" => options.restart = Some(value()?),
                "--node" => options.node = Some(value()?),
                other => {
                    return Err(format!(
                        "{other}? There are --chaos, --naive, --verbose, --seconds, --seed, --database-url, --schema, --restart"
                    )
                    .into());
                }
            }
        }
        Ok(options)
    }
}

/// Random numbers that are reproducible by a seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides.max(1) as u64).unwrap_or_default()
    }
}
