/* Each call with two things wrong at once, neighbours in its list of errors: the one that the list names first is told. What ownership.c and raw.c show already is not here again. */
#include "peer.h"

static const char text[] = "to be, or not to be";
static struct sockaddr_in sink, portless, nowhere, alien;

#define SA(address) ((const struct sockaddr *)&(address))

enum { BAD = 54321, SHORT = 3 };

/* Of a descriptor that is none there is no error to be had. */
#define CHECK_BAD(call)                              \
    do {                                             \
        CHECK_EQ(call, TM_SOCKET_ERROR);             \
        CHECK_EQ(tfGetLastError(), TM_EBADF);        \
    } while (0)

/* A datagram socket connected to a port that is closed, which knows it. */
static int refused_socket(void)
{
    int sd = udp_socket(0);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 60001), 0);
    CHECK_EQ(send(sd, text, 1, 0), 1);
    pump();
    return sd;
}

/* A stream that was reset, which nobody was told yet. */
static int reset_stream(void)
{
    int sd = connected_to(7);
    peer_resets(peer_last());
    pump();
    return sd;
}

static void binding(void)
{
    int one = udp_socket(4001), other = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in taken = address_of("0.0.0.0", 4001), foreign = address_of("192.0.2.9", 4001);
    section("bind: TM_EBADF, TM_EFAULT, TM_EINVAL, TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL, TM_EADDRINUSE");
    CHECK_BAD(bind(BAD, 0, 0));
    CHECK_FAILS(one, bind(one, 0, SHORT), TM_EFAULT);
    CHECK_FAILS(other, bind(other, SA(alien), SHORT), TM_EINVAL);
    alien.sin_port = taken.sin_port;
    CHECK_FAILS(other, bind(other, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    CHECK_FAILS(other, bind(other, SA(foreign), sizeof foreign), TM_EADDRNOTAVAIL);
    CHECK_FAILS(other, bind(other, SA(taken), sizeof taken), TM_EADDRINUSE);
    CHECK_FAILS(one, bind(one, SA(taken), sizeof taken), TM_EINVAL);
    CHECK_EQ(tfClose(one) | tfClose(other), 0);
}

static void connecting(void)
{
    int listener = listener_at(80), stream = connected_to(7), idle = stream_socket(), udp = udp_socket(0);
    section("connect: TM_EBADF, TM_EFAULT, TM_EINVAL, TM_EAFNOSUPPORT");
    CHECK_BAD(connect(BAD, 0, 0));
    CHECK_FAILS(listener, connect(listener, 0, SHORT), TM_EFAULT);
    CHECK_FAILS(listener, connect(listener, SA(alien), SHORT), TM_EINVAL);
    CHECK_FAILS(listener, connect(listener, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    section("   then what the socket is, before where it shall go: TM_EOPNOTSUPP, TM_EISCONN, TM_EADDRNOTAVAIL, TM_EHOSTUNREACH");
    CHECK_FAILS(listener, connect(listener, SA(portless), sizeof portless), TM_EOPNOTSUPP);
    CHECK_FAILS(stream, connect(stream, SA(portless), sizeof portless), TM_EISCONN);
    nowhere.sin_port = 0;
    CHECK_FAILS(idle, connect(idle, SA(nowhere), sizeof nowhere), TM_EADDRNOTAVAIL);
    CHECK_FAILS(udp, connect(udp, SA(nowhere), sizeof nowhere), TM_EADDRNOTAVAIL);
    nowhere.sin_port = htons(9);
    CHECK_FAILS(idle, connect(idle, SA(nowhere), sizeof nowhere), TM_EHOSTUNREACH);
    CHECK_FAILS(udp, connect(udp, SA(nowhere), sizeof nowhere), TM_EHOSTUNREACH);
    CHECK_EQ(tfClose(listener) | tfClose(idle) | tfClose(udp), 0);
    close_cleanly(stream);
}

static void listening(void)
{
    int udp = udp_socket(0), stream = connected_to(7), listener = listener_at(80), length = sizeof sink;
    struct sockaddr_in from;
    section("listen: TM_EBADF, TM_EOPNOTSUPP; accept: TM_EBADF, TM_EOPNOTSUPP, TM_EFAULT, TM_EINVAL, TM_EWOULDBLOCK");
    CHECK_BAD(listen(BAD, -1));
    CHECK_FAILS(udp, listen(udp, -1), TM_EOPNOTSUPP);
    CHECK_FAILS(stream, listen(stream, 1), TM_EINVAL);
    CHECK_BAD(accept(BAD, (struct sockaddr *)&from, 0));
    CHECK_FAILS(udp, accept(udp, (struct sockaddr *)&from, 0), TM_EOPNOTSUPP);
    CHECK_FAILS(stream, accept(stream, (struct sockaddr *)&from, 0), TM_EFAULT);
    CHECK_EQ(tfBlockingState(stream, TM_BLOCKING_OFF) | tfBlockingState(listener, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(listener, accept(listener, (struct sockaddr *)&from, 0), TM_EFAULT);
    CHECK_FAILS(stream, accept(stream, (struct sockaddr *)&from, &length), TM_EINVAL);
    CHECK_FAILS(listener, accept(listener, (struct sockaddr *)&from, &length), TM_EWOULDBLOCK);
    CHECK_EQ(tfClose(udp) | tfClose(listener), 0);
    close_cleanly(stream);
}

static void sending_copies(void)
{
    int udp = udp_socket(0), connected = udp_socket(0), shut = udp_socket(0), refused, stream = connected_to(7);
    int reset, idle = stream_socket(), small = 10;
    struct iovec unsound[2] = {{0, 1}, {0, 0}};
    section("send, sendto, on datagrams: TM_EBADF, TM_EINVAL, TM_EFAULT, TM_EOPNOTSUPP, TM_EINVAL, TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL");
    CHECK_BAD(send(BAD, 0, -1, -1));
    CHECK_FAILS(udp, send(udp, 0, -1, MSG_OOB), TM_EINVAL);
    CHECK_FAILS(udp, tfWritev(udp, unsound, 1025), TM_EINVAL);
    CHECK_FAILS(udp, send(udp, 0, 1, MSG_OOB | MSG_PEEK), TM_EFAULT);
    CHECK_FAILS(udp, tfWritev(udp, unsound, 2), TM_EFAULT);
    CHECK_FAILS(udp, sendto(udp, text, 1, MSG_OOB | MSG_PEEK, SA(alien), SHORT), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, sendto(udp, text, 1, MSG_PEEK, SA(alien), sizeof alien), TM_EINVAL);
    CHECK_FAILS(udp, sendto(udp, text, 1, 0, SA(alien), SHORT), TM_EINVAL);
    alien.sin_port = 0;
    CHECK_FAILS(udp, sendto(udp, text, 1, 0, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    CHECK_EQ(connect_to(connected, "10.0.0.2", 9), 0);
    CHECK_FAILS(connected, sendto(connected, text, 1, 0, SA(portless), sizeof portless), TM_EADDRNOTAVAIL);
    section("   TM_EISCONN, TM_ENOTCONN, TM_ECONNREFUSED, TM_EHOSTUNREACH, TM_EMSGSIZE; TM_ESHUTDOWN before them");
    CHECK_FAILS(connected, sendto(connected, text, 1, 0, SA(nowhere), sizeof nowhere), TM_EISCONN);
    CHECK_EQ(connect_to(shut, "10.0.0.2", 60001), 0);
    CHECK_EQ(send(shut, text, 1, 0), 1);
    pump();
    CHECK_EQ(shutdown(shut, SHUT_WR), 0);
    CHECK_FAILS(shut, send(shut, text, 1, 0), TM_ESHUTDOWN);
    CHECK_EQ(set_option(udp, SOL_SOCKET, SO_SNDBUF, small), 0);
    CHECK_FAILS(udp, send(udp, text, 19, MSG_DONTWAIT), TM_ENOTCONN);
    refused = refused_socket();
    CHECK_EQ(set_option(refused, SOL_SOCKET, SO_SNDBUF, small), 0);
    CHECK_FAILS(refused, send(refused, text, 19, MSG_DONTWAIT), TM_ECONNREFUSED);
    CHECK_FAILS(refused, send(refused, text, 19, MSG_DONTWAIT), TM_EMSGSIZE);
    CHECK_FAILS(udp, sendto(udp, text, 19, MSG_DONTWAIT, SA(nowhere), sizeof nowhere), TM_EHOSTUNREACH);
    CHECK_EQ(tfClose(udp) | tfClose(connected) | tfClose(shut) | tfClose(refused), 0);

    section("   on streams: TM_EINVAL, TM_EFAULT, TM_EINVAL, TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL, TM_EISCONN");
    CHECK_FAILS(stream, send(stream, 0, -1, MSG_PEEK), TM_EINVAL);
    CHECK_FAILS(stream, send(stream, 0, 1, MSG_PEEK), TM_EFAULT);
    CHECK_FAILS(stream, sendto(stream, text, 1, MSG_PEEK, SA(alien), sizeof alien), TM_EINVAL);
    CHECK_FAILS(stream, sendto(stream, text, 1, 0, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    CHECK_FAILS(stream, sendto(stream, text, 1, 0, SA(portless), sizeof portless), TM_EADDRNOTAVAIL);
    CHECK_EQ(shutdown(stream, SHUT_WR), 0);
    CHECK_FAILS(stream, sendto(stream, text, 1, 0, SA(sink), sizeof sink), TM_EISCONN);
    CHECK_FAILS(idle, sendto(idle, text, 1, 0, SA(sink), sizeof sink), TM_ENOTCONN);
    section("   TM_ESHUTDOWN before TM_ECONNRESET, and that before TM_ENOTCONN");
    CHECK_FAILS(stream, send(stream, text, 1, 0), TM_ESHUTDOWN);
    reset = reset_stream();
    CHECK_FAILS(reset, send(reset, text, 1, 0), TM_ECONNRESET);
    CHECK_FAILS(reset, send(reset, text, 1, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(reset) | tfClose(idle), 0);
    close_cleanly(stream);
}

static void receiving(void)
{
    int udp = udp_socket(0), refused = refused_socket(), stream = connected_to(7), reset, length = sizeof sink;
    char byte, *data;
    ttUserMessage h;
    struct sockaddr *from = (struct sockaddr *)&sink;
    struct sockaddr_in kept = sink;
    section("recv, recvfrom: TM_EBADF, TM_EINVAL, TM_EFAULT, TM_EOPNOTSUPP, TM_EINVAL, TM_ECONNREFUSED, TM_EWOULDBLOCK");
    CHECK_BAD(recv(BAD, 0, -1, -1));
    CHECK_FAILS(udp, recv(udp, 0, -1, MSG_OOB), TM_EINVAL);
    CHECK_FAILS(udp, recv(udp, 0, 1, MSG_OOB), TM_EFAULT);
    CHECK_FAILS(udp, recvfrom(udp, &byte, 1, MSG_OOB, from, 0), TM_EFAULT);
    CHECK_FAILS(udp, recv(udp, &byte, 1, MSG_OOB | MSG_DONTROUTE), TM_EOPNOTSUPP);
    CHECK_FAILS(refused, recv(refused, &byte, 1, MSG_DONTROUTE), TM_EINVAL);
    CHECK_FAILS(refused, recv(refused, &byte, 1, MSG_DONTWAIT), TM_ECONNREFUSED);
    CHECK_FAILS(refused, recv(refused, &byte, 1, MSG_DONTWAIT), TM_EWOULDBLOCK);
    reset = reset_stream();
    CHECK_FAILS(reset, recv(reset, &byte, 1, MSG_DONTROUTE), TM_EINVAL);
    CHECK_FAILS(reset, recv(reset, &byte, 1, MSG_DONTWAIT), TM_ECONNRESET);
    CHECK_FAILS(reset, recv(reset, &byte, 1, MSG_DONTWAIT), TM_ENOTCONN);
    CHECK_EQ(tfClose(reset) | tfClose(refused), 0);

    section("tfZeroCopyRecv, tfZeroCopyRecvFrom: TM_EBADF, TM_EFAULT, TM_EINVAL, TM_ECONNREFUSED, TM_EWOULDBLOCK");
    refused = refused_socket();
    CHECK_BAD(tfZeroCopyRecv(BAD, 0, 0, -1, -1));
    CHECK_FAILS(udp, tfZeroCopyRecv(udp, 0, &data, 0, -1), TM_EFAULT);
    CHECK_FAILS(udp, tfZeroCopyRecv(udp, &h, 0, 0, -1), TM_EFAULT);
    CHECK_FAILS(udp, tfZeroCopyRecvFrom(udp, &h, &data, 0, -1, from, 0), TM_EFAULT);
    CHECK_FAILS(refused, tfZeroCopyRecvFrom(refused, &h, &data, 0, MSG_DONTWAIT, from, &length), TM_EINVAL);
    CHECK_FAILS(refused, tfZeroCopyRecv(refused, &h, &data, 10, MSG_OOB), TM_EINVAL);
    CHECK_FAILS(refused, tfZeroCopyRecv(refused, &h, &data, 10, MSG_DONTWAIT), TM_ECONNREFUSED);
    CHECK_FAILS(refused, tfZeroCopyRecv(refused, &h, &data, 10, MSG_DONTWAIT), TM_EWOULDBLOCK);
    reset = reset_stream();
    CHECK_FAILS(reset, tfZeroCopyRecv(reset, &h, &data, 10, MSG_SCATTERED), TM_EINVAL);
    CHECK_FAILS(reset, tfZeroCopyRecv(reset, &h, &data, 10, 0), TM_ECONNRESET);
    CHECK_FAILS(reset, tfZeroCopyRecv(reset, &h, &data, 10, 0), TM_ENOTCONN);
    CHECK(memcmp(&sink, &kept, sizeof sink) == 0);
    CHECK_EQ(tfClose(reset) | tfClose(refused) | tfClose(udp), 0);
    close_cleanly(stream);
}

/* The stack frees the buffer, whichever error it is. */
#define CHECK_STREAM_SEND(sd, call, error)           \
    do {                                             \
        h = buffer(100);                             \
        CHECK_FAILS(sd, call, error);                \
        CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);\
    } while (0)

static void sending_buffers_on_streams(void)
{
    int stream = connected_to(7), idle = stream_socket(), reset = reset_stream(), small = 10;
    ttUserMessage h;
    section("tfZeroCopySend(To) on streams: TM_EFAULT, TM_EINVAL, then the address: TM_EINVAL, TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL, TM_EISCONN");
    CHECK_FAILS(stream, tfZeroCopySend(stream, 0, -1, MSG_SCATTERED), TM_EFAULT);
    CHECK_STREAM_SEND(stream, tfZeroCopySendTo(stream, h, 101, 0, SA(alien), sizeof alien), TM_EINVAL);
    CHECK_STREAM_SEND(stream, tfZeroCopySendTo(stream, h, 10, MSG_SCATTERED, SA(alien), sizeof alien), TM_EINVAL);
    CHECK_STREAM_SEND(stream, tfZeroCopySendTo(stream, h, 10, 0, SA(alien), SHORT), TM_EINVAL);
    CHECK_STREAM_SEND(stream, tfZeroCopySendTo(stream, h, 10, 0, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    CHECK_STREAM_SEND(stream, tfZeroCopySendTo(stream, h, 10, 0, SA(portless), sizeof portless), TM_EADDRNOTAVAIL);
    section("   TM_EISCONN before TM_ESHUTDOWN before TM_EMSGSIZE; the end of the connection before TM_EMSGSIZE");
    CHECK_EQ(set_option(stream, SOL_SOCKET, SO_SNDBUF, small), 0);
    CHECK_EQ(shutdown(stream, SHUT_WR), 0);
    CHECK_STREAM_SEND(stream, tfZeroCopySendTo(stream, h, 100, 0, SA(sink), sizeof sink), TM_EISCONN);
    CHECK_STREAM_SEND(stream, tfZeroCopySend(stream, h, 100, MSG_DONTWAIT), TM_ESHUTDOWN);
    CHECK_EQ(set_option(reset, SOL_SOCKET, SO_SNDBUF, small), 0);
    CHECK_STREAM_SEND(reset, tfZeroCopySend(reset, h, 100, MSG_DONTWAIT), TM_ECONNRESET);
    CHECK_STREAM_SEND(reset, tfZeroCopySend(reset, h, 100, MSG_DONTWAIT), TM_ENOTCONN);
    CHECK_EQ(set_option(idle, SOL_SOCKET, SO_SNDBUF, small), 0);
    CHECK_STREAM_SEND(idle, tfZeroCopySend(idle, h, 100, MSG_DONTWAIT), TM_ENOTCONN);
    CHECK_EQ(tfClose(reset) | tfClose(idle), 0);
    close_cleanly(stream);
}

static int frees;

static void free_user(char *memory)
{
    CHECK(memory == text);
    frees++;
}

static int send_user(int sd, const char *data, int length, int flags, const struct sockaddr *to, int bytes)
{
    return tfZeroCopyUserBufferSendTo(sd, (char *)text, (char *)data, length, free_user, flags, to, bytes);
}

static int send_blocks(int sd, ttUserBlock *blocks, int count, int flags, const struct sockaddr *to, int bytes)
{
    return tfSocketScatteredSendTo(sd, blocks, count, free_user, flags, to, bytes);
}

static void sending_own_memory(void)
{
    int udp = udp_socket(0), stream = connected_to(7), shut = udp_socket(0), refused = refused_socket();
    ttUserBlock sound = {(char *)text, (char *)text, 5}, null = {(char *)text, 0, 5}, negative = {(char *)text, (char *)text, -5};
    section("tfZeroCopyUserBufferSendTo: TM_EFAULT, TM_EBADF, TM_EINVAL, TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL, TM_EISCONN; freed each time");
    frees = 0;
    CHECK_EQ(send_user(BAD, 0, -1, -1, 0, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    CHECK_BAD(send_user(BAD, text, -1, -1, 0, 0));
    CHECK_FAILS(udp, send_user(udp, text, 0, 0, SA(alien), sizeof alien), TM_EINVAL);
    CHECK_FAILS(udp, send_user(udp, text, 5, MSG_OOB, SA(alien), sizeof alien), TM_EINVAL);
    CHECK_FAILS(udp, send_user(udp, text, 5, 0, SA(alien), SHORT), TM_EINVAL);
    CHECK_FAILS(stream, send_user(stream, text, 5, 0, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    CHECK_FAILS(stream, send_user(stream, text, 5, 0, SA(portless), sizeof portless), TM_EADDRNOTAVAIL);
    CHECK_FAILS(stream, send_user(stream, text, 5, 0, SA(sink), sizeof sink), TM_EISCONN);
    CHECK_EQ(frees, 8);

    section("tfSocketScatteredSendTo: TM_EFAULT and TM_EINVAL, nothing freed; TM_EFAULT, TM_EBADF, TM_EINVAL, TM_EOPNOTSUPP");
    CHECK_EQ(send_blocks(BAD, 0, -1, -1, 0, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    CHECK_EQ(send_blocks(BAD, &null, 0, -1, 0, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EINVAL);
    CHECK_EQ(frees, 8);
    CHECK_EQ(send_blocks(BAD, &null, 1, -1, 0, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    CHECK_BAD(send_blocks(BAD, &negative, 1, -1, 0, 0));
    CHECK_FAILS(stream, send_blocks(stream, &negative, 1, -1, 0, 0), TM_EINVAL);
    CHECK_FAILS(stream, send_blocks(stream, &sound, 1, MSG_DONTWAIT, SA(alien), sizeof alien), TM_EOPNOTSUPP);
    section("   TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL, TM_ESHUTDOWN, TM_EISCONN, TM_ECONNREFUSED");
    CHECK_EQ(connect_to(shut, "10.0.0.2", 9), 0);
    CHECK_EQ(shutdown(shut, SHUT_WR), 0);
    CHECK_FAILS(shut, send_blocks(shut, &sound, 1, 0, SA(alien), sizeof alien), TM_EAFNOSUPPORT);
    CHECK_FAILS(shut, send_blocks(shut, &sound, 1, 0, SA(portless), sizeof portless), TM_EADDRNOTAVAIL);
    CHECK_FAILS(shut, send_blocks(shut, &sound, 1, 0, SA(sink), sizeof sink), TM_ESHUTDOWN);
    CHECK_FAILS(refused, send_blocks(refused, &sound, 1, 0, SA(sink), sizeof sink), TM_EISCONN);
    CHECK_FAILS(refused, send_blocks(refused, &sound, 1, 0, 0, 0), TM_ECONNREFUSED);
    CHECK_EQ(frees, 17);
    CHECK_EQ(tfClose(udp) | tfClose(shut) | tfClose(refused), 0);
    close_cleanly(stream);
}

int main(void)
{
    ttUserInterface i = wire_up();
    sink = address_of("10.0.0.2", 9);
    portless = address_of("10.0.0.2", 0);
    nowhere = address_of("192.0.2.1", 9);
    alien = sink;
    alien.sin_family = AF_INET6;
    binding();
    connecting();
    listening();
    sending_copies();
    receiving();
    sending_buffers_on_streams();
    sending_own_memory();
    check_all_free(i);
    return finish("order");
}
