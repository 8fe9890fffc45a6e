//! The C face from C: header against library, and programs that run.

mod c_header;
mod c_pages;

use c_header::{Toolchain, run};

/// Builds `tests/c/<name>.c` in every way that it must build in, and runs it.
fn program(name: &str, arguments: &[&str]) {
    let Some(tools) = Toolchain::find() else { return };
    let source = c_header::engine().join(format!("tests/c/{name}.c"));
    for compiler in tools.compilers() {
        let plain = tools.compile(compiler, &source, &["-std=c99", "-pedantic"], &format!("{name}-{compiler}"));
        run(&plain, arguments);
    }
    // The library is not built for it, but what the program does with the memory that it is given is watched.
    let watched =
        tools.compile("gcc", &source, &["-std=gnu11", "-O1", "-fsanitize=address,undefined"], &format!("{name}-asan"));
    run(&watched, arguments);
}

#[test]
fn udp() {
    program("udp", &[]);
}

#[test]
fn udp_over_a_driver_that_never_completes() {
    program("udp", &["quiet"]);
}

#[test]
fn stream() {
    program("stream", &[]);
}

#[test]
fn stream_send() {
    program("stream_send", &[]);
}

#[test]
fn stream_events() {
    program("stream_events", &[]);
}

#[test]
fn stream_clock() {
    program("stream_clock", &[]);
}

#[test]
fn stream_threads() {
    program("stream_threads", &[]);
}

#[test]
fn scattered() {
    program("scattered", &[]);
}

#[test]
fn user_memory() {
    program("user_memory", &[]);
}

#[test]
fn options() {
    program("options", &[]);
}

#[test]
fn interfaces() {
    program("interfaces", &[]);
}

#[test]
fn errors() {
    program("errors", &[]);
}

#[test]
fn raw() {
    program("raw", &[]);
}

#[test]
fn ownership() {
    program("ownership", &[]);
}

#[test]
fn order() {
    program("order", &[]);
}

#[test]
fn handles() {
    program("handles", &[]);
}

#[test]
fn clock() {
    program("clock", &[]);
}

#[test]
fn driver() {
    program("driver", &[]);
}

#[test]
fn threads() {
    program("threads", &[]);
}

#[test]
fn workers() {
    program("workers", &[]);
}

#[test]
fn two_workers() {
    program("workers", &["2"]);
    program("workers_many", &["2"]);
}

#[test]
fn four_workers() {
    program("workers", &["4"]);
    program("workers_many", &["4"]);
}

#[test]
fn the_static_library_links() {
    let Some(tools) = Toolchain::find() else { return };
    let source = c_header::engine().join("tests/c/clock.c");
    run(&tools.link_static(&source, "clock-static"), &[]);
}

#[test]
fn the_examples_compile() {
    let Some(tools) = Toolchain::find() else { return };
    for name in ["udp_echo", "chat", "tftp", "http10"] {
        let source = c_header::engine().join("examples/c").join(name).with_extension("c");
        for compiler in tools.compilers() {
            tools.compile(compiler, &source, &["-std=c99", "-pedantic", "-O2"], name);
        }
    }
}

#[test]
fn the_header_is_c99_c11_and_cpp() {
    let Some(tools) = Toolchain::find() else { return };
    // The order of inclusion must not matter, and both ways to have names must work.
    let text = "#include <stdlib.h>\n#include \"trsocket.h\"\n#include <netinet/in.h>\n#include <sys/select.h>\n#include <stdio.h>\n\
                #ifdef TM_NO_BSD_NAMES\nint answer(void) { struct tfSockaddrIn a; a.sin_family = TM_AF_INET; return a.sin_family + SOCK_DGRAM; }\n\
                #else\nint answer(void) { struct sockaddr_in a; fd_set s; FD_ZERO(&s); FD_SET(3, &s); a.sin_family = AF_INET; \
                return socket(a.sin_family, SOCK_DGRAM, FD_ISSET(3, &s)); }\n#endif\n";
    for (compiler, language, standard) in
        [("gcc", "c", "c99"), ("gcc", "c", "gnu17"), ("g++", "c++", "c++98"), ("g++", "c++", "c++20")]
    {
        for define in ["-DPLAIN", "-DTM_NO_BSD_NAMES"] {
            tools.compile_text(compiler, language, text, &[&format!("-std={standard}"), "-pedantic", define]);
        }
    }
}

