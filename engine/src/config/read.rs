//! Reading one table after the other, keeping the place of everything and collecting what is wrong.

use super::Problem;
use std::{cell::RefCell, net::Ipv4Addr, ops::RangeInclusive};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// More problems than this are not worth reading.
const PROBLEMS_MAX: usize = 50;

/// A text and what was found wrong in it.
pub(super) struct Doc<'a> {
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

/// Where a value stands: its field, and the byte at which it begins.
#[derive(Clone, Debug)]
pub(super) struct At {
    field: String,
    offset: usize,
}

/// A value and where it stands; of a default, the table that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: At,
}

impl<'a> Doc<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, problems: RefCell::default() }
    }

    /// Notes a problem.
    pub(super) fn wrong(&self, at: &At, message: impl Into<String>) {
        let before = self.text.get(..at.offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let problem = Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            field: at.field.clone(),
            message: message.into(),
        };
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Notes a syntax error at a byte.
    pub(super) fn syntax(&self, offset: usize, message: &str) {
        let message = message.lines().collect::<Vec<_>>().join("; ");
        self.wrong(&At { field: String::new(), offset }, format!("not TOML: {message}"));
    }

    /// A problem with this field was noted: what follows from its value says nothing.
    pub(super) fn is_wrong(&self, field: &str) -> bool {
        self.problems.borrow().iter().any(|problem| problem.field == field)
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Everything found, by place.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}

/// One table that is being read. Keys that nobody asked for are unknown: [`finish`](Self::finish) reports them.
pub(super) struct Section<'a> {
    doc: &'a Doc<'a>,
    table: Option<&'a DeTable<'a>>,
    at: At,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(doc: &'a Doc<'a>, table: &'a DeTable<'a>) -> Self {
        Self { doc, table: Some(table), at: At { field: String::new(), offset: 0 }, known: Vec::new() }
    }

    /// A value's field was found wrong already.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.doc.is_wrong(&self.field(key))
    }

    /// The key is in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Where the table begins.
    pub(super) fn at(&self) -> &At {
        &self.at
    }

    /// The table is in the file.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    fn field(&self, key: &str) -> String {
        if self.at.field.is_empty() { key.into() } else { format!("{}.{key}", self.at.field) }
    }

    /// Where a key's value stands; of an absent one, where the table begins.
    pub(super) fn place(&self, key: &str) -> At {
        let value = self.table.and_then(|table| table.get(key));
        At { field: self.field(key), offset: value.map_or(self.at.offset, |value| value.span().start) }
    }

    fn get(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, At)> {
        self.known.push(key);
        let value = self.table?.get(key)?;
        Some((value.get_ref(), At { field: self.field(key), offset: value.span().start }))
    }

    /// A value, if it is there and `convert` takes it.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let (value, at) = self.get(key)?;
        match convert(value) {
            Ok(value) => Some(Located { value, at }),
            Err(message) => {
                self.doc.wrong(&at, message);
                None
            }
        }
    }

    /// A value, or its default.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        convert: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Located<T> {
        let fallback = Located { value: default, at: self.place(key) };
        self.optional(key, convert).unwrap_or(fallback)
    }

    /// A value that must be there; `what` says what it is.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        what: &str,
        convert: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let missing = self.table.is_none_or(|table| !table.contains_key(key));
        if missing {
            self.doc.wrong(&self.place(key), format!("missing: {what}"));
        }
        self.optional(key, convert)
    }

    /// A list, each of whose elements `convert` takes.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        convert: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Vec<Located<T>> {
        let Some((value, at)) = self.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value else {
            self.doc.wrong(&at, not_a("a list", value));
            return Vec::new();
        };
        let mut list = Vec::new();
        for element in array.iter() {
            let at = At { field: at.field.clone(), offset: element.span().start };
            match convert(element.get_ref()) {
                Ok(value) => list.push(Located { value, at }),
                Err(message) => self.doc.wrong(&at, message),
            }
        }
        list
    }

    /// A table within this one; an absent one reads as empty.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'a> {
        let mut section = Section { doc: self.doc, table: None, at: self.place(key), known: Vec::new() };
        if let Some((value, at)) = self.get(key) {
            section.at = at;
            match value {
                DeValue::Table(table) => section.table = Some(table),
                other => self.doc.wrong(&section.at, not_a("a table", other)),
            }
        }
        section
    }

    /// A list of tables. Their fields are numbered if there are several.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some((value, at)) = self.get(key) else { return Vec::new() };
        let elements: Vec<&Spanned<DeValue<'_>>> = match value {
            DeValue::Array(array) => array.iter().collect(),
            other => {
                let hint = format!("; write [[{}]]", at.field);
                self.doc.wrong(&at, not_a("a list of tables", other) + &hint);
                return Vec::new();
            }
        };
        let several = elements.len() > 1;
        let mut sections = Vec::new();
        for (i, element) in elements.into_iter().enumerate() {
            let field = if several { format!("{}[{i}]", at.field) } else { at.field.clone() };
            let at = At { field, offset: element.span().start };
            match element.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section { doc: self.doc, table: Some(table), at, known: Vec::new() });
                }
                other => self.doc.wrong(&at, not_a("a table", other)),
            }
        }
        sections
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in table.iter() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let at = At { field: self.field(name), offset: key.span().start };
            let hint = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.doc.wrong(&at, format!("unknown key; {hint}"));
        }
    }
}

