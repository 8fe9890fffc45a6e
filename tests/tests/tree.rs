//! What must hold of every file in the tree.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Above this a file is two rooms.
const MAX_LINES: usize = 700;
/// Endings of the files that people write and read.
const WRITTEN: [&str; 9] = ["rs", "c", "h", "md", "toml", "py", "sh", "pkt", "yml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace's root")
}

/// Tracked files (all of them, where this is not a checkout), with their text. Binary ones are left out.
fn files() -> Vec<(PathBuf, String)> {
    let root = root();
    let listed = Command::new("git").current_dir(&root).args(["ls-files", "-z"]).output();
    let paths: Vec<PathBuf> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_terminator('\0').map(PathBuf::from).collect()
        }
        _ => walk(&root, &root),
    };
    assert!(
        paths.iter().any(|path| path.ends_with("engine/Cargo.toml")),
        "no engine/Cargo.toml among {} files",
        paths.len()
    );
    paths.into_iter().filter_map(|path| fs::read_to_string(root.join(&path)).ok().map(|text| (path, text))).collect()
}

fn walk(root: &Path, folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the workspace").map(|entry| entry.expect("an entry").path());
    let entries = entries.filter(|path| !path.ends_with("target") && !path.ends_with(".git"));
    entries
        .flat_map(|path| if path.is_dir() { walk(root, &path) } else { vec![path] })
        .map(|path| path.strip_prefix(root).map(Path::to_path_buf).unwrap_or(path))
        .collect()
}

fn is_written(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => WRITTEN.iter().any(|written| extension == *written),
        // scripts have no ending
        None => path.starts_with("scripts") || path.starts_with(".ci"),
    }
}

#[test]
fn files_stay_small() {
    let long: Vec<_> = files()
        .into_iter()
        .filter(|(path, _)| is_written(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "files over {MAX_LINES} lines: {long:?}");
}

#[test]
fn no_file_names_a_registry_or_a_folder_of_one_machine() {
    // Written so that this file does not name them either.
    let hosts = [
        concat!("crates", ".io"),
        concat!("docs", ".rs/"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!("deb", ".debian.org"),
        concat!("security", ".debian.org"),
        concat!("proxy", ".golang.org"),
    ];
    let folders = [concat!("/wo", "rk/"), concat!("/tmp", "/fw/"), concat!(".lib", "rary"), concat!("/ro", "ot/")];
    let mut named = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| !path.ends_with("Cargo.lock")) {
        for (number, line) in text.lines().enumerate() {
            for name in hosts.iter().chain(&folders).filter(|name| line.contains(**name)) {
                named.push(format!("{}:{}: {name}", path.display(), number + 1));
            }
        }
    }
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    for (path, text) in files().iter().filter(|(_, text)| text.starts_with("#!") && !text.starts_with("#![")) {
        let mode = fs::metadata(root().join(path)).expect("a tracked file").permissions().mode();
        assert!(mode & 0o111 != 0, "{} begins with {:?} and is not executable", path.display(), text.lines().next());
    }
}

#[test]
fn the_readme_shows_code_that_is_compiled() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let example = fs::read_to_string(root().join("engine/examples/udp_echo.rs")).expect("the example");
    let blocks: Vec<&str> = readme.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "no code in README.md");
    for block in blocks {
        assert!(example.contains(block), "not in engine/examples/udp_echo.rs:\n{block}");
    }
}
