//! Compiles `src/bpf/*.bpf.c` with clang and generates the libbpf skeletons.

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libbpf_cargo::SkeletonBuilder;

const INSTALL: &str = "install clang (tested with 14) with its BPF target and the kernel headers \
     (Debian: apt install clang llvm libelf-dev zlib1g-dev linux-libc-dev), or name one in CLANG";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: framewire-xdp: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=src/bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    check_clang(&clang)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set; build with cargo")?);
    for name in ["steer", "pass"] {
        let source = Path::new("src/bpf").join(format!("{name}.bpf.c"));
        SkeletonBuilder::new()
            .source(&source)
            .clang(&clang)
            .clang_args(clang_args())
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .map_err(|error| format!("{error:#}\nnote: {INSTALL}"))?;
    }
    Ok(())
}

fn check_clang(clang: &OsString) -> Result<(), String> {
    let shown = clang.to_string_lossy();
    match Command::new(clang).arg("--version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown} --version` failed ({status}); {INSTALL}")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(format!("`{shown}` was not found; {INSTALL}")),
        Err(error) => Err(format!("`{shown}` did not start: {error}; {INSTALL}")),
    }
}

/// `-mcpu=v3` (Linux 5.1) for 32-bit jumps; warnings are errors, for a verifier refusal is harder to read than a warning.
fn clang_args() -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare"]
            .into_iter()
            .map(OsString::from)
            .collect();
    // <asm/types.h> of Debian's multiarch layout, which clang does not search for the target `bpf`.
    if let Ok(architecture) = env::var("CARGO_CFG_TARGET_ARCH") {
        let directory = format!("/usr/include/{architecture}-linux-gnu");
        if Path::new(&directory).is_dir() {
            args.extend(["-idirafter".into(), directory.into()]);
        }
    }
    args
}
