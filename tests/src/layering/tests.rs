//! The scanner and the table, on small sources.

use super::{scan::UsedPath, *};

fn source(text: &str) -> Source {
    Source::parse(text, &["proto".to_owned(), "tcp".to_owned()])
}

fn paths(text: &str) -> Vec<String> {
    source(text).paths.iter().map(|path| format!("{} {}", path.line, path.text())).collect()
}

fn tree(files: &[(&str, &str)]) -> Vec<String> {
    check_files(&files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect())
}

#[test]
fn use_trees_are_spread_out() {
    let text =
        "use crate::{\n  wire::{ipv4::{self, Header as H}, seq},\n  buf::*,\n};\npub(crate) use std::time::Duration;";
    assert_eq!(
        paths(text),
        [
            "2 crate::wire::ipv4",
            "2 crate::wire::ipv4::Header",
            "2 crate::wire::seq",
            "3 crate::buf::*",
            "5 std::time::Duration"
        ]
    );
}

#[test]
fn paths_in_code_and_macros_are_seen() {
    let text = "fn f(x: &crate::wire::Seq) { g::<crate::buf::TxBuf>(); ::std::mem::swap(a, b); m!($crate::ring::R); Vec::<u8>::new() }";
    assert_eq!(paths(text), ["1 crate::wire::Seq", "1 crate::buf::TxBuf", "1 std::mem::swap", "1 crate::ring::R"]);
}

#[test]
fn super_and_self_are_resolved_through_inline_modules() {
    let text = "use super::icmp::X; mod a { use super::super::udp; mod b { use super::c; } } use self::d::E; use super::super::port::P;";
    assert_eq!(
        paths(text),
        [
            "1 crate::proto::icmp::X",
            "1 crate::proto::udp",
            "1 crate::proto::tcp::a::c",
            "1 crate::proto::tcp::d::E",
            "1 crate::port::P"
        ]
    );
}

#[test]
fn comments_literals_and_lifetimes_hold_no_code() {
    let text = r####"
        // crate::port::A
        /* crate::port::B /* nested */ unsafe */
        const S: &str = "crate::port::C \" unsafe"; const R: &str = r#"unsafe " crate::port::D"#;
        const B: &[u8] = b"unsafe"; const C: char = '"'; const Q: char = '\''; const Y: u8 = b'\\';
        fn f<'a>(x: &'a str) -> crate::wire::E<'a> { r#type::x(1.0e5, 0xff) }
    "####;
    let found = source(text);
    assert_eq!(found.unsafe_lines, [] as [u32; 0]);
    assert_eq!(paths(text), ["6 crate::wire::E", "6 type::x"]);
}

#[test]
fn unsafe_is_seen_where_it_stands() {
    let text = "#![deny(unsafe_code)]\nunsafe impl Send for X {}\n#[unsafe(no_mangle)]\nfn f() {\n unsafe { g() }\n}";
    assert_eq!(source(text).unsafe_lines, [2, 3, 5]);
}

