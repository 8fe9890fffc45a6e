//! A turn of the loop: all of it by whoever calls or, beside workers, each worker's share of it.
//!
//! ```text
//!   reap → refill → receive (driver functions run) → ingress → timers → events (callbacks run) → flush → transmit (driver functions run) → kick
//! ```
//!
//! The stack is one, so all this is done inside the gate. Only the kick's system calls, which are most of the work where the kernel copies, a worker makes outside.

use super::{
    error::{Code, explain},
    face::{BEDROOM, Face, Patience},
    interface::Interface,
    numbers as n,
    queue::{Done, Errands, Queue, Share, spread},
    workers::{DOORBELL, Worker},
};
use crate::{
    port::PortError,
    proto::IfaceId,
    stack::Stack,
    time::{Duration, Instant},
};
use smallvec::SmallVec;
use std::{
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
};

/// Packets taken from a port at once.
const RX_BURST: usize = 64;
/// Rounds of timers in one `tfTimerExecute`: bounds what a timer that starts another at once can do.
const TIMER_ROUNDS_MAX: usize = 256;
/// Longest sleep: bounds how late something is noticed that nobody rings for.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Shortest sleep, when what can be done at once waits for a device that does not say when it is ready.
const SLEEP_MIN: Duration = Duration::from_micros(100);
/// Longest sleep while there is a driver that has never called `tfNotifyReceiveInterfaceIsr`: it has to be asked.
const SLEEP_UNNOTIFIED_MAX: Duration = Duration::from_millis(1);
/// Longest sleep of those who are rung for whatever they wait for.
const SLEEP_RUNG_MAX: Duration = Duration::from_secs(3600);

impl Face {
    pub(super) fn each_interface(&self, mut f: impl FnMut(&Interface) -> bool) -> bool {
        let mut any = false;
        let mut at = 0;
        while let Some(interface) = self.interface(at) {
            any |= f(&interface);
            at += 1;
        }
        any
    }

    pub(super) fn each_queue(&self, share: Share, mut f: impl FnMut(&Interface, &Queue) -> bool) -> bool {
        self.each_interface(|interface| {
            let Ok(queues) = interface.queues.try_borrow() else { return false };
            // All of them are visited.
            queues.iter().filter(|queue| share.has(queue)).fold(false, |any, queue| f(interface, queue) | any)
        })
    }

    /// One turn of everything. Beside workers it only takes back frames that are sent.
    pub(super) fn turn(&self) -> Done {
        if !self.may_turn() {
            return Done { worked: self.reap(), stuck: false };
        }
        let done = self.turn_share(Share::All, None);
        if done.worked {
            BEDROOM.ring_inside();
        }
        done
    }

    /// A worker's turn: of its own queues, and of all that is nobody's own. The system calls are left to `errands`.
    pub(super) fn turn_of(&self, worker: Worker, errands: &mut Errands) -> Done {
        let mut done = self.turn_share(Share::Of(worker.number()), Some(errands));
        if done.worked {
            self.ring_restless();
        }
        // What handing over the frames brought about is told in the next turn.
        done.worked |= self.with_stack(|stack| stack.event_count() > 0).unwrap_or(false);
        done
    }

    fn turn_share(&self, share: Share, errands: Option<&mut Errands>) -> Done {
        let now = self.now();
        let mut worked = self.each_queue(share, |interface, queue| {
            queue.pull(now, RX_BURST);
            self.handle_received(interface, queue, now)
        });
        worked |= self.with_stack(|stack| stack.poll_timers(now)).unwrap_or(0) > 0;
        worked |= self.tell();
        let mut done = self.flush_share(now, share, errands);
        done.worked |= worked;
        done
    }

    /// Takes back frames that are sent; true if there were any.
    fn reap(&self) -> bool {
        self.each_queue(Share::All, |_, queue| queue.with_link(|link| link.port().reap() > 0).unwrap_or(false))
    }

    /// For a call that finds no free frame: sends what waits and takes back what is sent. Nothing is received and nobody is called, as the application expects of a call that does not wait.
    pub(super) fn reclaim(&self) {
        if self.may_turn() {
            self.flush(self.now());
        }
        self.reap();
    }

    /// After a turn that did nothing: when the next timer is due. `None` if a driver has yet to take what is to be sent: then turns go on.
    pub(super) fn quiet_until(&self, worker: Worker) -> Option<Option<Instant>> {
        let waits = self.each_queue(Share::Of(worker.number()), |interface, queue| {
            let Some(id) = interface.id.get() else { return false };
            queue.has_mail() || self.with_stack(|stack| !stack.egress(id).is_empty()).unwrap_or(false)
        });
        (!waits).then(|| self.next_deadline())
    }

