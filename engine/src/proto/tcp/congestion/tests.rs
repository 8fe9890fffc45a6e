use super::*;
use proptest::prelude::*;

const MSS: u32 = 1000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn window(cwnd: u32, ssthresh: u32) -> Window {
    Window { cwnd_bytes: cwnd * MSS, ssthresh_bytes: ssthresh.saturating_mul(MSS), mss_bytes: MSS }
}

/// A connection that always has something to send, over a path without loss.
struct Path {
    now: Instant,
    rtt: Duration,
    segments_per_ack: u32,
}

impl Path {
    fn new(rtt: Duration, segments_per_ack: u32) -> Self {
        Self { now: Instant::from_millis(1_000_000), rtt, segments_per_ack }
    }

    /// What was in flight at the start of the round trip is acknowledged, evenly spread over it.
    fn round_trip(&mut self, control: &mut impl CongestionControl, window: &mut Window) {
        let start = self.now;
        let acks = (window.cwnd_bytes / window.mss_bytes).div_ceil(self.segments_per_ack);
        let acked_bytes = self.segments_per_ack * window.mss_bytes;
        for n in 1..=acks {
            self.now = start + self.rtt * n / acks;
            let in_flight_bytes = window.cwnd_bytes;
            let ack = Ack { now: self.now, acked_bytes, in_flight_bytes, srtt: Some(self.rtt), cwnd_limited: true };
            control.on_ack(&ack, window);
        }
    }

    fn round_trips(&mut self, count: u32, control: &mut impl CongestionControl, window: &mut Window) {
        for _ in 0..count {
            self.round_trip(control, window);
        }
    }
}

fn near(bytes: u32, segments: f64, tolerance: f64) -> bool {
    (f64::from(bytes) / f64::from(MSS) - segments).abs() <= tolerance
}

#[test]
fn compact() {
    assert!(size_of::<Congestion>() <= 96, "{}", size_of::<Congestion>());
}

/// RFC 6928 section 2: 10 segments, at most 14,600 bytes, but at least 2 segments.
#[test]
fn initial_window() {
    for (mss, cwnd) in [(536, 5360), (1460, 14_600), (2000, 14_600), (8960, 17_920), (0, 10)] {
        assert_eq!(Window::initial(mss).cwnd_bytes, cwnd);
    }
    assert!(Window::initial(1460).in_slow_start());
}

#[test]
fn the_default_is_cubic() {
    assert_eq!(Congestion::new(Algorithm::default()).algorithm(), Algorithm::Cubic);
    assert_eq!(Congestion::new(Algorithm::NewReno).algorithm(), Algorithm::NewReno);
}

/// RFC 5681 section 3.1: doubles each round trip up to the threshold, then grows by a segment each.
#[test]
fn new_reno_grows() {
    let (mut reno, mut window) = (NewReno::default(), window(10, 80));
    let mut path = Path::new(ms(50), 2);
    let mut seen = vec![];
    for _ in 0..6 {
        seen.push(window.cwnd_bytes / MSS);
        path.round_trip(&mut reno, &mut window);
    }
    assert_eq!(seen, [10, 20, 40, 80, 81, 82]);
}

/// RFC 3465 sections 2.2 and 2.3.
#[test]
fn new_reno_counts_no_more_than_two_segments() {
    let (mut reno, mut window) = (NewReno::default(), window(10, 80));
    let ack =
        Ack { now: Instant::ZERO, acked_bytes: 8 * MSS, in_flight_bytes: 10 * MSS, srtt: None, cwnd_limited: true };
    reno.on_ack(&ack, &mut window);
    assert_eq!(window.cwnd_bytes, 12 * MSS);
    reno.on_ack(&Ack { cwnd_limited: false, ..ack }, &mut window);
    assert_eq!(window.cwnd_bytes, 12 * MSS, "a window that is not used up does not grow");
    reno.on_timeout(Instant::ZERO, 12 * MSS, true, &mut window);
    assert_eq!((window.cwnd_bytes, window.ssthresh_bytes), (MSS, 6 * MSS));
    reno.on_ack(&ack, &mut window);
    assert_eq!(window.cwnd_bytes, 2 * MSS, "one after a timeout");
    reno.on_recovered(Instant::ZERO, &mut window);
    assert_eq!(window.cwnd_bytes, 2 * MSS, "the end of that is no reason to grow");
    reno.on_ack(&ack, &mut window);
    assert_eq!(window.cwnd_bytes, 4 * MSS);
}

