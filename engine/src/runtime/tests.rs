//! Workers on in-memory ports, turned by hand and in threads of their own.

use super::*;
use crate::{
    buf::{HugePages, Pool, PoolConfig, Region, RxBuf, TxQueue},
    port::{
        Kick, Port, PortError, PortInfo, PortStats,
        mem::{self, MemConfig, Nic},
    },
    socket::{App, AppError, Event, Net, Work},
    stack::{IfaceConfig, Stack, StackConfig},
    time::{Duration, Instant},
    wire::{
        MacAddr, arp, checksum, ethernet,
        ethernet::ethertype,
        ipv4::{self, protocol},
        udp,
    },
};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Longer than anything here takes: what waits so long hangs.
const HANGS: Duration = Duration::from_secs(20);

/// Echoes, and counts its calls.
#[derive(Debug, Default)]
struct Echo {
    stopped: Arc<AtomicUsize>,
}

impl App for Echo {
    fn start(&mut self, net: &mut Net<'_>) -> Result<(), AppError> {
        net.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 7))?;
        Ok(())
    }

    fn handle_event(&mut self, net: &mut Net<'_>, event: Event) {
        if let Event::Readable(socket) = event {
            while let Some(datagram) = socket.recv(net) {
                socket.reply(net, datagram).unwrap();
            }
        }
    }

    fn stop(&mut self, net: &mut Net<'_>) {
        // Last words, which must still be sent.
        let socket = net.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let _ = socket.send_slice(net, b"goodbye", SocketAddrV4::new(PEER, 9));
        self.stopped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends every frame back as it is.
#[derive(Debug)]
struct Reflect;

impl FrameHandler for Reflect {
    fn handle_frames(&mut self, received: &mut Vec<RxBuf>, egress: &mut TxQueue) {
        for frame in received.drain(..) {
            let _ = frame.into_tx().seal().map(|sealed| egress.push(sealed));
        }
    }
}

fn pool_and_port() -> (Pool, mem::MemPort, Rc<RefCell<Nic>>) {
    let region = Region::map(512, 2048, HugePages::Never).unwrap();
    let pool = Pool::new(region, PoolConfig { rx_reserve_frames: 64, run_frames: 0 });
    let (port, nic) = mem::port(&pool, MemConfig { ring_entries: 128, ..MemConfig::new("fw0", MAC) });
    (pool, port, nic)
}

fn echo_program(pool: &Pool, echo: Echo) -> Program {
    let mut stack = Stack::new(pool.clone(), StackConfig::new([1; 32]), Instant::ZERO);
    stack.add_interface(IfaceConfig::new("fw0", MAC, vec!["10.0.0.1/24".parse().unwrap()])).unwrap();
    let mut app = Box::new(echo);
    app.start(&mut Net::new(&mut stack)).unwrap();
    Program::Stack { stack: Box::new(stack), app }
}

fn echo_worker(remote: Remote, config: WorkerConfig) -> (Worker, Rc<RefCell<Nic>>) {
    let (pool, port, nic) = pool_and_port();
    let program = echo_program(&pool, Echo::default());
    (Worker::new(Box::new(port), pool, program, Clock::start(), remote, config), nic)
}

fn link(payload_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; 14];
    ethernet::write(&mut header, MAC, PEER_MAC, payload_type);
    [&header[..], payload].concat()
}

fn arp_request() -> Vec<u8> {
    let packet = arp::Packet {
        operation: arp::Operation::Request,
        sender_mac: PEER_MAC,
        sender_ip: PEER,
        target_mac: MacAddr::default(),
        target_ip: US,
    };
    link(ethertype::ARP, &packet.to_bytes())
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16 + 8;
    let (mut ip, mut header) = ([0; 20], [0; 8]);
    let sum = checksum::add(checksum::pseudo_header(PEER, US, protocol::UDP, len), checksum::sum(payload));
    udp::write(&mut header, 4000, 7, len, sum);
    let repr = ipv4::Repr {
        src: PEER,
        dst: US,
        protocol: protocol::UDP,
        tos: 0,
        ttl: 64,
        id: 0,
        flags_offset: 0,
        payload_len: len,
    };
    repr.write(&mut ip);
    link(ethertype::IPV4, &[&ip[..], &header, payload].concat())
}

/// What was sent, IP packets only.
fn taken(nic: &RefCell<Nic>) -> Vec<Vec<u8>> {
    let mut nic = nic.borrow_mut();
    let mut packets = vec![];
    while let Some(packet) = nic.take() {
        if packet[12..14] == [8, 0] {
            packets.push(packet.to_vec());
        }
    }
    packets
}

