/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The load generator. `framewire_generate` runs in BPF_PROG_TEST_RUN with live frames: each frame that it lets go is sent by
 * ndo_xdp_xmit, without an skb, so the generator is several times faster than what it loads. `framewire_count` runs on the
 * same interface's receive side, checks each reply and drops it. Sender and receiver meet in the window: at most
 * `window` packets are outstanding, so neither side overruns.
 *
 * The two run on different cores. Each writes a cache line of its own; replies are published to the sender sixteen at a time.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SAMPLE_BYTES 1536
#define PUBLISH_EVERY 16
/* Frames of a test-run batch that are skipped without looking again once the window is full. */
#define SKIP_WHEN_FULL 31

/* Set before loading. */
const volatile __u32 frame_bytes = 0;
/* Packets outstanding at most; 0: no limit. */
const volatile __u32 window = 0;
/* One reply in (sample_mask + 1) is handed to user space; a power of two less one. */
const volatile __u32 sample_mask = 0;
/* Ones' complement sum over pseudo-header, UDP header and payload with sequence number 0. */
const volatile __u32 checksum_base = 0;
const volatile __u64 magic = 0;
/* Source and destination address, then ports, as a reply has them. */
const volatile __u64 reply_addresses = 0;
const volatile __u32 reply_ports = 0;
const volatile __u32 own_address = 0;
const volatile __u8 own_mac[6] = {};

struct sender_line {
	__u64 sent;
	__u64 acknowledged_cached;
	__u64 idle_ns;
	__u64 idle_since_ns;
	__u64 skip;
	__u64 pad[3];
};

struct receiver_line {
	__u64 received;
	__u64 wrong;
	__u64 other;
	__u64 samples_lost;
	__u64 pad[4];
};

struct control_line {
	__u64 acknowledged;
	__u64 stop;
	__u64 pad[6];
};

struct sender_line sender __attribute__((aligned(64)));
struct receiver_line receiver __attribute__((aligned(64)));
struct control_line control __attribute__((aligned(64)));

struct sample {
	__u8 bytes[SAMPLE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} samples SEC(".maps");

struct packet {
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
	__be16 ethertype;
	__u8 ip[12];
	__u64 addresses;
	__u32 ports;
	__be16 udp_bytes;
	__u16 udp_checksum;
	__u64 magic;
	__u64 sequence;
} __attribute__((packed));

struct arp {
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
	__be16 ethertype;
	__u8 types[6];
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u32 sender_address;
	__u8 target_mac[ETH_ALEN];
	__u32 target_address;
} __attribute__((packed));

SEC("xdp")
int framewire_generate(struct xdp_md *ctx)
{
	if (control.stop)
		return XDP_DROP;
	if (sender.skip) {
		sender.skip--;
		return XDP_DROP;
	}

	struct packet *packet = (void *)(long)ctx->data;
	if ((void *)(packet + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;

	__u64 sequence = sender.sent;
	if (window && sequence - sender.acknowledged_cached >= window) {
		sender.acknowledged_cached = *(volatile __u64 *)&control.acknowledged;
		if (sequence - sender.acknowledged_cached >= window) {
			if (!sender.idle_since_ns)
				sender.idle_since_ns = bpf_ktime_get_ns();
			sender.skip = SKIP_WHEN_FULL;
			return XDP_DROP;
		}
	}
	if (sender.idle_since_ns) {
		sender.idle_ns += bpf_ktime_get_ns() - sender.idle_since_ns;
		sender.idle_since_ns = 0;
	}

	__u32 sum = checksum_base + (sequence & 0xffff) + (sequence >> 16 & 0xffff) + (sequence >> 32 & 0xffff) +
		    (sequence >> 48);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	__u16 checksum = ~sum;
	packet->udp_checksum = checksum ? checksum : 0xffff;
	packet->sequence = sequence;
	sender.sent = sequence + 1;
	/* The test run turns this into a redirect to the interface itself. */
	return XDP_TX;
}

static int answer_arp(struct xdp_md *ctx)
{
	struct arp *arp = (void *)(long)ctx->data;
	if ((void *)(arp + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	if (arp->operation != bpf_htons(1) || arp->target_address != own_address)
		return XDP_DROP;
	__u32 asked = arp->target_address;
	__builtin_memcpy(arp->destination, arp->source, ETH_ALEN);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	arp->target_address = arp->sender_address;
	arp->sender_address = asked;
	for (int i = 0; i < ETH_ALEN; i++) {
		arp->source[i] = own_mac[i];
		arp->sender_mac[i] = own_mac[i];
	}
	arp->operation = bpf_htons(2);
	return XDP_TX;
}

static void sample(struct xdp_md *ctx)
{
	__u32 bytes = frame_bytes;
	struct sample *copy = bpf_ringbuf_reserve(&samples, sizeof(*copy), 0);
	if (!copy) {
		receiver.samples_lost++;
		return;
	}
	if (bytes > SAMPLE_BYTES || bpf_xdp_load_bytes(ctx, 0, copy->bytes, bytes)) {
		bpf_ringbuf_discard(copy, BPF_RB_NO_WAKEUP);
		return;
	}
	bpf_ringbuf_submit(copy, BPF_RB_NO_WAKEUP);
}

SEC("xdp")
int framewire_count(struct xdp_md *ctx)
{
	struct packet *packet = (void *)(long)ctx->data;
	if ((void *)(packet + 1) > (void *)(long)ctx->data_end || packet->magic != magic) {
		struct ethhdr *ethernet = (void *)(long)ctx->data;
		if ((void *)(ethernet + 1) <= (void *)(long)ctx->data_end && ethernet->h_proto == bpf_htons(ETH_P_ARP))
			return answer_arp(ctx);
		receiver.other++;
		return XDP_DROP;
	}
	if (ctx->data_end - ctx->data != frame_bytes || packet->addresses != reply_addresses ||
	    packet->ports != reply_ports) {
		receiver.wrong++;
		return XDP_DROP;
	}
	__u64 received = ++receiver.received;
	/* By sequence number and not by count, so that what is lost does not hold its place in the window for ever. */
	if (received % PUBLISH_EVERY == 0)
		control.acknowledged = packet->sequence + 1;
	if ((received & sample_mask) == 0)
		sample(ctx);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