#[test]
fn numbers_and_layouts_agree() {
    let Some(tools) = Toolchain::find() else { return };
    tools.compile_text("gcc", "c", &c_header::assertions(), &["-std=c99"]);
}

#[test]
fn every_number_of_the_header_is_known_to_the_library() {
    let known: Vec<&str> = framewire::treck::numbers::ALL.iter().map(|(name, _)| *name).collect();
    let defined = c_header::numbers();
    for name in &defined {
        assert!(known.contains(&name.as_str()), "{name} is in the header and not in treck/numbers.rs");
    }
    for name in known {
        assert!(defined.iter().any(|defined| defined == name), "{name} is in treck/numbers.rs and not in the header");
    }
}

#[test]
fn signatures_agree() {
    let (header, library) = (c_header::prototypes(), c_header::exports());
    assert!(header.len() > 50, "{} prototypes were found in the header", header.len());
    for (name, signature) in &library {
        assert_eq!(header.get(name), Some(signature), "{name}: header against library");
    }
    for name in header.keys() {
        assert!(library.contains_key(name), "{name} is in the header and not in the library");
    }
}

/// The table of calls, errors and tests has every call; its programs make the call, and look for each error just behind it.
#[test]
fn every_call_is_in_the_table() {
    let table = std::fs::read_to_string(c_header::engine().join("include/README.md")).expect("the table");
    for name in c_header::prototypes().into_keys() {
        assert!(table.contains(&format!("`{name}`")), "{name} is not in include/README.md");
    }
    let aliases = c_header::aliases();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
    for row in table.lines().filter(|line| line.starts_with("| `tf")) {
        let [_, calls, errors, programs, _] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let texts: Vec<String> = quoted(programs)
            .into_iter()
            .map(|name| std::fs::read_to_string(c_header::engine().join("tests/c").join(name)).expect("a program"))
            .collect();
        let lines = |text: &str| text.lines().map(String::from).collect::<Vec<_>>();
        let texts: Vec<_> = texts.iter().map(|text| lines(text)).collect();
        let spellings = |call: &String| {
            let others = aliases.iter().filter(|(_, of)| of == call).map(|(alias, _)| alias.clone());
            others.chain([call.clone()]).collect::<Vec<_>>()
        };
        let calls: Vec<Vec<String>> = quoted(calls).iter().map(spellings).collect();
        for names in &calls {
            let called = texts.iter().flatten().any(|line| c_header::calls_one_of(line, names));
            assert!(called, "{row}: none of its programs calls {names:?}");
        }
        // What stands in brackets has no test.
        let tested = errors.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest));
        let tested = tested.collect::<String>();
        let is_error = |word: &&str| word.len() > 3 && word.starts_with('E');
        for error in tested.split(|c: char| !c.is_ascii_uppercase()).filter(is_error) {
            let found = texts.iter().any(|lines| {
                (0..lines.len()).filter(|&at| c_header::looks_for(&lines[at], error)).any(|at| {
                    let before = &lines[at.saturating_sub(LINES_FROM_CALL_TO_ERROR)..=at];
                    before.iter().any(|line| calls.iter().any(|names| c_header::calls_one_of(line, names)))
                })
            });
            assert!(found, "{row}: {error}");
        }
    }
}

#[test]
fn several_workers_are_nowhere_said_to_be_unsupported() {
    let read = |path| std::fs::read_to_string(c_header::engine().join(path)).expect("a text");
    let page = read("docs/trsocket/workers.md");
    let (header, table) = (read("include/trsocket.h"), read("include/README.md"));
    let row = table.lines().find(|line| line.contains("| `tfStartWorkers` |")).expect("its row");
    let declared = header.find("int tfStartWorkers(").expect("its prototype");
    let comment = &header[header[..declared].rfind("/*").expect("its comment")..declared];
    for text in [&*page, row, comment] {
        assert!(!text.contains("EOPNOTSUPP"), "{text}");
    }
}

/// A program looks at the socket's error and at the thread's after a call.
const LINES_FROM_CALL_TO_ERROR: usize = 3;

#[test]
fn the_library_exports_these_names_and_no_others() {
    let Some(tools) = Toolchain::find() else { return };
    let exported = tools.exported_names();
    let declared: Vec<String> = c_header::prototypes().into_keys().collect();
    assert_eq!(exported, declared);
}