#[test]
fn turned_by_hand_it_echoes_and_gives_every_frame_back() {
    let remote = Remote::new().unwrap();
    let (mut worker, nic) = echo_worker(remote.clone(), WorkerConfig::default());
    let mut now = Instant::ZERO;
    let mut turn = |worker: &mut Worker| {
        now = now + Duration::from_millis(1);
        worker.turn(now).unwrap()
    };
    turn(&mut worker);
    assert!(nic.borrow_mut().inject(&arp_request()));
    assert_eq!(turn(&mut worker), Work::Some);
    for number in 0..500u32 {
        assert!(nic.borrow_mut().inject(&datagram(&number.to_be_bytes())));
        turn(&mut worker);
        let sent = taken(&nic);
        assert_eq!(sent.len(), 1, "answered in the same turn");
        assert!(sent[0].ends_with(&number.to_be_bytes()) && sent[0][..6] == PEER_MAC.0);
    }
    // More than a burst at once: the rest comes in the next turn.
    for _ in 0..100 {
        assert!(nic.borrow_mut().inject(&datagram(b"burst")));
    }
    turn(&mut worker);
    assert_eq!(taken(&nic).len(), 64);
    turn(&mut worker);
    assert_eq!(taken(&nic).len(), 36);
    turn(&mut worker);
    assert_eq!(turn(&mut worker), Work::None);
    let snapshot = worker.snapshot();
    assert_eq!((snapshot.counters.udp_rx_datagrams, snapshot.counters.udp_tx_datagrams), (600, 600));
    assert_eq!((snapshot.counters.bytes_copied_rx, snapshot.counters.bytes_copied_tx, snapshot.turns), (0, 0, 506));
    assert!(snapshot.ledger.balances() && snapshot.ledger.kernel_rx > 0, "{}", snapshot.ledger);
    assert_eq!(snapshot.usage.udp_sockets, 1);
    let report = worker.finish(Duration::from_secs(1), None);
    assert!(report.error.is_none() && report.snapshot.ledger.is_whole(), "{}", report.snapshot.ledger);
    assert_eq!(report.snapshot.counters.udp_tx_datagrams, 601, "the last words");
    assert_eq!(remote.post(|_| ()), Err(RemoteError::Stopped));
}

#[test]
fn finish_sends_the_last_words_and_frees_what_cannot_be_sent() {
    let stopped = Arc::<AtomicUsize>::default();
    let (pool, port, nic) = pool_and_port();
    let program = echo_program(&pool, Echo { stopped: stopped.clone() });
    let remote = Remote::new().unwrap();
    let mut worker = Worker::new(Box::new(port), pool, program, Clock::start(), remote, WorkerConfig::default());
    worker.turn(Instant::ZERO).unwrap();
    nic.borrow_mut().inject(&arp_request());
    worker.turn(Instant::ZERO).unwrap();
    // Nobody takes what is sent: the ring fills up, then the egress queue.
    for round in 0..400 {
        nic.borrow_mut().inject(&datagram(b"x"));
        worker.turn(Instant::from_millis(round)).unwrap();
    }
    let ledger = worker.snapshot().ledger;
    assert!(ledger.kernel_tx >= 100 && ledger.queued > 0, "{ledger}");
    let report = worker.finish(Duration::from_millis(20), None);
    assert!(report.snapshot.ledger.is_whole(), "{}", report.snapshot.ledger);
    assert_eq!(stopped.load(Ordering::Relaxed), 1);
}

#[test]
fn a_frame_program_needs_no_stack() {
    let (pool, port, nic) = pool_and_port();
    let program = Program::Frames { handler: Box::new(Reflect), egress: TxQueue::with_limit(128) };
    let mut worker =
        Worker::new(Box::new(port), pool, program, Clock::start(), Remote::new().unwrap(), WorkerConfig::default());
    worker.turn(Instant::ZERO).unwrap();
    for number in 0..300u32 {
        let frame = datagram(&number.to_be_bytes());
        nic.borrow_mut().inject(&frame);
        assert_eq!(worker.turn(Instant::ZERO).unwrap(), Work::Some);
        assert_eq!(taken(&nic), [frame]);
    }
    assert!(worker.stack().is_none() && worker.stack_and_app().is_none());
    let snapshot = worker.snapshot();
    assert_eq!((snapshot.counters, snapshot.port_stats.rx_packets), (Default::default(), 300));
    assert!(worker.finish(Duration::ZERO, None).snapshot.ledger.is_whole());
}

