/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Decides frame by frame whether the engine or the kernel gets it. Whatever is not certainly the engine's is XDP_PASS. Nothing is
 * validated here beyond what the decision needs: the engine checks what it gets, the kernel what it gets.
 *
 * The frequent case, IPv4 or IPv6 to an owned address, reads the frame directly and costs one hash lookup, one counter, one
 * redirect. What lies behind the first IP header, at an offset that varies, is read with bpf_xdp_load_bytes (Linux 5.18): with
 * packet pointers the verifier would follow every combination of extension header lengths, and give up.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer.h"

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSION_HEADERS 8

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV6_MORE_FRAGMENTS 0x0001
#define IPV6_FRAGMENT_OFFSET 0xfff8

#define PROTOCOL_DCCP 33
#define PROTOCOL_SCTP 132
#define PROTOCOL_UDP_LITE 136

#define ARP_OPERATION_REPLY 2
#define ICMP4_UNREACHABLE 3
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_PARAMETER_PROBLEM 12
#define ICMP6_UNREACHABLE 1
#define ICMP6_PARAMETER_PROBLEM 4
#define ICMP6_NEIGHBOUR_SOLICITATION 135
#define ICMP6_NEIGHBOUR_ADVERTISEMENT 136

struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

/* ARP for IPv4 over Ethernet (RFC 826); addresses as bytes, for they are not aligned. */
struct arp_ipv4 {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_hardware[6];
	__u8 sender_protocol[4];
	__u8 target_hardware[6];
	__u8 target_protocol[4];
};

/* ICMP and ICMPv6; an error's quoted packet and a neighbour message's target (RFC 4861 4.3, 4.4) follow. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

/* The first eight bytes of any IPv6 extension header; the last two fields are those of a fragment header (RFC 8200 4.5). */
struct extension_header {
	__u8 next_header;
	__u8 length;
	__be16 fragment;
	__be32 identification;
};

struct ports {
	__be16 source;
	__be16 destination;
};

/* What lies behind the IP headers. */
struct payload {
	__u32 offset;
	__u8 protocol;
	__u8 is_later_fragment;
	__u8 is_first_fragment;
	__be32 identification;
};

/* The loader sets its size to the number of queues. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__type(key, struct address);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, struct port_key);
	__type(value, __u32);
} ports SEC(".maps");

/* Neighbours that the engine has asked, and that have not answered yet; the value means nothing. Who never answers is forgotten in time. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_EXPECTED);
	__type(key, struct address);
	__type(value, __u32);
} expected SEC(".maps");

/* Value: when the first fragment came, bpf_ktime_get_ns(). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTED_DATAGRAMS);
	__type(key, struct fragment_key);
	__type(value, __u64);
} fragments SEC(".maps");

/* An entry for each verdict: an index into one entry that held them all would need CAP_PERFMON (the verifier lets only those who
 * have it add to a map value's address what differs between paths). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

/* A global, so that reading it is one load and no map lookup. One word, so that the loader's write is never seen in part. */
volatile __u64 mode;

static __always_inline void count(__u32 verdict)
{
	__u64 *frames = bpf_map_lookup_elem(&verdicts, &verdict);

	if (frames)
		++*frames;
}

static __always_inline int conclude(struct xdp_md *ctx, enum verdict verdict)
{
	int action;

	count(verdict);
	if (verdict > REDIRECTED_EVERYTHING)
		return XDP_PASS;
	action = bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
	if (action != XDP_REDIRECT)
		count(PASSED_NO_SOCKET);
	return action;
}

static __always_inline __u32 address_flags(const struct address *address)
{
	__u32 *flags = bpf_map_lookup_elem(&addresses, address);

	return flags ? *flags : 0;
}

static __always_inline int is_expected(const struct address *neighbour)
{
	return bpf_map_lookup_elem(&expected, neighbour) != 0;
}

static __always_inline void map_ipv4(struct address *address, __be32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(0xffff);
	address->word[3] = ipv4;
}

static __always_inline __be32 read_be32(const __u8 *bytes)
{
	__be32 value;

	__builtin_memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Where a destination port follows a source port right at the start. */
static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == PROTOCOL_SCTP || protocol == PROTOCOL_DCCP ||
	       protocol == PROTOCOL_UDP_LITE;
}

