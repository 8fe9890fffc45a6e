//! Programs in C on the library of this test's build.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Builds `engine/<source>` into `folder`, watched by the address sanitizer; returns the program's path.
///
/// # Errors
/// There is no library beside the test, no gcc, or the program does not build.
pub fn build_c(source: &str, folder: &Path) -> Result<PathBuf> {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine");
    // Cargo puts the libraries of a test's build beside its executable.
    let own = env::current_exe().context("this test")?;
    let libraries = own.parent().context("this test's folder")?;
    ensure!(libraries.join("libframewire.so").exists(), "no libframewire.so in {}", libraries.display());
    let source = engine.join(source);
    let program = folder.join(source.file_stem().context("a file")?);
    let output = Command::new("gcc")
        .args(["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fsanitize=address,undefined"])
        .arg("-I")
        .arg(engine.join("include"))
        .arg(source)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(libraries)
        .args(["-lframewire", "-lpthread"])
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .output()
        .context("gcc")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}
