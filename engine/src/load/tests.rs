//! The clients against small services of the kernel's, on the loopback interface.

use super::*;
use clap::Parser;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    thread,
};

const HERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);

fn v4(address: SocketAddr) -> SocketAddrV4 {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    address
}

/// Each connection gets a thread that does `serve` with it; all of them go when the test's process does.
fn tcp_service(serve: impl Fn(std::net::TcpStream) + Copy + Send + 'static) -> SocketAddrV4 {
    let listener = TcpListener::bind(HERE).unwrap();
    let address = v4(listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: std::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut block = vec![0; 1 << 16];
    while let Ok(count @ 1..) = stream.read(&mut block) {
        if stream.write_all(&block[..count]).is_err() {
            return;
        }
    }
}

/// Answers each datagram with what `answer` makes of it; nothing if it makes nothing.
fn udp_service(answer: impl Fn(u64, &mut [u8]) -> bool + Send + 'static) -> SocketAddrV4 {
    let socket = UdpSocket::bind(HERE).unwrap();
    let address = v4(socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for number in 0.. {
            let Ok((bytes, from)) = socket.recv_from(&mut buffer) else { return };
            if answer(number, &mut buffer[..bytes]) {
                let _ = socket.send_to(&buffer[..bytes], from);
            }
        }
    });
    address
}

fn brief() -> RunOptions {
    RunOptions { seconds: 0.2, warm_up: 0.0, ..RunOptions::default() }
}

fn short(target: SocketAddrV4) -> ExchangeOptions {
    ExchangeOptions { run: brief(), ..ExchangeOptions::new(target) }
}

#[test]
fn every_exchange_is_answered() {
    for (connections, rate, idle) in [(1, None, 0), (4, None, 3), (4, Some(500.0), 0)] {
        let tcp = ExchangeOptions { connections, rate, idle, ..short(tcp_service(echo)) };
        let udp = ExchangeOptions { idle: 0, target: udp_service(|_, _| true), ..tcp.clone() };
        let results = [
            exchange_tcp(&tcp, Exchange::Request, false),
            exchange_tcp(&tcp, Exchange::Connection, false),
            exchange_udp(&udp),
        ];
        for result in results {
            let result = result.unwrap();
            assert!(result.exchanges > 0 && result.unanswered == 0, "{result}");
            assert!(result.p50_us > 0.0 && result.p50_us <= result.max_us, "{result}");
            // However slow the machine is, all that was due is counted.
            assert!(rate.is_none() || result.exchanges == 100, "{result}");
        }
    }
}

#[test]
fn lost_datagrams_are_counted_and_not_waited_for() {
    let one_in_ten = udp_service(|number, _| number % 10 != 0);
    let result = exchange_udp(&ExchangeOptions { rate: Some(1000.0), ..short(one_in_ten) }).unwrap();
    assert_eq!((result.exchanges, result.unanswered), (180, 20), "{result}");
}

#[test]
fn a_stall_counts_for_all_that_it_held_up() {
    let target = tcp_service(|mut stream| {
        let mut request = [0; 64];
        for number in 0.. {
            if stream.read_exact(&mut request).is_err() {
                return;
            }
            if number == 10 {
                thread::sleep(Duration::from_millis(100));
            }
            if stream.write_all(&request).is_err() {
                return;
            }
        }
    });
    let result =
        exchange_tcp(&ExchangeOptions { rate: Some(1000.0), ..short(target) }, Exchange::Request, false).unwrap();
    // 200 requests, of which about 100 were due in the stall: one of them in two took over 50 ms, which is a quarter of all.
    let at = |quantile| result.latency_us.0.iter().find(|(other, _)| *other == quantile).map(|(_, us)| *us);
    assert!(at(0.9).unwrap() > 50_000.0, "{:?}", result.latency_us);
}

#[test]
fn wrong_answers_are_no_answers() {
    let spoilt = udp_service(|_, datagram| {
        datagram[40] ^= 1;
        true
    });
    assert!(exchange_udp(&short(spoilt)).unwrap_err().to_string().contains("wrong answer"));
    let spoilt = tcp_service(|mut stream| {
        let mut request = [0; 64];
        while stream.read_exact(&mut request).is_ok() {
            request[63] ^= 1;
            let _ = stream.write_all(&request);
        }
    });
    let error = exchange_tcp(&short(spoilt), Exchange::Request, false).unwrap_err();
    assert!(error.to_string().contains("wrong answer"), "{error}");
}

#[test]
fn nobody_there_is_an_error_that_names_the_address() {
    let listener = TcpListener::bind(HERE).unwrap();
    let address = v4(listener.local_addr().unwrap());
    drop(listener);
    let error = exchange_tcp(&short(address), Exchange::Request, false).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
}

#[test]
fn bulk_goes_every_way_and_is_checked() {
    // Longer if nothing moved: the services' threads may have to wait for a core.
    let bulk = |target, direction, numbered| {
        let attempt = |seconds| {
            let run = RunOptions { seconds, ..brief() };
            bulk_tcp(&BulkOptions { target, direction, connections: 3, numbered, run })
        };
        let still = |result: &Result<BulkResult, LoadError>| result.as_ref().is_ok_and(|result| result.bytes == 0);
        [2.0, 20.0].into_iter().fold(attempt(0.2), |last, seconds| if still(&last) { attempt(seconds) } else { last })
    };
    let source = |mut stream: std::net::TcpStream| {
        let numbers: Vec<u8> = (0..1_u64 << 20).flat_map(u64::to_be_bytes).collect();
        let _ = stream.write_all(&numbers);
    };
    let sink = |mut stream: std::net::TcpStream| while let Ok(1..) = stream.read(&mut [0; 65_536]) {};
    let sent = bulk(tcp_service(sink), Direction::Send, false).unwrap();
    let echoed = bulk(tcp_service(echo), Direction::Echo, false).unwrap();
    for result in [sent, echoed] {
        assert!(result.bytes > 0 && result.bytes_min <= result.bytes_max, "{result}");
        assert_eq!(result.connections, 3);
    }
    // 8 MiB each, which are over before the time is or not.
    match bulk(tcp_service(source), Direction::Receive, true) {
        Ok(result) => assert!(result.bytes > 0, "{result}"),
        Err(error) => assert!(error.to_string().contains("closed"), "{error}"),
    }
    let wrong = |mut stream: std::net::TcpStream| {
        let _ = stream.write_all(&[0xff; 4096]);
    };
    let error = bulk(tcp_service(wrong), Direction::Receive, true);
    assert!(error.unwrap_err().to_string().contains("wrong bytes"));
}

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    args: GenArgs,
}

#[test]
fn a_sweep_from_the_command_line_ends_with_a_table_and_with_json() {
    // Answers 20 requests of each run, and then no more: the first rate is kept up with for no longer than that.
    let target = tcp_service(|mut stream| {
        let mut request = [0; 64];
        for _ in 0..20 {
            if stream.read_exact(&mut request).and_then(|()| stream.write_all(&request)).is_err() {
                return;
            }
        }
        thread::sleep(Duration::from_secs(60));
    });
    let target = target.to_string();
    let words =
        ["x", "tcp-rr", "-t", &target, "--seconds", "0.1", "--warm-up", "0", "--rate", "50", "--sweep", "--json"];
    let args = Program::parse_from(words).args;
    assert!(args.json());
    let report = run(&args).unwrap();
    assert!(report.to_string().contains("too much"), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert!(json["steps"][0]["offered"] == 50.0 && json["steps"][0]["p50_us"].is_number(), "{json}");
}
