use super::*;
use std::{cell::RefCell, rc::Rc};

/// What the scripted driver saw and has to say.
#[derive(Debug, Default)]
struct Script {
    calls: Vec<&'static str>,
    sent: Vec<(Vec<u8>, Last)>,
    /// Outcomes of the next calls of `send`; `Sent` once they are used up.
    outcomes: VecDeque<Result<SendOutcome, DriverError>>,
    incoming: VecDeque<Incoming>,
    open: Option<DriverError>,
}

#[derive(Debug)]
enum Incoming {
    Pooled(RxBuf),
    Own(Vec<u8>),
}

#[derive(Debug)]
struct Scripted {
    script: Rc<RefCell<Script>>,
    lent: Vec<u8>,
}

impl Driver for Scripted {
    fn open(&mut self) -> Result<(), DriverError> {
        self.script.borrow_mut().calls.push("open");
        self.script.borrow().open.map_or(Ok(()), Err)
    }

    fn close(&mut self) {
        self.script.borrow_mut().calls.push("close");
    }

    fn send(&mut self, data: &[u8], last: Last) -> Result<SendOutcome, DriverError> {
        let mut script = self.script.borrow_mut();
        let outcome = script.outcomes.pop_front().unwrap_or(Ok(SendOutcome::Sent));
        if outcome == Ok(SendOutcome::Sent) {
            script.sent.push((data.to_vec(), last));
        }
        outcome
    }

    fn recv(&mut self) -> Option<DriverFrame<'_>> {
        let next = self.script.borrow_mut().incoming.pop_front()?;
        Some(match next {
            Incoming::Pooled(buf) => DriverFrame::Pooled(buf),
            Incoming::Own(bytes) => {
                assert!(self.lent.is_empty(), "the last frame was not given back");
                self.lent = bytes;
                DriverFrame::Own(&self.lent)
            }
        })
    }

    fn free_recv(&mut self) {
        self.lent.clear();
        self.script.borrow_mut().calls.push("free_recv");
    }

    fn phys_addr(&mut self) -> MacAddr {
        self.script.borrow_mut().calls.push("phys_addr");
        MacAddr([2, 1, 2, 3, 4, 5])
    }
}

struct Rig {
    pool: Pool,
    port: UserPort,
    script: Rc<RefCell<Script>>,
    queue: TxQueue,
}

impl Rig {
    fn new(change: impl FnOnce(&mut UserConfig)) -> Self {
        let pool = heap_pool(32, 2048, PoolConfig { rx_reserve_frames: 0, run_frames: 16 }).unwrap();
        let script = Rc::new(RefCell::new(Script::default()));
        let mut config = UserConfig::new("user0");
        change(&mut config);
        let driver = Box::new(Scripted { script: script.clone(), lent: Vec::new() });
        let port = UserPort::open(driver, &pool, config).unwrap();
        Self { pool, port, script, queue: TxQueue::with_limit(64) }
    }

    fn enqueue(&mut self, fill: u8, pieces: usize) {
        for i in 0..pieces {
            let mut buf = self.pool.alloc_tx().unwrap();
            buf.put_slice(&[fill; 60]).unwrap();
            let mut sealed = buf.seal().unwrap();
            if i + 1 < pieces {
                sealed.set_more();
            }
            self.queue.push(sealed).unwrap();
        }
    }

    fn transmit(&mut self) -> usize {
        let n = self.port.transmit(Instant::ZERO, &mut self.queue);
        assert!(self.pool.ledger().balances());
        n
    }

    fn receive(&mut self) -> Vec<RxBuf> {
        let mut out = Vec::new();
        self.port.receive(Instant::ZERO, &mut out, 64);
        assert!(self.pool.ledger().balances());
        out
    }

    /// Which frames the driver saw, by their first piece.
    fn sent(&self) -> Vec<(u8, Last)> {
        self.script.borrow().sent.iter().map(|(bytes, last)| (bytes[0], *last)).collect()
    }

    fn close(mut self) -> PortStats {
        self.queue.truncate(0);
        self.script.borrow_mut().incoming.clear();
        self.port.close(Duration::ZERO);
        self.port.close(Duration::ZERO);
        let closes = self.script.borrow().calls.iter().filter(|&&call| call == "close").count();
        assert_eq!(closes, 1);
        assert!(self.pool.ledger().is_whole(), "{}", self.pool.ledger());
        assert_eq!(self.pool.counters().bad_completions, 0);
        self.port.stats()
    }
}

const REFUSED: DriverError = DriverError { call: "send", code: -5 };

