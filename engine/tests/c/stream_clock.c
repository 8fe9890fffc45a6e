/* Streams on a manual clock: time-outs of connections, data and silence; retransmission of the application's own frames; keep-alive; lingering. */
#include "peer.h"

static const char text[] = "to be, or not to be";
static uint64_t now;

/* Lets time pass: `ms` milliseconds, timer by timer. */
static void pass(uint64_t ms)
{
    now = pass_ns(now, ms * 1000000);
}

int main(void)
{
    struct linger linger = {1, 5};
    ttUserInterface i;
    ttUserMessage h;
    tfStats before;
    char back[64], *data;
    int sd, turn;
    CHECK_EQ(tfUseManualClock(), 0);
    i = wire_up();

    section("connecting to who does not answer: in progress until somebody moves the clock, then a time-out, told once");
    sd = stream_socket();
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_MAXRT, 10), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_SILENT), TM_EINPROGRESS);
    pass(9000);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_SILENT), TM_EALREADY);
    pass(2000);
    CHECK_EQ(tfGetSocketError(sd), TM_ETIMEDOUT);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_SILENT), TM_ETIMEDOUT);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd), 0);

    section("a lost frame goes out again, uncopied, and is free when it is acknowledged");
    sd = connected_to(9);
    pump();
    peer_last()->acks = 0;
    before = stats();
    h = tfGetZeroCopyBuffer(1000, &data);
    CHECK(h != 0);
    memset(data, 'r', 1000);
    CHECK_EQ(tfZeroCopySend(sd, h, 1000, MSG_DONTWAIT), 1000);
    pass(10);
    CHECK(stats().framesFree < before.framesFree);
    turn = wire.frames;
    peer_last()->acks = 1;
    pass(2000);
    CHECK(wire.frames > turn);
    CHECK_EQ(peer_last()->length, 1000);
    CHECK_EQ(peer_last()->data[999], 'r');
    CHECK_EQ(tfGetSendBytesLeft(sd), 0);
    CHECK_EQ(stats().framesFree, before.framesFree);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);

    section("data that nobody acknowledges: a time-out, told once");
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_MAXRT, 20), 0);
    peer_last()->acks = 0;
    CHECK_EQ(send(sd, text, 5, MSG_DONTWAIT), 5);
    pass(15000);
    CHECK_FAILS(sd, recv(sd, back, 5, MSG_DONTWAIT), TM_EWOULDBLOCK);
    pass(60000);
    CHECK_FAILS(sd, recv(sd, back, 5, MSG_DONTWAIT), TM_ETIMEDOUT);
    CHECK_FAILS(sd, recv(sd, back, 5, MSG_DONTWAIT), TM_ENOTCONN);
    CHECK_FAILS(sd, send(sd, back, 5, MSG_DONTWAIT), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(stats().framesFree, stats().framesTotal);

    section("keep-alive: a peer that is gone is noticed, one that answers is not");
    sd = connected_to(9);
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_KEEPALIVE, 1), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_KEEPALIVE, 60), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_KEEPALIVE_INTV, 5), 0);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TM_TCP_KEEPALIVE_CNT, 3), 0);
    turn = wire.frames;
    pass(200000);
    CHECK(wire.frames > turn);
    CHECK_FAILS(sd, recv(sd, back, 5, MSG_DONTWAIT), TM_EWOULDBLOCK);
    peer_last()->acks = 0;
    pass(60000 + 4 * 5000 + 1000);
    CHECK_FAILS(sd, recv(sd, back, 5, MSG_DONTWAIT), TM_ETIMEDOUT);
    CHECK_EQ(tfClose(sd), 0);

    section("lingering is over when nothing is left to do; a silent peer gives the descriptor back in the end");
    sd = connected_to(9);
    peer_last()->acks = 0;
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_MAXRT, 20), 0);
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CHECK_EQ(send(sd, text, 5, 0), 5);
    CHECK_FAILS(sd, tfClose(sd), TM_ETIMEDOUT);
    CHECK_FAILS(sd, tfClose(sd), TM_EALREADY);
    pass(100000);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);

    section("what would wait for ever says so");
    sd = connected_to(9);
    CHECK_FAILS(sd, recv(sd, back, 5, 0), TM_EWOULDBLOCK);
    close_cleanly(sd);
    check_all_free(i);
    return finish("stream_clock");
}
