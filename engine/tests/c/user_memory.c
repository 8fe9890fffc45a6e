/* Buffers that the application keeps and sends parts of: as they lie, again and again, and given back once for each send. */
#include "peer.h"

#define SIZE 12000
#define SENDS 64

static struct sockaddr_in sink;
static char *freed[SENDS];
static int frees;
static uint64_t now_ns = 1000000000;

static void note_free(char *userBuffer)
{
    freed[frees++ % SENDS] = userBuffer;
}

static void expect_frees(int count)
{
    CHECK_EQ(frees, count);
    frees = 0;
}

static int send_to_sink(int sd, char *data, int length, int flags)
{
    return tfZeroCopyUserBufferSendTo(sd, data, data, length, note_free, flags, (struct sockaddr *)&sink, sizeof sink);
}

static ttUserMessage filled(int size, char **data)
{
    ttUserMessage h = tfGetZeroCopyBuffer(size, data);
    int at;
    CHECK(h != 0);
    for (at = 0; at < size; at++)
        (*data)[at] = (char)(at * 7 + at / 251);
    return h;
}

/* Fills the way out, so that a send would block. */
static void stop_the_wire(int sd)
{
    char *data;
    ttUserMessage h;
    wire.busy = 1;
    do {
        h = tfGetZeroCopyBuffer(100, &data);
        CHECK(h != 0);
    } while (h != 0 && tfZeroCopySendTo(sd, h, 100, MSG_DONTWAIT, (struct sockaddr *)&sink, sizeof sink) == 100);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
}

static void start_the_wire(void)
{
    wire.busy = 0;
    pump();
}

static void datagrams(int sd)
{
    char *data;
    tfStats before = stats();
    ttUserMessage h = filled(SIZE, &data);
    uint64_t held = before.framesFree - stats().framesFree;
    int fragments = wire.fragments, n;
    section("parts of a buffer, one frame's and several frames', go out as they lie; each is given back once, and the buffer stays the application's");
    CHECK_EQ(tfZeroCopyUserBufferSendTo(sd, data + 3, data + 100, 500, note_free, 0, (struct sockaddr *)&sink, sizeof sink), 500);
    pump();
    CHECK_EQ(wire.last_udp_length, 500);
    CHECK_EQ(memcmp(wire.last_udp, data + 100, 500), 0);
    CHECK(freed[0] == data + 3);
    expect_frees(1);
    CHECK_EQ(send_to_sink(sd, data + 1, SIZE - 1, 0), SIZE - 1);
    pump();
    expect_frees(1);
    CHECK_EQ(wire.fragments - fragments, 9);
    CHECK_EQ(wire.whole_length, SIZE - 1);
    CHECK_EQ(memcmp(wire.whole, data + 1, SIZE - 1), 0);
    for (n = 0; n < 3000; n++) {
        if (send_to_sink(sd, data + n, 20 + n % 7, 0) != 20 + n % 7)
            break;
        if (n % 100 == 99)
            pump();
    }
    CHECK_EQ(n, 3000);
    pump();
    expect_frees(3000);
    CHECK_EQ(wire.last_udp_length, 20 + 2999 % 7);
    CHECK_EQ(memcmp(wire.last_udp, data + 2999, 20 + 2999 % 7), 0);
    CHECK_EQ(tfZeroCopyUserBufferSendTo(sd, data, data, 40, 0, 0, (struct sockaddr *)&sink, sizeof sink), 40);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
    pump();
    CHECK_EQ(stats().framesFree, before.framesFree - held);
    section("it may be written and sent whole afterwards");
    data[0] = 'w';
    CHECK_EQ(tfZeroCopySendTo(sd, h, SIZE, 0, (struct sockaddr *)&sink, sizeof sink), SIZE);
    pump();
    CHECK_EQ(wire.whole_length, SIZE);
    CHECK_EQ(memcmp(wire.whole, data, SIZE), 0);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
    CHECK_EQ(stats().framesFree, before.framesFree);
}