/// RFC 5681 section 3.1 equation 4 and section 3.2.
#[test]
fn new_reno_halves() {
    let (mut reno, mut window) = (NewReno::default(), window(40, u32::MAX));
    reno.on_congestion(Instant::ZERO, 30 * MSS, &mut window);
    assert_eq!((window.cwnd_bytes, window.ssthresh_bytes), (40 * MSS, 15 * MSS), "the window is PRR's");
    reno.on_recovered(Instant::ZERO, &mut window);
    assert_eq!(window.cwnd_bytes, 15 * MSS);
    reno.on_congestion(Instant::ZERO, 3 * MSS, &mut window);
    assert_eq!(window.ssthresh_bytes, 2 * MSS, "no less than two segments");
}

/// RFC 5681 section 3.1: the threshold is set once for the same data.
#[test]
fn repeated_timeouts() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let (mut control, mut window) = (Congestion::new(algorithm), window(40, 20));
        control.on_timeout(Instant::ZERO, 40 * MSS, true, &mut window);
        let ssthresh_bytes = window.ssthresh_bytes;
        assert_eq!(ssthresh_bytes, if algorithm == Algorithm::NewReno { 20 } else { 28 } * MSS);
        control.on_timeout(Instant::ZERO, MSS, false, &mut window);
        assert_eq!((window.cwnd_bytes, window.ssthresh_bytes), (MSS, ssthresh_bytes));
        control.undo(&mut window);
        assert_eq!((window.cwnd_bytes, window.ssthresh_bytes), (40 * MSS, 20 * MSS));
        window.cwnd_bytes = MSS;
        control.undo(&mut window);
        assert_eq!(window.cwnd_bytes, MSS, "only once");
    }
}

/// RFC 5681 section 4.1.
#[test]
fn idle() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let (mut control, mut window) = (Congestion::new(algorithm), window(40, 20));
        control.on_idle(Instant::ZERO, ms(200), ms(200), &mut window);
        assert_eq!(window.cwnd_bytes, 40 * MSS);
        control.on_idle(Instant::ZERO, ms(201), ms(200), &mut window);
        assert_eq!((window.cwnd_bytes, window.ssthresh_bytes), (10 * MSS, 20 * MSS));
    }
}

/// RFC 9438 section 4.2, figure 1: `W_cubic(t) = C (t - K)³ + W_max`, with `K` = ³√(100 × 0.3 / 0.4) = 4.217 s.
#[test]
fn cubic_follows_its_function() {
    let (mut cubic, mut window) = (Cubic::default(), window(100, u32::MAX));
    let mut path = Path::new(ms(200), 2);
    cubic.on_congestion(path.now, 100 * MSS, &mut window);
    assert_eq!(window.ssthresh_bytes, 70 * MSS);
    cubic.on_recovered(path.now, &mut window);
    let mut table = vec![];
    for second in 1..=10 {
        path.round_trips(5, &mut cubic, &mut window);
        let function = 0.4 * (f64::from(second) - 4.217f64).powi(3) + 100.0;
        assert!(near(window.cwnd_bytes, function, 2.5), "{second} s: {} and {function}", window.cwnd_bytes);
        table.push(window.cwnd_bytes.div_ceil(MSS));
    }
    assert!(table[..4].is_sorted() && table[2] >= 98 && table[4] <= 102, "flat around W_max: {table:?}");
}

/// RFC 9438 section 4.3: on a short path Reno would be faster; the window grows by 0.529 segments a round trip, from `cwnd_prior` on by 1.
#[test]
fn cubic_is_as_fast_as_reno() {
    let (mut cubic, mut window) = (Cubic::default(), window(20, u32::MAX));
    let mut path = Path::new(ms(1), 1);
    cubic.on_congestion(path.now, 20 * MSS, &mut window);
    cubic.on_recovered(path.now, &mut window);
    path.round_trips(10, &mut cubic, &mut window);
    assert!(near(window.cwnd_bytes, 14.0 + 10.0 * 0.529, 0.5), "{window:?}");
    path.round_trips(2, &mut cubic, &mut window);
    let at = window.cwnd_bytes;
    path.round_trips(10, &mut cubic, &mut window);
    assert!(near(window.cwnd_bytes - at, 10.0, 1.0), "{window:?}");
}