static __always_inline int is_our_port(const struct address *address, __u8 protocol, __be16 port)
{
	struct port_key key = { .address = *address, .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&ports, &key) != 0;
}

static __always_inline enum verdict steer_arp(void *start, void *end)
{
	struct arp_ipv4 *arp = start;
	struct address target, sender;
	__u32 target_flags;

	if ((void *)(arp + 1) > end)
		return PASSED_SHORT;
	if (arp->hardware_type != bpf_htons(1) || arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return PASSED_MALFORMED;

	map_ipv4(&target, read_be32(arp->target_protocol));
	target_flags = address_flags(&target);
	if (target_flags & ADDRESS_OWNED)
		return REDIRECTED_NEIGHBOUR;
	map_ipv4(&sender, read_be32(arp->sender_protocol));
	/* Another station speaks with an address of ours: the engine defends it (RFC 5227 2.4). */
	if (address_flags(&sender) & ADDRESS_OWNED)
		return REDIRECTED_NEIGHBOUR;
	if (target_flags & ADDRESS_SHARED && arp->operation == bpf_htons(ARP_OPERATION_REPLY) && is_expected(&sender))
		return REDIRECTED_NEIGHBOUR;
	return PASSED_NOT_OURS;
}

/* Whether the frame has all those bytes; copies them. */
static __always_inline int load(struct xdp_md *ctx, __u32 offset, void *bytes, __u32 length)
{
	return bpf_xdp_load_bytes(ctx, offset, bytes, length) == 0;
}

/* Walks IPv6 extension headers (RFC 8200 4, RFC 4302 2.2). 0, or the verdict that stops the walk. */
static __always_inline int skip_extension_headers(struct xdp_md *ctx, struct payload *payload)
{
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		struct extension_header header;

		switch (payload->protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
		case IPPROTO_FRAGMENT:
			break;
		default:
			return 0;
		}
		if (i == MAX_EXTENSION_HEADERS)
			break;
		if (!load(ctx, payload->offset, &header, sizeof(header)))
			return PASSED_SHORT;
		if (payload->protocol == IPPROTO_FRAGMENT) {
			payload->identification = header.identification;
			payload->is_later_fragment = (header.fragment & bpf_htons(IPV6_FRAGMENT_OFFSET)) != 0;
			if (payload->is_later_fragment)
				return 0;
			payload->is_first_fragment = (header.fragment & bpf_htons(IPV6_MORE_FRAGMENTS)) != 0;
			payload->offset += 8;
		} else if (payload->protocol == IPPROTO_AH) {
			payload->offset += ((__u32)header.length + 2) * 4;
		} else {
			payload->offset += ((__u32)header.length + 1) * 8;
		}
		payload->protocol = header.next_header;
	}
	return PASSED_EXTENSION_HEADERS;
}

/* An ICMP error is ours when the packet that it quotes was sent from a port of ours. */
static __always_inline enum verdict steer_quoted(struct xdp_md *ctx, const struct address *address, struct payload *quoted)
{
	struct ports ports;

	if (quoted->is_later_fragment || !has_ports(quoted->protocol))
		return PASSED_NOT_OURS;
	if (!load(ctx, quoted->offset, &ports, sizeof(ports)))
		return PASSED_SHORT;
	return is_our_port(address, quoted->protocol, ports.source) ? REDIRECTED_ICMP_ERROR : PASSED_NOT_OURS;
}

static __always_inline enum verdict steer_icmp4(struct xdp_md *ctx, const struct address *address, __u32 offset)
{
	struct icmp_header icmp;
	struct iphdr ip;
	struct payload quoted = {};

	if (!load(ctx, offset, &icmp, sizeof(icmp)))
		return PASSED_SHORT;
	if (icmp.type != ICMP4_UNREACHABLE && icmp.type != ICMP4_TIME_EXCEEDED && icmp.type != ICMP4_PARAMETER_PROBLEM)
		return PASSED_NOT_OURS;
	offset += sizeof(icmp);
	if (!load(ctx, offset, &ip, sizeof(ip)))
		return PASSED_SHORT;
	if (ip.version != 4 || ip.ihl < 5)
		return PASSED_MALFORMED;
	if (ip.saddr != address->word[3])
		return PASSED_NOT_OURS;
	quoted.protocol = ip.protocol;
	quoted.is_later_fragment = (ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) != 0;
	quoted.offset = offset + ip.ihl * 4;
	return steer_quoted(ctx, address, &quoted);
}

