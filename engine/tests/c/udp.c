/* UDP over a user driver: copying and zero-copy, both memories of a driver, blocking, select, peek, fragments, errors from the network. */
#include "check.h"

static char text[] = "the quick brown fox";

static void echo_copying(void)
{
    int sd = udp_socket(0), n, length;
    char back[64];
    struct sockaddr_in to = address_of("10.0.0.2", 7), from;
    tfStats before = stats(), after;
    section("sendto, recvfrom: blocking, the wire echoes");
    n = sendto(sd, text, sizeof text, 0, (struct sockaddr *)&to, sizeof to);
    CHECK_EQ(n, sizeof text);
    length = sizeof from;
    memset(&from, 0, sizeof from);
    n = recvfrom(sd, back, sizeof back, 0, (struct sockaddr *)&from, &length);
    CHECK_EQ(n, sizeof text);
    CHECK_EQ(memcmp(back, text, sizeof text), 0);
    CHECK_EQ(length, sizeof from);
    CHECK_EQ(from.sin_len, sizeof from);
    CHECK_EQ(from.sin_family, AF_INET);
    CHECK_EQ(ntohs(from.sin_port), 7);
    CHECK_EQ(from.sin_addr.s_addr, inet_addr("10.0.0.2"));
    after = stats();
    CHECK_EQ(after.bytesCopiedTx - before.bytesCopiedTx, sizeof text);
    CHECK_EQ(after.bytesCopiedRx - before.bytesCopiedRx, sizeof text);
    section("a short buffer cuts the datagram; the rest is lost");
    CHECK_EQ(sendto(sd, text, sizeof text, 0, (struct sockaddr *)&to, sizeof to), sizeof text);
    CHECK_EQ(recv(sd, back, 5, 0), 5);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, MSG_DONTWAIT), TM_EWOULDBLOCK);
    section("an empty datagram");
    CHECK_EQ(sendto(sd, text, 0, 0, (struct sockaddr *)&to, sizeof to), 0);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void echo_zero_copy(void)
{
    int sd = udp_socket(0), size, n, at;
    ttUserMessage h;
    char *data;
    struct sockaddr_in from;
    int from_length = sizeof from;
    tfStats before = stats(), after;
    section("every size of one packet, there and back, without a copied byte");
    CHECK_EQ(connect_to(sd, "10.0.0.2", 7), 0);
    for (size = 1; size <= 1472; size++) {
        h = tfGetZeroCopyBuffer(size, &data);
        CHECK(h != 0);
        for (at = 0; at < size; at++)
            data[at] = (char)(at * 7 + size);
        CHECK_EQ(tfZeroCopySend(sd, h, size, 0), size);
        n = tfZeroCopyRecvFrom(sd, &h, &data, 1472, 0, (struct sockaddr *)&from, &from_length);
        CHECK_EQ(n, size);
        for (at = 0; at < n && data[at] == (char)(at * 7 + size); at++) {
        }
        CHECK_EQ(at, size);
        CHECK_EQ(ntohs(from.sin_port), 7);
        CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    }
    section("a received frame is changed and sent on; its checksum is right again");
    h = tfGetZeroCopyBuffer(4, &data);
    memcpy(data, "abcd", 4);
    CHECK_EQ(tfZeroCopySend(sd, h, 4, 0), 4);
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 100, 0), 4);
    data[0] = 'A';
    CHECK_EQ(tfZeroCopySend(sd, h, 3, 0), 3);
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 100, 0), 3);
    CHECK_EQ(memcmp(data, "Abc", 3), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    after = stats();
    CHECK_EQ(after.bytesCopiedTx, before.bytesCopiedTx);
    CHECK_EQ(after.bytesCopiedRx, before.bytesCopiedRx);
    section("maxLength cuts; an empty datagram has a null handle");
    CHECK_EQ(send(sd, text, sizeof text, 0), sizeof text);
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 3, 0), 3);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_EQ(send(sd, text, 0, 0), 0);
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 3, 0), 0);
    CHECK(h == 0 && data == 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void peek(void)
{
    int sd = udp_socket(5000), waiting = -1;
    char back[64];
    ttUserMessage first, second;
    char *data, *again;
    section("MSG_PEEK leaves the datagram; FIONREAD counts it; a peeked handle is its own");
    wire_udp(9, 5000, text, sizeof text, 1480);
    pump();
    CHECK_EQ(tfIoctl(sd, FIONREAD, &waiting), 0);
    CHECK_EQ(waiting, sizeof text);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_PEEK), sizeof text);
    CHECK_EQ(tfZeroCopyRecv(sd, &first, &data, 100, MSG_PEEK), sizeof text);
    CHECK_EQ(tfZeroCopyRecv(sd, &second, &again, 100, 0), sizeof text);
    CHECK(first != second && data != again);
    CHECK_EQ(memcmp(data, again, sizeof text), 0);
    CHECK_EQ(tfFreeZeroCopyBuffer(first), TM_ENOERROR);
    CHECK_EQ(tfFreeZeroCopyBuffer(second), TM_ENOERROR);
    CHECK_EQ(tfIoctl(sd, FIONREAD, &waiting), 0);
    CHECK_EQ(waiting, 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void large(void)
{
    static char big[30000];
    int sd = udp_socket(5001), at, pieces = wire.pieces, fragments = wire.fragments;
    struct sockaddr_in to = address_of("10.0.0.2", 9);
    ttUserMessage h;
    char *data;
    tfStats before = stats(), after;
    section("a datagram in fragments comes as one contiguous buffer, copied and counted");
    for (at = 0; at < (int)sizeof big; at++)
        big[at] = (char)(at ^ at >> 8);
    wire_udp(9, 5001, big, sizeof big, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 65536, 0), sizeof big);
    CHECK_EQ(memcmp(data, big, sizeof big), 0);
    after = stats();
    CHECK_EQ(after.bytesCopiedRx - before.bytesCopiedRx, sizeof big);
    section("and goes out again as fragments of header and payload pieces, uncopied");
    CHECK_EQ(tfZeroCopySendTo(sd, h, sizeof big, 0, (struct sockaddr *)&to, sizeof to), sizeof big);
    CHECK_EQ(wire.fragments - fragments, (sizeof big + 8 + 1479) / 1480);
    CHECK(wire.pieces - pieces >= 2 * (wire.fragments - fragments));
    after = stats();
    CHECK_EQ(after.bytesCopiedTx, before.bytesCopiedTx);
    section("the largest datagram, and one byte more");
    h = tfGetZeroCopyBuffer(65507, &data);
    CHECK(h != 0);
    CHECK_EQ(tfZeroCopySendTo(sd, h, 65507, 0, (struct sockaddr *)&to, sizeof to), 65507);
    h = tfGetZeroCopyBuffer(65508, &data);
    CHECK(h != 0);
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, h, 65508, 0, (struct sockaddr *)&to, sizeof to), TM_EMSGSIZE);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_EQ(tfClose(sd), 0);
}

