/* Streams: connecting, accepting, sending and receiving both ways, half-close, reset. */
#include "peer.h"

static const char text[] = "to be, or not to be";

static void connecting(void)
{
    struct sockaddr_in name;
    int sd, length = sizeof name;
    char back[64];
    section("connect, echo, names, close");
    sd = connected_to(7);
    CHECK_EQ(getpeername(sd, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(ntohs(name.sin_port), 7);
    CHECK_EQ(name.sin_addr.s_addr, inet_addr("10.0.0.2"));
    CHECK_EQ(length, sizeof name);
    CHECK_EQ(getsockname(sd, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(name.sin_addr.s_addr, inet_addr("10.0.0.1"));
    CHECK(ntohs(name.sin_port) >= 49152);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK_EQ(send(sd, text, sizeof text, 0), sizeof text);
    CHECK_EQ(recv(sd, back, sizeof back, 0), sizeof text);
    CHECK_EQ(memcmp(back, text, sizeof text), 0);
    CHECK_EQ(tfWrite(sd, text, 5), 5);
    CHECK_EQ(tfRead(sd, back, 3), 3);
    CHECK_EQ(tfRead(sd, back + 3, 60), 2);
    CHECK_EQ(memcmp(back, text, 5), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 7), TM_EISCONN);
    CHECK_FAILS(sd, listen(sd, 1), TM_EINVAL);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_FAILS(sd, tfClose(sd), TM_EALREADY);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ESHUTDOWN);
    pump();
    CHECK(peer_last()->fin);
    CHECK_EQ(tfClose(sd), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
}

static void not_blocking(void)
{
    int sd = stream_socket();
    char back[8];
    section("non-blocking connect: in progress, already, is connected");
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, recv(sd, back, 1, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 7), TM_EINPROGRESS);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 7), TM_EALREADY);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ENOTCONN);
    pump();
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 7), TM_EISCONN);
    CHECK_FAILS(sd, recv(sd, back, 1, 0), TM_EWOULDBLOCK);
    CHECK_EQ(recv(sd, back, 0, 0), 0);
    close_cleanly(sd);
    section("refused: told once, by connect, SO_ERROR, or what is called next; then connecting is possible again");
    sd = stream_socket();
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_REFUSES), TM_ECONNREFUSED);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ENOTCONN);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_ERROR), 0);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_REFUSES), TM_EINPROGRESS);
    pump();
    CHECK_EQ(tfGetSocketError(sd), TM_ECONNREFUSED);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_ERROR), TM_ECONNREFUSED);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_ERROR), 0);
    CHECK_FAILS(sd, recv(sd, back, 1, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 7), TM_EINPROGRESS);
    pump();
    CHECK_EQ(send(sd, text, 4, 0), 4);
    pump();
    CHECK_EQ(recv(sd, back, sizeof back, 0), 4);
    close_cleanly(sd);
    section("errors of connect");
    sd = stream_socket();
    CHECK_FAILS(sd, connect_to(sd, "192.0.2.1", 7), TM_EHOSTUNREACH);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 0), TM_EADDRNOTAVAIL);
    CHECK_FAILS(sd, connect(sd, 0, 16), TM_EFAULT);
    CHECK_FAILS(sd, shutdown(sd, SHUT_WR), TM_ENOTCONN);
    CHECK_FAILS(sd, accept(sd, 0, 0), TM_EINVAL);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
}

