//! Just enough of Rust's grammar to see paths, `unsafe` and test code: comments and literals go, `use` trees are spread out,
//! items under `#[cfg(test)]` are passed over.

use std::collections::BTreeSet;

/// What one file holds.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Every path of two or more segments outside test code.
    pub(super) paths: Vec<UsedPath>,
    /// Lines with the keyword `unsafe` outside test code.
    pub(super) unsafe_lines: Vec<u32>,
    /// Modules declared `#[cfg(test)] mod x;`, from the crate's root.
    pub(super) test_modules: Vec<Vec<String>>,
    /// It says `#![forbid(unsafe_code)]`.
    pub(super) forbids_unsafe: bool,
    /// Modules declared `#[forbid(unsafe_code)] mod x`.
    pub(super) forbids_unsafe_in: BTreeSet<String>,
}

/// A path as written, with `crate`, `self` and `super` replaced by `crate` and the names from there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: u32,
}

impl UsedPath {
    /// The first name below the crate's root, if the path leads there.
    pub(super) fn in_crate(&self) -> Option<&str> {
        (self.segments.first()? == "crate").then(|| self.segments.get(1).map(String::as_str))?
    }

    pub(super) fn matches(&self, pattern: &[&str]) -> bool {
        match pattern {
            [krate] => self.segments.first().is_some_and(|first| first == krate),
            _ => self.segments.windows(pattern.len()).any(|window| window.iter().zip(pattern).all(|(a, b)| a == b)),
        }
    }

    pub(super) fn text(&self) -> String {
        self.segments.join("::")
    }
}

impl Source {
    /// Scans a file that is the module `module` (names from the crate's root).
    pub(super) fn parse(text: &str, module: &[String]) -> Self {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
            depth: 0,
            module: module.to_vec(),
            inline: Vec::new(),
            found: Self::default(),
        };
        parser.run();
        parser.found
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: u32,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
    module: Vec<String>,
    /// Depth at which each inline module of `module` began.
    inline: Vec<u32>,
    found: Source,
}

impl Parser {
    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| &token.text)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn run(&mut self) {
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "#" => self.attributes(),
                "mod" if is_word(self.peek(1)) && self.peek(2) == "{" => {
                    let name = self.peek(1).to_owned();
                    self.module.push(name);
                    self.inline.push(self.depth);
                    self.depth += 1;
                    self.at += 3;
                }
                "{" => {
                    self.depth += 1;
                    self.at += 1;
                }
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline.last() == Some(&self.depth) {
                        self.inline.pop();
                        self.module.pop();
                    }
                    self.at += 1;
                }
                "unsafe" => {
                    self.found.unsafe_lines.push(self.line());
                    self.at += 1;
                }
                word if is_word(word) => self.path(&mut Vec::new()),
                _ => self.at += 1,
            }
        }
    }

    /// One run of attributes, and the item after it if that is test code.
    fn attributes(&mut self) {
        let (mut test, mut forbids) = (false, false);
        while self.peek(0) == "#" {
            let inner = self.peek(1) == "!";
            let begin = self.at + 1 + usize::from(inner);
            self.at = begin;
            if self.peek(0) != "[" {
                return;
            }
            self.skip_group();
            let words: Vec<&str> = self.tokens[begin..self.at].iter().map(|token| token.text.as_str()).collect();
            let is_test = is_test_attribute(&words);
            let is_forbid = words.starts_with(&["[", "forbid", "("]) && words.contains(&"unsafe_code");
            // `#[path::to::attribute]`, `#[derive(a::B)]` and the `unsafe` of `#[unsafe(no_mangle)]` count as any code does.
            let end = std::mem::replace(&mut self.at, begin + 1);
            if !is_test {
                self.attribute_body(end);
            }
            self.at = end;
            if inner {
                self.found.forbids_unsafe |= is_forbid;
                if is_test {
                    self.at = self.tokens.len();
                    return;
                }
            } else {
                test |= is_test;
                forbids |= is_forbid;
            }
        }
        if test {
            self.skip_item();
        } else if forbids {
            let name = (0..6).find(|&i| self.peek(i) == "mod").map(|i| self.peek(i + 1).to_owned());
            self.found.forbids_unsafe_in.extend(name);
        }
    }

    fn attribute_body(&mut self, end: usize) {
        while self.at < end {
            match self.peek(0) {
                "unsafe" => {
                    self.found.unsafe_lines.push(self.line());
                    self.at += 1;
                }
                word if is_word(word) => self.path(&mut Vec::new()),
                _ => self.at += 1,
            }
        }
    }

    /// Passes over the item, field or statement at hand; a `mod x;` is noted.
    fn skip_item(&mut self) {
        const ITEMS: [&str; 16] = [
            "pub",
            "fn",
            "mod",
            "impl",
            "use",
            "struct",
            "enum",
            "const",
            "static",
            "trait",
            "type",
            "unsafe",
            "extern",
            "async",
            "macro_rules",
            "union",
        ];
        let is_item = ITEMS.contains(&self.peek(0));
        let declared = (0..6).take_while(|&i| self.peek(i) != "{").find(|&i| self.peek(i) == "mod");
        if let Some(i) = declared.filter(|&i| self.peek(i + 2) == ";") {
            let mut module = self.module.clone();
            module.push(self.peek(i + 1).to_owned());
            self.found.test_modules.push(module);
        }
        let is_use = (0..6).take_while(|&i| !matches!(self.peek(i), "" | "{" | ";")).any(|i| self.peek(i) == "use");
        loop {
            match self.peek(0) {
                "" => return,
                "(" | "[" => self.skip_group(),
                "{" => {
                    self.skip_group();
                    // `use a::{b};` and `let x = S { .. };` end with the semicolon.
                    if !is_use && self.peek(0) != ";" {
                        return;
                    }
                }
                ";" => {
                    self.at += 1;
                    return;
                }
                "," if !is_item => {
                    self.at += 1;
                    return;
                }
                // The last field of a struct: the brace is not ours.
                "}" => return,
                _ => self.at += 1,
            }
        }
    }

    /// From an opening bracket past its partner.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// A path that begins at the word at hand, below `prefix`; a `use` tree is spread out.
    fn path(&mut self, prefix: &mut Vec<String>) {
        let line = self.line();
        let kept = prefix.len();
        loop {
            prefix.push(self.peek(0).to_owned());
            self.at += 1;
            if self.peek(0) != "::" {
                break;
            }
            let next = self.peek(1).to_owned();
            if next == "{" {
                self.at += 2;
                self.group(prefix);
                prefix.truncate(kept);
                return;
            }
            if !is_word(&next) && next != "*" {
                break;
            }
            self.at += 1;
        }
        if prefix.len() > 1 {
            let segments = self.resolve(prefix);
            self.found.paths.push(UsedPath { segments, line });
        }
        prefix.truncate(kept);
    }

    fn group(&mut self, prefix: &mut Vec<String>) {
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "}" => {
                    self.at += 1;
                    return;
                }
                "as" => self.at += 2,
                // `a::{self}` is `a`.
                "self" => {
                    let (segments, line) = (self.resolve(prefix), self.line());
                    self.found.paths.push(UsedPath { segments, line });
                    self.at += 1;
                }
                word if is_word(word) || word == "*" => self.path(prefix),
                _ => self.at += 1,
            }
        }
    }

    fn resolve(&self, segments: &[String]) -> Vec<String> {
        let mut base = match segments[0].as_str() {
            "self" | "super" => self.module.clone(),
            _ => return segments.to_vec(),
        };
        let up = segments.iter().take_while(|segment| matches!(segment.as_str(), "self" | "super")).count();
        for segment in &segments[..up] {
            if segment == "super" {
                base.pop();
            }
        }
        base.insert(0, "crate".to_owned());
        base.extend_from_slice(&segments[up..]);
        base
    }
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[test]`; not `#[cfg(not(test))]`, `#[cfg_attr(test, …)]`.
fn is_test_attribute(words: &[&str]) -> bool {
    match words {
        ["[", "test", "]"] => true,
        ["[", "cfg", "(", rest @ ..] => {
            let negated = rest.windows(3).any(|w| w == ["not", "(", "test"]);
            let any = rest.first() == Some(&"any");
            rest.contains(&"test") && !negated && !any
        }
        _ => false,
    }
}