#[test]
fn open_comes_before_the_address_and_its_error_comes_out() {
    let rig = Rig::new(|config| config.mtu = 1400);
    assert_eq!(rig.script.borrow().calls, ["open", "phys_addr"]);
    let info = rig.port.info();
    assert_eq!((info.mac, info.mtu, info.kind), (MacAddr([2, 1, 2, 3, 4, 5]), 1400, "user"));
    rig.close();

    let pool = heap_pool(1, 2048, PoolConfig::default()).unwrap();
    let script = Rc::new(RefCell::new(Script::default()));
    script.borrow_mut().open = Some(DriverError { call: "open", code: 213 });
    let driver = Box::new(Scripted { script: script.clone(), lent: Vec::new() });
    let error = UserPort::open(driver, &pool, UserConfig::new("user0")).unwrap_err();
    assert_eq!(error.to_string(), "the driver's open failed with code 213");
    assert_eq!(script.borrow().calls, ["open"]);
}

#[test]
fn frames_go_piece_by_piece_and_are_free_on_return() {
    let mut rig = Rig::new(|_| {});
    rig.enqueue(1, 1);
    rig.enqueue(2, 3);
    assert_eq!(rig.transmit(), 4);
    assert_eq!(rig.sent(), [(1, Last::Yes), (2, Last::No), (2, Last::No), (2, Last::Yes)]);
    assert!(rig.pool.ledger().is_whole());
    assert_eq!(rig.port.kick().unwrap(), Kick::Idle);
    let stats = rig.close();
    assert_eq!((stats.tx_packets, stats.tx_bytes), (2, 240));
}

#[test]
fn a_busy_driver_gets_the_same_piece_again() {
    let mut rig = Rig::new(|_| {});
    rig.enqueue(1, 2);
    rig.enqueue(2, 1);
    rig.script.borrow_mut().outcomes =
        [Ok(SendOutcome::Busy), Ok(SendOutcome::Sent), Ok(SendOutcome::Busy), Ok(SendOutcome::Busy)].into();
    assert_eq!([rig.transmit(), rig.transmit(), rig.transmit(), rig.transmit()], [0, 1, 0, 2]);
    assert_eq!(rig.sent(), [(1, Last::No), (1, Last::Yes), (2, Last::Yes)]);
    rig.close();
}

#[test]
fn held_frames_are_freed_oldest_first_when_the_driver_says_so() {
    let mut rig = Rig::new(|config| {
        config.completion = Completion::ByDriver;
        config.held_frames_max = 3;
    });
    for fill in 1..=5 {
        rig.enqueue(fill, usize::from(fill));
    }
    assert_eq!(rig.transmit(), 6, "three frames of 1, 2 and 3 pieces are all that it may hold");
    assert_eq!((rig.port.held_frames(), rig.pool.ledger().kernel_tx), (3, 6));
    assert_eq!(rig.port.reap(), 0);
    let completer = rig.port.send_completer();
    std::thread::spawn(move || completer.send_complete(2)).join().unwrap();
    assert_eq!(rig.port.reap(), 3);
    assert_eq!((rig.port.held_frames(), rig.pool.ledger().kernel_tx), (1, 3));
    assert_eq!(rig.transmit(), 9);
    rig.port.send_completer().send_complete(u32::MAX);
    rig.port.send_completer().send_complete(u32::MAX);
    assert_eq!(rig.port.reap(), 12, "saying so too often frees what there is, once");
    assert_eq!(rig.port.reap(), 0);
    // What is held at the end comes back with the close.
    rig.enqueue(6, 2);
    rig.transmit();
    assert_eq!(rig.pool.ledger().kernel_tx, 2);
    rig.close();
}

#[test]
fn what_is_told_alone_and_by_other_threads_adds_up() {
    let mut rig = Rig::new(|config| config.completion = Completion::ByDriver);
    for fill in 1..=5 {
        rig.enqueue(fill, 1);
    }
    rig.transmit();
    let completer = rig.port.send_completer();
    completer.send_complete_alone(1);
    assert_eq!(rig.port.reap(), 1);
    completer.send_complete_alone(1);
    completer.send_complete_alone(1);
    std::thread::spawn(move || completer.send_complete(1)).join().unwrap();
    assert_eq!((rig.port.reap(), rig.port.reap(), rig.port.held_frames()), (3, 0, 1));
    rig.port.send_completer().send_complete_alone(u32::MAX);
    rig.port.send_completer().send_complete_alone(1);
    assert_eq!(rig.port.reap(), 1, "once");
    rig.close();
}

#[test]
fn a_frame_that_the_driver_holds_is_not_written_again() {
    let mut rig = Rig::new(|config| config.completion = Completion::ByDriver);
    let mut buf = rig.pool.alloc_tx().unwrap();
    buf.put_slice(&[7; 100]).unwrap();
    let (sealed, kept) = buf.seal_retained(&[0; 54]).unwrap();
    rig.queue.push(sealed).unwrap();
    rig.transmit();
    let kept = kept.try_exclusive().unwrap_err();
    rig.port.send_completer().send_complete(1);
    rig.port.reap();
    assert_eq!(kept.try_exclusive().unwrap().as_slice(), [7; 100]);
    rig.close();
}

