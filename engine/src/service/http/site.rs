//! What is served: every page is prepared when the service starts, and found by its exact path, so a request can name nothing that was not loaded.

use super::date;
use crate::{
    buf::{Frozen, Pool},
    config::HttpPage,
};
use ahash::RandomState;
use hashbrown::HashMap;
use std::{fs, path::Path, rc::Rc};

/// Bodies from this size on are sent from frames that all connections share; smaller ones are copied behind their header, which costs less than a
/// second descriptor.
const SHARED_BYTES_MIN: usize = 2048;
/// Frames of one shared piece: a segment is looked for from the piece's beginning on.
const PIECE_FRAMES: usize = 8;
/// Files of one folder, with all its folders.
const FILES_MAX: usize = 65_536;
/// Folders in folders.
const DEPTH_MAX: usize = 32;
/// Longest path of a file as a request writes it, in bytes.
const PATH_BYTES_MAX: usize = 512;
const INDEX: &str = "index.html";

/// Number of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageId(u32);

/// How a response says what becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It stays, as HTTP/1.1 has it.
    Implicit,
    /// It stays, which HTTP/1.0 must be told.
    KeepAlive,
    /// It ends.
    Close,
}

/// Answers that are no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    UriTooLong,
    HeadersTooLarge,
    VersionNotSupported,
}

impl Status {
    const ALL: [(Self, &'static str); 7] = [
        (Self::BadRequest, "400 Bad Request"),
        (Self::NotFound, "404 Not Found"),
        (Self::MethodNotAllowed, "405 Method Not Allowed"),
        (Self::RequestTimeout, "408 Request Timeout"),
        (Self::UriTooLong, "414 URI Too Long"),
        (Self::HeadersTooLarge, "431 Request Header Fields Too Large"),
        (Self::VersionNotSupported, "505 HTTP Version Not Supported"),
    ];
}

/// Where a body is.
#[derive(Debug)]
pub(super) enum Body {
    /// To be copied.
    Small(Box<[u8]>),
    /// In frames, each piece but the last of the same size.
    Shared { pieces: Vec<Rc<Frozen>>, piece_bytes: usize },
}

/// One prepared response.
#[derive(Debug)]
pub(super) struct Page {
    /// Status line and fields, for each [`Persistence`].
    heads: [Box<[u8]>; 3],
    /// Where the date stands in each of them.
    pub(super) date_at: usize,
    pub(super) body: Body,
    pub(super) body_bytes: usize,
    /// The status is 400 or above.
    pub(super) is_error: bool,
}

impl Page {
    pub(super) fn head(&self, persistence: Persistence) -> &[u8] {
        &self.heads[persistence as usize]
    }
}

/// All pages.
#[derive(Debug)]
pub(super) struct Site {
    pages: Vec<Page>,
    paths: HashMap<Box<[u8]>, u32, RandomState>,
    bytes_left: usize,
    frames_left: usize,
    files: usize,
}

impl Site {
    /// Loads everything.
    ///
    /// # Errors
    /// A file cannot be read, or there is more than may be held.
    pub(super) fn load(
        root: Option<&Path>,
        pages: &[HttpPage],
        bytes_max: usize,
        pool: &Pool,
        seeds: [u64; 4],
    ) -> Result<Self, String> {
        let hasher = RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
        // The port has not taken its frames yet, and connections need some too.
        let frames_left = (pool.free_for_tx() / 4) as usize;
        let mut site = Self {
            pages: Vec::new(),
            paths: HashMap::with_hasher(hasher),
            bytes_left: bytes_max,
            frames_left,
            files: 0,
        };
        for (_, status) in Status::ALL {
            let extra = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
            site.add(status, extra, "text/plain; charset=utf-8", format!("{status}\n").as_bytes(), pool)?;
        }
        for page in pages {
            let id = site
                .add("200 OK", "", &page.content_type, page.body.as_bytes(), pool)
                .map_err(|error| format!("page {}: {error}", page.path))?;
            site.paths.insert(page.path.as_bytes().into(), id);
        }
        if let Some(root) = root {
            site.add_folder(root, "/", 0, pool)?;
        }
        Ok(site)
    }

    pub(super) fn status(&self, status: Status) -> PageId {
        PageId(status as u32)
    }

    pub(super) fn page(&self, id: PageId) -> &Page {
        &self.pages[id.0 as usize]
    }

    /// The page at a path, without its query, decoded.
    #[inline]
    pub(super) fn find(&self, path: &[u8]) -> Option<PageId> {
        self.paths.get(path).map(|&id| PageId(id))
    }

