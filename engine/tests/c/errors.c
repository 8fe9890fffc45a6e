/* Errors that only a shortage or the clock brings about: no descriptors, no frames, no answer; and who owns a buffer after them. A manual clock. */
#include "peer.h"

static const char text[] = "to be, or not to be";
static uint64_t now;

static void pass(uint64_t seconds)
{
    now = pass_ns(now, seconds * 1000000000);
}

static int frees;

static void free_user(char *memory)
{
    CHECK(memory == text);
    frees++;
}

/* A stream that has just timed out, which nobody was told yet. */
static int timed_out_stream(void)
{
    int sd = connected_to(9);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_MAXRT, 20), 0);
    peer_last()->acks = 0;
    CHECK_EQ(send(sd, text, 5, MSG_DONTWAIT), 5);
    pass(100);
    return sd;
}

static void time_outs(void)
{
    int sd;
    char *data, byte;
    ttUserMessage h;
    section("a time-out is told once, by whatever is called: TM_ETIMEDOUT, then TM_ENOTCONN; a buffer is freed both times");
    sd = timed_out_stream();
    h = buffer(10);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 10, 0), TM_ETIMEDOUT);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    h = buffer(10);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 10, 0), TM_ENOTCONN);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_EQ(tfClose(sd), 0);
    sd = timed_out_stream();
    frees = 0;
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, (char *)text, (char *)text, 5, free_user, 0), TM_ETIMEDOUT);
    CHECK_FAILS(sd, tfZeroCopyUserBufferSend(sd, (char *)text, (char *)text, 5, free_user, 0), TM_ENOTCONN);
    CHECK_EQ(frees, 2);
    CHECK_EQ(tfClose(sd), 0);
    sd = timed_out_stream();
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_ETIMEDOUT);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd), 0);
    sd = timed_out_stream();
    CHECK_FAILS(sd, send(sd, text, 5, 0), TM_ETIMEDOUT);
    CHECK_FAILS(sd, recv(sd, &byte, 1, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd), 0);
    sd = timed_out_stream();
    CHECK_FAILS(sd, shutdown(sd, SHUT_WR), TM_ETIMEDOUT);
    CHECK_FAILS(sd, shutdown(sd, SHUT_WR), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(stats().framesFree, stats().framesTotal);
}

static void unreachable(void)
{
    int sd = udp_socket(0), other = udp_socket(0);
    char *data, byte;
    ttUserMessage h;
    section("a host that does not answer, a port that nobody has: told once to a receiver of datagrams");
    CHECK_EQ(connect_to(sd, "10.0.0.77", 9), 0);
    CHECK_EQ(connect_to(other, "10.0.0.77", 10), 0);
    CHECK_EQ(send(sd, text, 1, 0), 1);
    CHECK_EQ(send(other, text, 1, 0), 1);
    pass(5);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_EHOSTUNREACH);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_EWOULDBLOCK);
    CHECK_FAILS(other, recv(other, &byte, 1, 0), TM_EHOSTUNREACH);
    CHECK_FAILS(other, recv(other, &byte, 1, 0), TM_EWOULDBLOCK);
    section("and to a sender, whose buffer is freed; as is one for a broadcast without leave");
    h = buffer(10);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 10, 0), TM_EHOSTUNREACH);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_EQ(tfClose(sd) | tfClose(other), 0);
    sd = udp_socket(0);
    CHECK_EQ(connect_to(sd, "10.0.0.255", 9), 0);
    h = buffer(10);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 10, 0), TM_EACCES);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_EQ(tfClose(sd), 0);
    sd = udp_socket(0);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 60001), 0);
    CHECK_EQ(send(sd, text, 1, 0), 1);
    pump();
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_ECONNREFUSED);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_EWOULDBLOCK);
    section("a stream to such a host: told as TM_EHOSTUNREACH or TM_ETIMEDOUT, once");
    other = stream_socket();
    CHECK_EQ(set_option(other, IPPROTO_TCP, TCP_MAXRT, 10), 0);
    CHECK_FAILS(other, connect_to(other, "10.0.0.78", 9), TM_EINPROGRESS);
    pass(60);
    CHECK_EQ(connect_to(other, "10.0.0.78", 9), TM_SOCKET_ERROR);
    CHECK(tfGetSocketError(other) == TM_EHOSTUNREACH || tfGetSocketError(other) == TM_ETIMEDOUT);
    CHECK_FAILS(other, send(other, text, 1, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd) | tfClose(other), 0);
}