/// Words, `::`, and single characters; comments are gone, and each literal is `""`.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let begin = i;
        let mut token = None;
        match (get(i), get(i + 1)) {
            ('/', '/') => {
                while i < chars.len() && get(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                loop {
                    match (get(i), get(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            ('"', _) => {
                i = end_of_string(&chars, i);
                token = Some("\"\"".to_owned());
            }
            ('\'', next) => {
                if next == '\\' {
                    i += 3; // the escaped character may be a quote
                    while i < chars.len() && get(i) != '\'' {
                        i += 1;
                    }
                    i += 1;
                    token = Some("\"\"".to_owned());
                } else if get(i + 2) == '\'' {
                    i += 3;
                    token = Some("\"\"".to_owned());
                } else {
                    i += 1; // a lifetime: its name is a word, which begins no path
                    while get(i).is_alphanumeric() || get(i) == '_' {
                        i += 1;
                    }
                }
            }
            (':', ':') => {
                i += 2;
                token = Some("::".to_owned());
            }
            (c, _) if c.is_alphabetic() || c == '_' => {
                while get(i).is_alphanumeric() || get(i) == '_' {
                    i += 1;
                }
                let word: String = chars[begin..i].iter().collect();
                let hashes = (i..).take_while(|&k| get(k) == '#').count();
                token = Some(match (word.as_str(), get(i), get(i + hashes)) {
                    ("r" | "br" | "cr", _, '"') => {
                        i = end_of_raw_string(&chars, i + hashes + 1, hashes);
                        "\"\"".to_owned()
                    }
                    ("b" | "c", '"', _) => {
                        i = end_of_string(&chars, i);
                        "\"\"".to_owned()
                    }
                    // b'x': the quote is the next token's business.
                    ("r", '#', _) => {
                        i += 1; // r#word
                        continue;
                    }
                    _ => word,
                });
            }
            (c, _) if c.is_ascii_digit() => {
                while get(i).is_alphanumeric() || get(i) == '_' {
                    i += 1;
                }
                token = Some("\"\"".to_owned());
            }
            (c, _) => {
                i += 1;
                if !c.is_whitespace() {
                    token = Some(c.to_string());
                }
            }
        }
        tokens.extend(token.map(|text| Token { text, line }));
        let end = i.min(chars.len());
        line += u32::try_from(chars[begin..end].iter().filter(|&&c| c == '\n').count()).unwrap_or(0);
    }
    tokens
}

/// From the opening quote past the closing one.
fn end_of_string(chars: &[char], open: usize) -> usize {
    let mut i = open + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

fn end_of_raw_string(chars: &[char], mut i: usize, hashes: usize) -> usize {
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}