static void driver_memory(void)
{
    int sd = udp_socket(5002), freed;
    char back[64];
    section("frames in the driver's memory are copied and given back, frames in buffers of ours are not");
    freed = wire.freed;
    wire_udp(9, 5002, text, sizeof text, 1480);
    pump();
    CHECK_EQ(wire.freed, freed + 1);
    CHECK_EQ(recv(sd, back, sizeof back, 0), sizeof text);
    for (wire.memory = DRIVER_BUFFERS; wire.memory <= ETHERNET_BUFFERS; wire.memory++) {
        wire_udp(9, 5002, text, sizeof text, 1480);
        pump();
        CHECK_EQ(wire.freed, freed + 1);
        memset(back, 0, sizeof back);
        CHECK_EQ(recv(sd, back, sizeof back, 0), sizeof text);
        CHECK_EQ(memcmp(back, text, sizeof text), 0);
    }
    wire.memory = OWN_MEMORY;
    CHECK_EQ(tfClose(sd), 0);
}

static void network_errors(void)
{
    int sd = udp_socket(0), error = -1, length = sizeof error;
    struct sockaddr_in local, remote;
    char back[8];
    section("port unreachable: told once, to send, to recv, or to SO_ERROR");
    CHECK_EQ(connect_to(sd, "10.0.0.2", 60001), 0);
    CHECK_EQ(send(sd, text, 4, 0), 4);
    pump();
    CHECK_FAILS(sd, send(sd, text, 4, 0), TM_ECONNREFUSED);
    CHECK_EQ(send(sd, text, 4, 0), 4);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_ECONNREFUSED);
    CHECK_EQ(send(sd, text, 4, 0), 4);
    pump();
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    CHECK_EQ(error, TM_ECONNREFUSED);
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    CHECK_EQ(error, TM_ENOERROR);
    section("names of both ends");
    length = sizeof local;
    CHECK_EQ(getsockname(sd, (struct sockaddr *)&local, &length), 0);
    CHECK_EQ(local.sin_addr.s_addr, inet_addr("10.0.0.1"));
    CHECK(ntohs(local.sin_port) >= 49152);
    length = sizeof remote;
    CHECK_EQ(getpeername(sd, (struct sockaddr *)&remote, &length), 0);
    CHECK_EQ(ntohs(remote.sin_port), 60001);
    section("AF_UNSPEC disconnects");
    memset(&remote, 0, sizeof remote);
    CHECK_EQ(connect(sd, (struct sockaddr *)&remote, sizeof remote), 0);
    CHECK_FAILS(sd, getpeername(sd, (struct sockaddr *)&remote, &length), TM_ENOTCONN);
    section("no route, a host that does not answer, broadcast");
    CHECK_FAILS(sd, connect_to(sd, "192.0.2.1", 9), TM_EHOSTUNREACH);
    remote = address_of("192.0.2.1", 9);
    CHECK_FAILS(sd, sendto(sd, text, 4, 0, (struct sockaddr *)&remote, sizeof remote), TM_EHOSTUNREACH);
    remote = address_of("10.0.0.255", 9);
    CHECK_FAILS(sd, sendto(sd, text, 4, 0, (struct sockaddr *)&remote, sizeof remote), TM_EACCES);
    error = 1;
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_BROADCAST, &error, sizeof error), 0);
    CHECK_EQ(sendto(sd, text, 4, 0, (struct sockaddr *)&remote, sizeof remote), 4);
    CHECK_EQ(tfClose(sd), 0);
}