static void under_way(int sd)
{
    char *data, *more;
    tfStats before = stats();
    ttUserMessage h = filled(1000, &data), other;
    section("while it is under way it is not given back, and the buffer can be freed but neither sent nor handed up: TM_EWOULDBLOCK");
    wire.busy = 1;
    CHECK_EQ(send_to_sink(sd, data, 1000, MSG_DONTWAIT), 1000);
    CHECK_EQ(send_to_sink(sd, data + 10, 10, MSG_DONTWAIT), 10);
    pump();
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, h, 10, 0, (struct sockaddr *)&sink, sizeof sink), TM_EWOULDBLOCK);
    expect_frees(0);
    start_the_wire();
    CHECK_EQ(wire.last_udp_length, 10);
    expect_frees(2);
    CHECK_EQ(tfZeroCopySendTo(sd, h, 10, 0, (struct sockaddr *)&sink, sizeof sink), 10);
    pump();
    CHECK_EQ(stats().framesFree, before.framesFree);
    section("freed before it has left: the frames stay until then");
    h = filled(1000, &data);
    wire.busy = 1;
    CHECK_EQ(send_to_sink(sd, data, 1000, MSG_DONTWAIT), 1000);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, h, 10, 0, (struct sockaddr *)&sink, sizeof sink), TM_EFAULT);
    other = filled(1000, &more);
    memset(more, 'x', 1000);
    expect_frees(0);
    start_the_wire();
    expect_frees(1);
    CHECK_EQ(wire.last_udp_length, 1000);
    CHECK_EQ(wire.last_udp[1], 7);
    CHECK_EQ(wire.last_udp[999], (unsigned char)(999 * 7 + 999 / 251));
    CHECK_EQ(tfFreeZeroCopyBuffer(other), TM_ENOERROR);
    CHECK_EQ(stats().framesFree, before.framesFree);
    section("a refused send: on TM_EWOULDBLOCK nothing is given back, on other errors at once, and the buffer stays the application's");
    h = filled(1000, &data);
    stop_the_wire(sd);
    CHECK_FAILS(sd, send_to_sink(sd, data, 1000, MSG_DONTWAIT), TM_EWOULDBLOCK);
    expect_frees(0);
    start_the_wire();
    CHECK_EQ(send_to_sink(sd, data, 1000, MSG_DONTWAIT), 1000);
    pump();
    expect_frees(1);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, data, data, 1000, note_free, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, send_to_sink(sd, data, 0, 0), TM_EINVAL);
    CHECK_FAILS(sd, send_to_sink(sd, data, 10, MSG_OOB), TM_EINVAL);
    expect_frees(3);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_EQ(stats().framesFree, before.framesFree);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
}

static void of_every_origin(int sd)
{
    static char own[100];
    char *data, *frame;
    tfStats before = stats();
    ttUserMessage h;
    ttUserBuffer driver;
    ttUserPacket *first;
    struct sockaddr_in stranger = address_of("10.0.0.77", 9);
    section("received buffers, links of scattered ones and drivers' buffers are such memory too");
    wire_udp(9, 6000, "received", 8, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 100, 0), 8);
    CHECK_EQ(send_to_sink(sd, data + 2, 4, 0), 4);
    pump();
    CHECK_EQ(memcmp(wire.last_udp, "ceiv", 4), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    wire_udp(9, 6000, wire.whole, 5000, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 5000, MSG_SCATTERED), 5000);
    first = (ttUserPacket *)h;
    CHECK_EQ(send_to_sink(sd, first->pktuLinkNextPtr->pktuLinkDataPtr, first->pktuLinkNextPtr->pktuLinkDataLength, 0), 1480);
    pump();
    CHECK_EQ(wire.whole_length, 1480);
    CHECK_EQ(memcmp(wire.whole, first->pktuLinkNextPtr->pktuLinkDataPtr, 1480), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    frame = tfGetDriverBuffer(&driver, 200, 64);
    memset(frame, 'd', 200);
    CHECK_EQ(send_to_sink(sd, frame + 50, 100, 0), 100);
    CHECK_EQ(tfFreeDriverBuffer(driver), TM_ENOERROR);
    pump();
    CHECK_EQ(wire.last_udp_length, 100);
    CHECK_EQ(wire.last_udp[99], 'd');
    expect_frees(3);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
    section("other memory is copied, counted, and given back at once; what waits for a neighbour's address is copied too");
    CHECK_EQ(send_to_sink(sd, own, 100, 0), 100);
    expect_frees(1);
    CHECK_EQ(stats().bytesCopiedTx - before.bytesCopiedTx, 100);
    h = filled(300, &data);
    wire.answers_arp = 0;
    CHECK_EQ(tfZeroCopyUserBufferSendTo(sd, data, data, 300, note_free, 0, (struct sockaddr *)&stranger, sizeof stranger), 300);
    CHECK_EQ(stats().bytesCopiedTx - before.bytesCopiedTx, 400);
    pump();
    expect_frees(1);
    wire.answers_arp = 1;
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
}

