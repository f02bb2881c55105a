//! A model of the lease protocol (`docs/lease-protocol.md`), and a search of all its reachable states.
//!
//! Nodes join, read the log, apply, acknowledge, pause, crash, are fenced and come back. Their messages to the table
//! of nodes may arrive after they have given up waiting for them. Requests and fills have two steps each, and
//! anything may happen in between. Writers begin, commit in any order, wait, fence and return. Time passes between
//! any two steps.
//!
//! *Invariant*: if a request begins after a change has returned, no node accepts it because of data from before the
//! change.
//!
//! The normal tests search a few nodes and changes, and `--ignored` searches more:
//!
//! ```text
//! cargo test --test layer lease_model -- --include-ignored --nocapture
//! ```
//!
//! Each fault below leaves out one rule of the protocol, and the search must find a violation.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Instant;

/// The length of a lease, on the slowest clock.
const LEASE: u8 = 2;

/// A set of changes, one bit each.
type Set = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The lease starts when the acknowledgement is answered.
    LeaseFromAnswer,
    /// The lease never ends.
    LeaseWithoutEnd,
    /// A request does not check the lease.
    LeaseNotChecked,
    /// The writer waits slightly less than a lease lasts on a slow clock.
    DriftForgotten,
    /// The writer does not wait.
    NoWait,
    /// The writer returns when its time is up, but does not delete the row.
    NoFence,
    /// The writer looks for nodes before it commits.
    LooksBeforeCommit,
    /// A node reads the end of the log and starts to remember answers, inserts its row only then, and serves at once.
    ReadsBeforeItJoins,
    /// A fenced node keeps its answers when it comes back.
    TermsForgotten,
    /// A node acknowledges changes before it applies them.
    AcknowledgesFirst,
    /// A node keeps its row although it does not know whether an acknowledgement has arrived, and that one arrives
    /// late.
    DoubtForgotten,
    /// A fill that was read before a change is kept after the change.
    LateFill,
    /// A node's position is the highest number that it has seen.
    HighestNumber,
    /// Rows are removed from the log, even if a node has not seen them, without a row for `Everything`.
    FoldsSilently,
}

use Fault as F;