/// RFC 9438 section 4.7: a second loss below the old plateau lowers the new one: 0.85 × 70 = 59.5 instead of 70.
#[test]
fn cubic_converges_fast() {
    let (mut cubic, mut window) = (Cubic::default(), window(100, u32::MAX));
    let mut path = Path::new(ms(200), 2);
    cubic.on_congestion(path.now, 100 * MSS, &mut window);
    cubic.on_recovered(path.now, &mut window);
    cubic.on_congestion(path.now, 70 * MSS, &mut window);
    cubic.on_recovered(path.now, &mut window);
    assert_eq!(window.cwnd_bytes, 49 * MSS);
    // K = ³√((59.5 - 49) / 0.4) = 2.97 s: there the plateau is.
    path.round_trips(15, &mut cubic, &mut window);
    assert!(near(window.cwnd_bytes, 59.5, 1.0), "{window:?}");
}

/// RFC 9438 section 4.8: after a timeout slow start, then a plateau at once.
#[test]
fn cubic_after_a_timeout() {
    let (mut cubic, mut window) = (Cubic::default(), window(100, u32::MAX));
    let mut path = Path::new(ms(200), 1);
    cubic.on_timeout(path.now, 100 * MSS, true, &mut window);
    let mut seen = vec![];
    for _ in 0..8 {
        seen.push(window.cwnd_bytes / MSS);
        path.round_trip(&mut cubic, &mut window);
    }
    assert_eq!(seen[..7], [1, 2, 4, 8, 16, 32, 64]);
    cubic.on_recovered(path.now, &mut window);
    path.round_trips(5, &mut cubic, &mut window);
    // From 70 with K = 0; Reno's 0.529 a round trip is faster at first.
    assert!(near(window.cwnd_bytes, 70.0 + 6.0 * 0.529, 1.0), "{window:?}");
}

/// RFC 9438 section 4.9.
#[test]
fn cubic_undone_goes_on_along_the_same_curve() {
    let start = || {
        let (mut cubic, mut window, mut path) = (Cubic::default(), window(100, u32::MAX), Path::new(ms(200), 2));
        cubic.on_congestion(path.now, 100 * MSS, &mut window);
        cubic.on_recovered(path.now, &mut window);
        path.round_trips(35, &mut cubic, &mut window);
        (cubic, window, path)
    };
    let (mut cubic, mut window, mut path) = start();
    let before = window;
    cubic.on_congestion(path.now, window.cwnd_bytes, &mut window);
    window.cwnd_bytes = window.ssthresh_bytes;
    cubic.undo(&mut window);
    assert_eq!(window, before);
    cubic.on_recovered(path.now, &mut window);
    assert_eq!(window, before, "there is nothing to recover from");
    path.round_trips(10, &mut cubic, &mut window);
    let (mut other, mut other_window, mut path) = start();
    path.round_trips(10, &mut other, &mut other_window);
    assert!(
        near(window.cwnd_bytes, f64::from(other_window.cwnd_bytes) / f64::from(MSS), 3.0),
        "{window:?} {other_window:?} {before:?}"
    );
    assert!(window.cwnd_bytes > 110 * MSS);
}

/// RFC 9438 section 5.8: time without a full window does not move along the curve.
#[test]
fn cubic_waits_for_the_application() {
    let (mut cubic, mut window) = (Cubic::default(), window(100, u32::MAX));
    let mut path = Path::new(ms(200), 2);
    cubic.on_congestion(path.now, 100 * MSS, &mut window);
    cubic.on_recovered(path.now, &mut window);
    path.round_trip(&mut cubic, &mut window);
    let at = window.cwnd_bytes;
    for _ in 0..100 {
        path.now = path.now + ms(200);
        let ack =
            Ack { now: path.now, acked_bytes: MSS, in_flight_bytes: MSS, srtt: Some(ms(200)), cwnd_limited: false };
        cubic.on_ack(&ack, &mut window);
    }
    path.now = path.now + ms(500);
    cubic.on_idle(path.now, ms(500), ms(1000), &mut window);
    assert_eq!(window.cwnd_bytes, at);
    path.round_trip(&mut cubic, &mut window);
    // 0.4 (0.4 - 4.217)³ + 100 = 77.8; had the 20 s counted, it would be at its limit of 1.5 times.
    assert!(near(window.cwnd_bytes, 77.8, 2.5), "{window:?}");
}

