//! Load generator and base lines: what Framewire is measured with and against.

mod affinity;
mod compare;
mod generator;
mod kernel_udp;
mod mem;
mod packet;
mod reflect;
mod stop;
mod xsk;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser, Debug)]
#[command(name = "framewire-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Compare systems and write target/bench/report.json
    Run(compare::RunArgs),
    /// Send UDP packets, count and check the replies
    Gen(generator::GeneratorArgs),
    /// Base line: a raw AF_XDP loop that sends every frame back
    RawLoop(reflect::ReflectArgs),
    /// Cost of a stack without a kernel, on one core
    Mem(mem::MemArgs),
    /// Base line: an echo server on the kernel's UDP sockets
    KernelUdpEcho(kernel_udp::KernelUdpArgs),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => compare::run(&args),
        Command::Gen(args) => generator::run(&args),
        Command::RawLoop(args) => reflect::run(&args),
        Command::Mem(args) => mem::run(&args),
        Command::KernelUdpEcho(args) => kernel_udp::run(&args),
    }
}