    /// Whether a turn would do anything, without touching what other threads' calls use: they would have to fetch it back from this core. After [`quiet_until`](Self::quiet_until), with what it
    /// said.
    pub(super) fn has_work(&self, worker: Worker, quiet_until: Option<Instant>) -> bool {
        let now = self.now();
        self.crew.was_called(worker)
            || self.touched.replace(false)
            || quiet_until.is_some_and(|at| at <= now)
            || self.each_queue(Share::Of(worker.number()), |_, queue| queue.pull(now, RX_BURST))
            || self.has_rested()
    }

    /// Some device has sent something since it was last given anything: there may be room for more.
    pub(super) fn has_completed(&self, worker: Worker) -> bool {
        self.each_queue(Share::Of(worker.number()), |_, queue| queue.has_completed())
    }

    /// Takes what an interface's ports have received, to be handled later; true if anything waits.
    pub(super) fn pull(&self, interface: &Interface, now: Instant) -> bool {
        let Ok(queues) = interface.queues.try_borrow() else { return false };
        queues.iter().fold(false, |any, queue| queue.pull(now, RX_BURST) | any)
    }

    /// Hands up what was [pulled](Self::pull); true if there was anything.
    pub(super) fn handle_pulled(&self, interface: &Interface, now: Instant) -> bool {
        let Ok(queues) = interface.queues.try_borrow() else { return false };
        queues.iter().fold(false, |any, queue| self.handle_received(interface, queue, now) | any)
    }

    fn handle_received(&self, interface: &Interface, queue: &Queue, now: Instant) -> bool {
        let Some(id) = interface.id.get() else { return false };
        queue.handle_received(|received| {
            let _ = self.with_stack(|stack| stack.ingress(now, id, received));
        })
    }

    /// Fires what is due, again until nothing is.
    pub(super) fn run_timers(&self) {
        let now = self.now();
        for _ in 0..TIMER_ROUNDS_MAX {
            if self.with_stack(|stack| stack.poll_timers(now)).unwrap_or(0) == 0 {
                break;
            }
        }
        self.tell();
        self.flush(now);
        BEDROOM.ring_inside();
    }

    /// Hands what is to be sent to the ports.
    pub(super) fn flush(&self, now: Instant) {
        self.flush_share(now, Share::All, None);
    }

    fn flush_share(&self, now: Instant, share: Share, errands: Option<&mut Errands>) -> Done {
        let _ = self.with_stack(|stack| {
            stack.set_now(now);
            stack.flush();
        });
        self.hand_over_share(now, share, errands)
    }

    /// The same for what is queued already: datagrams.
    pub(super) fn hand_over(&self, now: Instant) {
        self.hand_over_share(now, Share::All, None);
    }

    /// Hands what is queued for interface `id`, or for the only one, to its driver, if that is as usual: one queue, and a driver of the application's that is not just running. False: nothing was done.
    #[inline(always)]
    pub(super) fn feed(&self, stack: &mut Stack, id: Option<IfaceId>, now: Instant) -> bool {
        let Some((interface, id)) = self.open_interface(id) else { return false };
        let Ok(queues) = interface.queues.try_borrow() else { return false };
        let [queue] = &**queues else { return false };
        let fed = queue.feed(now, &interface, stack.egress(id));
        if fed {
            stack.egress_drained(id);
        }
        fed
    }

    /// The open interface with that number, or the only interface.
    #[inline(always)]
    fn open_interface(&self, id: Option<IfaceId>) -> Option<(Rc<Interface>, IfaceId)> {
        // Nobody else looks meanwhile: to say so takes less than to count who does.
        let interfaces = self.interfaces.try_borrow_mut().ok()?;
        let interface = match (id, &**interfaces) {
            (Some(_), all) => all.iter().find(|interface| interface.id.get() == id)?,
            (None, [only]) => only,
            (None, _) => return None,
        };
        let id = interface.id.get()?;
        Some((Rc::clone(interface), id))
    }

    fn hand_over_share(&self, now: Instant, share: Share, mut errands: Option<&mut Errands>) -> Done {
        let mut interface_at = 0;
        let mut done = Done::default();
        while let Some(interface) = self.interface(interface_at) {
            done |= self.hand_over_on(&interface, interface_at, now, share, errands.as_deref_mut());
            interface_at += 1;
        }
        done
    }

