/* Who owns a zero-copy buffer after each outcome, and that errors are found in their order. */
#include "check.h"

static struct sockaddr_in sink;

/* The call fails with this error and the stack has freed the buffer. */
#define CHECK_FREED(sd, call, error)                             \
    do {                                                         \
        uint64_t free_ = stats().framesFree;                     \
        h = buffer(100);                                         \
        CHECK_EQ(call, TM_SOCKET_ERROR);                         \
        CHECK_EQ(tfGetLastError(), error);                       \
        if (error != TM_EBADF)                                   \
            CHECK_EQ(tfGetSocketError(sd), error);               \
        CHECK_EQ(stats().framesFree, free_);                     \
        CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);            \
    } while (0)

static void order_of_errors(void)
{
    const struct sockaddr *to = (const struct sockaddr *)&sink;
    struct sockaddr_in other;
    int connected = udp_socket(0), free_one = udp_socket(0), refused = udp_socket(0), shut = udp_socket(0), small = 50;
    ttUserMessage h;
    char *data;

    CHECK_EQ(connect_to(connected, "10.0.0.2", 9), 0);
    section("1. TM_EFAULT before all: bad descriptor, bad length, bad flags do not matter; nothing is touched");
    CHECK_EQ(tfZeroCopySend(12345, 0, -1, -1), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    CHECK_EQ(tfGetSocketError(12345), TM_EBADF);
    CHECK_FAILS(connected, tfZeroCopySend(connected, 0, 10, 0), TM_EFAULT);

    section("2. TM_EBADF before the length");
    CHECK_FREED(0, tfZeroCopySend(12345, h, -1, -1), TM_EBADF);
    CHECK_FREED(0, tfZeroCopySend(-1, h, 1, 0), TM_EBADF);
    CHECK_FREED(0, tfZeroCopySend(0, h, 1, 0), TM_EBADF);

    section("3. TM_EINVAL: length, flags; before not-connected");
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 0, 0), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, -1, 0), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 101, 0), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 2147483647, 0), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 10, MSG_OOB), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 10, MSG_PEEK), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 10, 0x10000), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, MSG_OOB, to, sizeof sink), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, to, 15), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, to, 1), TM_EINVAL);
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, to, -1), TM_EINVAL);
    other = sink;
    other.sin_family = AF_INET6;
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, (struct sockaddr *)&other, sizeof other), TM_EAFNOSUPPORT);
    other = sink;
    other.sin_port = 0;
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, (struct sockaddr *)&other, sizeof other), TM_EADDRNOTAVAIL);
    section("   one piece may be called a chain: the next error is found");
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 10, MSG_SCATTERED), TM_ENOTCONN);

    section("4. TM_ESHUTDOWN");
    CHECK_EQ(connect_to(shut, "10.0.0.2", 60002), 0);
    CHECK_FAILS(free_one, shutdown(free_one, SHUT_WR), TM_ENOTCONN);
    CHECK_EQ(shutdown(shut, SHUT_WR), 0);
    CHECK_FREED(shut, tfZeroCopySend(shut, h, 10, 0), TM_ESHUTDOWN);

    section("5. TM_ENOTCONN, TM_EISCONN");
    CHECK_FREED(free_one, tfZeroCopySend(free_one, h, 10, 0), TM_ENOTCONN);
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, 0, 0), TM_ENOTCONN);
    CHECK_FREED(connected, tfZeroCopySendTo(connected, h, 10, 0, to, sizeof sink), TM_EISCONN);

    section("6. TM_ECONNREFUSED, once, before the size");
    CHECK_EQ(setsockopt(refused, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    CHECK_EQ(connect_to(refused, "10.0.0.2", 60003), 0);
    h = buffer(10);
    CHECK_EQ(tfZeroCopySend(refused, h, 10, 0), 10);
    pump();
    CHECK_FREED(refused, tfZeroCopySend(refused, h, 100, MSG_DONTWAIT), TM_ECONNREFUSED);

    section("7. TM_EHOSTUNREACH, before the size");
    other = address_of("192.0.2.1", 9);
    h = tfGetZeroCopyBuffer(65508, &data);
    CHECK(h != 0);
    CHECK_FAILS(free_one, tfZeroCopySendTo(free_one, h, 65508, 0, (struct sockaddr *)&other, sizeof other), TM_EHOSTUNREACH);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);

    section("8. TM_EMSGSIZE: non-blocking and longer than the send queue; blocking it is taken");
    CHECK_FREED(refused, tfZeroCopySend(refused, h, 100, MSG_DONTWAIT), TM_EMSGSIZE);
    h = buffer(100);
    CHECK_EQ(tfZeroCopySend(refused, h, 100, 0), 100);
    pump();

    section("   TM_EACCES: broadcast without leave");
    other = address_of("255.255.255.255", 9);
    CHECK_FREED(free_one, tfZeroCopySendTo(free_one, h, 10, 0, (struct sockaddr *)&other, sizeof other), TM_EACCES);

    CHECK_EQ(tfClose(connected) | tfClose(free_one) | tfClose(refused) | tfClose(shut), 0);
}

static void would_block(void)
{
    int sd = udp_socket(0), sent = 0, result;
    ttUserMessage h = 0;
    char *data;
    section("9. TM_EWOULDBLOCK: the driver is busy, the queue fills, the caller keeps the buffer with all its length");
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    wire.busy = 1;
    do {
        h = tfGetZeroCopyBuffer(200, &data);
        CHECK(h != 0);
        if (h == 0)
            return;
        memset(data, 'a' + sent % 26, 200);
        result = tfZeroCopySend(sd, h, 50, MSG_DONTWAIT);
        sent += result == 50;
    } while (result == 50 && sent < 100000);
    CHECK_EQ(result, TM_SOCKET_ERROR);
    CHECK_EQ(tfGetSocketError(sd), TM_EWOULDBLOCK);
    CHECK(sent >= 256);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 201, MSG_DONTWAIT | 0), TM_EINVAL);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    h = buffer(200);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 50, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 200, MSG_DONTWAIT), TM_EWOULDBLOCK);
    section("   it may be freed, or tried again: here the driver is ready again, and all of it goes out");
    wire.busy = 0;
    CHECK_EQ(tfZeroCopySend(sd, h, 200, MSG_DONTWAIT), 200);
    pump();
    CHECK_EQ(wire.last_udp_length, 200);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    wire.busy = 1;
    h = buffer(10);
    while (tfZeroCopySend(sd, h, 10, MSG_DONTWAIT) == 10)
        h = buffer(10);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    wire.busy = 0;
    pump();
    CHECK_EQ(tfClose(sd), 0);
}

static void no_memory(void)
{
    static ttUserMessage all[8192];
    int count = 0, sd = udp_socket(5100);
    char *data, back[8];
    section("10. no buffers left: null and TM_ENOBUFS; receiving goes on from its reserve");
    while (count < 8192 && (all[count] = tfGetZeroCopyBuffer(1, &data)) != 0)
        count++;
    CHECK(count > 1000 && count < 8192);
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 7), 0);
    CHECK_FAILS(sd, send(sd, "x", 1, 0), TM_ENOBUFS);
    CHECK_EQ(tfZeroCopySend(sd, all[--count], 1, 0), 1);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 1);
    while (count > 0)
        CHECK_EQ(tfFreeZeroCopyBuffer(all[--count]), TM_ENOERROR);
    CHECK_EQ(tfClose(sd), 0);
}

int main(void)
{
    ttUserInterface i = wire_up();
    sink = address_of("10.0.0.2", 9);
    order_of_errors();
    would_block();
    no_memory();
    check_all_free(i);
    return finish("ownership");
}
