//! Which room of the engine may use which, where `unsafe` may stand, and who may read a clock (DESIGN section 1).
//!
//! ```text
//!  cli ──► service ──► runtime ──► socket ──► stack ──► proto ──► wire ──► simd
//!   └────────────────►  ▲  │ │        └─────────┴─────────┴─────► buf
//!            treck ─────┘  │ └─► port ──► ring ──► buf   (port also names addresses of wire)
//!                          └───► config ──► wire
//!  cli ──► load ──► service               (the load generator, on the kernel's sockets or the engine's)
//!  telemetry and time may be used by every room, and use none
//! ```
//!
//! [`ROOMS`] is the table; an arrow goes on: who may use a room may use what that room may use. [`check`] reads a source tree
//! and returns one sentence for each line that breaks the table. Code under `#[cfg(test)]` may use anything.

mod scan;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use scan::Source;

/// One row of the table: a folder or a file of `engine/src`.
#[derive(Debug)]
struct Room {
    name: &'static str,
    /// Whom it uses directly.
    uses: &'static [&'static str],
    /// Files that may hold `unsafe`, below `src`: `x/` is a folder, `x*` is how a path begins, all else one file.
    unsafe_in: &'static [&'static str],
    /// Time and randomness come in as arguments.
    inputs_only: bool,
    /// Must say `#![forbid(unsafe_code)]`.
    forbids_unsafe: bool,
}

const fn room(name: &'static str, uses: &'static [&'static str]) -> Room {
    Room { name, uses, unsafe_in: &[], inputs_only: false, forbids_unsafe: false }
}

impl Room {
    const fn unsafe_in(mut self, files: &'static [&'static str]) -> Self {
        self.unsafe_in = files;
        self
    }
    const fn inputs_only(mut self) -> Self {
        self.inputs_only = true;
        self
    }
    const fn forbids_unsafe(mut self) -> Self {
        self.forbids_unsafe = true;
        self
    }
}

const ROOMS: &[Room] = &[
    room("time", &[]).inputs_only(),
    room("telemetry", &[]),
    room("buf", &[]).inputs_only().unsafe_in(&["buf/raw.rs", "buf/region.rs"]),
    room("ring", &["buf"]).inputs_only().unsafe_in(&["ring/"]),
    room("port", &["ring", "buf", "wire"]).unsafe_in(&["port/xsk*", "port/user*"]),
    room("simd", &[]).inputs_only().unsafe_in(&["simd.rs"]),
    room("wire", &["simd"]).inputs_only().forbids_unsafe(),
    room("proto", &["wire", "buf"]).inputs_only().forbids_unsafe(),
    room("stack", &["proto"]).inputs_only().forbids_unsafe(),
    room("socket", &["stack"]).inputs_only().forbids_unsafe(),
    room("config", &["wire"]).forbids_unsafe(),
    room("runtime", &["socket", "port", "config"]).forbids_unsafe(),
    room("treck", &["runtime"]).unsafe_in(&["treck/"]),
    room("service", &["runtime", "config"]).forbids_unsafe(),
    room("load", &["service"]).forbids_unsafe(),
    room("cli", &["service", "runtime", "load"]),
];

/// Every room may use these.
const COMMON: &[&str] = &["time", "telemetry"];

/// Paths that read a clock or a source of randomness, or open a socket of the kernel: what [`Room::inputs_only`] forbids. A one-segment
/// entry is a crate; the others match anywhere in a path.
const INPUTS: &[&[&str]] = &[
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "time", "UNIX_EPOCH"],
    &["std", "time", "*"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["thread", "sleep"],
    &["libc", "clock_gettime"],
    &["libc", "gettimeofday"],
    &["libc", "getrandom"],
    &["rand"],
    &["getrandom"],
    &["fastrand"],
    // Seeded by the system, not by the engine's start.
    &["RandomState", "new"],
    &["RandomState", "default"],
    &["std", "hash", "RandomState"],
    &["std", "collections", "HashMap"],
    &["std", "collections", "HashSet"],
    &["std", "net", "UdpSocket"],
    &["std", "net", "TcpStream"],
    &["std", "net", "TcpListener"],
];