    #[inline(always)]
    fn hand_over_on(
        &self,
        interface: &Interface,
        interface_at: usize,
        now: Instant,
        share: Share,
        errands: Option<&mut Errands>,
    ) -> Done {
        let Some(id) = interface.id.get() else { return Done::default() };
        let Ok(queues) = interface.queues.try_borrow() else { return Done::default() };
        let outcome = match &**queues {
            [queue] if share.has(queue) => self.with_stack(|stack| {
                let done = queue.send(now, interface, stack.egress(id), (interface_at, 0), errands)?;
                stack.egress_drained(id);
                Ok(done)
            }),
            queues => self.with_stack(|stack| {
                self.hand_over_on_each(stack, (interface, interface_at), queues, now, share, errands)
            }),
        };
        drop(queues);
        match outcome {
            Ok(Err(error)) => {
                self.give_up(interface, error);
                Done::default()
            }
            Ok(Ok(done)) => done,
            Err(_) => Done::default(),
        }
    }

    /// The same for several queues, or for others' ones.
    #[inline(never)]
    fn hand_over_on_each(
        &self,
        stack: &mut Stack,
        (interface, interface_at): (&Interface, usize),
        queues: &[Queue],
        now: Instant,
        share: Share,
        mut errands: Option<&mut Errands>,
    ) -> Result<Done, PortError> {
        let Some(id) = interface.id.get() else { return Ok(Done::default()) };
        let (mut done, mut drained) = (Done::default(), false);
        if queues.len() > 1 {
            spread(stack.egress(id), queues);
            drained = true;
        }
        for (at, queue) in queues.iter().enumerate() {
            if !share.has(queue) {
                if queue.has_mail() || (queues.len() == 1 && !stack.egress(id).is_empty()) {
                    self.crew.call(1 << queue.worker.get());
                }
                continue;
            }
            drained = true;
            done |= queue.send(now, interface, stack.egress(id), (interface_at, at), errands.as_deref_mut())?;
        }
        if drained {
            stack.egress_drained(id);
        }
        Ok(done)
    }

    /// The interface is gone: nothing goes there any more, and nobody waits for it.
    #[cold]
    fn give_up(&self, interface: &Interface, error: PortError) {
        explain(Code(n::TM_EIO), error);
        let Some(id) = interface.id.get() else { return };
        let _ = self.with_stack(|stack| {
            stack.egress(id).truncate(0);
            if let Some(interface) = stack.interface_mut(id) {
                interface.up = false;
            }
        });
    }

    /// What follows a call that gave a stream something to send: a blocking caller may never call anything else, a user driver is fed at once, and all else goes with the next turn.
    pub(super) fn after_send(&self, patience: Patience) {
        if !self.sends_at_once(patience) {
            return;
        }
        if !patience.is_none() {
            self.turn();
        } else {
            self.flush(self.now());
        }
    }

    /// What follows a call that took something from a stream: its window may have opened.
    pub(super) fn after_receive(&self) {
        if self.sends_at_once(Patience::None) {
            self.flush(self.now());
        }
    }

    /// Tells the ports what became of a worker's errands.
    pub(super) fn take_notice(&self, errands: &mut Errands) {
        #[cfg(feature = "af-xdp")]
        for ((interface, at), told) in errands.told() {
            let Some(interface) = self.interface(interface) else { continue };
            let broken = interface.queues.try_borrow().ok().and_then(|queues| {
                queues.get(at)?.with_link(|link| match link {
                    super::queue::Link::Xdp(port) => port.kicked(told).err(),
                    super::queue::Link::User(_) => None,
                })?
            });
            if let Some(error) = broken {
                self.give_up(&interface, error);
            }
        }
        let _ = errands;
    }

