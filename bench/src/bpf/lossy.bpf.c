/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A link that loses: of the IPv4 packets that an interface receives, a share vanishes at random. It stands in front of the kernel's stack on the
 * client's side, so that what every system sends is lost alike.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Set before loading: of 2^32 packets so many are lost. */
const volatile __u64 lost_of_2_32 = 0;

struct {
	__u64 passed;
	__u64 lost;
} counts;

SEC("xdp")
int framewire_lossy(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end || ethernet->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	/* One queue: nobody else counts. */
	if (bpf_get_prandom_u32() < lost_of_2_32) {
		counts.lost++;
		return XDP_DROP;
	}
	counts.passed++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