fn not_a(wanted: &str, value: &DeValue<'_>) -> String {
    let found = match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    };
    format!("must be {wanted}, not {found}")
}

// ---- converters

pub(super) fn string(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(not_a("a string", other)),
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(not_a("true or false", other)),
    }
}

/// A whole number of `range`.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, String>
where
    T: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let DeValue::Integer(number) = value else { return Err(not_a("a whole number", value)) };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| T::try_from(n).ok());
        parsed
            .filter(|n| range.contains(n))
            .ok_or_else(|| format!("must be from {} to {}, not {number}", range.start(), range.end()))
    }
}

/// A number from 0 to 1.
pub(super) fn probability(value: &DeValue<'_>) -> Result<f64, String> {
    let text = match value {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        other => return Err(not_a("a probability from 0 to 1", other)),
    };
    text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| not_a("a probability from 0 to 1", value))
}

/// One of these words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let names = || words.iter().map(|(name, _)| *name);
        let DeValue::String(text) = value else { return Err(not_a("a string", value)) };
        if let Some((_, word)) = words.iter().find(|(name, _)| name == text) {
            return Ok(*word);
        }
        let hint = nearest(text, names()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let list: Vec<String> = names().map(|name| format!("{name:?}")).collect();
        Err(format!("must be {}, not {text:?}{hint}", list.join(" or ")))
    }
}

/// A string that parses as `T`.
pub(super) fn parsed<T: std::str::FromStr>(wanted: &'static str) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let DeValue::String(text) = value else { return Err(not_a(&format!("a string: {wanted}"), value)) };
        text.parse().map_err(|_| format!("must be {wanted}, not {text:?}"))
    }
}

/// An address that one host may have.
pub(super) fn host_address(addr: Ipv4Addr) -> Result<(), &'static str> {
    match addr {
        a if a.is_unspecified() || a.octets()[0] == 0 => Err("is in 0.0.0.0/8, which no host may have"),
        a if a.is_loopback() => Err("is a loopback address, which never is on a wire"),
        a if a.is_multicast() => Err("is a multicast address: only unicast is offered"),
        a if a.octets()[0] >= 240 => Err("is a broadcast or reserved address"),
        _ => Ok(()),
    }
}

/// The candidate most like `name`, if it is like it at all.
fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= 1 + candidate.len() / 4)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance in characters; two neighbours that changed places are one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