#[test]
fn histograms_count_one_busy_turn_in_sixteen() {
    let config = WorkerConfig { stage_histograms: true, ..WorkerConfig::default() };
    let (mut worker, nic) = echo_worker(Remote::new().unwrap(), config);
    let now = Instant::from_millis(1);
    worker.turn(now).unwrap();
    nic.borrow_mut().inject(&arp_request());
    for _ in 0..640 {
        nic.borrow_mut().inject(&datagram(b"x"));
        assert_eq!(worker.turn(now).unwrap(), Work::Some);
        taken(&nic);
    }
    let stages = worker.snapshot().stages;
    assert_eq!(stages.len(), Stage::ALL.len());
    let count = stages[0].count;
    assert!((36..=40).contains(&count), "{count} of 640");
    assert!(stages.iter().all(|stage| stage.count == count && stage.max_ns >= stage.p50_ns), "{stages:?}");
    for _ in 0..640 {
        worker.turn(now).unwrap();
    }
    assert!(worker.snapshot().stages[0].count <= count + 1, "idle turns are not measured");
    let (worker, _) = echo_worker(Remote::new().unwrap(), WorkerConfig::default());
    assert!(worker.snapshot().stages.is_empty(), "off by default");
}

/// A worker in a thread of its own.
struct Running {
    remote: Remote,
    thread: JoinHandle<WorkerReport>,
}

/// A port that can be waited for, on which nothing ever comes, and that says this of what it has to send.
#[derive(Debug)]
struct Silent(mem::MemPort, OwnedFd, Kick);

impl Port for Silent {
    fn info(&self) -> &PortInfo {
        self.0.info()
    }
    fn reap(&mut self) -> usize {
        self.0.reap()
    }
    fn refill(&mut self) -> usize {
        self.0.refill()
    }
    fn receive(&mut self, now: Instant, out: &mut Vec<RxBuf>, max: usize) -> usize {
        self.0.receive(now, out, max)
    }
    fn transmit(&mut self, now: Instant, queue: &mut TxQueue) -> usize {
        self.0.transmit(now, queue)
    }
    fn kick(&mut self) -> Result<Kick, PortError> {
        // The announcements go nowhere.
        Ok(self.2)
    }
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.1.as_fd())
    }
    fn stats(&self) -> PortStats {
        self.0.stats()
    }
    fn close(&mut self, patience: Duration) {
        self.0.close(patience);
    }
}

fn start(policy: IdlePolicy, spin: Duration) -> Running {
    start_on(Kick::Idle, policy, spin)
}

fn start_on(kick: Kick, policy: IdlePolicy, spin: Duration) -> Running {
    let remote = Remote::new().unwrap();
    let theirs = remote.clone();
    let thread = std::thread::spawn(move || {
        let (pool, port, _nic) = pool_and_port();
        let port = Silent(port, eventfd(0, EventfdFlags::empty()).unwrap(), kick);
        let program = echo_program(&pool, Echo::default());
        let config = WorkerConfig { idle: IdleConfig { policy, spin }, stage_histograms: false };
        let mut worker = Worker::new(Box::new(port), pool, program, Clock::start(), theirs, config);
        let error = worker.run().err();
        let patience = worker.patience();
        worker.finish(patience, error)
    });
    Running { remote, thread }
}

impl Running {
    fn stop(self) -> WorkerReport {
        self.remote.call(|worker| worker.request_stop_within(Duration::ZERO)).unwrap();
        let report = self.thread.join().unwrap();
        assert!(report.error.is_none() && report.snapshot.ledger.is_whole(), "{}", report.snapshot.ledger);
        assert_eq!(self.remote.call(|_| ()), Err(RemoteError::Stopped));
        assert_eq!(self.remote.post(|_| ()), Err(RemoteError::Stopped));
        report
    }
}

#[test]
fn calls_run_on_the_worker_and_give_their_result() {
    let running = start(IdlePolicy::Spin, Duration::ZERO);
    let ours = std::thread::current().id();
    assert_ne!(running.remote.call(|_| std::thread::current().id()).unwrap(), ours);
    let sockets = running.remote.call(|worker| {
        let stack = worker.stack().unwrap();
        stack.udp_bind(SocketAddrV4::new(US, 99)).unwrap();
        stack.usage().udp_sockets
    });
    assert_eq!(sockets, Ok(2));
    let (tell, told) = mpsc::channel();
    for number in 0..100 {
        let tell = tell.clone();
        running.remote.post(move |_| tell.send(number).unwrap()).unwrap();
    }
    let order: Vec<i32> = (0..100).map(|_| told.recv_timeout(HANGS).unwrap()).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    running.stop();
}

