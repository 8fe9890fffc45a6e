/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the steering program and its loader must agree on. The Rust side (key.rs, verdict.rs) repeats these values; their
 * tests read this file and compare.
 */
#ifndef FRAMEWIRE_STEER_H
#define FRAMEWIRE_STEER_H

/* Bits of `mode`, the one global word. */
#define MODE_EVERYTHING 1 /* every frame is the engine's (layer-2 services) */

/* Bits of a value in the map `addresses`. */
#define ADDRESS_OWNED 1  /* all that is sent to it is the engine's */
#define ADDRESS_SHARED 2 /* the kernel's too: the map `ports` says which ports are the engine's */

/* An IPv6 address, or an IPv4 address mapped into one (::ffff:a.b.c.d, RFC 4291 2.5.5.2). */
struct address {
	__be32 word[4];
};

/* A (protocol, destination port) of a shared address. Padding is zero. */
struct port_key {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 padding;
};

/* A datagram in fragments. `protocol` is 44 for IPv6: only the first fragment's next header counts (RFC 8200 4.5). Padding is zero. */
struct fragment_key {
	struct address source;
	struct address destination;
	__be32 identification;
	__u8 protocol;
	__u8 padding[3];
};

/* One decision per frame; PASSED_NO_SOCKET is counted beside the decision that it undid. */
enum verdict {
	REDIRECTED_OWNED = 0,
	REDIRECTED_PORT = 1,
	REDIRECTED_NEIGHBOUR = 2,
	REDIRECTED_FRAGMENT = 3,
	REDIRECTED_ICMP_ERROR = 4,
	REDIRECTED_EVERYTHING = 5,
	PASSED_NOT_OURS = 6,
	PASSED_ETHERTYPE = 7,
	PASSED_SHORT = 8,
	PASSED_MALFORMED = 9,
	PASSED_FRAGMENT_UNKNOWN = 10,
	PASSED_EXTENSION_HEADERS = 11,
	PASSED_NO_SOCKET = 12,
	VERDICT_COUNT = 13,
};

#define MAX_ADDRESSES 1024
#define MAX_PORTS 16384

/* Neighbours whose answers to shared addresses are awaited at one time. Too low: an answer goes to the kernel, and the engine asks again. */
#define MAX_EXPECTED 1024

/* Datagrams in fragments to shared addresses at one time. Too low: under a flood of first fragments the least recently used datagram is
 * forgotten, and its later fragments go to the kernel, which drops them. Too high: locked memory, about 100 bytes each. */
#define MAX_FRAGMENTED_DATAGRAMS 8192

/* How long later fragments follow the first: as long as Linux's own reassembly (net.ipv4.ipfrag_time). */
#define FRAGMENT_LIFETIME_NS 30000000000ULL

#endif
