#!/usr/bin/env python3
"""A UDP echo client that checks every byte.

udp_client.py HOST PORT sizes FIRST LAST [STEP]   one datagram of every size, answered before the next
udp_client.py HOST PORT sockets COUNT             COUNT sockets at once, one datagram each
udp_client.py HOST PORT flood SIZE SECONDS        a window of 64 datagrams kept full; prints the rate

Exits 1 with a reason at the first wrong or missing answer (flood: when more than 1 in 1,000 is lost).
"""
import select
import socket
import sys
import time

TIMEOUT_S = 2.0
WINDOW = 64
SEQUENCE_BYTES = 4


def payload(size, seed):
    return bytes((seed + i * 31) & 0xFF for i in range(size))


def connect(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(TIMEOUT_S)
    s.connect((host, port))
    return s


def expect(s, want, what):
    try:
        got = s.recv(65536)
    except OSError as e:
        sys.exit(f"{what}: no answer ({e})")
    if got != want:
        sys.exit(f"{what}: {len(got)} bytes came back, not what was sent")


def sizes(host, port, first, last, step=1):
    s = connect(host, port)
    wanted = [*range(first, last, step), last]
    for n in wanted:
        want = payload(n, n)
        s.send(want)
        expect(s, want, f"{n} bytes")
    print(f"{len(wanted):,} sizes answered")


def sockets(host, port, count):
    all_sockets = [connect(host, port) for _ in range(count)]
    # The first waits for ARP alone: the kernel lets only a few datagrams wait.
    all_sockets[0].send(b"first")
    expect(all_sockets[0], b"first", "the first socket")
    for i, s in enumerate(all_sockets):
        s.send(payload(100 + i % 1000, i))
    for i, s in enumerate(all_sockets):
        expect(s, payload(100 + i % 1000, i), f"socket {i}")
    print(f"{count:,} sockets answered")


def flood(host, port, size, seconds):
    s = connect(host, port)
    body = payload(size - SEQUENCE_BYTES, 1)
    sent = answered = outstanding = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while outstanding < WINDOW:
            s.send(sent.to_bytes(SEQUENCE_BYTES, "big") + body)
            sent += 1
            outstanding += 1
        readable, _, _ = select.select([s], [], [], 0.2)
        if not readable:
            outstanding = 0  # what is missing is counted as lost, the window reopens
            continue
        while outstanding:
            try:
                got = s.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if got[SEQUENCE_BYTES:] != body:
                sys.exit(f"datagram with wrong content after {answered} answers")
            answered += 1
            outstanding -= 1
    s.settimeout(0.2)
    try:
        while answered < sent:
            s.recv(65536)
            answered += 1
    except OSError:
        pass
    lost = sent - answered
    print(f"{answered / seconds:,.0f} answers/s, {lost} of {sent:,} lost")
    if answered == 0 or lost * 1000 > sent:
        sys.exit("too many lost")


def main():
    host, port, mode, *rest = sys.argv[1:]
    {"sizes": sizes, "sockets": sockets, "flood": flood}[mode](host, int(port), *map(int, rest))


if __name__ == "__main__":
    main()