/// Reads every `.rs` file below `src` and checks it against the table.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn check(src: &Path) -> io::Result<Vec<String>> {
    let mut files = BTreeMap::new();
    read_tree(src, src, &mut files)?;
    Ok(check_files(&files))
}

fn read_tree(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_tree(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.insert(relative, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The check itself, on `path below src → text`.
fn check_files(files: &BTreeMap<String, String>) -> Vec<String> {
    let parsed: BTreeMap<&str, Source> =
        files.iter().map(|(path, text)| (path.as_str(), Source::parse(text, &module_of(path)))).collect();
    let test_modules: BTreeSet<&Vec<String>> = parsed.values().flat_map(|source| &source.test_modules).collect();
    let mut broken = Vec::new();
    let mut reported = BTreeSet::new();
    for (&path, source) in &parsed {
        let module = module_of(path);
        if (1..=module.len()).any(|len| test_modules.contains(&module[..len].to_vec())) {
            continue;
        }
        // lib.rs re-exports, main.rs hands over to cli: roots are above all rooms.
        let Some(name) = module.first() else { continue };
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            if reported.insert(name.clone()) {
                broken.push(format!("{path}: room `{name}` is not in the table of tests/src/layering: add its row"));
            }
            continue;
        };
        check_source(path, source, room, &mut broken);
    }
    for room in ROOMS.iter().filter(|room| room.forbids_unsafe) {
        let roots = [format!("{}/mod.rs", room.name), format!("{}.rs", room.name)];
        let root = roots.iter().find_map(|path| parsed.get(path.as_str()));
        let in_lib = parsed.get("lib.rs").is_some_and(|lib| lib.forbids_unsafe_in.contains(room.name));
        if root.is_some_and(|root| !root.forbids_unsafe) && !in_lib {
            broken.push(format!("{}: must say #![forbid(unsafe_code)]", roots[0]));
        }
    }
    broken
}

fn check_source(path: &str, source: &Source, room: &Room, broken: &mut Vec<String>) {
    let allowed = reach(room);
    for used in &source.paths {
        if let Some(target) = used.in_crate()
            && target != room.name
            && !allowed.contains(target)
        {
            let reason = match ROOMS.iter().any(|room| room.name == target) {
                true => "an arrow the table does not have",
                false => "not a room: name the room it comes from",
            };
            broken.push(format!("{path}:{}: {} uses {}: {reason}", used.line, room.name, used.text()));
        }
        if room.inputs_only && INPUTS.iter().any(|pattern| used.matches(pattern)) {
            broken.push(format!("{path}:{}: {} must be an input to {}", used.line, used.text(), room.name));
        }
    }
    if !room.unsafe_in.iter().any(|pattern| covers(pattern, path)) {
        broken.extend(
            source.unsafe_lines.iter().map(|line| format!("{path}:{line}: `unsafe` outside the files marked for it")),
        );
    }
}

/// Every room that `room` may use: its arrows, theirs, and the common ones.
fn reach(room: &Room) -> BTreeSet<&'static str> {
    let mut reached: BTreeSet<&str> = COMMON.iter().copied().collect();
    let mut open = room.uses.to_vec();
    while let Some(name) = open.pop() {
        if reached.insert(name) {
            open.extend(ROOMS.iter().filter(|room| room.name == name).flat_map(|room| room.uses));
        }
    }
    reached
}

fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None if pattern.ends_with('/') => path.starts_with(pattern),
        None => path == pattern,
    }
}

/// `proto/tcp/mod.rs` is the module `proto::tcp`; the roots are the empty path.
fn module_of(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod")) || matches!(path, "lib.rs" | "main.rs") {
        parts.pop();
    }
    parts
}
