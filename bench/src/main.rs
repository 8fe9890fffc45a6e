//! Load generator and base lines: what Framewire is measured with and against.

mod affinity;
mod allocator;
mod compare;
mod counts;
mod generator;
mod kernel_udp;
mod lossy;
mod mem;
mod packet;
mod reflect;
mod smoltcp_wire;
mod stop;
mod syscalls;
mod tcp;
mod uring;
mod xsk;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

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
    /// Whether a quick run measured every system in every scenario that bench/coverage.toml names
    Coverage(compare::coverage::CoverageArgs),
    /// Load any host over the kernel's sockets or the engine's, as `framewire gen` does
    Gen(framewire::load::GenArgs),
    /// Send UDP packets from an XDP program, count and check the replies
    Flood(generator::GeneratorArgs),
    /// Lose a share of what an interface receives
    Lossy(lossy::LossyArgs),
    /// Base line: a raw AF_XDP loop that sends every frame back
    RawLoop(reflect::ReflectArgs),
    /// Cost of a stack without a kernel, on one core
    Mem(mem::MemArgs),
    /// Cost of a TCP without a kernel, on one core
    MemTcp(mem::tcp::MemTcpArgs),
    /// Memory of idle TCP connections
    MemTcpIdle(mem::tcp::idle::IdleArgs),
    /// Cost of the C face's `tfZeroCopySend`
    CSend(mem::c_send::CSendArgs),
    /// The same beside workers that send at full rate over AF_XDP
    CBeside(mem::c_beside::CBesideArgs),
    /// Cost of one step of a turn, on one core
    Stage(mem::stages::StageArgs),
    /// Instructions a packet, held against those that are kept
    Counts(counts::CountsArgs),
    /// Cost as the engine holds more
    Growth(mem::growth::GrowthArgs),
    /// Base line: an echo server on the kernel's UDP sockets
    KernelUdpEcho(kernel_udp::KernelUdpArgs),
    /// Base line: UDP echo and TCP on smoltcp over an AF_PACKET socket
    SmoltcpServer(smoltcp_wire::ServerArgs),
    /// Bulk over one connection of smoltcp's, on an AF_PACKET socket
    SmoltcpTcpBulk(smoltcp_wire::BulkClientArgs),
    /// Bulk over one connection of the kernel's
    TcpBulk(tcp::KernelBulkArgs),
    /// Bulk over one connection of the engine's
    FwTcpBulk(tcp::EngineBulkArgs),
    /// Base line: echo, sink or source on the kernel's TCP sockets
    KernelTcpServer(tcp::KernelServerArgs),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => compare::run(&args),
        Command::Coverage(args) => compare::coverage::run(&args),
        Command::Gen(args) => gen_load(&args),
        Command::Flood(args) => generator::run(&args),
        Command::Lossy(args) => lossy::run(&args),
        Command::RawLoop(args) => reflect::run(&args),
        Command::Mem(args) => mem::run(&args),
        Command::MemTcp(args) => mem::tcp::run(&args),
        Command::MemTcpIdle(args) => mem::tcp::idle::run(&args),
        Command::CSend(args) => mem::c_send::run(&args),
        Command::CBeside(args) => mem::c_beside::run(&args),
        Command::Stage(args) => mem::stages::run(&args),
        Command::Counts(args) => counts::run(&args),
        Command::Growth(args) => mem::growth::run(&args),
        Command::KernelUdpEcho(args) => kernel_udp::run(&args),
        Command::SmoltcpServer(args) => smoltcp_wire::run_server(&args),
        Command::SmoltcpTcpBulk(args) => smoltcp_wire::run_bulk(&args),
        Command::TcpBulk(args) => tcp::run_bulk(&args),
        Command::FwTcpBulk(args) => tcp::run_engine_bulk(&args),
        Command::KernelTcpServer(args) => tcp::run_server(&args),
    }
}

fn gen_load(args: &framewire::load::GenArgs) -> Result<()> {
    let report = framewire::load::run(args)?;
    if args.json() {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
