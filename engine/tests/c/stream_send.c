/* Sending on streams: partial sends, blocking and time-outs, the zero-copy calls and who owns the buffer after each outcome. */
#include "peer.h"

static const char text[] = "to be, or not to be";
static char big[300000];

/* A peer that takes nothing down: what is sent stays in the send queue. */
static int stuck_stream(int queue)
{
    int sd;
    peer_acks = 0;
    sd = connected_to(9);
    peer_acks = 1;
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_SNDBUF, queue), 0);
    return sd;
}

static void drain(int sd)
{
    peer_catch_up(peer_last());
    CHECK_EQ(tfGetSendBytesLeft(sd), 0);
    close_cleanly(sd);
}

static void partial(void)
{
    int sd = stuck_stream(1000);
    struct timeval time = {0, 30000};
    section("what does not wait takes as much as there is room for");
    CHECK_EQ(send(sd, big, 600, MSG_DONTWAIT), 600);
    CHECK_EQ(tfGetSendBytesLeft(sd), 600);
    CHECK_EQ(tfGetSendCompltBytes(sd), 0);
    CHECK_EQ(send(sd, big, 600, MSG_DONTWAIT), 400);
    CHECK_FAILS(sd, send(sd, big, 600, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(send(sd, big, 0, MSG_DONTWAIT), 0);
    CHECK_FAILS(sd, send(sd, big, 1, MSG_PEEK), TM_EINVAL);
    CHECK_FAILS(sd, send(sd, big, -1, 0), TM_EINVAL);
    CHECK_FAILS(sd, send(sd, 0, 1, 0), TM_EFAULT);
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time), 0);
    CHECK_FAILS(sd, send(sd, big, 10, 0), TM_EWOULDBLOCK);
    peer_acknowledge(peer_last(), 500);
    CHECK_EQ(send(sd, big, 700, 0), 500);
    CHECK_EQ(tfGetSendCompltBytes(sd), 500);
    drain(sd);
    section("what waits takes all, longer than the queue as it may be");
    sd = connected_to(9);
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_SNDBUF, 5000), 0);
    memset(big, 'b', sizeof big);
    CHECK_EQ(send(sd, big, 200000, 0), 200000);
    pump();
    CHECK_EQ(peer_last()->length, 200000);
    CHECK_EQ(memcmp(peer_last()->data, big, 200000), 0);
    CHECK_EQ(tfGetSendCompltBytes(sd), 200000);
    close_cleanly(sd);
}

static void vectors(void)
{
    struct iovec parts[3] = {{(char *)text, 6}, {0, 0}, {(char *)text + 6, 4}}, rooms[2];
    char one[4], two[40];
    int sd = connected_to(7), udp = udp_socket(0);
    section("writev and readv, on a stream and as one datagram");
    CHECK_EQ(writev(sd, parts, 3), 10);
    pump();
    rooms[0].iov_base = one;
    rooms[0].iov_len = sizeof one;
    rooms[1].iov_base = two;
    rooms[1].iov_len = sizeof two;
    CHECK_EQ(readv(sd, rooms, 2), 10);
    CHECK_EQ(memcmp(one, text, 4) | memcmp(two, text + 4, 6), 0);
    CHECK_EQ(connect_to(udp, "10.0.0.2", 7), 0);
    CHECK_EQ(writev(udp, parts, 3), 10);
    CHECK_EQ(wire.last_udp_length, 10);
    memset(two, 0, sizeof two);
    CHECK_EQ(readv(udp, rooms, 2), 10);
    CHECK_EQ(memcmp(one, text, 4) | memcmp(two, text + 4, 6), 0);
    CHECK_FAILS(sd, writev(sd, 0, 1), TM_EFAULT);
    CHECK_FAILS(sd, writev(sd, parts, -1), TM_EINVAL);
    CHECK_FAILS(sd, writev(sd, parts, 1025), TM_EINVAL);
    CHECK_EQ(writev(sd, parts, 0), 0);
    parts[1].iov_len = 1;
    CHECK_FAILS(sd, writev(sd, parts, 3), TM_EFAULT);
    parts[0].iov_len = 0x7fffffff;
    parts[1].iov_base = two;
    CHECK_FAILS(sd, writev(sd, parts, 3), TM_EINVAL);
    CHECK_EQ(tfClose(udp), 0);
    close_cleanly(sd);
}

