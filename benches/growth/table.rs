//! The figures, and how much each grows.

use std::fmt;
use std::time::{Duration, Instant};

use crate::Result;

pub(crate) struct Table {
    store: &'static str,
    sizes: Vec<usize>,
    asked: Vec<String>,
    rows: Vec<(String, Vec<Option<Duration>>)>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new(store: &'static str, sizes: &[usize], asked: &[&str]) -> Self {
        let asked = asked.iter().map(|&row| row.to_owned()).collect();
        Self { store, sizes: sizes.to_vec(), asked, rows: Vec::new(), notes: Vec::new() }
    }

    /// Whether to measure a group of rows.
    pub(crate) fn wants_any_of(&self, group: &str) -> bool {
        self.asked.is_empty() || self.asked.iter().any(|row| row == group)
    }

    pub(crate) fn put(&mut self, row: &str, size: usize, took: Duration) {
        eprintln!("{}, {size} keys: {row}: {}", self.store, said(took));
        let Some(column) = self.sizes.iter().position(|of| *of == size) else { return };
        let at = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), vec![None; self.sizes.len()]));
            self.rows.len() - 1
        });
        if let Some(cell) = self.rows.get_mut(at).and_then(|(_, cells)| cells.get_mut(column)) {
            *cell = Some(took);
        }
    }

    pub(crate) fn note(&mut self, note: &str) {
        eprintln!("{note}");
        self.notes.push(note.to_owned());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n| {} |", self.store)?;
        for size in &self.sizes {
            write!(f, " {size} |")?;
        }
        writeln!(f, " slopes |")?;
        writeln!(f, "|---|{}---|", "--:|".repeat(self.sizes.len()))?;
        for (name, cells) in &self.rows {
            write!(f, "| {name} |")?;
            for cell in cells {
                write!(f, " {} |", cell.map_or_else(String::new, said))?;
            }
            let slope = |pair: &[Option<Duration>]| match pair {
                [Some(less), Some(more)] if !less.is_zero() => {
                    format!("{:.1}", more.as_secs_f64() / less.as_secs_f64())
                }
                _ => "-".to_owned(),
            };
            let slopes: Vec<_> = cells.windows(2).map(slope).collect();
            writeln!(f, " {} |", slopes.join(", "))?;
        }
        writeln!(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

fn said(took: Duration) -> String {
    let micros = took.as_secs_f64() * 1e6;
    if micros < 1e3 { format!("{micros:.0} us") } else { format!("{:.1} ms", micros / 1e3) }
}

/// The median of so many attempts.
pub(crate) async fn median(attempts: usize, mut ask: impl AsyncFnMut() -> Result<()>) -> Result<Duration> {
    let mut times = Vec::with_capacity(attempts);
    for _ in 0..attempts {
        let began = Instant::now();
        ask().await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(attempts / 2).copied().unwrap_or_default())
}
