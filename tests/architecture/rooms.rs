//! Rooms: the files and folders at the top of `src/`. Each has a level, and imports exactly the rooms that
//! `edges.txt` lists.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, Import};
use crate::modules::House;

/// Crates that a room must not use, and why. Names that are not crates do no harm here.
const NEVER: &[(&str, &[&str], &str)] =
    &[("store", &["axum", "http", "http_body", "http_body_util", "hyper", "tower"], "stores know no HTTP")];

/// Rooms that must not import each other, whatever `edges.txt` says.
const APART: &[(&str, &str)] = &[("scheme", "store"), ("store", "scheme")];

/// A room that must never see the request, so that no error response can contain parts of it.
const BLIND: &str = "render";

/// The parsed `edges.txt`.
#[derive(Default)]
pub(crate) struct Plan {
    levels: BTreeMap<String, usize>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Plan {
    /// `L0` begins a level; `room -> other, another` adds a room to it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut plan, mut level) = (Self::default(), None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(number) = line.strip_prefix('L').and_then(|number| number.parse::<usize>().ok()) {
                level = Some(number);
                continue;
            }
            let (room, imports) = line.split_once("->").unwrap_or((line, ""));
            let (room, level) = (room.trim().to_owned(), level.ok_or("edges.txt must begin with a level")?);
            let imports = imports.split(',').map(|other| other.trim().to_owned());
            plan.edges.insert(room.clone(), imports.filter(|other| !other.is_empty()).collect());
            if plan.levels.insert(room.clone(), level).is_some() {
                return Err(format!("edges.txt has the room {room} twice"));
            }
        }
        Ok(plan)
    }
}

/// The line for a room in `edges.txt`.
fn line(room: &str, imports: &BTreeSet<&str>) -> String {
    if imports.is_empty() {
        return room.to_owned();
    }
    format!("{room} -> {}", imports.iter().copied().collect::<Vec<_>>().join(", "))
}

fn rooms(house: &House) -> BTreeSet<&str> {
    house.lines.keys().map(|file| House::room_of(file)).filter(|room| *room != "lib").collect()
}

/// The edges between rooms, and the imports that cause them.
fn edges(graph: &Graph) -> BTreeMap<(&str, &str), Vec<&Import>> {
    let mut edges = BTreeMap::<_, Vec<_>>::new();
    for import in &graph.imports {
        if let Some(ends) = import.between_rooms() {
            edges.entry(ends).or_default().push(import);
        }
    }
    edges
}

fn shown(imports: &[&Import]) -> String {
    let shown: BTreeSet<_> = imports.iter().map(|import| import.to_string()).collect();
    shown.into_iter().collect::<Vec<_>>().join(", ")
}

/// The differences between the source and `edges.txt`, and the imports that go upward.
pub(crate) fn differences(house: &House, graph: &Graph, plan: &str) -> Vec<String> {
    let plan = match Plan::parse(plan) {
        Ok(plan) => plan,
        Err(wrong) => return vec![wrong],
    };
    let (rooms, edges) = (rooms(house), edges(graph));
    let mut wrong = Vec::new();
    for room in plan.levels.keys().filter(|room| !rooms.contains(room.as_str())) {
        wrong.push(format!("edges.txt has the room {room}, which is not in src/"));
    }
    for room in rooms {
        let imports: BTreeSet<&str> =
            edges.keys().filter(|(from, _)| *from == room).map(|(_, to)| *to).collect();
        let line = line(room, &imports);
        let (Some(level), Some(planned)) = (plan.levels.get(room), plan.edges.get(room)) else {
            wrong.push(format!(
                "edges.txt gives the room {room} no level; put there, below the right one:\n    {line}"
            ));
            continue;
        };
        let mut differs = Vec::new();
        for to in &imports {
            let shown = shown(&edges[&(room, *to)]);
            if !planned.contains(*to) {
                differs.push(format!("{room} -> {to} is not in edges.txt: {shown}"));
            }
            if let Some(above) = plan.levels.get(*to).filter(|other| *other > level) {
                wrong.push(format!("{room} (L{level}) imports upward from {to} (L{above}): {shown}"));
            }
        }
        for to in planned.iter().filter(|to| !imports.contains(to.as_str())) {
            differs.push(format!("{room} -> {to} is in edges.txt, but nothing in {room} imports from {to}"));
        }
        if !differs.is_empty() {
            wrong.push(format!("{}; put there:\n    {line}", differs.join("; ")));
        }
    }
    wrong
}

/// Rooms that use something that they must not know.
pub(crate) fn strangers(graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, crates, why) in NEVER {
        for foreign in graph.foreign.iter().filter(|foreign| House::room_of(&foreign.file) == *room) {
            let name = foreign.path.iter().find(|part| *part != "::").map_or("", String::as_str);
            if crates.contains(&name) {
                wrong.push(format!("{}:{} uses {}: {why}", foreign.file, foreign.line, foreign.written()));
            }
        }
    }
    for import in &graph.imports {
        if import.between_rooms().is_some_and(|ends| APART.contains(&ends)) {
            wrong.push(format!("{import}: schemes and stores never meet"));
        }
    }
    for mention in graph.mentions.iter().filter(|mention| House::room_of(&mention.file) == BLIND) {
        if mention.path.iter().any(|part| part.contains("Request")) {
            let what = format!("{}:{} names {}", mention.file, mention.line, mention.written());
            wrong.push(format!("{what}: {BLIND} never sees the request"));
        }
    }
    wrong
}

/// The rooms by level, the highest first, with their lines of code and their imports.
pub(crate) fn drawing(house: &House, graph: &Graph, plan: &str) -> String {
    let (plan, edges) = (Plan::parse(plan).unwrap_or_default(), edges(graph));
    let mut sizes = BTreeMap::<&str, (usize, usize)>::new();
    for (file, lines) in &house.lines {
        let (all, files) = sizes.entry(House::room_of(file)).or_default();
        *all += lines;
        *files += 1;
    }
    let mut by_level = BTreeMap::<usize, Vec<String>>::new();
    for room in rooms(house) {
        let imports: BTreeSet<&str> =
            edges.keys().filter(|(from, _)| *from == room).map(|(_, to)| *to).collect();
        let users = edges.keys().filter(|(_, to)| *to == room).count();
        let (lines, files) = sizes[room];
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        let drawn = format!(
            "{room:<16}{lines:>6} lines, {files:<9} {users:>2} import it   -> {}",
            imports.into_iter().collect::<Vec<_>>().join(" ")
        );
        by_level.entry(plan.levels.get(room).copied().unwrap_or(usize::MAX)).or_default().push(drawn);
    }
    let mut drawing = String::new();
    for (level, rooms) in by_level.iter().rev() {
        let name = if *level == usize::MAX { "no level".to_owned() } else { format!("L{level}") };
        drawing += &format!("{name}\n");
        for room in rooms {
            drawing += &format!("    {}\n", room.trim_end());
        }
    }
    let of = |file: &String| house.lines[file];
    drawing + &format!("{} lines in {} files\n", house.lines.keys().map(of).sum::<usize>(), house.lines.len())
}