static void blocks(int sd)
{
    static char own[100];
    char *data[3];
    ttUserMessage h[3];
    ttUserBlock block[4];
    tfStats before = stats();
    int at;
    section("blocks: all in such memory, as they lie; one elsewhere, all are copied");
    for (at = 0; at < 3; at++) {
        h[at] = filled(at == 1 ? 5000 : 1000, &data[at]);
        block[at].userBufferPtr = data[at];
        block[at].userDataPtr = data[at] + at;
        block[at].userDataLength = 700 + 100 * at;
    }
    block[3].userBufferPtr = own;
    block[3].userDataPtr = 0;
    block[3].userDataLength = 0;
    CHECK_EQ(tfSocketScatteredSendTo(sd, block, 4, note_free, 0, (struct sockaddr *)&sink, sizeof sink), 2400);
    memset(block, 0, sizeof block);
    pump();
    CHECK(freed[0] == data[0] && freed[1] == data[1] && freed[2] == data[2] && freed[3] == own);
    expect_frees(4);
    CHECK_EQ(wire.whole_length, 2400);
    CHECK_EQ(memcmp(wire.whole, data[0], 700), 0);
    CHECK_EQ(memcmp(wire.whole + 700, data[1] + 1, 800), 0);
    CHECK_EQ(memcmp(wire.whole + 1500, data[2] + 2, 900), 0);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
    for (at = 0; at < 2; at++) {
        block[at].userBufferPtr = at ? own : data[0];
        block[at].userDataPtr = block[at].userBufferPtr;
        block[at].userDataLength = 60;
    }
    CHECK_EQ(tfSocketScatteredSendTo(sd, block, 2, note_free, 0, (struct sockaddr *)&sink, sizeof sink), 120);
    expect_frees(2);
    CHECK_EQ(stats().bytesCopiedTx - before.bytesCopiedTx, 120);
    for (at = 0; at < 3; at++)
        CHECK_EQ(tfFreeZeroCopyBuffer(h[at]), TM_ENOERROR);
    pump();
    CHECK_EQ(stats().framesFree, before.framesFree);
}

static void pass(int seconds)
{
    now_ns += (uint64_t)seconds * 1000000000u;
    CHECK_EQ(tfTimerUpdateTo(now_ns), TM_ENOERROR);
    tfTimerExecute();
    pump();
}

/* A stream that does not wait, connected to a peer that takes but does not answer. */
static int stream_to_mute(void)
{
    int sd = connected_to(9);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    peer_last()->acks = 0;
    return sd;
}

