//! Where a page of keys ends.

use crate::store::key_query::{KeyQuery, MAX_PAGE_LEN, MAX_SEARCHED};

/// The maximum number of rows of a page of accounts, people or owners.
pub const MAX_ROWS: u32 = 1000;

/// The maximum number of rows of a page for a caller who asks for `limit`.
#[must_use]
pub fn row_limit(limit: u32) -> u32 {
    limit.min(MAX_ROWS)
}

/// How far a [`PageReader`] reads.
#[derive(Clone, Copy, Debug)]
pub struct PageBounds {
    bytes: usize,
    rows: usize,
}

impl PageBounds {
    /// For [`KeyRegistry::list`](crate::store::KeyRegistry::list), which ends only at the query's limit.
    pub const LIST: Self = Self { bytes: usize::MAX, rows: usize::MAX };
    /// For [`KeyRegistry::page`](crate::store::KeyRegistry::page), which ends after [`MAX_PAGE_LEN`] bytes of text
    /// and, for a search, after [`MAX_SEARCHED`] keys were looked at.
    pub const PAGE: Self = Self { bytes: MAX_PAGE_LEN, rows: MAX_SEARCHED };

    /// Sets the maximum number of keys that a search looks at.
    #[must_use]
    pub const fn max_searched(self) -> usize {
        self.rows
    }

    /// Sets the maximum number of bytes of text before the last key.
    #[must_use]
    pub const fn max_bytes(self) -> usize {
        self.bytes
    }
}

/// Decides for each key that a store reads whether it is on the page.
#[derive(Debug)]
pub struct PageReader<'q> {
    query: &'q KeyQuery,
    bounds: PageBounds,
    limit: usize,
    read: usize,
    taken: usize,
    bytes: usize,
}

/// What to do with a key that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageStep {
    /// It is on the page.
    Take,
    /// The query does not select it.
    Skip,
    /// The page ends before this key.
    Stop,
}

impl<'q> PageReader<'q> {
    /// Starts a page.
    #[must_use]
    pub fn new(query: &'q KeyQuery, bounds: PageBounds) -> Self {
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        Self { query, bounds, limit, read: 0, taken: 0, bytes: 0 }
    }

    /// Decides what to do with the next key. `found` says whether the query [selects it](KeyQuery::finds).
    pub fn next(&mut self, found: bool) -> PageStep {
        if self.query.is_search() && self.read >= self.bounds.rows {
            return PageStep::Stop;
        }
        if found && (self.taken >= self.limit || self.bytes >= self.bounds.bytes) {
            return PageStep::Stop;
        }
        self.read = self.read.saturating_add(1);
        if !found {
            return PageStep::Skip;
        }
        self.taken = self.taken.saturating_add(1);
        PageStep::Take
    }

    /// How many keys are on the page.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Adds the bytes of text of a key that was taken.
    pub fn took(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_e1_a_search_looks_at_so_many_keys_and_no_more() {
        let nothing = KeyQuery::new().text("nothing is called so");
        let mut reading = PageReader::new(&nothing, PageBounds::PAGE);
        let read = (0..).take_while(|_| reading.next(false) != PageStep::Stop).take(MAX_SEARCHED + 1).count();
        assert_eq!(read, MAX_SEARCHED);
        // A query that is not a search skips nothing.
        let all = KeyQuery::new().limit(u32::MAX);
        let mut reading = PageReader::new(&all, PageBounds::PAGE);
        assert!((0..=MAX_SEARCHED).all(|_| reading.next(true) == PageStep::Take));
    }
}
