//! [`ClockMap`]: a map with a maximum of entries and of bytes, which evicts entries that were not used recently
//! (CLOCK).

use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashTable;

/// Entries in a vector, with an index. If it is full, a hand goes round like that of a clock: it passes an entry
/// once if the entry was used since the hand last came by, and evicts the first entry that was not.
pub(super) struct ClockMap<Q, A> {
    /// Indexes into `entries`.
    index: HashTable<u32>,
    entries: Vec<Slot<Q, A>>,
    hand: usize,
    room: usize,
    /// The total weight of the entries.
    bytes: usize,
    most_bytes: usize,
}

struct Slot<Q, A> {
    hash: u64,
    question: Q,
    answer: A,
    weight: usize,
    asked_for: AtomicBool,
}

impl<Q: PartialEq, A> ClockMap<Q, A> {
    /// Creates a map for up to `room` entries (at least one) and up to `bytes` bytes of them.
    pub(super) fn new(room: usize, bytes: usize) -> Self {
        let room = room.clamp(1, u32::MAX as usize);
        Self { index: HashTable::new(), entries: Vec::new(), hand: 0, room, bytes: 0, most_bytes: bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The approximate number of bytes of the entries.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, hash: u64, is: impl Fn(&Q) -> bool) -> Option<&A> {
        let entry = self.entries.get(self.place(hash, is)?)?;
        // Written once per round of the hand and not at every request, because other cores read the same cache line.
        if !entry.asked_for.load(Ordering::Relaxed) {
            entry.asked_for.store(true, Ordering::Relaxed);
        }
        Some(&entry.answer)
    }

    /// Adds an entry. `weight` is the number of bytes that question and answer point to. An entry that is heavier
    /// than the whole map is not kept.
    pub(super) fn put(&mut self, hash: u64, question: Q, answer: A, weight: usize) {
        let weight = weight.saturating_add(size_of::<Slot<Q, A>>());
        let before = self.place(hash, |other| *other == question);
        if let Some(place) = before {
            match self.entries.get_mut(place) {
                Some(entry) if entry.weight == weight => {
                    entry.answer = answer;
                    return;
                }
                _ => self.remove_at(place),
            }
        }
        if weight > self.most_bytes {
            return;
        }
        while !self.entries.is_empty()
            && (self.entries.len() >= self.room || self.bytes > self.most_bytes - weight)
        {
            self.make_room();
        }
        let Ok(place) = u32::try_from(self.entries.len()) else { return };
        // An entry that only gets another answer still counts as used.
        let asked_for = AtomicBool::new(before.is_some());
        self.entries.push(Slot { hash, question, answer, weight, asked_for });
        self.bytes += weight;
        let entries = &self.entries;
        self.index.insert_unique(hash, place, |place| hash_at(entries, *place));
    }

    pub(super) fn remove(&mut self, hash: u64, is: impl Fn(&Q) -> bool) {
        if let Some(place) = self.place(hash, is) {
            self.remove_at(place);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.room, self.most_bytes);
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

    /// Removes an entry. The last entry takes its place.
    fn remove_at(&mut self, place: usize) {
        if place >= self.entries.len() {
            return;
        }
        let last = self.entries.len().saturating_sub(1);
        let gone = self.entries.swap_remove(place);
        self.bytes = self.bytes.saturating_sub(gone.weight);
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

fn hash_at<Q, A>(entries: &[Slot<Q, A>], place: u32) -> u64 {
    entries.get(place as usize).map_or(0, |entry| entry.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(number: u64) -> impl Fn(&u64) -> bool {
        move |other| *other == number
    }

    /// The weight of an entry that points to nothing.
    const BARE: usize = size_of::<Slot<u64, u64>>();

    #[test]
    fn c17_b2_a_shelf_is_bounded_by_bytes_as_well_as_by_entries() {
        let mut shelf = ClockMap::new(1000, 10 * (BARE + 100));
        for number in 0..500 {
            shelf.put(number, number, number, 100);
            assert!(shelf.bytes() <= 10 * (BARE + 100) && shelf.len() <= 10, "{number}");
            assert!(shelf.place(number, is(number)).is_some(), "{number}");
        }
        assert_eq!((shelf.len(), shelf.bytes()), (10, 10 * (BARE + 100)));
        // A heavy entry evicts several light ones. Those that are used stay longest.
        assert!(shelf.get(499, is(499)).is_some());
        shelf.put(1000, 1000, 1, 4 * (BARE + 100));
        assert!(shelf.bytes() <= 10 * (BARE + 100));
        assert!(shelf.len() < 10 && shelf.get(499, is(499)).is_some() && shelf.get(1000, is(1000)).is_some());
        // The weight of an entry follows that of its answer.
        let (len, before) = (shelf.len(), shelf.bytes());
        shelf.put(1000, 1000, 2, 0);
        assert_eq!((shelf.len(), shelf.bytes()), (len, before - 4 * (BARE + 100)));
        assert_eq!(shelf.get(1000, is(1000)), Some(&2));
        // An entry that is heavier than the whole map is not kept, and its older answer is removed.
        shelf.put(1000, 1000, 3, 10 * (BARE + 100));
        assert_eq!(shelf.get(1000, is(1000)), None);
        assert_eq!(shelf.len(), len - 1, "and nothing went for it");
        for number in 0..1000 {
            shelf.remove(number, is(number));
        }
        assert_eq!((shelf.len(), shelf.bytes()), (0, 0));
        shelf.put(1, 1, 1, 1);
        shelf.clear();
        assert_eq!((shelf.len(), shelf.bytes()), (0, 0));
    }
}