static void streams(void)
{
    char *data;
    tfStats before = stats();
    ttUserMessage h = filled(SIZE, &data);
    int sd = stream_to_mute(), again;
    section("a stream has it until all is acknowledged, through retransmissions, and with the handle freed; nothing is copied");
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data + 5, 9000, note_free, 0), 9000);
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data, 11, note_free, 0), 11);
    pump();
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 10, 0), TM_EWOULDBLOCK);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    expect_frees(0);
    CHECK_EQ(peer_last()->length, 0);
    peer_last()->acks = 1;
    for (again = 0; again < 20 && frees < 2; again++)
        pass(3);
    expect_frees(2);
    CHECK_EQ(peer_last()->length, 9011);
    h = filled(SIZE, &data);
    CHECK_EQ(memcmp(peer_last()->data, data + 5, 9000), 0);
    CHECK_EQ(memcmp(peer_last()->data + 9000, data, 11), 0);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
    section("what is in flight may be in one frame with what is not: each send is given back by itself");
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data, 100, note_free, 0), 100);
    pump();
    expect_frees(1);
    peer_last()->acks = 0;
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data + 100, 100, note_free, 0), 100);
    CHECK_EQ(tfZeroCopyUserBufferSendTo(udp_socket(0), data, data + 200, 100, note_free, 0, (struct sockaddr *)&sink, sizeof sink), 100);
    pump();
    expect_frees(1);
    peer_catch_up(peer_last());
    expect_frees(1);
    section("urgent data is copied");
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data, 10, note_free, MSG_OOB), 10);
    expect_frees(1);
    CHECK_EQ(stats().bytesCopiedTx - before.bytesCopiedTx, 10);
    pump();
    section("the queue is full: TM_EWOULDBLOCK, longer than it: TM_EMSGSIZE; reset: given back once");
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_SNDBUF, 1000), 0);
    peer_last()->acks = 0;
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data, 900, note_free, 0), 900);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, data, data, 200, note_free, 0), TM_EWOULDBLOCK);
    expect_frees(0);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, data, data, 1001, note_free, 0), TM_EMSGSIZE);
    expect_frees(1);
    peer_resets(peer_last());
    pump();
    expect_frees(1);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, data, data, 10, note_free, 0), TM_ECONNRESET);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, data, data, 10, note_free, 0), TM_ENOTCONN);
    expect_frees(2);
    CHECK_EQ(tfClose(sd), 0);
    section("closed with data under way: still delivered, and then given back; aborted: at once");
    sd = stream_to_mute();
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data, 3000, note_free, 0), 3000);
    CHECK_EQ(tfClose(sd), 0);
    pump();
    expect_frees(0);
    peer_last()->acks = 1;
    for (again = 0; again < 20 && frees == 0; again++)
        pass(3);
    expect_frees(1);
    CHECK_EQ(peer_last()->length, 3000);
    CHECK_EQ(memcmp(peer_last()->data, data, 3000), 0);
    sd = stream_to_mute();
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, data, data, 3000, note_free, 0), 3000);
    CHECK_EQ(tfResetConnection(sd), 0);
    pump();
    expect_frees(1);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
}

static struct {
    int sd, sends;
    ttUserMessage h;
} again;

static void send_again(char *userBuffer)
{
    if (again.sends-- > 0) {
        CHECK_EQ(tfZeroCopyUserBufferSendTo(again.sd, userBuffer, userBuffer, 50, send_again, 0, (struct sockaddr *)&sink, sizeof sink), 50);
    } else {
        CHECK_EQ(tfZeroCopySendTo(again.sd, again.h, 77, 0, (struct sockaddr *)&sink, sizeof sink), 77);
        frees++;
    }
}

static void from_the_free_function(int sd)
{
    char *data;
    section("the free function may send again, and send the buffer away");
    again.sd = sd;
    again.sends = 5;
    again.h = filled(100, &data);
    CHECK_EQ(tfZeroCopyUserBufferSendTo(sd, data, data, 50, send_again, 0, (struct sockaddr *)&sink, sizeof sink), 50);
    pump();
    expect_frees(1);
    CHECK_EQ(again.sends, -1);
    CHECK_EQ(wire.last_udp_length, 77);
    CHECK_EQ(tfFreeZeroCopyBuffer(again.h), TM_EFAULT);
}

int main(void)
{
    ttUserInterface i;
    int sd;
    CHECK_EQ(tfUseManualClock(), TM_ENOERROR);
    CHECK_EQ(tfTimerUpdateTo(now_ns), TM_ENOERROR);
    i = wire_up();
    wire.interface = i;
    sink = address_of("10.0.0.2", 9);
    CHECK_EQ(tfAddArpEntry(sink.sin_addr.s_addr, (const char *)peer_mac, 6), TM_ENOERROR);
    sd = udp_socket(6000);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    datagrams(sd);
    under_way(sd);
    of_every_origin(sd);
    blocks(sd);
    streams();
    from_the_free_function(sd);
    pass(400);
    check_all_free(i);
    return finish("user_memory");
}
