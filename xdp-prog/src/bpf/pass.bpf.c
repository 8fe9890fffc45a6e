/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Passes every frame. A veth peer of an interface with an XDP program must run one too, or frames that are redirected or
 * transmitted towards it are dropped (drivers/net/veth.c: no NAPI on the receiving side).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp.frags")
int framewire_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "MIT OR Apache-2.0";
