//! Citations in comments: `RFC 9293 MUST-12, MUST-14` and `RFC 6298 sections 5.3 and 5.5`.

/// What is cited of an RFC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A requirement by its number.
    Must(u32),
    /// A section.
    Section(String),
}

/// The comment that a packet script begins with.
pub(super) fn header(script: &str) -> String {
    let comment = |line: &str| line.strip_prefix('#').or_else(|| line.strip_prefix("//")).map(str::to_owned);
    script.lines().map_while(comment).collect::<Vec<_>>().join(" ")
}

/// The comments right above `#[test]`, or between it and the function.
pub(super) fn above_tests(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let belongs = |line: &&str| line.starts_with("//") || line.starts_with("#[");
    let tests = lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[test]"));
    tests
        .map(|(at, _)| {
            let above = lines[..at].iter().rev().take_while(|line| belongs(line)).count();
            let below = lines[at..].iter().take_while(|line| belongs(line)).count();
            let comments = lines[at - above..at + below].iter().filter(|line| line.starts_with("//"));
            comments.map(|line| line.trim_start_matches('/')).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// What a comment cites. After an RFC's number, everything counts up to the first word that is no citation.
pub(super) fn items(comment: &str) -> Vec<(u32, Item)> {
    let mut found = Vec::new();
    let mut words = comment.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if word.trim_start_matches(['(', '`']) != "RFC" {
            continue;
        }
        let Some(rfc) = words.next_if(|word| number(word).is_some()).and_then(number) else { continue };
        let mut in_sections = false;
        let mut range_from: Option<String> = None;
        while let Some(word) = words.peek() {
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            if let Some(must) = bare.strip_prefix("MUST-").and_then(|number| number.parse().ok()) {
                found.push((rfc, Item::Must(must)));
            } else if in_sections && is_section(bare) {
                for section in range_from.take().map_or(vec![], |from| between(&from, bare)) {
                    found.push((rfc, Item::Section(section)));
                }
                found.push((rfc, Item::Section(bare.to_owned())));
            } else if matches!(bare, "section" | "sections") {
                in_sections = true;
            } else if bare == "to" {
                range_from = match found.last() {
                    Some((_, Item::Section(from))) => Some(from.clone()),
                    _ => None,
                };
            } else if bare != "and" {
                break;
            }
            let ends = word.ends_with([':', '.', ';', ')']);
            words.next();
            if ends {
                break;
            }
        }
    }
    found
}

fn number(word: &str) -> Option<u32> {
    word.trim_end_matches([',', ':', '.', ';', ')']).parse().ok()
}

fn is_section(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// The sections between 2.1 and 2.4: 2.2 and 2.3.
fn between(from: &str, to: &str) -> Vec<String> {
    let split = |section: &str| {
        let (chapter, last) = section.rsplit_once('.')?;
        Some((chapter.to_owned(), last.parse::<u32>().ok()?))
    };
    match (split(from), split(to)) {
        (Some((chapter, from)), Some((same, to))) if chapter == same => {
            (from + 1..to).map(|last| format!("{chapter}.{last}")).collect()
        }
        _ => Vec::new(),
    }
}
