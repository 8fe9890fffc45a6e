/* What options of streams do, by a clock that the program moves. */
#include "peer.h"

static uint64_t now_ms = 1000;

static void pass(unsigned ms)
{
    now_ms += ms;
    CHECK_EQ(tfTimerUpdateTo(now_ms * 1000000u), TM_ENOERROR);
    tfTimerExecute();
    pump();
}

/* Packets that are sent in the next `ms`. */
static int packets_within(unsigned ms)
{
    int before = wire.frames - wire.arp_requests;
    pass(ms);
    return wire.frames - wire.arp_requests - before;
}

static int mute_with(int option, int value)
{
    int sd = connected_to(9);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    peer_last()->acks = 0;
    CHECK_EQ(set_option(sd, IPPROTO_TCP, option, value), 0);
    return sd;
}

static void retransmission_times(void)
{
    int sd = stream_socket(), n;
    section("RTO_DEF: before a round trip is known");
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_RTO_DEF, 4000), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_SILENT), TM_EINPROGRESS);
    pump();
    CHECK_EQ(packets_within(3900), 0);
    CHECK_EQ(packets_within(200), 1);
    CHECK_EQ(tfClose(sd), 0);
    section("RTO_MIN and RTO_MAX: afterwards");
    sd = mute_with(TM_TCP_RTO_MIN, 2000);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_RTO_MAX, 3000), 0);
    CHECK_EQ(send(sd, "hello", 5, 0), 5);
    pump();
    CHECK_EQ(packets_within(1900), 0);
    CHECK_EQ(packets_within(200), 1);
    for (n = 0; n < 4; n++) {
        CHECK_EQ(packets_within(2800), 0);
        CHECK_EQ(packets_within(300), 1);
    }
    peer_catch_up(peer_last());
    close_cleanly(sd);
    section("MAX_REXMIT: so often, then it has timed out");
    sd = mute_with(TM_TCP_MAX_REXMIT, 3);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_RTO_MAX, 1000), 0);
    CHECK_EQ(send(sd, "hello", 5, 0), 5);
    pump();
    for (n = 0; n < 3; n++)
        CHECK_EQ(packets_within(1100), 1);
    pass(1100);
    CHECK(peer_last()->reset);
    CHECK_FAILS(sd, send(sd, "x", 1, 0), TM_ETIMEDOUT);
    CHECK_EQ(tfClose(sd), 0);
}

static void probes(void)
{
    int sd, n;
    section("PROBE_MIN and PROBE_MAX: a closed window is asked about");
    sd = connected_to(9);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_PROBE_MIN, 5000), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_PROBE_MAX, 5000), 0);
    peer_last()->window = 0;
    peer_send(peer_last(), "x", 1);
    pump();
    pass(1000);
    CHECK_EQ(send(sd, "hello", 5, 0), 5);
    pump();
    for (n = 0; n < 3; n++) {
        CHECK_EQ(packets_within(4800), 0);
        CHECK_EQ(packets_within(400), 1);
    }
    peer_last()->window = 65535;
    peer_acknowledge(peer_last(), 0);
    pump();
    CHECK_EQ(peer_last()->length, 5);
    CHECK_EQ(tfResetConnection(sd), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static unsigned flags_of_first_segment(int all)
{
    static char data[3000];
    int sd;
    unsigned flags;
    peer_window = 1460;
    sd = connected_to(9);
    peer_window = 65535;
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_PUSH_ALL, all), 0);
    peer_last()->acks = 0;
    CHECK_EQ(send(sd, data, 3000, 0), 3000);
    pump();
    flags = wire.sending[14 + 20 + 13];
    CHECK_EQ(tfResetConnection(sd), 0);
    CHECK_EQ(tfClose(sd), 0);
    return flags;
}

int main(void)
{
    ttUserInterface i;
    CHECK_EQ(tfUseManualClock(), TM_ENOERROR);
    CHECK_EQ(tfTimerUpdateTo(now_ms * 1000000u), TM_ENOERROR);
    i = wire_up();
    wire.interface = i;
    /* Announcements of the address are over then. */
    pass(10000);
    pass(10000);
    retransmission_times();
    probes();
    section("PUSH_ALL: also segments that leave something waiting");
    CHECK_EQ(flags_of_first_segment(0), TCP_ACK);
    CHECK_EQ(flags_of_first_segment(1), TCP_ACK | TCP_PSH);
    pass(400000);
    check_all_free(i);
    return finish("options");
}