    /// When the next timer is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let mut earliest = self.with_stack(|stack| stack.next_deadline()).unwrap_or(None);
        self.each_queue(Share::All, |_, queue| {
            if let Some(at) = queue.with_link(|link| link.port().next_deadline()).flatten() {
                earliest = Some(earliest.map_or(at, |other| other.min(at)));
            }
            false
        });
        earliest
    }

    /// What a blocked call waits for: descriptors, and how long at most without a ring.
    pub(super) fn rest(&self) -> (SmallVec<[RawFd; 8]>, Duration) {
        let (fds, at_most) = self.rest_share(Share::All);
        (fds, self.until_deadline(self.next_deadline()).min(at_most.unwrap_or(SLEEP_MAX)))
    }

    /// What a worker waits for. One of those who sleep keeps the timers.
    pub(super) fn rest_of(&self, worker: Worker) -> (SmallVec<[RawFd; 8]>, Duration) {
        let (fds, at_most) = self.rest_share(Share::Of(worker.number()));
        let at_most = at_most.unwrap_or(SLEEP_RUNG_MAX);
        let timers = match self.next_deadline() {
            Some(deadline) if self.crew.keeps_time(worker, deadline) => self.until_deadline(Some(deadline)),
            _ => SLEEP_RUNG_MAX,
        };
        (fds, timers.min(at_most))
    }

    fn until_deadline(&self, deadline: Option<Instant>) -> Duration {
        deadline.map_or(SLEEP_RUNG_MAX, |at| at.saturating_since(self.now()).max(SLEEP_MIN))
    }

    /// Descriptors, and how long at most; none without queues.
    fn rest_share(&self, share: Share) -> (SmallVec<[RawFd; 8]>, Option<Duration>) {
        let mut fds = SmallVec::new();
        let mut at_most = None;
        self.each_queue(share, |interface, queue| {
            let longest = at_most.get_or_insert(SLEEP_MAX);
            match queue.with_link(|link| link.port().wait_fd().map(|fd| fd.as_raw_fd())).flatten() {
                Some(fd) => fds.push(fd),
                None if interface.id.get().is_some() && !interface.notifies() => *longest = SLEEP_UNNOTIFIED_MAX,
                None => {}
            }
            false
        });
        if self.is_waiting_for_rest() {
            // A device does not say when it has sent something.
            at_most = at_most.map(|longest| longest.min(SLEEP_UNNOTIFIED_MAX));
        }
        (fds, at_most)
    }

    /// Divides the frames that devices may keep among the sockets that share them: half of all, and no more than each has room for.
    #[cfg(feature = "af-xdp")]
    pub(super) fn divide_frames(&self) {
        use super::{queue::Link, xdp::lendable};
        use crate::port::Port;
        let mut sockets = 0;
        self.each_queue(Share::All, |_, queue| {
            sockets += u32::from(queue.with_link(|link| matches!(link, Link::Xdp(_))).unwrap_or(false));
            false
        });
        let Some(pool) = self.pool.try_borrow().ok().and_then(|pool| pool.clone()).filter(|_| sockets > 0) else {
            return;
        };
        let each = lendable(pool.capacity()) / sockets;
        let mut lent = 0;
        self.each_queue(Share::All, |_, queue| {
            lent += queue
                .with_link(|link| match link {
                    Link::Xdp(port) => {
                        let lent = port.lend_at_most(each);
                        port.refill();
                        lent
                    }
                    Link::User(_) => 0,
                })
                .unwrap_or(0);
            false
        });
        pool.set_lent_frames(lent);
        let _ = self.with_stack(crate::stack::Stack::lent_frames_changed);
    }

    /// Some queue is dealt to the worker.
    pub(super) fn has_queues(&self, worker: Worker) -> bool {
        self.each_queue(Share::Of(worker.number()), |_, _| true)
    }

    /// Deals all queues to the workers, in turn. Those who sleep are to be [called](super::workers::Crew::call).
    pub(super) fn deal(&self) {
        let mut turn = self.crew.members().cycle();
        self.each_interface(|interface| {
            let Ok(queues) = interface.queues.try_borrow() else { return false };
            for queue in queues.iter() {
                let Some(worker) = turn.next() else { break };
                queue.worker.set(worker);
                interface.belongs_to(worker);
            }
            false
        });
        self.crew.call(self.crew.alive());
        #[cfg(feature = "af-xdp")]
        self.divide_frames();
    }

    /// For a call that leaves something to do while all workers sleep: those whose queues have something to send, else one.
    #[cold]
    pub(super) fn choose_worker(&self) {
        let mut chosen = 0u64;
        let mut any = None;
        self.each_queue(Share::All, |interface, queue| {
            let bit = 1 << queue.worker.get();
            any.get_or_insert(bit);
            let sends = interface.id.get().is_some_and(|id| {
                queue.has_mail() || self.with_stack(|stack| !stack.egress(id).is_empty()).unwrap_or(false)
            });
            chosen |= if sends { bit } else { 0 };
            false
        });
        let anybody = || any.unwrap_or(self.crew.alive() & self.crew.alive().wrapping_neg());
        DOORBELL.choose(if chosen != 0 { chosen } else { anybody() });
    }
}