#[test]
fn a_refused_frame_is_dropped_whole_and_the_next_one_goes() {
    for completion in [Completion::OnReturn, Completion::ByDriver] {
        let mut rig = Rig::new(|config| config.completion = completion);
        rig.enqueue(1, 1);
        rig.enqueue(2, 4);
        rig.enqueue(3, 1);
        rig.script.borrow_mut().outcomes =
            [Ok(SendOutcome::Sent), Ok(SendOutcome::Sent), Err(REFUSED), Ok(SendOutcome::Sent)].into();
        assert_eq!(rig.transmit(), 6);
        assert_eq!(rig.sent(), [(1, Last::Yes), (2, Last::No), (3, Last::Yes)]);
        if completion == Completion::ByDriver {
            assert_eq!((rig.port.held_frames(), rig.pool.ledger().kernel_tx), (2, 2));
        }
        let stats = rig.close();
        assert_eq!((stats.tx_packets, stats.tx_refused), (2, 1));
    }
}

#[test]
fn pooled_frames_go_up_uncopied() {
    let mut rig = Rig::new(|config| config.mtu = 9000);
    for len in [60, 4000] {
        let mut buf = rig.pool.alloc_contiguous(len).unwrap();
        buf.set_len(len).unwrap();
        buf.as_mut_slice().fill(8);
        let place = buf.as_slice().as_ptr();
        rig.script.borrow_mut().incoming.push_back(Incoming::Pooled(buf.into_rx()));
        let [packet] = &rig.receive()[..] else { panic!("one frame") };
        assert_eq!((packet.as_slice().as_ptr(), packet.as_slice()), (place, &vec![8; len][..]));
    }
    assert!(!rig.script.borrow().calls.contains(&"free_recv"));
    let stats = rig.close();
    assert_eq!((stats.rx_packets, stats.rx_bytes, stats.rx_copied_bytes), (2, 4060, 0));
}

#[test]
fn the_drivers_own_memory_is_copied_counted_and_given_back() {
    let mut rig = Rig::new(|config| config.mtu = 5000);
    let long: Vec<u8> = (0..5000u32).map(|i| (i / 7) as u8).collect();
    for bytes in [vec![1; 60], long.clone(), vec![], vec![0; 5019]] {
        rig.script.borrow_mut().incoming.push_back(Incoming::Own(bytes));
    }
    let out = rig.receive();
    assert_eq!(out.len(), 2);
    assert_eq!(out[0].as_slice(), [1; 60]);
    assert!(out[1].is_chain());
    let joined: Vec<u8> = out[1].pieces().flatten().copied().collect();
    assert_eq!(joined, long);
    drop(out);
    let frees = rig.script.borrow().calls.iter().filter(|&&call| call == "free_recv").count();
    assert_eq!(frees, 4, "the dropped ones too");
    let stats = rig.close();
    assert_eq!((stats.rx_copied_bytes, stats.rx_bad_descriptors, stats.rx_no_frame), (5060, 2, 0));
}

#[test]
fn without_a_free_frame_a_received_one_is_dropped_and_counted() {
    let mut rig = Rig::new(|config| config.mtu = 5000);
    let hold: Vec<_> = (0..14).map(|_| rig.pool.alloc_tx().unwrap()).collect();
    for len in [60, 5000, 60] {
        rig.script.borrow_mut().incoming.push_back(Incoming::Own(vec![1; len]));
    }
    let out = rig.receive();
    assert_eq!(out.len(), 2, "three frames are too many, one each is not");
    drop((out, hold));
    assert_eq!(rig.close().rx_no_frame, 1);
}

#[test]
fn receive_takes_no_more_than_asked_and_nothing_after_close() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..5 {
        rig.script.borrow_mut().incoming.push_back(Incoming::Own(vec![1; 60]));
    }
    let mut out = Vec::new();
    assert_eq!(rig.port.receive(Instant::ZERO, &mut out, 3), 3);
    out.clear();
    rig.port.close(Duration::ZERO);
    assert_eq!(rig.port.receive(Instant::ZERO, &mut out, 3), 0);
    rig.enqueue(1, 1);
    assert_eq!(rig.transmit(), 0);
    rig.close();
}

#[test]
fn dropping_the_port_closes_the_driver() {
    let mut rig = Rig::new(|config| config.completion = Completion::ByDriver);
    rig.enqueue(1, 3);
    rig.transmit();
    let Rig { pool, port, script, .. } = rig;
    drop(port);
    assert_eq!(script.borrow().calls.last(), Some(&"close"));
    assert!(pool.ledger().is_whole());
}