#[test]
fn a_full_letter_box_refuses_and_drains_by_turns() {
    let remote = Remote::new().unwrap();
    let (mut worker, _nic) = echo_worker(remote.clone(), WorkerConfig::default());
    let ran = Arc::<AtomicUsize>::default();
    let post = || {
        let ran = ran.clone();
        remote.post(move |_| _ = ran.fetch_add(1, Ordering::Relaxed))
    };
    let queued = std::iter::repeat_with(post).take_while(Result::is_ok).count();
    assert_eq!(queued, 1024);
    assert_eq!(post(), Err(RemoteError::Full));
    assert_eq!(worker.turn(Instant::ZERO).unwrap(), Work::Some);
    assert_eq!(ran.load(Ordering::Relaxed), 32, "a bounded number a turn");
    assert_eq!(post(), Ok(()));
    for _ in 0..32 {
        worker.turn(Instant::ZERO).unwrap();
    }
    assert_eq!(ran.load(Ordering::Relaxed), 1025);
}

/// Runs `f` in a thread; panics if it hangs.
fn must_end<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> mpsc::Receiver<R> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(f()));
    told
}

#[test]
fn callers_of_a_worker_that_ends_are_told() {
    for finish in [true, false] {
        let remote = Remote::new().unwrap();
        let (worker, _nic) = echo_worker(remote.clone(), WorkerConfig::default());
        let caller = must_end({
            let remote = remote.clone();
            move || remote.call(|_| ())
        });
        // Until the call waits in the box.
        while !format!("{remote:?}").contains("1 calls") {
            std::thread::yield_now();
        }
        if finish {
            worker.finish(Duration::ZERO, None);
        } else {
            drop(worker);
        }
        assert_eq!(caller.recv_timeout(HANGS), Ok(Err(RemoteError::Stopped)));
    }
}

#[test]
fn callers_that_race_with_the_end_are_told() {
    for _ in 0..200 {
        let remote = Remote::new().unwrap();
        let (mut worker, _nic) = echo_worker(remote.clone(), WorkerConfig::default());
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let remote = remote.clone();
                must_end(move || while remote.call(|_| ()) == Ok(()) {})
            })
            .collect();
        for _ in 0..20 {
            worker.turn(Instant::ZERO).unwrap();
        }
        worker.finish(Duration::ZERO, None);
        for caller in callers {
            caller.recv_timeout(HANGS).expect("a caller waits for ever");
        }
    }
}

#[test]
fn a_call_wakes_a_sleeping_worker() {
    let running = start(IdlePolicy::Sleep, Duration::ZERO);
    let begun = std::time::Instant::now();
    for _ in 0..100 {
        let before = running.remote.call(|worker| worker.snapshot().sleeps).unwrap();
        // Long enough to fall asleep; a sleep that nobody ends takes 100 ms.
        std::thread::sleep(Duration::from_millis(1));
        assert!(running.remote.call(|worker| worker.snapshot().sleeps).unwrap() >= before);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for 200 calls", begun.elapsed());
    assert!(running.stop().snapshot.sleeps >= 50);
}

#[test]
fn policies_differ_in_how_often_they_sleep() {
    let sleeps = |policy, spin| {
        let running = start(policy, spin);
        let begun = std::time::Instant::now();
        while running.remote.call(|worker| worker.snapshot().turns).unwrap() < 300 {
            assert!(begun.elapsed() < HANGS);
        }
        running.stop().snapshot.sleeps
    };
    assert_eq!(sleeps(IdlePolicy::Spin, Duration::ZERO), 0);
    assert_eq!(sleeps(IdlePolicy::Adaptive, Duration::from_secs(3600)), 0);
    assert!(sleeps(IdlePolicy::Sleep, Duration::from_secs(3600)) > 0);
    assert!(sleeps(IdlePolicy::Adaptive, Duration::ZERO) > 0);
}

#[test]
fn a_device_that_does_not_send_does_not_keep_the_core_busy() {
    let running = start_on(Kick::Pending, IdlePolicy::Sleep, Duration::ZERO);
    let begun = std::time::Instant::now();
    let slept = || running.remote.call(|worker| worker.snapshot()).unwrap();
    while slept().sleeps < 10 {
        assert!(begun.elapsed() < HANGS);
        std::thread::sleep(Duration::from_millis(1));
    }
    running.stop();
}