    fn add(&mut self, status: &str, fields: &str, content_type: &str, body: &[u8], pool: &Pool) -> Result<u32, String> {
        let Some(left) = self.bytes_left.checked_sub(body.len()) else {
            return Err("there is more content than content_bytes_max".into());
        };
        self.bytes_left = left;
        let begin = format!("HTTP/1.1 {status}\r\nDate: ");
        let date_at = begin.len();
        let heads = ["", "Connection: keep-alive\r\n", "Connection: close\r\n"].map(|connection| {
            let date = "-".repeat(date::BYTES);
            let length = body.len();
            format!(
                "{begin}{date}\r\nServer: framewire\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{fields}{connection}\r\n"
            )
            .into_bytes()
            .into_boxed_slice()
        });
        let held = if body.len() < SHARED_BYTES_MIN { Body::Small(body.into()) } else { self.hold(body, pool)? };
        let is_error = status.starts_with(['4', '5']);
        self.pages.push(Page { heads, date_at, body: held, body_bytes: body.len(), is_error });
        Ok((self.pages.len() - 1) as u32)
    }

    /// Puts a body into frames.
    fn hold(&mut self, body: &[u8], pool: &Pool) -> Result<Body, String> {
        let frame_bytes = pool.frame_payload_bytes();
        let frames = body.len().div_ceil(frame_bytes);
        let few = || {
            format!(
                "content of 2 KiB and more takes frames, {frames} of {frame_bytes} B for this: raise interface.frames, a quarter of which may hold content"
            )
        };
        self.frames_left = self.frames_left.checked_sub(frames).ok_or_else(few)?;
        let piece_bytes = frame_bytes * PIECE_FRAMES;
        let mut pieces = Vec::with_capacity(body.len().div_ceil(piece_bytes));
        for piece in body.chunks(piece_bytes) {
            let mut chain = None;
            for bytes in piece.chunks(frame_bytes) {
                let mut buf = pool.alloc_tx().ok_or_else(few)?;
                buf.put_slice(bytes).map_err(|_| few())?;
                chain = Some(match chain {
                    None => buf.into_rx(),
                    Some(mut first) => {
                        crate::buf::RxBuf::append(&mut first, buf.into_rx()).map_err(|_| few())?;
                        first
                    }
                });
            }
            pieces.extend(chain.map(|chain| Rc::new(chain.into_tx().freeze())));
        }
        Ok(Body::Shared { pieces, piece_bytes })
    }

    /// Everything in a folder but what begins with a dot, and links: what they name may lie anywhere.
    fn add_folder(&mut self, folder: &Path, at: &str, depth: usize, pool: &Pool) -> Result<(), String> {
        let cannot = |error| format!("{}: cannot read it: {error}", folder.display());
        if depth > DEPTH_MAX {
            return Err(format!("{}: more than {DEPTH_MAX} folders deep", folder.display()));
        }
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let (file, kind) = (entry.path(), entry.file_type().map_err(cannot)?);
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(format!("{}: its name is not UTF-8", file.display()));
            };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{at}{name}");
            if path.len() > PATH_BYTES_MAX {
                return Err(format!("{}: a path longer than {PATH_BYTES_MAX} bytes", file.display()));
            }
            if kind.is_dir() {
                self.add_folder(&file, &format!("{path}/"), depth + 1, pool)?;
            } else if kind.is_file() {
                self.add_file(&file, &path, pool).map_err(|error| format!("{}: {error}", file.display()))?;
            } else {
                tracing::warn!("{}: not served: neither a file nor a folder", file.display());
            }
        }
        let index = self.paths.get(format!("{at}{INDEX}").as_bytes()).copied();
        if let Some(index) = index {
            self.paths.entry(at.as_bytes().into()).or_insert(index);
            if at.len() > 1 {
                self.redirect(at, pool)?;
            }
        }
        Ok(())
    }

    /// Links in a folder's index are relative to the path with its last slash.
    fn redirect(&mut self, at: &str, pool: &Pool) -> Result<(), String> {
        let from = at.trim_end_matches('/');
        if !self.paths.contains_key(from.as_bytes()) {
            let fields = format!("Location: {}\r\n", encoded(at));
            let id = self.add("301 Moved Permanently", &fields, "text/plain; charset=utf-8", b"", pool)?;
            self.paths.insert(from.as_bytes().into(), id);
        }
        Ok(())
    }

    fn add_file(&mut self, file: &Path, path: &str, pool: &Pool) -> Result<(), String> {
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files"));
        }
        // What the configuration gives goes before the folder.
        if self.paths.contains_key(path.as_bytes()) {
            return Ok(());
        }
        let bytes = fs::metadata(file).map_err(|error| format!("cannot read it: {error}"))?.len();
        if bytes > self.bytes_left as u64 {
            return Err("with this there is more content than content_bytes_max".into());
        }
        let body = fs::read(file).map_err(|error| format!("cannot read it: {error}"))?;
        let id = self.add("200 OK", "", content_type(path), &body, pool)?;
        self.paths.insert(path.as_bytes().into(), id);
        Ok(())
    }
}

/// A path as a field carries it (RFC 3986 section 2.1).
fn encoded(path: &str) -> String {
    let mut text = String::new();
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// By the name's extension.
fn content_type(path: &str) -> &'static str {
    let extension =
        path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "txt" | "md" | "log" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}