/// The variant of the model that is searched.
#[derive(Clone, Copy, Debug)]
struct Rules {
    fault: Fault,
    /// Whether look-ups, requests and acknowledgements are single steps, and nodes do not crash. This loses nothing,
    /// because what happens inside a node does not depend on the number of other nodes.
    coarse: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Round {
    /// Knows of no row of its own.
    Out,
    /// Its row is inserted.
    Joining,
    /// Has read the end of the log, and has no row. Only with a fault.
    Peeked {
        read: Set,
    },
    Idle,
    /// Has read the log, `age` ago, from when the lease counts. Some of the new entries had already been removed.
    Read {
        age: u8,
        folded: Set,
    },
    /// Has applied what it read.
    Applied {
        age: u8,
    },
    /// Has sent the acknowledgement.
    Sent {
        age: u8,
    },
    /// Has got the answer.
    Answered {
        kept: bool,
        age: u8,
    },
}

/// What a node remembers about the key that a change ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Cell {
    /// Nothing, or the current state.
    Harmless,
    /// That the key is valid, read in this term.
    Valid,
    /// The same, read in an earlier term.
    ValidOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    /// Its row in the table, with the acknowledged position.
    row: Option<Set>,
    /// The row of a crashed node.
    ghost: Option<Set>,
    round: Round,
    /// The part of the log that it has read.
    position: Set,
    /// The part that it has applied, if different.
    applied: Set,
    /// An acknowledgement that is being sent.
    wire: Option<Set>,
    /// An acknowledgement that nobody waits for any more, but which may still arrive.
    late: Option<Set>,
    /// The remaining time of its lease.
    lease: u8,
    cells: [Cell; 2],
    /// Valid keys that were read but not stored yet.
    fills: Set,
    /// A request that has read a cell: which one, its state, and whether the change had returned when the request
    /// began.
    request: Option<(u8, Cell, bool)>,
    /// The changes whose writer does not see its row.
    overlooked_by: Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Writer {
    Idle,
    Begun,
    /// At most this long ago.
    Committed {
        age: u8,
    },
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State<const N: usize, const C: usize> {
    nodes: [Node; N],
    writers: [Writer; C],
    /// The changes whose rows were replaced by the row for `Everything`.
    folded: Set,
}

const NEW: Node = Node {
    row: None,
    ghost: None,
    round: Round::Out,
    position: 0,
    applied: 0,
    wire: None,
    late: None,
    lease: 0,
    cells: [Cell::Harmless; 2],
    fills: 0,
    request: None,
    overlooked_by: 0,
};

/// A request was accepted that must not be accepted.
#[derive(Debug)]
struct Violation;

impl<const N: usize, const C: usize> State<N, C> {
    const FIRST: Self = Self { nodes: [NEW; N], writers: [Writer::Idle; C], folded: 0 };

    fn committed(&self) -> Set {
        let done = |writer: &Writer| matches!(writer, Writer::Committed { .. } | Writer::Returned);
        (0..C).filter(|change| done(&self.writers[*change])).fold(0, |set, change| set | 1 << change)
    }

    fn returned(&self, change: usize) -> bool {
        self.writers[change] == Writer::Returned
    }

    /// Nodes are interchangeable.
    fn sorted(mut self) -> Self {
        self.nodes.sort_unstable();
        self
    }

    /// All possible next steps.
    fn next(&self, rules: Rules, mut then: impl FnMut(&'static str, usize, Self)) -> Result<(), Violation> {
        self.time_passes(rules, &mut then);
        let folded = self.committed();
        if folded != self.folded {
            then("the log is folded", 0, Self { folded, ..*self });
        }
        for change in 0..C {
            self.writer_moves(change, rules, &mut then);
        }
        for at in 0..N {
            self.node_moves(at, rules, &mut then);
            self.keys_move(at, rules, &mut then)?;
        }
        Ok(())
    }

    fn time_passes(&self, rules: Rules, then: &mut impl FnMut(&'static str, usize, Self)) {
        let mut next = *self;
        for node in &mut next.nodes {
            if rules.fault != F::LeaseWithoutEnd {
                node.lease = node.lease.saturating_sub(1);
            }
            if let Round::Read { age, .. }
            | Round::Applied { age }
            | Round::Sent { age }
            | Round::Answered { age, .. } = &mut node.round
            {
                *age = (*age + 1).min(LEASE);
            }
        }
        for writer in &mut next.writers {
            if let Writer::Committed { age } = writer {
                *age = (*age + 1).min(LEASE);
            }
        }
        then("time passes", 0, next);
    }

    fn writer_moves(&self, change: usize, rules: Rules, then: &mut impl FnMut(&'static str, usize, Self)) {
        let mut step = |name, edit: &dyn Fn(&mut Self)| {
            let mut next = *self;
            edit(&mut next);
            then(name, change, next);
        };
        let (bit, fault): (Set, _) = (1 << change, rules.fault);
        match self.writers[change] {
            // The transaction gets its number here; the first change gets the lowest.
            Writer::Idle if change == 0 || self.writers[change - 1] != Writer::Idle => {
                step("begins", &|next| {
                    next.writers[change] = Writer::Begun;
                    if fault == F::LooksBeforeCommit {
                        for node in next.nodes.iter_mut().filter(|node| node.row.is_none()) {
                            node.overlooked_by |= bit;
                        }
                    }
                });
            }
            Writer::Begun => {
                step("commits", &|next| next.writers[change] = Writer::Committed { age: 0 });
            }
            Writer::Committed { age } => {
                let behind = |row: Option<Set>| row.is_some_and(|acknowledged| acknowledged & bit == 0);
                let waits =
                    |node: &Node| (behind(node.row) && node.overlooked_by & bit == 0) || behind(node.ghost);
                let patience = if fault == F::DriftForgotten { LEASE - 1 } else { LEASE };
                let in_vain = age >= patience;
                if !self.nodes.iter().any(waits) || fault == F::NoWait || (fault == F::NoFence && in_vain) {
                    step("returns", &|next| next.writers[change] = Writer::Returned);
                } else if in_vain {
                    step("fences", &|next| {
                        for node in &mut next.nodes {
                            node.row = node.row.filter(|_| !behind(node.row));
                            node.ghost = node.ghost.filter(|_| !behind(node.ghost));
                        }
                    });
                }
            }
            Writer::Idle | Writer::Returned => {}
        }
    }

    fn node_moves(&self, at: usize, rules: Rules, then: &mut impl FnMut(&'static str, usize, Self)) {
        let (committed, Rules { fault, coarse }) = (self.committed(), rules);
        let node = &self.nodes[at];
        let mut step = |name, edit: &dyn Fn(&mut Node)| {
            let mut next = *self;
            edit(&mut next.nodes[at]);
            then(name, at, next);
        };
        let seen = |position: Set| {
            // With the highest number as its position, a node takes all lower ones for seen.
            if fault == F::HighestNumber && position != 0 {
                (1 << (8 - position.leading_zeros())) - 1
            } else {
                position
            }
        };
        match node.round {
            Round::Out if fault == F::ReadsBeforeItJoins => {
                step("reads the end", &|node| {
                    node.begin_term(fault);
                    node.round = Round::Peeked { read: committed };
                });
            }
            Round::Out => step("joins", &|node| {
                (node.row, node.wire, node.late) = (Some(0), None, None);
                node.round = Round::Joining;
            }),
            Round::Peeked { read } => step("joins and serves", &|node| {
                (node.row, node.wire, node.round) = (Some(read), None, Round::Idle);
                (node.position, node.lease) = (read, LEASE);
            }),
            Round::Joining => step("reads the end", &|node| {
                node.begin_term(fault);
                node.round = Round::Idle;
                (node.position, node.applied) = (committed, committed);
            }),
            Round::Idle => step("reads the log", &|node| {
                let folded = self.folded & !seen(node.position);
                node.position = seen(node.position) | committed;
                // A node does not get changes that it takes for seen.
                node.round = Round::Read { age: 0, folded };
                if fault == F::HighestNumber {
                    node.applied |= node.missed(self.nodes[at].position, committed);
                }
            }),
            Round::Read { age, .. } if fault == F::AcknowledgesFirst => step("acknowledges first", &|node| {
                if node.row.is_some() {
                    node.row = Some(node.position);
                }
                node.round = Round::Answered { kept: node.row.is_some(), age };
            }),
            Round::Read { age, folded } => step("applies", &|node| {
                let news = if fault == F::HighestNumber { node.applied } else { node.position };
                if folded != 0 && fault != F::FoldsSilently {
                    node.begin_term(fault);
                }
                node.apply(news & !folded, fault);
                node.round = Round::Applied { age };
            }),
            Round::Applied { age } if coarse => step("acknowledges", &|node| {
                let kept = node.row.is_some();
                node.row = node.row.map(|_| node.position & committed);
                node.round = Round::Answered { kept, age };
            }),
            Round::Applied { age } if node.wire.is_none() => step("acknowledges", &|node| {
                (node.wire, node.round) = (Some(node.position & committed), Round::Sent { age });
            }),
            Round::Applied { .. } => {}
            Round::Sent { .. } => step("gives up waiting", &|node| {
                (node.late, node.wire) = (node.wire, None);
                if fault == F::DoubtForgotten {
                    node.round = Round::Idle;
                } else {
                    (node.round, node.lease) = (Round::Out, 0);
                }
            }),
            Round::Answered { kept: false, .. } => {
                step("learns that it was fenced", &|node| node.round = Round::Out);
            }
            Round::Answered { kept: true, age } => step("takes its lease", &|node| {
                let from = if fault == F::LeaseFromAnswer { 0 } else { age };
                node.lease = LEASE - from;
                node.round = Round::Idle;
            }),
        }
        if fault == F::AcknowledgesFirst && node.round == Round::Idle {
            step("applies at last", &|node| node.apply(node.position, fault));
        }
        if let Some(acknowledged) = node.wire {
            // If the row is gone, the acknowledgement has no effect.
            step("is heard", &|node| {
                let kept = node.row.is_some();
                (node.row, node.wire) = (node.row.map(|_| acknowledged), None);
                if let Round::Sent { age } = node.round {
                    node.round = Round::Answered { kept, age };
                }
            });
        }
        if let Some(acknowledged) = node.late {
            step("is heard late", &|node| {
                (node.row, node.late) = (node.row.map(|_| acknowledged), None);
            });
        }
        if !coarse && node.ghost.is_none() && node.round != Round::Out {
            step("crashes", &|node| *node = Node { ghost: node.row, ..NEW });
        }
    }

    fn keys_move(
        &self,
        at: usize,
        rules: Rules,
        then: &mut impl FnMut(&'static str, usize, Self),
    ) -> Result<(), Violation> {
        let Rules { fault, coarse } = rules;
        let node = &self.nodes[at];
        let mut step = |name, edit: &dyn Fn(&mut Node)| {
            let mut next = *self;
            edit(&mut next.nodes[at]);
            then(name, at, next);
        };
        for change in 0..C {
            let bit: Set = 1 << change;
            if node.fills & bit != 0 {
                step("remembers", &|node| {
                    node.fills &= !bit;
                    node.cells[change] = Cell::Valid;
                });
            } else if self.committed() & bit == 0 && node.cells[change] == Cell::Harmless {
                step("looks up", &|node| {
                    if coarse {
                        node.cells[change] = Cell::Valid;
                    } else {
                        node.fills |= bit;
                    }
                });
            }
            if coarse && self.returned(change) && node.lease > 0 && node.cells[change] == Cell::Valid {
                return Err(Violation);
            }
            if !coarse && node.cells[change] != Cell::Harmless && node.request.is_none() {
                let late = self.returned(change);
                let change_nr = u8::try_from(change).unwrap();
                step("reads a cell", &|node| {
                    node.request = Some((change_nr, node.cells[change], late));
                });
            }
        }
        if let Some((_, cell, late)) = node.request {
            let may = node.lease > 0 && cell == Cell::Valid;
            if late && (may || fault == F::LeaseNotChecked) {
                return Err(Violation);
            }
            step("answers", &|node| node.request = None);
        }
        Ok(())
    }
}

impl Node {
    fn begin_term(&mut self, fault: Fault) {
        if fault == F::TermsForgotten {
            return;
        }
        self.lease = 0;
        // This includes fills that are under way. The real node also clears its memory, which only frees space.
        self.fills = 0;
        let past = |cell: Cell| if cell == Cell::Valid { Cell::ValidOnce } else { cell };
        self.cells = self.cells.map(past);
        self.request = self.request.map(|(change, cell, late)| (change, past(cell), late));
    }

    /// Drops what changes have ended. (Applying a change twice does no harm.)
    fn apply(&mut self, changes: Set, fault: Fault) {
        for change in 0..2 {
            if changes & 1 << change != 0 {
                self.cells[change] = Cell::Harmless;
            }
        }
        if fault != F::LateFill {
            self.fills &= !changes;
        }
    }

    /// What a reader misses who asks for numbers above the highest in `position`.
    fn missed(&self, position: Set, committed: Set) -> Set {
        let highest = 8 - position.leading_zeros();
        committed >> highest << highest
    }
}

/// The result of searching all reachable states.
#[derive(Debug)]
struct Search {
    states: usize,
    violation: Option<Vec<String>>,
}

/// Nodes are only a few bytes, and are looked up very often.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u8(number.to_le_bytes()[0]);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u8(number.to_le_bytes()[0]);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

fn search<const N: usize, const C: usize>(rules: Rules) -> Search {
    let mut seen: HashMap<State<N, C>, u32, BuildHasherDefault<Fast>> = HashMap::default();
    let mut all = vec![(State::<N, C>::FIRST, 0, "", 0)];
    seen.insert(State::FIRST, 0);
    let mut done = 0;
    while done < all.len() {
        let (state, ..) = all[done];
        let from = u32::try_from(done).unwrap();
        let found = state.next(rules, |name, who, next| {
            let next = next.sorted();
            let number = u32::try_from(all.len()).unwrap();
            if let std::collections::hash_map::Entry::Vacant(place) = seen.entry(next) {
                place.insert(number);
                all.push((next, from, name, who));
            }
        });
        if found.is_err() {
            let mut story = vec![format!("accepted: {state:?}")];
            let mut at = done;
            while at != 0 {
                let (_, from, name, who) = &all[at];
                story.push(format!("{who} {name}"));
                at = *from as usize;
            }
            story.reverse();
            return Search { states: all.len(), violation: Some(story) };
        }
        done += 1;
    }
    Search { states: all.len(), violation: None }
}

#[track_caller]
fn holds<const N: usize, const C: usize>(coarse: bool) {
    let began = Instant::now();
    let Search { states, violation } = search::<N, C>(Rules { fault: F::None, coarse });
    assert!(violation.is_none(), "{violation:#?}");
    let how = if coarse { "coarse" } else { "fine" };
    println!("{N} nodes, {C} changes, {how} steps: holds in all {states} states ({:?})", began.elapsed());
}

#[track_caller]
fn finds<const N: usize, const C: usize>(fault: Fault) {
    let Search { states, violation } = search::<N, C>(Rules { fault, coarse: false });
    let story = violation.unwrap_or_else(|| panic!("{fault:?} was not found in {states} states"));
    println!("{fault:?}: found after {states} states, in {} steps", story.len() - 1);
}

#[test]
fn the_guarantee_holds_for_one_node() {
    holds::<1, 1>(false);
    holds::<1, 2>(false);
}

#[test]
fn the_guarantee_holds_for_two_nodes() {
    holds::<2, 1>(true);
}

#[test]
#[ignore = "searches millions of states for some seconds"]
fn the_guarantee_holds_for_two_nodes_in_fine_steps() {
    holds::<2, 1>(false);
}

#[test]
#[ignore = "searches millions of states for some seconds"]
fn the_guarantee_holds_for_three_nodes() {
    holds::<3, 1>(true);
}

#[test]
fn every_fault_is_found() {
    for fault in [
        F::LeaseFromAnswer,
        F::LeaseWithoutEnd,
        F::LeaseNotChecked,
        F::DriftForgotten,
        F::NoWait,
        F::NoFence,
        F::LooksBeforeCommit,
        F::ReadsBeforeItJoins,
        F::TermsForgotten,
        F::AcknowledgesFirst,
        F::LateFill,
        F::FoldsSilently,
    ] {
        finds::<1, 1>(fault);
    }
    finds::<1, 2>(F::HighestNumber);
    finds::<1, 2>(F::DoubtForgotten);
}