/* The call fails with this error and the stack has freed the buffer. */
#define CHECK_FREED(sd, call, error)                 \
    do {                                             \
        uint64_t free_ = stats().framesFree;         \
        h = buffer_of(100, 'x');                        \
        CHECK_FAILS(sd, call, error);                \
        CHECK_EQ(stats().framesFree, free_);         \
        CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT); \
    } while (0)

static void order_of_errors(void)
{
    struct sockaddr_in to = address_of("10.0.0.2", 9);
    int sd = stuck_stream(1000), fresh = stream_socket();
    ttUserMessage h;
    section("zero-copy: EFAULT, EBADF, EINVAL, ESHUTDOWN, ENOTCONN, EMSGSIZE, EWOULDBLOCK");
    CHECK_FAILS(sd, tfZeroCopySend(sd, 0, -1, -1), TM_EFAULT);
    h = buffer_of(100, 'x');
    CHECK_EQ(tfZeroCopySend(12345, h, 1, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_FREED(fresh, tfZeroCopySend(fresh, h, 0, 0), TM_EINVAL);
    CHECK_FREED(fresh, tfZeroCopySend(fresh, h, 101, 0), TM_EINVAL);
    CHECK_FREED(fresh, tfZeroCopySend(fresh, h, 10, MSG_SCATTERED), TM_EINVAL);
    CHECK_FREED(fresh, tfZeroCopySend(fresh, h, 10, MSG_PEEK), TM_EINVAL);
    CHECK_FREED(fresh, tfZeroCopySendTo(fresh, h, 10, MSG_OOB, (struct sockaddr *)&to, sizeof to), TM_EINVAL);
    CHECK_FREED(fresh, tfZeroCopySend(fresh, h, 10, 0), TM_ENOTCONN);
    CHECK_FREED(fresh, tfZeroCopySendTo(fresh, h, 10, 0, (struct sockaddr *)&to, sizeof to), TM_ENOTCONN);
    CHECK_FREED(sd, tfZeroCopySendTo(sd, h, 10, 0, (struct sockaddr *)&to, sizeof to), TM_EISCONN);
    h = buffer_of(1001, 'y');
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 1001, MSG_DONTWAIT), TM_EMSGSIZE);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    h = buffer_of(1000, 'y');
    CHECK_EQ(tfZeroCopySend(sd, h, 990, MSG_DONTWAIT), 990);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    section("all or nothing: on would-block the caller has it, with all its length");
    h = buffer_of(100, 'z');
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 11, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(tfGetSendBytesLeft(sd), 990);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 100, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(tfZeroCopySend(sd, h, 10, MSG_DONTWAIT), 10);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    h = buffer_of(1, 'w');
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 1, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_EQ(shutdown(sd, SHUT_WR), 0);
    CHECK_FREED(sd, tfZeroCopySend(sd, h, 10, 0), TM_ESHUTDOWN);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_FREED(sd, tfZeroCopySend(sd, h, 10, 0), TM_ESHUTDOWN);
    peer_catch_up(peer_last());
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    section("a reset frees what was sent, and the next buffer too");
    sd = stuck_stream(1000);
    h = buffer_of(500, 'r');
    CHECK_EQ(tfZeroCopySend(sd, h, 500, 0), 500);
    peer_resets(peer_last());
    pump();
    CHECK_EQ(stats().framesFree, stats().framesTotal);
    CHECK_FREED(sd, tfZeroCopySend(sd, h, 10, 0), TM_ECONNRESET);
    CHECK_FREED(sd, tfZeroCopySend(sd, h, 10, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd) | tfClose(fresh), 0);
}