static __always_inline enum verdict steer_icmp6(struct xdp_md *ctx, const struct address *address, __u32 offset)
{
	struct icmp_header icmp;
	struct address target;
	struct ipv6hdr ip;
	struct payload quoted = {};
	const __be32 *source = ip.saddr.in6_u.u6_addr32;
	int stopped;

	if (!load(ctx, offset, &icmp, sizeof(icmp)))
		return PASSED_SHORT;
	offset += sizeof(icmp);
	if (icmp.type == ICMP6_NEIGHBOUR_ADVERTISEMENT) {
		if (!load(ctx, offset, &target, sizeof(target)))
			return PASSED_SHORT;
		return is_expected(&target) ? REDIRECTED_NEIGHBOUR : PASSED_NOT_OURS;
	}
	if (icmp.type < ICMP6_UNREACHABLE || icmp.type > ICMP6_PARAMETER_PROBLEM)
		return PASSED_NOT_OURS;
	if (!load(ctx, offset, &ip, sizeof(ip)))
		return PASSED_SHORT;
	if (ip.version != 6)
		return PASSED_MALFORMED;
	if (source[0] != address->word[0] || source[1] != address->word[1] || source[2] != address->word[2] ||
	    source[3] != address->word[3])
		return PASSED_NOT_OURS;
	quoted.protocol = ip.nexthdr;
	quoted.offset = offset + sizeof(ip);
	stopped = skip_extension_headers(ctx, &quoted);
	if (stopped)
		return stopped;
	return steer_quoted(ctx, address, &quoted);
}

/* Solicitations for an owned address come to its solicited-node group, advertisements of another holder to all nodes. */
static __always_inline enum verdict steer_multicast6(struct xdp_md *ctx, struct payload *payload)
{
	struct icmp_header icmp;
	struct address target;

	if (payload->protocol != IPPROTO_ICMPV6 || payload->is_later_fragment)
		return PASSED_NOT_OURS;
	if (!load(ctx, payload->offset, &icmp, sizeof(icmp)))
		return PASSED_SHORT;
	if (icmp.type != ICMP6_NEIGHBOUR_SOLICITATION && icmp.type != ICMP6_NEIGHBOUR_ADVERTISEMENT)
		return PASSED_NOT_OURS;
	if (!load(ctx, payload->offset + sizeof(icmp), &target, sizeof(target)))
		return PASSED_SHORT;
	return address_flags(&target) & ADDRESS_OWNED ? REDIRECTED_NEIGHBOUR : PASSED_NOT_OURS;
}

