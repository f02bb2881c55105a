//! A map with an upper bound: what was not asked for lately goes first.

use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashTable;

/// Entries in a row, and where to find them. When it is full, a hand goes round as on a clock: it spares, once, whoever
/// was asked for since it last came by, and takes the first who was not.
pub(super) struct Shelf<Q, A> {
    /// Places in `entries`.
    index: HashTable<u32>,
    entries: Vec<Entry<Q, A>>,
    hand: usize,
    room: usize,
}

struct Entry<Q, A> {
    hash: u64,
    question: Q,
    answer: A,
    asked_for: AtomicBool,
}

impl<Q: PartialEq, A> Shelf<Q, A> {
    /// With room for this many, and at least one.
    pub(super) fn new(room: usize) -> Self {
        let room = room.clamp(1, u32::MAX as usize);
        Self { index: HashTable::new(), entries: Vec::new(), hand: 0, room }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, hash: u64, is: impl Fn(&Q) -> bool) -> Option<&A> {
        let entry = self.entries.get(self.place(hash, is)?)?;
        // Written once per round of the hand, and not at every request: others read it.
        if !entry.asked_for.load(Ordering::Relaxed) {
            entry.asked_for.store(true, Ordering::Relaxed);
        }
        Some(&entry.answer)
    }

    pub(super) fn put(&mut self, hash: u64, question: Q, answer: A) {
        if let Some(place) = self.place(hash, |other| *other == question) {
            if let Some(entry) = self.entries.get_mut(place) {
                entry.answer = answer;
            }
            return;
        }
        while self.entries.len() >= self.room {
            self.make_room();
        }
        let Ok(place) = u32::try_from(self.entries.len()) else { return };
        self.entries.push(Entry { hash, question, answer, asked_for: AtomicBool::new(false) });
        let entries = &self.entries;
        self.index.insert_unique(hash, place, |place| hash_at(entries, *place));
    }

    pub(super) fn remove(&mut self, hash: u64, is: impl Fn(&Q) -> bool) {
        if let Some(place) = self.place(hash, is) {
            self.remove_at(place);
        }
    }

    pub(super) fn clear(&mut self) {
        let room = self.room;
        *self = Self::new(room);
    }

    fn place(&self, hash: u64, is: impl Fn(&Q) -> bool) -> Option<usize> {
        let same = |place: &u32| {
            self.entries.get(*place as usize).is_some_and(|entry| entry.hash == hash && is(&entry.question))
        };
        self.index.find(hash, same).map(|place| *place as usize)
    }

    fn make_room(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else { return };
            if !std::mem::take(entry.asked_for.get_mut()) {
                return self.remove_at(self.hand);
            }
            self.hand += 1;
        }
    }

    /// The last entry takes the place.
    fn remove_at(&mut self, place: usize) {
        if place >= self.entries.len() {
            return;
        }
        let last = self.entries.len().saturating_sub(1);
        let gone = self.entries.swap_remove(place);
        if let Ok(entry) = self.index.find_entry(gone.hash, |other| *other as usize == place) {
            entry.remove();
        }
        if let Some(moved) = self.entries.get(place)
            && let Some(at) = self.index.find_mut(moved.hash, |other| *other as usize == last)
            && let Ok(place) = u32::try_from(place)
        {
            *at = place;
        }
    }
}

fn hash_at<Q, A>(entries: &[Entry<Q, A>], place: u32) -> u64 {
    entries.get(place as usize).map_or(0, |entry| entry.hash)
}
