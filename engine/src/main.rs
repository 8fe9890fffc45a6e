//! The appliance: see [`framewire::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    framewire::cli::main()
}
