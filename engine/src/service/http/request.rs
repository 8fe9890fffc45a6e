//! Reading a request (RFC 9112).

use super::site::{PageId, Persistence, Site, Status};
use std::{borrow::Cow, mem::MaybeUninit};

/// Fields of a request at most.
const FIELDS_MAX: usize = 64;

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) page: PageId,
    /// HEAD: the fields alone.
    pub(super) head_only: bool,
    pub(super) persistence: Persistence,
}

/// What some bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Too little yet.
    Partial,
    /// A request of so many bytes.
    Whole(usize, Answer),
    /// Nothing that could be read on from.
    Wrong(Status),
}

/// Reads the request that `bytes` begin with.
pub(super) fn parse(site: &Site, bytes: &[u8]) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let used = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Wrong(Status::HeadersTooLarge),
        Err(httparse::Error::Version) => return Parsed::Wrong(version_status(bytes)),
        Err(_) => return Parsed::Wrong(Status::BadRequest),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Parsed::Wrong(Status::BadRequest);
    };
    let Some(fields) = Fields::read(request.headers) else { return Parsed::Wrong(Status::BadRequest) };
    // RFC 9112 section 3.2: exactly one, since 1.1.
    if fields.hosts > 1 || (version == 1 && fields.hosts == 0) {
        return Parsed::Wrong(Status::BadRequest);
    }
    // A body is not read: what follows it cannot be told from it without looking at all of it.
    let ends = fields.body || fields.close;
    let persistence = match version {
        _ if ends => Persistence::Close,
        1 => Persistence::Implicit,
        _ if fields.keep_alive => Persistence::KeepAlive,
        _ => Persistence::Close,
    };
    let head_only = method == "HEAD";
    let page = if !head_only && method != "GET" {
        site.status(Status::MethodNotAllowed)
    } else {
        match path(target) {
            Some(path) => site.find(&path).unwrap_or(site.status(Status::NotFound)),
            None => return Parsed::Wrong(Status::BadRequest),
        }
    };
    Parsed::Whole(used, Answer { page, head_only, persistence })
}

/// A request line whose version is HTTP, but not one of ours, against one that is no HTTP at all.
fn version_status(bytes: &[u8]) -> Status {
    let line = bytes.split(|&byte| byte == b'\n').find(|line| !line.is_empty() && *line != b"\r").unwrap_or_default();
    let word = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    let digits = |rest: &[u8]| matches!(rest, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit());
    match word.strip_prefix(b"HTTP/") {
        Some(version) if digits(version) => Status::VersionNotSupported,
        _ => Status::BadRequest,
    }
}

/// What matters of a request's fields.
#[derive(Debug, Default)]
struct Fields {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    body: bool,
}

impl Fields {
    /// `None`: they contradict each other.
    fn read(headers: &[httparse::Header<'_>]) -> Option<Self> {
        let mut fields = Self::default();
        let (mut length, mut coded) = (None, false);
        for header in headers {
            // By length first: most fields are none of these.
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("Host") => fields.hosts += 1,
                10 if header.name.eq_ignore_ascii_case("Connection") => {
                    for token in header.value.split(|&byte| byte == b',') {
                        let token = token.trim_ascii();
                        fields.close |= token.eq_ignore_ascii_case(b"close");
                        fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if header.name.eq_ignore_ascii_case("Content-Length") => {
                    let digits = std::str::from_utf8(header.value.trim_ascii()).ok()?;
                    let value =
                        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>())?.ok()?;
                    // RFC 9112 section 6.3: several must say the same.
                    if length.is_some_and(|other| other != value) {
                        return None;
                    }
                    length = Some(value);
                }
                17 if header.name.eq_ignore_ascii_case("Transfer-Encoding") => coded = true,
                _ => {}
            }
        }
        // RFC 9112 section 6.1: both at once is how requests are smuggled.
        if coded && length.is_some() {
            return None;
        }
        fields.body = coded || length.is_some_and(|length| length > 0);
        Some(fields)
    }
}

/// The path that a target names, decoded, without its query; `None`: it is no target of GET or HEAD (RFC 9112 section 3.2).
fn path(target: &str) -> Option<Cow<'_, [u8]>> {
    let origin = if target.starts_with('/') {
        target
    } else {
        // A proxy's absolute form must be taken too.
        let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
        let rest = &target[scheme?.len()..];
        rest.find(['/', '?']).map_or("/", |at| &rest[at..])
    };
    let path = origin.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    if !path.contains('%') {
        return Some(Cow::Borrowed(path.as_bytes()));
    }
    let (mut bytes, mut decoded) = (path.bytes(), Vec::with_capacity(path.len()));
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(decoded))
}