#[test]
fn test_code_is_passed_over() {
    let text = "
        #[cfg(test)] use crate::port::A;
        #[cfg(test)] use crate::port::{B, C};
        #[cfg(all(test, not(loom)))] mod tests { use crate::port::D; fn f() { unsafe {} } }
        #[cfg(test)] #[allow(x)] pub(crate) fn g<A, B>(x: [u8; 3]) -> A { crate::port::E }
        struct S { #[cfg(test)] a: crate::port::F, b: crate::wire::G, #[cfg(test)] c: crate::port::H }
        #[test] fn h() { crate::port::I; }
        #[cfg(not(test))] use crate::wire::J;
        #[cfg(any(test, loom))] use crate::wire::K;
        #[cfg_attr(test, derive(Debug))] struct T(crate::wire::L);
        #[cfg(test)] mod more;
        use crate::wire::M;
    ";
    let found = source(text);
    let names: Vec<_> = found.paths.iter().map(UsedPath::text).collect();
    assert_eq!(names, ["crate::wire::G", "crate::wire::J", "crate::wire::K", "crate::wire::L", "crate::wire::M"]);
    assert_eq!(found.unsafe_lines, [] as [u32; 0]);
    assert_eq!(found.test_modules, [["proto", "tcp", "more"].map(str::to_owned)]);
    assert_eq!(paths("#![cfg(test)]\nuse crate::port::X;"), [] as [&str; 0]);
}

#[test]
fn the_table_is_closed_and_has_no_circle() {
    for room in ROOMS {
        for used in room.uses {
            assert!(ROOMS.iter().any(|other| other.name == *used), "{} uses {used}, which has no row", room.name);
        }
        assert!(!room.uses.is_empty() || !reach(room).contains(room.name) || COMMON.contains(&room.name));
        assert!(COMMON.contains(&room.name) || !reach(room).contains(room.name), "{} reaches itself", room.name);
    }
    let reached = |name: &str| reach(ROOMS.iter().find(|room| room.name == name).expect("a row"));
    assert!(
        ["socket", "stack", "proto", "wire", "buf", "ring", "port"].iter().all(|name| reached("cli").contains(name))
    );
    assert!(!reached("stack").contains("port") && !reached("stack").contains("socket"));
    assert!(!reached("port").contains("proto") && !reached("wire").contains("buf"));
}

#[test]
fn an_upward_import_fails() {
    let forbid = "#![forbid(unsafe_code)]";
    let ok = tree(&[
        ("lib.rs", "pub mod stack; pub use runtime::Engine;"),
        ("stack/mod.rs", forbid),
        ("stack/demux.rs", "use crate::{proto::udp, buf::RxBuf, telemetry, time::Instant};"),
    ]);
    assert_eq!(ok, [] as [&str; 0]);
    let upward = tree(&[("stack/mod.rs", forbid), ("stack/demux.rs", "\nuse super::super::port::Port;")]);
    assert_eq!(upward, ["stack/demux.rs:2: stack uses crate::port::Port: an arrow the table does not have"]);
    let hidden = tree(&[("socket/mod.rs", "#![forbid(unsafe_code)] use crate::Engine;")]);
    assert_eq!(hidden, ["socket/mod.rs:1: socket uses crate::Engine: not a room: name the room it comes from"]);
}

#[test]
fn a_room_without_a_row_fails_once() {
    let broken = tree(&[("attic/mod.rs", ""), ("attic/box.rs", "unsafe {}")]);
    assert_eq!(broken.len(), 1);
    assert!(broken[0].contains("room `attic` is not in the table"), "{broken:?}");
}

#[test]
fn clocks_and_seeds_are_inputs_below_the_runtime() {
    let text = "#![forbid(unsafe_code)]\nuse std::time::{Duration, Instant};\nuse ahash::RandomState;\nfn f() { RandomState::with_seeds(1, 2, 3, 4); RandomState::new(); rand::random(); }";
    let broken = tree(&[("proto/mod.rs", text)]);
    assert_eq!(
        broken,
        [
            "proto/mod.rs:2: std::time::Instant must be an input to proto",
            "proto/mod.rs:4: RandomState::new must be an input to proto",
            "proto/mod.rs:4: rand::random must be an input to proto",
        ]
    );
    assert_eq!(tree(&[("runtime/mod.rs", text)]), [] as [&str; 0]);
}

#[test]
fn unsafe_stays_in_its_files() {
    let code = "fn f() { unsafe {} }";
    let allowed = [
        "buf/raw.rs",
        "buf/region.rs",
        "ring/a/b.rs",
        "port/xsk.rs",
        "port/xsk/socket.rs",
        "port/user.rs",
        "treck/x.rs",
    ];
    for path in allowed {
        assert_eq!(tree(&[(path, code)]), [] as [&str; 0], "{path}");
    }
    for path in ["buf/mod.rs", "port/mem.rs", "runtime/worker.rs", "service/echo.rs"] {
        assert_eq!(tree(&[(path, code)]).len(), 1, "{path}");
    }
}

#[test]
fn pure_rooms_forbid_unsafe_themselves_or_in_lib() {
    assert_eq!(tree(&[("wire/mod.rs", "")]), ["wire/mod.rs: must say #![forbid(unsafe_code)]"]);
    assert_eq!(tree(&[("wire/mod.rs", "//! x\n#![forbid(unsafe_code)]")]), [] as [&str; 0]);
    let lib = "#[forbid(unsafe_code)]\npub mod wire;";
    assert_eq!(tree(&[("lib.rs", lib), ("wire/mod.rs", "")]), [] as [&str; 0]);
}

#[test]
fn test_modules_in_files_are_passed_over() {
    let broken = tree(&[
        ("buf/mod.rs", "#[cfg(test)] mod tests;"),
        ("buf/tests.rs", "use crate::port::X;"),
        ("buf/tests/deep.rs", "use crate::port::X; unsafe {}"),
    ]);
    assert_eq!(broken, [] as [&str; 0]);
}