static void accepting(void)
{
    struct sockaddr_in name;
    int listener, one, two, length = sizeof name;
    peer_connection *peer, *other;
    char back[64];
    section("bind, listen, accept; options and blocking state are inherited");
    listener = listener_at(80);
    CHECK_EQ(get_option(listener, SOL_SOCKET, SO_ACCEPTCONN), 1);
    CHECK_EQ(set_option(listener, IPPROTO_TCP, TCP_NODELAY, 1), 0);
    CHECK_FAILS(listener, accept(listener, (struct sockaddr *)&name, 0), TM_EFAULT);
    CHECK_FAILS(listener, connect_to(listener, "10.0.0.2", 7), TM_EOPNOTSUPP);
    CHECK_FAILS(listener, recv(listener, back, 1, 0), TM_ENOTCONN);
    CHECK_EQ(tfBlockingState(listener, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(listener, accept(listener, 0, 0), TM_EWOULDBLOCK);
    peer = peer_connect(80);
    CHECK(peer->established);
    other = peer_connect(80);
    peer_send(peer, text, 5);
    pump();
    one = accept(listener, (struct sockaddr *)&name, &length);
    CHECK(one > 0);
    CHECK_EQ(ntohs(name.sin_port), peer->port);
    CHECK_EQ(get_option(one, IPPROTO_TCP, TCP_NODELAY), 1);
    CHECK_EQ(get_option(one, SOL_SOCKET, SO_ACCEPTCONN), 0);
    CHECK_EQ(recv(one, back, sizeof back, 0), 5);
    CHECK_FAILS(one, recv(one, back, sizeof back, 0), TM_EWOULDBLOCK);
    CHECK_EQ(tfBlockingState(listener, TM_BLOCKING_ON), 0);
    two = accept(listener, 0, 0);
    CHECK(two > 0 && two != one);
    CHECK_EQ(getpeername(two, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(ntohs(name.sin_port), other->port);
    section("half-close both ways");
    peer_finish(peer);
    pump();
    CHECK_EQ(recv(one, back, sizeof back, 0), 0);
    CHECK_EQ(recv(one, back, sizeof back, 0), 0);
    CHECK_EQ(send(one, text, 7, 0), 7);
    pump();
    CHECK_EQ(peer->length, 7);
    CHECK_EQ(shutdown(one, SHUT_WR), 0);
    CHECK_FAILS(one, send(one, text, 1, 0), TM_ESHUTDOWN);
    pump();
    CHECK(peer->fin);
    CHECK_EQ(tfClose(one), 0);
    CHECK_EQ(shutdown(two, SHUT_WR), 0);
    pump();
    CHECK(other->fin);
    peer_send(other, text, 9);
    CHECK_EQ(recv(two, back, sizeof back, 0), 9);
    CHECK_FAILS(two, shutdown(two, 3), TM_EINVAL);
    section("shutdown for reading: what comes is thrown away");
    CHECK_EQ(shutdown(two, SHUT_RD), 0);
    peer_send(other, text, 9);
    pump();
    CHECK_EQ(recv(two, back, sizeof back, 0), 0);
    CHECK_EQ(tfGetWaitingBytes(two), 0);
    peer_finish(other);
    pump();
    close_cleanly(two);
    section("a port that somebody has");
    one = stream_socket();
    name = address_of("0.0.0.0", 80);
    CHECK_FAILS(one, bind(one, (struct sockaddr *)&name, sizeof name), TM_EADDRINUSE);
    name = address_of("10.0.0.9", 81);
    CHECK_FAILS(one, bind(one, (struct sockaddr *)&name, sizeof name), TM_EADDRNOTAVAIL);
    name = address_of("10.0.0.1", 0);
    CHECK_EQ(bind(one, (struct sockaddr *)&name, sizeof name), 0);
    CHECK_FAILS(one, bind(one, (struct sockaddr *)&name, sizeof name), TM_EINVAL);
    CHECK_EQ(getsockname(one, (struct sockaddr *)&name, &length), 0);
    CHECK(ntohs(name.sin_port) >= 49152);
    CHECK_EQ(connect_to(one, "10.0.0.2", 9), 0);
    CHECK_EQ(peer_last()->our_port, ntohs(name.sin_port));
    close_cleanly(one);
    section("a closed listener refuses, and resets who waits");
    peer = peer_connect(80);
    CHECK_EQ(tfClose(listener), 0);
    pump();
    CHECK(peer->reset);
    CHECK_EQ(tfGetSocketError(listener), TM_EBADF);
    peer = peer_connect(80);
    CHECK(peer->reset && !peer->established);
}

static void resets(void)
{
    peer_connection *peer;
    char back[64];
    int sd;
    section("a reset: what came before can be read, then it is told once");
    sd = connected_to(9);
    peer = peer_last();
    peer_send(peer, text, 5);
    peer_resets(peer);
    pump();
    CHECK_EQ(tfGetSocketError(sd), TM_ECONNRESET);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 5);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_ECONNRESET);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, send(sd, back, 1, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, getpeername(sd, 0, 0), TM_ENOTCONN);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    sd = connected_to(9);
    peer_resets(peer_last());
    pump();
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ECONNRESET);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ENOTCONN);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_ERROR), 0);
    CHECK_EQ(tfClose(sd), 0);
    section("tfResetConnection");
    sd = connected_to(9);
    CHECK_EQ(tfResetConnection(sd), 0);
    CHECK(peer_last()->reset);
    CHECK_FAILS(sd, tfResetConnection(sd), TM_ENOTCONN);
    CHECK_FAILS(sd, send(sd, text, 1, 0), TM_ENOTCONN);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    close_cleanly(sd);
}