static void selecting(void)
{
    int one = udp_socket(5003), two = udp_socket(5004), most = (one > two ? one : two) + 1;
    fd_set readable, writable;
    struct timeval time = {0, 0};
    char back[64];
    section("select: ready ones only, time-outs, bad descriptors");
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(one, &readable);
    FD_SET(two, &readable);
    CHECK_EQ(select(most, &readable, 0, 0, &time), 0);
    CHECK(!FD_ISSET(one, &readable) && !FD_ISSET(two, &readable));
    time.tv_usec = 20000;
    FD_SET(one, &readable);
    CHECK_EQ(select(most, &readable, 0, 0, &time), 0);
    wire_udp(9, 5004, text, sizeof text, 1480);
    FD_SET(one, &readable);
    FD_SET(two, &readable);
    FD_SET(one, &writable);
    CHECK_EQ(select(most, &readable, &writable, 0, 0), 1);
    FD_SET(one, &readable);
    FD_SET(two, &readable);
    FD_ZERO(&writable);
    CHECK_EQ(select(most, &readable, &writable, 0, 0), 1);
    CHECK(!FD_ISSET(one, &readable) && FD_ISSET(two, &readable));
    CHECK_EQ(recv(two, back, sizeof back, MSG_DONTWAIT), sizeof text);
    CHECK_EQ(select(-1, &readable, 0, 0, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EINVAL);
    time.tv_usec = 1000000;
    CHECK_EQ(select(most, &readable, 0, 0, &time), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EINVAL);
    CHECK_EQ(tfClose(two), 0);
    CHECK_EQ(select(most, &readable, 0, 0, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    CHECK_EQ(tfClose(one), 0);
}

static void blocking(void)
{
    int sd = udp_socket(5005), on = 1;
    char back[8];
    struct timeval time = {0, 30000}, got;
    int length = sizeof got;
    section("blocking state: by tfBlockingState, FIONBIO, MSG_DONTWAIT, and for a while only");
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_EWOULDBLOCK);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_ON), 0);
    CHECK_EQ(tfIoctl(sd, FIONBIO, &on), 0);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_EWOULDBLOCK);
    on = 0;
    CHECK_EQ(tfIoctl(sd, FIONBIO, &on), 0);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_RCVTIMEO, &got, &length), 0);
    CHECK_EQ(got.tv_usec, 30000);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_EWOULDBLOCK);
    CHECK_FAILS(sd, tfBlockingState(sd, 2), TM_EINVAL);
    CHECK_EQ(tfClose(sd), 0);
}

static void quiet_driver(void)
{
    int sd = udp_socket(0), sent;
    section("a driver that never says that a frame is sent does not stop the sender");
    wire.completes = 0;
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    for (sent = 0; sent < 5000; sent++)
        CHECK_EQ(send(sd, text, sizeof text, 0), sizeof text);
    CHECK_EQ(tfClose(sd), 0);
}

int main(int argc, char **argv)
{
    ttUserInterface i;
    (void)argv;
    /* With an argument: a driver that never completes, which only the first driver of a process can be. */
    i = wire_up();
    CHECK_EQ(wire.opened, 1);
    if (argc > 1) {
        quiet_driver();
    } else {
        echo_copying();
        echo_zero_copy();
        peek();
        large();
        driver_memory();
        network_errors();
        selecting();
        blocking();
    }
    check_all_free(i);
    CHECK_EQ(wire.closed, 1);
    return finish("udp");
}
