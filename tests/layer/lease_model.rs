//! The lease protocol (`docs/lease-protocol.md`) as a model, and every state that it can reach.
//!
//! Nodes join, read the log, apply, acknowledge, stand still, crash, are fenced and come back; their messages to the table
//! of nodes may arrive after they have given up on them; requests and fills are two steps each, with anything in between.
//! Writers begin, commit in any order, wait, fence and return. Time passes between any two steps.
//!
//! *Invariant*: no node accepts a request, begun after a change has returned, on the strength of what was true before it.
//!
//! A few nodes and changes are searched in each run of the tests, more with `--ignored`:
//!
//! ```text
//! cargo test --test layer lease_model -- --include-ignored --nocapture
//! ```
//!
//! Each of the faults below is one line of the protocol left out, and is found.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Instant;

/// How long a lease lasts, on the slowest clock.
const LEASE: u8 = 2;

/// Some of the changes, one bit each.
type Set = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The lease runs from the answer to the acknowledgement.
    LeaseFromAnswer,
    /// The lease does not end.
    LeaseWithoutEnd,
    /// A request does not look at the lease.
    LeaseNotChecked,
    /// The writer waits a little less than a lease lasts on a slow clock.
    DriftForgotten,
    /// The writer does not wait.
    NoWait,
    /// The writer returns when time is up, and leaves the row where it is.
    NoFence,
    /// The writer looks who there is before it commits.
    LooksBeforeCommit,
    /// A node reads where the log ends and begins to remember, then puts down its row, and serves at once.
    ReadsBeforeItJoins,
    /// A node that was fenced keeps what it has when it comes back.
    TermsForgotten,
    /// A node acknowledges what it will apply later.
    AcknowledgesFirst,
    /// A node goes on under its row when it does not know whether an acknowledgement has arrived, and it arrives late.
    DoubtForgotten,
    /// A fill that was read before a change is kept after it.
    LateFill,
    /// A node remembers the highest number that it saw.
    HighestNumber,
    /// What is taken out of the log, whoever has seen it, is taken out without a word.
    FoldsSilently,
}

use Fault as F;

/// What is searched.
#[derive(Clone, Copy, Debug)]
struct Rules {
    fault: Fault,
    /// Whether look-ups, requests and acknowledgements are one step each, and nodes do not crash. What a node does inside
    /// of itself does not depend on how many others there are.
    coarse: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Round {
    /// Not among the nodes, as far as it knows.
    Out,
    /// Its row is put down.
    Joining,
    /// Has read where the log ends, and has no row. Only with a fault.
    Peeked {
        read: Set,
    },
    Idle,
    /// Has read the log, `age` after which everything is counted. Some of the news was no longer there.
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
    /// Has its answer.
    Answered {
        kept: bool,
        age: u8,
    },
}

/// What a node remembers of the key that a change ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Cell {
    /// Nothing, or the truth.
    Harmless,
    /// That it is valid, read in this term.
    Valid,
    /// The same, read in a term before.
    ValidOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    /// Its row in the table, and what is acknowledged there.
    row: Option<Set>,
    /// The row of the one that crashed.
    ghost: Option<Set>,
    round: Round,
    /// What it has read of the log.
    position: Set,
    /// What it has applied, where that is another question.
    applied: Set,
    /// An acknowledgement on its way.
    wire: Option<Set>,
    /// One that nobody waits for any more, on its way all the same.
    late: Option<Set>,
    /// How much is left of its lease.
    lease: u8,
    cells: [Cell; 2],
    /// Valid keys that were read and are not remembered yet.
    fills: Set,
    /// A request that has read a cell: which, in which state, and whether its change had returned when it began.
    request: Option<(u8, Cell, bool)>,
    /// Whose writer will not look at its row.
    overlooked_by: Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Writer {
    Idle,
    Begun,
    /// This long ago, at most.
    Committed {
        age: u8,
    },
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State<const N: usize, const C: usize> {
    nodes: [Node; N],
    writers: [Writer; C],
    /// Whose rows were taken out of the log, for one that means everything.
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

/// A request was accepted that must not be.
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

    /// Which node is which makes no difference.
    fn sorted(mut self) -> Self {
        self.nodes.sort_unstable();
        self
    }

    /// Everything that can happen next.
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
            // The number is drawn here; the first change draws the lower one.
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
            // Whoever remembers the highest number takes all lower ones for seen.
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
                // What it takes for seen, it does not get to see.
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
            // To a row that is gone it makes no difference.
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
        // Not even by those who are under way. The real one also clears its memory; that gives back room.
        self.fills = 0;
        let past = |cell: Cell| if cell == Cell::Valid { Cell::ValidOnce } else { cell };
        self.cells = self.cells.map(past);
        self.request = self.request.map(|(change, cell, late)| (change, past(cell), late));
    }

    /// Drops what changes have ended. (To apply one again does no harm.)
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

    /// What a reader gets who asks for numbers above the highest of `position`.
    fn missed(&self, position: Set, committed: Set) -> Set {
        let highest = 8 - position.leading_zeros();
        committed >> highest << highest
    }
}

/// What was found in all states that can be reached.
#[derive(Debug)]
struct Search {
    states: usize,
    violation: Option<Vec<String>>,
}

/// The nodes are few bytes and are looked up very often.
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
