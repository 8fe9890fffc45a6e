//! The pages of `docs/trsocket` against the header, the table of `include/README.md` and the compiler.

use crate::c_header::{self, Toolchain, engine, numbers, prototypes, prototypes_in};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

/// What stands under one `## call, call` heading.
struct Section {
    page: PathBuf,
    calls: Vec<String>,
    text: String,
}

impl Section {
    /// The blocks of C, without the fences: the synopsis first, then the example.
    fn code(&self) -> Vec<&str> {
        blocks(&self.text)
    }

    fn errors(&self) -> BTreeSet<String> {
        errors_in(&self.text)
    }
}

fn blocks(text: &str) -> Vec<&str> {
    text.split("```c\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Every `TM_E…`.
fn errors_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("TM_E")).map(String::from).collect()
}

fn pages() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(engine().join("docs/trsocket")).expect("the pages");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.map(|path| (path.clone(), fs::read_to_string(path).expect("a page"))).collect()
}

fn sections() -> Vec<Section> {
    let of_page = |(page, text): (PathBuf, String)| {
        let parts = text.split("\n## tf").skip(1).map(|part| {
            let (heading, text) = part.split_once('\n').expect("text under the heading");
            let calls = format!("tf{heading}").split(", ").map(String::from).collect();
            // What follows under a heading of another kind is none of the calls'.
            let text = text.split("\n## ").next().unwrap_or(text).to_owned();
            Section { page: page.clone(), calls, text }
        });
        parts.collect::<Vec<_>>()
    };
    pages().into_iter().flat_map(of_page).collect()
}

#[test]
fn every_call_has_one_section_with_the_headers_synopsis_errors_and_an_example() {
    let header = prototypes();
    let mut described = BTreeMap::new();
    for section in sections() {
        let place = format!("{}: {:?}", section.page.display(), section.calls);
        let code = section.code();
        assert!(code.len() >= 2, "{place}: a synopsis and an example are wanted");
        assert!(section.text.contains("\nErrors"), "{place}: no errors");
        let synopsis = prototypes_in(code[0]);
        assert_eq!(synopsis.len(), section.calls.len(), "{place}: the synopsis has other calls");
        for call in &section.calls {
            assert_eq!(synopsis.get(call), header.get(call), "{place}: {call}, page against header");
            assert!(described.insert(call.clone(), place.clone()).is_none(), "{place}: {call} has two sections");
        }
    }
    for call in header.keys() {
        assert!(described.contains_key(call), "{call} has no section in docs/trsocket");
    }
}

#[test]
fn the_pages_name_every_error_of_the_table_and_none_that_is_not() {
    let known: BTreeSet<String> = numbers().into_iter().collect();
    for (page, text) in pages() {
        for error in errors_in(&text) {
            assert!(known.contains(&error), "{}: {error} is not in the header", page.display());
        }
    }
    let sections = sections();
    let section_of = |call: &str| sections.iter().find(|section| section.calls.iter().any(|one| one == call));
    let table = fs::read_to_string(engine().join("include/README.md")).expect("the table");
    for row in table.lines().filter(|line| line.starts_with("| `tf")) {
        let [_, calls, errors, ..] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        // The calls of a row may have several sections: together they name its errors.
        let mut named = BTreeSet::new();
        for call in calls.split('`').skip(1).step_by(2) {
            named.extend(section_of(call).unwrap_or_else(|| panic!("{call} has no section")).errors());
        }
        let is_error = |word: &&str| word.len() > 3 && word.starts_with('E');
        for error in errors.split(|c: char| !c.is_ascii_uppercase()).filter(is_error) {
            assert!(named.contains(&format!("TM_{error}")), "{row}: TM_{error} is not in the section");
        }
    }
}

/// What the examples use.
const PROLOGUE: &str = "#include <stdio.h>\n#include <string.h>\n#include \"trsocket.h\"\n\
    void on_socket(int sd, int events);\nvoid free_buffer(char *buffer);\n\
    int sd, client, length, fromLength, error;\nstruct sockaddr_in local, to, from;\nstruct timeval timeout;\n\
    fd_set readable;\nchar *data, buffer[2048], header[4];\nttUserMessage h;\nttUserBuffer frame;\nttUserBlock blocks[2];\n\
    ttUserInterface interface;\nttUserLinkLayer link;\nttUserIpAddress address;\ntfStats stats;\n";

#[test]
fn the_examples_of_the_pages_compile() {
    let Some(tools) = Toolchain::find() else { return };
    // `link` is the C library's too.
    let mut text = String::from("#define link link_layer\n") + PROLOGUE;
    for (number, (page, whole)) in pages().into_iter().enumerate() {
        for (at, code) in blocks(&whole).into_iter().enumerate().filter(|(_, code)| prototypes_in(code).is_empty()) {
            text += &format!("/* {} */\nvoid example_{number}_{at}(void);\n", page.display());
            text += &format!("void example_{number}_{at}(void)\n{{\n{code}}}\n");
        }
    }
    tools.compile_text("gcc", "c", &text, &["-std=c99"]);
}

#[test]
fn the_pages_links_lead_somewhere() {
    let pages = pages();
    for (page, text) in &pages {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let whole =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {target}: {error}", page.display()));
            let headings = whole.lines().filter(|line| line.starts_with('#'));
            let mut slugs = headings.map(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(", ", "-"));
            assert!(anchor.is_empty() || slugs.any(|slug| slug == anchor), "{}: {target}", page.display());
        }
    }
    let index = fs::read_to_string(c_header::engine().join("docs/trsocket/README.md")).expect("the index");
    for (page, _) in &pages {
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "{name} is not in the index");
    }
}
