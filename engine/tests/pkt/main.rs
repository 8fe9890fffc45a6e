//! Packet scripts: what a peer sends, what the application calls, and what must come out, line by line. See `README.md` in this folder.
//!
//! `FRAMEWIRE_PKT=name` runs only the scripts whose path contains that.

mod connection;
mod runner;
mod script;
mod segment;

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pkt/scripts")
}

/// Runs every script of a folder, and tells of all that fail.
fn run_all(room: &str) {
    let only = std::env::var("FRAMEWIRE_PKT").unwrap_or_default();
    let entries = std::fs::read_dir(folder().join(room)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut failures = vec![];
    for path in paths.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        // A panic of the engine is a failure of this script, and the others run all the same.
        let ran = std::panic::catch_unwind(|| runner::run_file(path));
        let ran = ran.unwrap_or_else(|_| Err(format!("{}: panicked", path.display())));
        failures.extend(ran.err());
    }
    assert!(failures.is_empty(), "{} of {} scripts failed:\n\n{}", failures.len(), paths.len(), failures.join("\n"));
}

/// One test for each folder of scripts.
macro_rules! rooms {
    ($($room:ident)*) => {
        $(#[test] fn $room() { run_all(stringify!($room)); })*

        #[test]
        fn every_folder_has_its_test() {
            let mut found: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            found.sort();
            assert_eq!(found, [$(stringify!($room)),*]);
        }
    };
}

rooms! { close ecn loss open options pmtu reset timing urgent window }

/// A script that is wrong fails, with its file, its line and what happened.
mod failures {
    use crate::runner::run_text;

    fn failure(text: &str) -> String {
        run_text("case.pkt", text).unwrap_err()
    }

    #[test]
    fn tell_what_was_sent() {
        let text = failure("+0 listen 80\n+0 < S 0:0(0) win 1000 <mss 500>\n+0 > S. 0:0(0) ack 2");
        assert!(
            text.starts_with(
                "case.pkt:3: +0 > S. 0:0(0) ack 2\n  acknowledgment differ; sent was\n  > S. 0:0(0) ack 1"
            ),
            "{text}"
        );
        assert!(text.contains("0.000000  < S 0:0(0) win 1000 <mss 500>"), "the trace: {text}");
    }

    #[test]
    fn tell_what_was_not_sent() {
        assert!(failure("+0 listen 80\n+0.5 > S. 0:0(0) ack 1").contains("nothing was sent in 51"));
    }

    #[test]
    fn tell_what_was_sent_too_much_or_too_late() {
        let syn = "+0 listen 80\n+0 < S 0:0(0) win 1000 <mss 500>\n";
        assert!(failure(syn).contains("at the end: sent at 0.000000 and not expected"));
        assert!(failure(&format!("{syn}+0.1 > S. 0:0(0) ack 1")).contains("after the line before, not"));
        assert!(failure(&format!("{syn}+0 accept")).contains("not expected"));
    }

    #[test]
    fn tell_what_a_call_gave() {
        assert!(failure("+0 established\n+0 state CLOSED").contains("it is Established"));
        assert!(failure("+0 established\n+0 recv 5").contains("WouldBlock after 0 bytes"));
        assert!(failure("+0 established\n+0 event Readable").contains("told were"));
    }
}