/// RFC 9406: with round trips of the same length slow start goes on; with growing ones it ends, by way of five slower rounds.
#[test]
fn hystart_leaves_slow_start_when_a_queue_builds_up() {
    let (mut cubic, mut window) = (Cubic::default(), Window::initial(MSS));
    let mut path = Path::new(ms(40), 1);
    path.round_trips(4, &mut cubic, &mut window);
    assert!(window.cwnd_bytes == 160 * MSS && window.ssthresh_bytes == u32::MAX, "{window:?}");
    path.rtt = ms(60);
    path.round_trips(2, &mut cubic, &mut window);
    let slower = window.cwnd_bytes;
    path.round_trip(&mut cubic, &mut window);
    assert!(near(window.cwnd_bytes, f64::from(slower) / f64::from(MSS) * 1.25, 2.0), "{slower} {window:?}");
    path.round_trips(5, &mut cubic, &mut window);
    assert!(!window.in_slow_start() && window.ssthresh_bytes <= window.cwnd_bytes, "{window:?}");
}

/// RFC 9406 section 4.2: conservative slow start ends when round trips become shorter again.
#[test]
fn hystart_takes_jitter_back() {
    let (mut cubic, mut window) = (Cubic::default(), Window::initial(MSS));
    let mut path = Path::new(ms(40), 1);
    path.round_trips(3, &mut cubic, &mut window);
    path.rtt = ms(60);
    path.round_trips(2, &mut cubic, &mut window);
    path.rtt = ms(40);
    path.round_trips(2, &mut cubic, &mut window);
    let at = window.cwnd_bytes;
    path.round_trip(&mut cubic, &mut window);
    assert!(
        near(window.cwnd_bytes, f64::from(2 * at / MSS), 1.0) && window.ssthresh_bytes == u32::MAX,
        "{at} {window:?}"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Ack { after_us: u32, acked_bytes: u32, in_flight_bytes: u32, srtt_us: u32, cwnd_limited: bool },
    Congestion(u32),
    Timeout(u32, bool),
    Recovered,
    Idle(u32),
    Undo,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<(u32, u32, u32, u32, bool)>().prop_map(|(after_us, acked_bytes, in_flight_bytes, srtt_us, cwnd_limited)| {
            Step::Ack { after_us, acked_bytes, in_flight_bytes, srtt_us, cwnd_limited }
        }),
        1 => any::<u32>().prop_map(Step::Congestion),
        1 => any::<(u32, bool)>().prop_map(|(in_flight, first)| Step::Timeout(in_flight, first)),
        1 => Just(Step::Recovered),
        1 => any::<u32>().prop_map(Step::Idle),
        1 => Just(Step::Undo),
    ]
}

proptest! {
    /// Whatever comes, the window stays between a segment and its maximum, and an acknowledgement never shrinks it.
    #[test]
    fn bounds(cubic: bool, mss in 1u32..10_000, steps in prop::collection::vec(steps(), 1..200)) {
        let mut control = Congestion::new(if cubic { Algorithm::Cubic } else { Algorithm::NewReno });
        let (mut window, mut now) = (Window::initial(mss), Instant::ZERO);
        for step in steps {
            let before = window.cwnd_bytes;
            match step {
                Step::Ack { after_us, acked_bytes, in_flight_bytes, srtt_us, cwnd_limited } => {
                    now = now + Duration::from_micros(u64::from(after_us));
                    let srtt = Some(Duration::from_micros(u64::from(srtt_us)));
                    control.on_ack(&Ack { now, acked_bytes, in_flight_bytes, srtt, cwnd_limited }, &mut window);
                    prop_assert!(window.cwnd_bytes >= before && (cwnd_limited || window.cwnd_bytes == before));
                }
                Step::Congestion(in_flight) => control.on_congestion(now, in_flight, &mut window),
                Step::Timeout(in_flight, first) => control.on_timeout(now, in_flight, first, &mut window),
                Step::Recovered => control.on_recovered(now, &mut window),
                Step::Idle(us) => control.on_idle(now, Duration::from_micros(u64::from(us)), ms(200), &mut window),
                Step::Undo => control.undo(&mut window),
            }
            prop_assert!(window.cwnd_bytes >= mss && window.ssthresh_bytes >= 2 * mss);
            prop_assert!(window.cwnd_bytes <= CWND_BYTES_MAX);
        }
    }
}
