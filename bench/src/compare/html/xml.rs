//! Reads the page back, as strictly as XML is: for tests.

/// An element and what is in it, text aside.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Itself, and all elements below it.
    pub(super) fn all(&self) -> Vec<&Self> {
        std::iter::once(self).chain(self.children.iter().flat_map(Self::all)).collect()
    }
}

/// The root element; what is wrong and where, if anything is.
pub(super) fn parse(text: &str) -> Result<Element, String> {
    let mut rest = text.strip_prefix("<!doctype html>").unwrap_or(text).trim();
    let mut open = vec![Element::default()];
    while !rest.is_empty() {
        let here = |what: &str| format!("{what}: {:.60}", rest);
        let Some(tag) = rest.strip_prefix('<') else {
            let (text, after) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            references(text)?;
            rest = after;
            continue;
        };
        // No value has a '>' that is not escaped.
        let (tag, after) = tag.split_once('>').ok_or_else(|| here("no end of a tag"))?;
        if let Some(name) = tag.strip_prefix('/') {
            let element =
                open.pop().filter(|element| element.name == name).ok_or_else(|| here("ends what is not open"))?;
            open.last_mut().ok_or_else(|| here("ends too much"))?.children.push(element);
        } else {
            let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
            let element = start(tag.trim_end()).map_err(|what| here(&what))?;
            if empty {
                open.last_mut().ok_or_else(|| here("outside of everything"))?.children.push(element);
            } else {
                open.push(element);
            }
        }
        rest = after;
    }
    let mut root = open.pop().filter(|root| root.name.is_empty()).ok_or("not everything ends")?;
    if root.children.len() == 1 { Ok(root.children.remove(0)) } else { Err("not one root".into()) }
}

/// `name a="b" c="d"`.
fn start(tag: &str) -> Result<Element, String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !name.starts_with('-')
    };
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    if !is_name(name) {
        return Err("no name".into());
    }
    let mut element = Element { name: name.into(), ..Element::default() };
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").ok_or("an attribute without a quoted value")?;
        let (value, after) = after.split_once('"').ok_or("a value without an end")?;
        if !is_name(name) || value.contains('<') || element.attribute(name).is_some() {
            return Err(format!("the attribute {name:?}"));
        }
        references(value)?;
        element.attributes.push((name.into(), value.into()));
        rest = match after.strip_prefix(' ') {
            Some(after) => after,
            None if after.is_empty() => after,
            None => return Err("attributes without a space between them".into()),
        };
    }
    Ok(element)
}

/// Every `&` begins one of those that XML knows without a document type.
fn references(text: &str) -> Result<(), String> {
    let known = ["amp;", "lt;", "gt;", "quot;"];
    let wrong = text.split('&').skip(1).find(|after| !known.iter().any(|name| after.starts_with(name)));
    wrong.map_or(Ok(()), |after| Err(format!("&{after:.20}")))
}

#[test]
fn what_is_not_xml_is_refused() {
    let wrong = [
        "<a>",
        "<a></b>",
        "</a>",
        "<a b=c></a>",
        "<a b=\"c></a>",
        "<a b=\"1\" b=\"2\"></a>",
        "<a>&</a>",
        "<a>&nbsp;</a>",
        "<a/><b/>",
        "<a b=\"1\"c=\"2\"/>",
        "<a",
        "< a/>",
        "",
    ];
    for text in wrong {
        assert!(parse(text).is_err(), "{text}");
    }
    let right = parse("<!doctype html><a b=\"c\"><d e=\"&amp;\" /> text &lt; <f></f></a>").unwrap();
    assert_eq!((right.attribute("b"), right.all().len()), (Some("c"), 3));
}
