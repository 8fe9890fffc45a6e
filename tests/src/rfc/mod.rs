//! Which requirements of TCP's RFCs have a test.
//!
//! `tests/rfc/*.toml` lists what the RFCs say must or must not be, in our words. A test says what it covers in the comment right above it, or in
//! the comment that a packet script begins with:
//!
//! ```text
//! /// RFC 9293 MUST-12, MUST-14; RFC 6298 section 5.3: …
//! #[test]
//! ```
//!
//! A requirement of RFC 9293 is covered by its number (appendix B), one of the others by its section. [`uncovered`] is what nobody names.
//! What is not tested must say why (`untested`); when a test comes, the reason has to go: so that list only shrinks.

mod cite;
#[cfg(test)]
mod tests;

use cite::Item;
use std::{collections::BTreeSet, fmt, fs, io, path::Path};

/// One thing that an RFC demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The RFC's number.
    pub rfc: u32,
    /// Its number in RFC 9293's appendix B.
    pub must: Option<u32>,
    /// Where it stands.
    pub section: String,
    /// What it demands, in our words.
    pub text: String,
    /// Why there is no test.
    pub untested: Option<String>,
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.must {
            Some(must) => write!(f, "RFC {} MUST-{must} (section {}): {}", self.rfc, self.section, self.text),
            None => write!(f, "RFC {} section {}: {}", self.rfc, self.section, self.text),
        }
    }
}

/// Reads every `.toml` below `folder`.
///
/// # Errors
/// A file that cannot be read, or lacks a field: the error names file and field.
pub fn requirements(folder: &Path) -> anyhow::Result<Vec<Requirement>> {
    let mut all = Vec::new();
    for (path, text) in read_tree(folder, &["toml"])? {
        parse(&text, &mut all).map_err(|error| error.context(path))?;
    }
    Ok(all)
}

fn parse(text: &str, into: &mut Vec<Requirement>) -> anyhow::Result<()> {
    let table: toml::Table = text.parse()?;
    let rfc = table.get("rfc").and_then(toml::Value::as_integer);
    let rfc = rfc.and_then(|rfc| u32::try_from(rfc).ok()).ok_or_else(|| anyhow::anyhow!("`rfc` is missing"))?;
    let musts = table.get("must").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, must) in musts.iter().enumerate() {
        let string = |name| must.get(name).and_then(toml::Value::as_str).map(str::to_owned);
        let needed =
            |name| string(name).ok_or_else(|| anyhow::anyhow!("`{name}` is missing in requirement {}", at + 1));
        let number = must.get("number").and_then(toml::Value::as_integer).and_then(|number| u32::try_from(number).ok());
        let untested = string("untested");
        into.push(Requirement { rfc, must: number, section: needed("section")?, text: needed("text")?, untested });
    }
    Ok(())
}

/// All that the tests below `folder` say they cover.
///
/// # Errors
/// A file that cannot be read.
pub fn citations(folder: &Path) -> io::Result<BTreeSet<(u32, Item)>> {
    let mut all = BTreeSet::new();
    for (path, text) in read_tree(folder, &["rs", "pkt"])? {
        let comments = if path.ends_with(".pkt") { vec![cite::header(&text)] } else { cite::above_tests(&text) };
        for comment in comments {
            all.extend(cite::items(&comment));
        }
    }
    Ok(all)
}

/// The requirements that no citation names.
pub fn uncovered<'a>(requirements: &'a [Requirement], citations: &BTreeSet<(u32, Item)>) -> Vec<&'a Requirement> {
    let is_named = |requirement: &Requirement| match requirement.must {
        Some(must) => citations.contains(&(requirement.rfc, Item::Must(must))),
        None => citations.contains(&(requirement.rfc, Item::Section(requirement.section.clone()))),
    };
    requirements.iter().filter(|requirement| !is_named(requirement)).collect()
}

/// What is wrong with the list: requirements without a test or a reason, and reasons that have become untrue.
pub fn complaints(requirements: &[Requirement], citations: &BTreeSet<(u32, Item)>) -> Vec<String> {
    let uncovered = uncovered(requirements, citations);
    let complain = |requirement: &Requirement| match (&requirement.untested, uncovered.contains(&requirement)) {
        (None, true) => Some(format!("no test names it: {requirement}")),
        (Some(_), false) => Some(format!("has a test now, take `untested` out: {requirement}")),
        _ => None,
    };
    requirements.iter().filter_map(complain).collect()
}

/// Paths and texts of the files with one of these endings.
fn read_tree(folder: &Path, endings: &[&str]) -> io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
                files.push((path.to_string_lossy().into_owned(), fs::read_to_string(&path)?));
            }
        }
    }
    files.sort();
    Ok(files)
}
