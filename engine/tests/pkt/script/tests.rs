use super::*;
use crate::segment::{PSH, RST, SYN, URG};

fn one(text: &str) -> Line {
    let script = Script::parse(text).unwrap();
    assert_eq!(script.lines.len(), 1, "{text}");
    script.lines[0].clone()
}

fn error(text: &str) -> String {
    Script::parse(text).unwrap_err().1
}

#[test]
fn times() {
    let when = |text: &str| one(&format!("{text} quiet")).when;
    assert_eq!(when("+0"), When::After(Duration::ZERO));
    assert_eq!(when("+0.1"), When::After(Duration::from_millis(100)));
    assert_eq!(when("+250us"), When::After(Duration::from_micros(250)));
    assert_eq!(when("+2h"), When::After(Duration::from_secs(7200)));
    assert_eq!(when("+0.2~+0.4"), When::Within(Duration::from_millis(200), Duration::from_millis(400)));
    assert!(error("0.1 quiet").contains("begins with +TIME"));
    assert!(error("+1parsec quiet").contains("unit"));
}

#[test]
fn packets() {
    let Step::In(packet) = one("+0 < P.U 1:1001(1000) ack 5 win 2000 urg 3 <nop,nop,TS val 7 ecr *>").step else {
        panic!()
    };
    let timestamps = Some((Condition::Is(7), Condition::Any));
    let want = Packet {
        flags: PSH | ACK | URG,
        seq: 1,
        len: 1000,
        ack: Some(5),
        window: Some(Condition::Is(2000)),
        urgent: Some(3),
        options: Some(OptionList { timestamps, ..OptionList::default() }),
        ecn: None,
        bad_checksum: false,
        more: false,
        in_burst: false,
    };
    assert_eq!(packet, want);
    let Step::Out(packet) = one("+0 > [ect0] R -1:-1(0) win <=9").step else { panic!() };
    assert_eq!((packet.flags, packet.seq, packet.ecn), (RST, u32::MAX, Some(2)));
    assert_eq!((packet.window, packet.options), (Some(Condition::AtMost(9)), None));
    let Step::In(packet) = one("+0 < [ce] [bad] [more] . 1:1(0) ack 1").step else { panic!() };
    assert_eq!((packet.ecn, packet.bad_checksum, packet.more), (Some(3), true, true));
    let Step::Out(packet) = one("+0 > - 1:2(1) <sack 1:5 9:12>").step else { panic!() };
    assert_eq!((packet.flags, packet.options.unwrap().sack), (0, vec![(1, 5), (9, 12)]));
}

#[test]
fn a_number_of_packets() {
    let script = Script::parse("+0.1 > x3 . 1:1461(1460) ack 1").unwrap();
    let seqs: Vec<_> = script
        .lines
        .iter()
        .map(|line| match &line.step {
            Step::Out(packet) => (line.when, packet.seq, packet.len),
            step => panic!("{step:?}"),
        })
        .collect();
    let apart = Script::parse("+0 < x2/200 . 1:101(100) ack 1").unwrap();
    assert!(matches!(&apart.lines[1].step, Step::In(Packet { seq: 201, len: 100, in_burst: true, .. })));
    let (first, now) = (When::After(Duration::from_millis(100)), When::After(Duration::ZERO));
    assert_eq!(seqs, [(first, 1, 1460), (now, 1461, 1460), (now, 2921, 1460)]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    assert_eq!(Script::parse("# comment\n\n+0 > Q 0:0(0)").unwrap_err().0, 3);
    assert!(error("+0 < . 1:10(5) ack 1").contains("not 5 bytes"));
    assert!(error("+0 < . 1:1(0)").contains("ack"));
    assert!(error("+0 < S 0:0(0) ack 1").contains("ack"));
    assert!(error("+0 < S 0:0(0) <mss>").contains("no option"));
    assert!(error("+0 < S 0:0(0) <mss 5").contains("without"));
    assert!(error("+0 < S 0:0(0) wind 5").contains("wind"));
    assert!(error("+0 dance").contains("no call"));
    assert!(error("+0 quiet\nset mtu 500").contains("before"));
}

#[test]
fn settings_and_calls() {
    let script =
        Script::parse("set mtu 576\nset time_wait 10s // short\n+0 send 100 WouldBlock\n+0 recv Finished\n+0 recv 5")
            .unwrap();
    assert_eq!((script.settings.mtu, script.settings.stack), (576, vec![("time_wait".into(), "10s".into())]));
    let calls: Vec<_> = script.lines.into_iter().map(|line| line.step).collect();
    let want = [
        Call::Send { bytes: 100, outcome: Outcome::Fails("WouldBlock".into()) },
        Call::RecvFails("Finished".into()),
        Call::Recv { bytes: 5 },
    ];
    assert_eq!(calls, want.map(Step::Call));
}

#[test]
fn openings_stand_for_their_lines() {
    let script = Script::parse("+0 established rtt 0.1 win 2000 <mss 500>").unwrap();
    assert_eq!(script.lines.len(), 6);
    assert!(script.lines.iter().all(|line| line.number == 1));
    let Step::In(syn) = &script.lines[1].step else { panic!() };
    assert_eq!((syn.flags, syn.window), (SYN, Some(Condition::Is(2000))));
    assert_eq!(syn.options.as_ref().unwrap().mss, Some(Condition::Is(500)));
    assert_eq!(script.lines[3].when, When::After(Duration::from_millis(100)));
    assert!(matches!(Script::parse("+0 connected").unwrap().lines[0].step, Step::Call(Call::Connect { port: 80 })));
}

#[test]
fn icmp_errors() {
    let Step::InIcmp(icmp) = one("+0 < icmp frag_needed 1:1461(1460) mtu 1400").step else { panic!() };
    assert_eq!(icmp, Icmp { kind: 3, code: 4, seq: 1, len: 1460, mtu: 1400 });
}