#define CHECK_BAD(call)                      \
    do {                                     \
        CHECK_EQ(call, TM_SOCKET_ERROR);     \
        CHECK_EQ(tfGetLastError(), TM_EBADF); \
    } while (0)

static void out_of_place(void)
{
    struct sockaddr_in to = address_of("10.0.0.2", 9);
    int udp = udp_socket(0), sd = stream_socket(), value = 0;
    ttUserMessage h;
    char *data, back[4];
    section("calls on the wrong kind of socket, on none, and too early");
    CHECK_FAILS(udp, tfResetConnection(udp), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, tfGetSendCompltBytes(udp), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, tfGetSendBytesLeft(udp), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, tfGetOobDataOffset(udp), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, send(udp, text, 1, MSG_OOB), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, recv(udp, back, 1, MSG_OOB), TM_EOPNOTSUPP);
    CHECK_FAILS(udp, recv(udp, back, 1, MSG_WAITALL), TM_EINVAL);
    CHECK_BAD(tfResetConnection(999));
    CHECK_BAD(tfGetWaitingBytes(999));
    CHECK_BAD(tfGetSendCompltBytes(999));
    CHECK_BAD(tfGetSendBytesLeft(999));
    CHECK_BAD(tfGetOobDataOffset(999));
    CHECK_BAD(tfRegisterSocketCB(999, 0, 0));
    CHECK_BAD(listen(999, 1));
    CHECK_BAD(accept(999, 0, 0));
    CHECK_BAD(connect(999, (struct sockaddr *)&to, sizeof to));
    CHECK_BAD(bind(999, (struct sockaddr *)&to, sizeof to));
    CHECK_BAD(shutdown(999, SHUT_WR));
    CHECK_BAD(getpeername(999, 0, 0));
    CHECK_BAD(tfIoctl(999, FIONREAD, &value));
    CHECK_BAD(tfBlockingState(999, TM_BLOCKING_ON));
    CHECK_FAILS(sd, tfGetOobDataOffset(sd), TM_ENOTCONN);
    CHECK_FAILS(sd, tfIoctl(sd, SIOCATMARK, &value), TM_ENOTCONN);
    CHECK_FAILS(sd, recv(sd, back, 1, MSG_OOB), TM_ENOTCONN);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, connect(sd, (struct sockaddr *)&to, 7), TM_EINVAL);
    CHECK_FAILS(sd, sendto(sd, text, 1, 0, (struct sockaddr *)&to, sizeof to), TM_ENOTCONN);
    to.sin_family = AF_UNSPEC;
    CHECK_FAILS(sd, connect(sd, (struct sockaddr *)&to, sizeof to), TM_EAFNOSUPPORT);
    to.sin_family = AF_INET6;
    CHECK_FAILS(sd, bind(sd, (struct sockaddr *)&to, sizeof to), TM_EAFNOSUPPORT);
    CHECK_EQ(tfGetWaitingBytes(sd) | tfGetSendCompltBytes(sd) | tfGetSendBytesLeft(sd), 0);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    peer_resets(peer_last());
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, 0), TM_ECONNRESET);
    CHECK_EQ(tfClose(sd) | tfClose(udp), 0);
}

int main(void)
{
    ttUserInterface i = wire_up();
    connecting();
    not_blocking();
    accepting();
    resets();
    out_of_place();
    pump();
    check_all_free(i);
    return finish("stream");
}