static void zero_copy(void)
{
    tfStats before = stats(), after;
    ttUserMessage h, received;
    char *data;
    int sd, length, turn;
    section("zero-copy echo both ways: nothing is copied, large buffers too, longer than the queue too");
    sd = connected_to(7);
    for (turn = 0; turn < 50; turn++) {
        h = buffer_of(1000, (char)('a' + turn % 26));
        CHECK_EQ(tfZeroCopySend(sd, h, 1000, 0), 1000);
        length = tfZeroCopyRecv(sd, &received, &data, 5000, 0);
        CHECK_EQ(length, 1000);
        CHECK_EQ(data[0], 'a' + turn % 26);
        CHECK_EQ(tfZeroCopySend(sd, received, length, 0), length);
        CHECK_EQ(tfZeroCopyRecv(sd, &received, &data, 5000, 0), 1000);
        CHECK_EQ(tfFreeZeroCopyBuffer(received), TM_ENOERROR);
    }
    peer_last()->echoes = 0;
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_SNDBUF, 4000), 0);
    h = buffer_of(50000, 'L');
    length = peer_last()->length;
    CHECK_EQ(tfZeroCopySend(sd, h, 50000, 0), 50000);
    pump();
    CHECK_EQ(peer_last()->length - length, 50000);
    CHECK_EQ(peer_last()->data[peer_last()->length - 1], 'L');
    after = stats();
    CHECK_EQ(after.bytesCopiedTx - before.bytesCopiedTx, 0);
    CHECK_EQ(after.bytesCopiedRx - before.bytesCopiedRx, 0);
    section("receiving: what is beyond maxLength stays; peeking copies and leaves it; flags; end of stream");
    peer_send(peer_last(), text, sizeof text);
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 1000, MSG_PEEK), sizeof text);
    CHECK_EQ(memcmp(data, text, sizeof text), 0);
    CHECK_EQ(tfZeroCopyRecv(sd, &received, &data, 5, 0), 5);
    CHECK_EQ(memcmp(data, text, 5), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(received), TM_ENOERROR);
    CHECK_EQ(tfZeroCopyRecv(sd, &received, &data, 500, 0), sizeof text - 5);
    CHECK_EQ(memcmp(data, text + 5, sizeof text - 5), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(received) | tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &received, &data, 0, 0), TM_EINVAL);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &received, &data, 5, MSG_OOB), TM_EINVAL);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &received, &data, 5, MSG_SCATTERED), TM_EINVAL);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, 0, &data, 5, 0), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &received, &data, 5, MSG_DONTWAIT), TM_EWOULDBLOCK);
    peer_finish(peer_last());
    CHECK_EQ(tfZeroCopyRecv(sd, &received, &data, 5, 0), 0);
    CHECK(received == 0);
    close_cleanly(sd);
}

static int frees;
static char *freed;

static void free_user(char *memory)
{
    frees++;
    freed = memory;
}

static void user_buffers(void)
{
    int sd = stuck_stream(1000), udp = udp_socket(0);
    struct sockaddr_in to = address_of("10.0.0.2", 9);
    section("memory of the application's: freed once, but on would-block");
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, big, big + 10, 900, free_user, 0), 900);
    CHECK(frees == 1 && freed == big);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, big, big, 200, free_user, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(frees, 1);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, big, big, 2000, free_user, MSG_DONTWAIT), TM_EMSGSIZE);
    CHECK_EQ(frees, 2);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, big, 0, 20, free_user, 0), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, big, big, 0, free_user, 0), TM_EINVAL);
    CHECK_EQ(tfZeroCopyUserBufferSend(777, big, big, 1, free_user, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    CHECK_EQ(frees, 5);
    CHECK_EQ(tfZeroCopyUserBufferSend(sd, big, big, 1, 0, 0), 1);
    CHECK_EQ(tfZeroCopyUserBufferSendTo(udp, big, big, 77, free_user, 0, (struct sockaddr *)&to, sizeof to), 77);
    pump();
    CHECK_EQ(wire.last_udp_length, 77);
    CHECK_EQ(frees, 6);
    CHECK_EQ(tfClose(udp), 0);
    drain(sd);
}

int main(void)
{
    ttUserInterface i = wire_up();
    partial();
    vectors();
    order_of_errors();
    zero_copy();
    user_buffers();
    pump();
    check_all_free(i);
    return finish("stream_send");
}
