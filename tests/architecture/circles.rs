//! Circular imports between files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::graph::Edges;

/// Files that import each other in a circle; the first in the alphabet comes first.
pub(crate) type Circle = Vec<String>;

/// For every import that is part of a circle, the shortest circle with that import.
pub(crate) fn shortest(edges: &Edges) -> BTreeSet<Circle> {
    let mut next = BTreeMap::<&str, Vec<&str>>::new();
    for (from, to) in edges.keys() {
        next.entry(from).or_default().push(to);
    }
    let mut circles = BTreeSet::new();
    for (from, to) in edges.keys() {
        if let Some(mut circle) = way(&next, to, from) {
            let first = (0..circle.len()).min_by_key(|at| &circle[*at]).unwrap_or_default();
            circle.rotate_left(first);
            circles.insert(circle);
        }
    }
    circles
}

/// Sets of files that can all be reached from each other, each with its shortest circle; the largest set first.
pub(crate) fn knots(circles: &BTreeSet<Circle>) -> Vec<(BTreeSet<String>, Circle)> {
    let mut knots: Vec<(BTreeSet<String>, Circle)> = Vec::new();
    for circle in circles {
        let mut files: BTreeSet<String> = circle.iter().cloned().collect();
        let mut shortest = circle.clone();
        // Circles with a common file belong to the same set.
        knots.retain(|(others, other)| {
            let is_apart = others.is_disjoint(&files);
            if !is_apart {
                files.extend(others.iter().cloned());
                if other.len() < shortest.len() {
                    shortest.clone_from(other);
                }
            }
            is_apart
        });
        knots.push((files, shortest));
    }
    knots.sort_by_key(|(files, _)| std::cmp::Reverse(files.len()));
    knots
}

/// `a.rs -> b.rs (What, it, takes) -> a.rs (Other)`.
pub(crate) fn in_words(circle: &Circle, edges: &Edges) -> String {
    let mut words = circle[0].clone();
    for (at, from) in circle.iter().enumerate() {
        let to = &circle[(at + 1) % circle.len()];
        let items: Vec<_> = edges[&(from.clone(), to.clone())].iter().map(String::as_str).collect();
        words += &format!(" -> {to} ({})", items.join(", "));
    }
    words
}

fn way(next: &BTreeMap<&str, Vec<&str>>, from: &str, to: &str) -> Option<Circle> {
    let mut before = BTreeMap::from([(from, None)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(at) = waiting.pop_front() {
        if at == to {
            let mut way = Vec::new();
            let mut step = Some(at);
            while let Some(at) = step {
                way.push(at.to_owned());
                step = before[at];
            }
            way.reverse();
            return Some(way);
        }
        for following in next.get(at).into_iter().flatten() {
            if !before.contains_key(following) {
                before.insert(following, Some(at));
                waiting.push_back(following);
            }
        }
    }
    None
}