static void ports(ttUserInterface i)
{
    int one = stream_socket(), two = stream_socket();
    struct sockaddr_in local = address_of("0.0.0.0", 7100);
    uint32_t mask = inet_addr("255.255.255.0");
    section("two streams at one port: one listens, and one has the connection to a peer");
    CHECK_EQ(set_option(one, SOL_SOCKET, SO_REUSEADDR, 1) | set_option(two, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    CHECK_EQ(bind(one, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_EQ(bind(two, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_EQ(listen(one, 1), 0);
    CHECK_FAILS(two, listen(two, 1), TM_EADDRINUSE);
    CHECK_EQ(tfClose(one) | tfClose(two), 0);
    one = stream_socket();
    two = stream_socket();
    CHECK_EQ(set_option(one, SOL_SOCKET, SO_REUSEADDR, 1) | set_option(two, SOL_SOCKET, SO_REUSEADDR, 1), 0);
    CHECK_EQ(bind(one, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_EQ(bind(two, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_EQ(connect_to(one, "10.0.0.2", 9), 0);
    CHECK_FAILS(two, connect_to(two, "10.0.0.2", 9), TM_EADDRINUSE);
    CHECK_EQ(connect_to(two, "10.0.0.2", 10), 0);
    close_cleanly(one);
    close_cleanly(two);
    section("bound to an address that the interface has no more");
    one = stream_socket();
    two = stream_socket();
    local = address_of("10.0.0.1", 7101);
    CHECK_EQ(bind(one, (struct sockaddr *)&local, sizeof local), 0);
    local.sin_port = htons(7102);
    CHECK_EQ(bind(two, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.3"), mask, 0, 1), TM_ENOERROR);
    CHECK_FAILS(one, listen(one, 1), TM_EADDRNOTAVAIL);
    CHECK_FAILS(two, connect_to(two, "10.0.0.2", 9), TM_EADDRNOTAVAIL);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), mask, 0, 1), TM_ENOERROR);
    CHECK_EQ(listen(one, 1), 0);
    CHECK_EQ(tfClose(one) | tfClose(two), 0);
}

static void no_descriptors(void)
{
    static int all[70000];
    int count = 0, listener = listener_at(7200), sd;
    section("as many sockets as there may be: TM_EMFILE; a connection waits until there is a descriptor for it");
    peer_connect(7200);
    while (count < 70000 && (all[count] = socket(AF_INET, count % 2 ? SOCK_DGRAM : SOCK_STREAM, 0)) > 0)
        count++;
    CHECK(count > 60000 && count < 70000);
    CHECK_EQ(tfGetLastError(), TM_EMFILE);
    CHECK_FAILS(listener, accept(listener, 0, 0), TM_EMFILE);
    CHECK_EQ(tfClose(all[--count]), 0);
    sd = accept(listener, 0, 0);
    CHECK(sd > 0);
    CHECK(peer_last()->established && !peer_last()->reset);
    CHECK_EQ(tfClose(sd), 0);
    peer_finish(peer_last());
    pump();
    while (count > 0)
        CHECK_EQ(tfClose(all[--count]), 0);
    CHECK_EQ(tfClose(listener), 0);
}

static ttUserMessage taken[8192];
static int taken_count;

/* Takes every frame that a sender may have, and those for larger buffers. */
static void take_all(void)
{
    char *data;
    static const int sizes[] = {30000, 5000, 1};
    int at;
    for (at = 0; at < 3; at++)
        while (taken_count < 8192 && (taken[taken_count] = tfGetZeroCopyBuffer(sizes[at], &data)) != 0)
            taken_count++;
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
}

static void give_back(void)
{
    while (taken_count > 0)
        CHECK_EQ(tfFreeZeroCopyBuffer(taken[--taken_count]), TM_ENOERROR);
}

static int calls;

static void count_call(int sd, int events)
{
    CHECK(sd > 0 && events == TM_CB_RECV);
    calls++;
}

static void no_frames(void)
{
    static char big[5000];
    int tcp = connected_to(7), udp = udp_socket(7300), shut = connected_to(9), fresh = udp_socket(0);
    struct sockaddr_in far_away = address_of("192.0.2.1", 9);
    struct iovec part = {(char *)text, 5};
    ttUserBlock block = {(char *)text, (char *)text, 5};
    char *data, back[64];
    ttUserMessage h;
    section("no frame is free: TM_ENOBUFS from what copies, behind every error that stands before it");
    CHECK_EQ(connect_to(udp, "10.0.0.2", 9), 0);
    CHECK_EQ(send(udp, text, 1, 0), 1);
    CHECK_EQ(shutdown(shut, SHUT_WR), 0);
    pump();
    take_all();
    CHECK_FAILS(tcp, send(tcp, text, 5, MSG_DONTWAIT), TM_ENOBUFS);
    CHECK_FAILS(tcp, tfWrite(tcp, text, 0 + 5), TM_EWOULDBLOCK); /* it blocks: frames may come */
    CHECK_EQ(tfBlockingState(tcp, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(tcp, tfWrite(tcp, text, 5), TM_ENOBUFS);
    CHECK_FAILS(tcp, writev(tcp, &part, 1), TM_ENOBUFS);
    CHECK_FAILS(tcp, send(tcp, text, 1, MSG_OOB), TM_ENOBUFS);
    frees = 0;
    CHECK_FAILS(tcp, tfZeroCopyUserBufferSend(tcp, (char *)text, (char *)text, 5, free_user, 0), TM_ENOBUFS);
    CHECK_FAILS(shut, tfZeroCopyUserBufferSend(shut, (char *)text, (char *)text, 5, free_user, 0), TM_ESHUTDOWN);
    CHECK_FAILS(udp, tfZeroCopyUserBufferSend(udp, (char *)text, (char *)text, 5, free_user, 0), TM_ENOBUFS);
    CHECK_FAILS(udp, tfZeroCopyUserBufferSend(udp, (char *)text, (char *)text, 5, free_user, MSG_OOB), TM_EINVAL);
    CHECK_FAILS(fresh, tfZeroCopyUserBufferSend(fresh, (char *)text, (char *)text, 5, free_user, 0), TM_ENOTCONN);
    CHECK_FAILS(fresh, tfZeroCopyUserBufferSendTo(fresh, (char *)text, (char *)text, 5, free_user, 0, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    CHECK_EQ(frees, 6);
    CHECK_FAILS(udp, send(udp, text, 5, 0), TM_ENOBUFS);
    CHECK_FAILS(udp, tfWrite(udp, text, 5), TM_ENOBUFS);
    CHECK_FAILS(fresh, sendto(fresh, text, 5, 0, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    CHECK_FAILS(udp, tfSocketScatteredSendTo(udp, &block, 1, free_user, 0, 0, 0), TM_ENOBUFS);
    CHECK_EQ(frees, 7);
    section("a call that finds no frame calls nobody back: it may itself be where a callback would come in again");
    calls = 0;
    CHECK_EQ(tfRegisterSocketCB(udp, count_call, TM_CB_RECV), 0);
    pump();
    wire_udp(9, 7300, text, 5, 1480);
    CHECK(tfGetZeroCopyBuffer(1, &data) == 0);
    CHECK_FAILS(udp, send(udp, text, 5, 0), TM_ENOBUFS);
    CHECK_EQ(calls, 0);
    pump();
    CHECK_EQ(calls, 1);
    CHECK_EQ(tfRegisterSocketCB(udp, 0, 0), 0);
    CHECK_EQ(recv(udp, back, sizeof back, 0), 5);
    section("receiving goes on; what would have to be copied waits for a frame");
    wire_udp(9, 7300, text, sizeof text, 1480);
    pump();
    CHECK_FAILS(udp, tfZeroCopyRecv(udp, &h, &data, 100, MSG_PEEK), TM_ENOBUFS);
    CHECK_EQ(tfZeroCopyRecv(udp, &h, &data, 100, 0), sizeof text);
    CHECK_EQ(tfZeroCopySend(udp, h, sizeof text, 0), sizeof text);
    wire_udp(9, 7300, big, sizeof big, 1480);
    pump();
    CHECK_FAILS(udp, tfZeroCopyRecv(udp, &h, &data, sizeof big, 0), TM_ENOBUFS);
    CHECK_EQ(tfZeroCopyRecv(udp, &h, &data, sizeof big, MSG_SCATTERED), sizeof big);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    peer_send(&peers[(peer_count - 2) % PEER_CONNECTIONS], text, 10);
    pump();
    CHECK_FAILS(tcp, tfZeroCopyRecv(tcp, &h, &data, 100, MSG_PEEK), TM_ENOBUFS);
    CHECK_FAILS(tcp, tfZeroCopyRecv(tcp, &h, &data, 3, 0), TM_ENOBUFS);
    CHECK_EQ(recv(tcp, back, 4, 0), 4);
    CHECK_EQ(tfZeroCopyRecv(tcp, &h, &data, 100, 0), 6);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    section("a frame is enough, and all goes on");
    CHECK_EQ(tfZeroCopySend(tcp, taken[--taken_count], 1, 0), 1);
    give_back();
    CHECK_EQ(tfZeroCopyUserBufferSend(udp, (char *)text, (char *)text, 5, free_user, 0), 5);
    CHECK_EQ(frees, 8);
    pump();
    CHECK_EQ(recv(tcp, back, 4, 0), 1);
    close_cleanly(tcp);
    peer_finish(peer_last());
    pump();
    CHECK_EQ(tfClose(udp) | tfClose(shut) | tfClose(fresh), 0);
    pump();
}

static void receive_buffers(void)
{
    static char bytes[1000];
    int udp = udp_socket(7400), tcp = connected_to(9), count, size = 1;
    char back[64];
    peer_connection *peer = peer_last();
    section("SO_RCVBUF made smaller: what has come stays, nothing more comes than there is room for");
    for (count = 0; count < 3; count++)
        wire_udp(9, 7400, text, sizeof text, 1480);
    pump();
    CHECK_EQ(setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    wire_udp(9, 7400, text, sizeof text, 1480);
    pump();
    for (count = 0; count < 3; count++)
        CHECK_EQ(recv(udp, back, sizeof back, 0), sizeof text);
    CHECK_FAILS(udp, recv(udp, back, sizeof back, 0), TM_EWOULDBLOCK);
    CHECK_EQ(tfClose(udp), 0);
    section("of a stream: no room that the peer was told of is taken back, and none is told beyond it");
    CHECK_EQ(send(tcp, text, 1, 0), 1);
    pump();
    CHECK(peer->offered > 60000);
    CHECK_EQ(set_option(tcp, SOL_SOCKET, SO_RCVBUF, 8192), 0);
    CHECK_EQ(get_option(tcp, SOL_SOCKET, SO_RCVBUF), 8192);
    for (count = 0; count < 60; count++)
        peer_send(peer, bytes, sizeof bytes);
    pump();
    CHECK_EQ(tfGetWaitingBytes(tcp), 60000);
    for (count = 0; count < 60; count++)
        CHECK_EQ(recv(tcp, bytes, sizeof bytes, 0), sizeof bytes);
    for (count = 0; count < 80; count++) {
        peer_send(peer, bytes, sizeof bytes);
        CHECK_EQ(recv(tcp, bytes, sizeof bytes, 0), sizeof bytes);
    }
    pass(1);
    CHECK(peer->offered <= 8192 && peer->offered >= 4000);
    close_cleanly(tcp);
}

int main(void)
{
    ttUserInterface i;
    CHECK_EQ(tfUseManualClock(), TM_ENOERROR);
    i = wire_up();
    time_outs();
    unreachable();
    ports(i);
    no_descriptors();
    no_frames();
    receive_buffers();
    pass(300);
    check_all_free(i);
    return finish("errors");
}
