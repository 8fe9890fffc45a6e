//! Compiles the XDP programs with clang and generates their libbpf skeletons.

use libbpf_cargo::SkeletonBuilder;
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: framewire-bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Instruction counts are the compiler's as much as the source's.
fn compiler() -> Result<String, String> {
    let rustc = env::var_os("RUSTC").ok_or("RUSTC is not set; build with cargo")?;
    let output = Command::new(rustc).arg("--version").output().map_err(|error| format!("rustc --version: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn build() -> Result<(), String> {
    println!("cargo::rustc-env=FRAMEWIRE_BENCH_RUSTC={}", compiler()?);
    println!("cargo::rerun-if-changed=src/bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang".into());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set; build with cargo")?);
    let mut args: Vec<OsString> = ["-mcpu=v3", "-Wall", "-Wextra", "-Werror"].into_iter().map(OsString::from).collect();
    // <asm/types.h> of Debian's multiarch layout, which clang does not search for the target `bpf`.
    if let Ok(architecture) = env::var("CARGO_CFG_TARGET_ARCH") {
        let directory = format!("/usr/include/{architecture}-linux-gnu");
        if Path::new(&directory).is_dir() {
            args.extend(["-idirafter".into(), directory.into()]);
        }
    }
    for name in ["generator", "lossy"] {
        SkeletonBuilder::new()
            .source(format!("src/bpf/{name}.bpf.c"))
            .clang(&clang)
            .clang_args(args.clone())
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .map_err(|error| format!("{error:#}\nnote: it needs clang with its BPF target and the kernel headers"))?;
    }
    Ok(())
}