/* A whole datagram or first fragment to a shared address. */
static __always_inline enum verdict steer_by_port(struct xdp_md *ctx, const struct address *address, struct payload *payload, int ipv6)
{
	struct ports ports;

	if (payload->protocol == (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return ipv6 ? steer_icmp6(ctx, address, payload->offset) : steer_icmp4(ctx, address, payload->offset);
	if (!has_ports(payload->protocol))
		return PASSED_NOT_OURS;
	if (!load(ctx, payload->offset, &ports, sizeof(ports)))
		return PASSED_SHORT;
	return is_our_port(address, payload->protocol, ports.destination) ? REDIRECTED_PORT : PASSED_NOT_OURS;
}

static __always_inline enum verdict steer_shared(struct xdp_md *ctx, struct fragment_key *key, struct payload *payload, int ipv6)
{
	enum verdict verdict;

	if (payload->is_later_fragment) {
		__u64 *seen_ns = bpf_map_lookup_elem(&fragments, key);

		if (seen_ns && bpf_ktime_get_ns() - *seen_ns < FRAGMENT_LIFETIME_NS)
			return REDIRECTED_FRAGMENT;
		return PASSED_FRAGMENT_UNKNOWN;
	}
	verdict = steer_by_port(ctx, &key->destination, payload, ipv6);
	if (payload->is_first_fragment) {
		if (verdict == REDIRECTED_PORT || verdict == REDIRECTED_ICMP_ERROR) {
			__u64 now_ns = bpf_ktime_get_ns();

			bpf_map_update_elem(&fragments, key, &now_ns, BPF_ANY);
		} else {
			/* The identification may have served a datagram of ours before. */
			bpf_map_delete_elem(&fragments, key);
		}
	}
	return verdict;
}

static __always_inline enum verdict steer_ipv4(struct xdp_md *ctx, void *start, void *end, __u32 offset)
{
	struct iphdr *ip = start;
	struct fragment_key key = {};
	struct payload payload = {};
	__u32 flags;

	if ((void *)(ip + 1) > end)
		return PASSED_SHORT;
	map_ipv4(&key.destination, ip->daddr);
	flags = address_flags(&key.destination);
	if (flags & ADDRESS_OWNED)
		return REDIRECTED_OWNED;
	if (!(flags & ADDRESS_SHARED))
		return PASSED_NOT_OURS;

	if (ip->version != 4 || ip->ihl < 5)
		return PASSED_MALFORMED;
	map_ipv4(&key.source, ip->saddr);
	key.identification = ip->id;
	key.protocol = ip->protocol;
	payload.protocol = ip->protocol;
	payload.is_later_fragment = (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) != 0;
	payload.is_first_fragment = !payload.is_later_fragment && (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS));
	payload.offset = offset + ip->ihl * 4;
	return steer_shared(ctx, &key, &payload, 0);
}

static __always_inline enum verdict steer_ipv6(struct xdp_md *ctx, void *start, void *end, __u32 offset)
{
	struct ipv6hdr *ip = start;
	struct fragment_key key = {};
	struct payload payload = {};
	const __be32 *destination = key.destination.word;
	__u32 flags, multicast;
	int stopped;

	if ((void *)(ip + 1) > end)
		return PASSED_SHORT;
	__builtin_memcpy(&key.destination, &ip->daddr, sizeof(key.destination));
	/* A mapped address stands for IPv4 in the maps and has no place on the wire. */
	if (!destination[0] && !destination[1] && destination[2] == bpf_htonl(0xffff))
		return PASSED_MALFORMED;
	flags = address_flags(&key.destination);
	if (flags & ADDRESS_OWNED)
		return REDIRECTED_OWNED;
	multicast = (destination[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
	if (!(flags & ADDRESS_SHARED) && !multicast)
		return PASSED_NOT_OURS;

	if (ip->version != 6)
		return PASSED_MALFORMED;
	payload.protocol = ip->nexthdr;
	payload.offset = offset + sizeof(*ip);
	stopped = skip_extension_headers(ctx, &payload);
	if (stopped)
		return stopped;
	if (!(flags & ADDRESS_SHARED))
		return steer_multicast6(ctx, &payload);
	__builtin_memcpy(&key.source, &ip->saddr, sizeof(key.source));
	key.identification = payload.identification;
	key.protocol = IPPROTO_FRAGMENT;
	return steer_shared(ctx, &key, &payload, 1);
}

static __always_inline enum verdict steer(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = start;
	__u32 offset = sizeof(*ethernet);
	__be16 ethertype;

	if ((void *)(ethernet + 1) > end)
		return PASSED_SHORT;
	ethertype = ethernet->h_proto;
	start = ethernet + 1;
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_tag *tag = start;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return PASSED_SHORT;
		ethertype = tag->ethertype;
		start = tag + 1;
		offset += sizeof(*tag);
	}
	if (ethertype == bpf_htons(ETH_P_IP))
		return steer_ipv4(ctx, start, end, offset);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return steer_ipv6(ctx, start, end, offset);
	if (ethertype == bpf_htons(ETH_P_ARP))
		return steer_arp(start, end);
	return PASSED_ETHERTYPE;
}

SEC("xdp.frags")
int framewire_steer(struct xdp_md *ctx)
{
	if (mode & MODE_EVERYTHING)
		return conclude(ctx, REDIRECTED_EVERYTHING);
	return conclude(ctx, steer(ctx));
}

/* Map operations on keys with holes would read uninitialised bytes. */
_Static_assert(sizeof(struct address) == 16, "address");
_Static_assert(sizeof(struct port_key) == 20, "port_key");
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");
_Static_assert(sizeof(struct arp_ipv4) == 28, "arp_ipv4");

/* No helper used here is marked GPL only (since Linux 5.8, when bpf_ktime_get_ns was opened). */
char LICENSE[] SEC("license") = "MIT OR Apache-2.0";
