/* select and callbacks on streams, urgent data, peeking, lingering. */
#include "peer.h"

static const char text[] = "to be, or not to be";

static int ready(int sd, int which)
{
    struct timeval none = {0, 0};
    fd_set sets[3];
    int at;
    for (at = 0; at < 3; at++) {
        FD_ZERO(&sets[at]);
        if (at == which)
            FD_SET(sd, &sets[at]);
    }
    at = select(sd + 1, &sets[0], &sets[1], &sets[2], &none);
    CHECK(at == 0 || (at == 1 && FD_ISSET(sd, &sets[which])));
    return at;
}

#define READABLE 0
#define WRITABLE 1
#define EXCEPT 2

static void selecting(void)
{
    int listener = listener_at(90), sd = stream_socket();
    peer_connection *peer;
    section("select: listener, connecting, connected, finished, failed");
    CHECK_EQ(ready(sd, READABLE) + ready(sd, WRITABLE) + ready(sd, EXCEPT), 0);
    CHECK_EQ(ready(listener, READABLE), 0);
    peer = peer_connect(90);
    CHECK_EQ(ready(listener, READABLE), 1);
    CHECK_EQ(ready(listener, WRITABLE), 0);
    CHECK_EQ(tfClose(accept(listener, 0, 0)), 0);
    pump();
    CHECK(peer->fin);
    CHECK_EQ(ready(listener, READABLE), 0);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 9), TM_EINPROGRESS);
    CHECK_EQ(tfClose(listener), 0);
    CHECK_EQ(tfClose(sd), 0);
    pump();
}

static void select_connections(void)
{
    int sd = stream_socket();
    char back[64];
    peer_connection *peer;
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 9), TM_EINPROGRESS);
    pump();
    CHECK_EQ(ready(sd, WRITABLE), 1);
    CHECK_EQ(ready(sd, READABLE), 0);
    peer = peer_last();
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_RCVLOWAT, 10), 0);
    peer_send(peer, text, 5);
    CHECK_EQ(ready(sd, READABLE), 0);
    peer_send(peer, text, 5);
    CHECK_EQ(ready(sd, READABLE), 1);
    section("peeking over frames, MSG_WAITALL");
    CHECK_EQ(recv(sd, back, 8, MSG_PEEK), 8);
    CHECK_EQ(memcmp(back, "to beto ", 8), 0);
    CHECK_EQ(tfGetWaitingBytes(sd), 10);
    CHECK_EQ(recv(sd, back, 20, MSG_WAITALL), 10);
    peer_send(peer, text, 3);
    peer_send(peer, text, 3);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_ON), 0);
    CHECK_EQ(recv(sd, back, 6, MSG_WAITALL), 6);
    peer->acks = 0;
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_SNDBUF, 4096), 0);
    CHECK_EQ(send(sd, text, 10, 0), 10);
    CHECK_EQ(ready(sd, WRITABLE), 1);
    while (send(sd, text, 10, MSG_DONTWAIT) > 0) {
    }
    CHECK_EQ(ready(sd, WRITABLE), 0);
    peer_catch_up(peer);
    CHECK_EQ(ready(sd, WRITABLE), 1);
    CHECK_EQ(ready(sd, EXCEPT), 0);
    peer_finish(peer);
    CHECK_EQ(ready(sd, READABLE), 1);
    CHECK_EQ(recv(sd, back, 6, 0), 0);
    close_cleanly(sd);
    sd = stream_socket();
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_SILENT), TM_EINPROGRESS);
    CHECK_EQ(ready(sd, READABLE) + ready(sd, WRITABLE) + ready(sd, EXCEPT), 0);
    CHECK_EQ(tfClose(sd), 0);
    sd = stream_socket();
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_REFUSES), TM_EINPROGRESS);
    pump();
    CHECK_EQ(ready(sd, READABLE) + ready(sd, WRITABLE) + ready(sd, EXCEPT), 3);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_ERROR), TM_ECONNREFUSED);
    CHECK_EQ(ready(sd, EXCEPT), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void urgent(void)
{
    int sd = connected_to(9), at = -1;
    peer_connection *peer = peer_last();
    char back[64];
    section("urgent data out: the last byte; the pointer by TCP_STDURG");
    CHECK_EQ(send(sd, "abcU", 4, MSG_OOB), 4);
    pump();
    CHECK_EQ(peer->length, 4);
    CHECK_EQ(memcmp(peer->data, "abcU", 4), 0);
    CHECK_EQ(peer->urgent, 4);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_STDURG, 1), 0);
    CHECK_EQ(send(sd, "V", 1, MSG_OOB), 1);
    pump();
    CHECK_EQ(peer->urgent, 4);
    CHECK_EQ(set_option(sd, IPPROTO_TCP, TCP_STDURG, 0), 0);
    {
        char *data;
        ttUserMessage h = tfGetZeroCopyBuffer(3, &data);
        CHECK(h != 0);
        memcpy(data, "xyW", 3);
        CHECK_EQ(tfZeroCopySend(sd, h, 3, MSG_OOB), 3);
        pump();
        CHECK_EQ(peer->length, 8);
        CHECK_EQ(peer->urgent, 8);
    }
    section("urgent data in: out of line, its place, once");
    CHECK_FAILS(sd, recv(sd, back, 1, MSG_OOB), TM_EINVAL);
    CHECK_FAILS(sd, tfGetOobDataOffset(sd), TM_EINVAL);
    CHECK_EQ(tfIoctl(sd, SIOCATMARK, &at), 0);
    CHECK_EQ(at, 0);
    peer_segment(peer, TCP_ACK | TCP_URG, "abcUde", 6, 4);
    CHECK_EQ(ready(sd, EXCEPT), 1);
    CHECK_EQ(tfGetOobDataOffset(sd), 3);
    CHECK_EQ(tfGetWaitingBytes(sd), 5);
    CHECK_EQ(recv(sd, back, 8, MSG_OOB | MSG_PEEK), 1);
    CHECK_EQ(back[0], 'U');
    back[0] = 0;
    CHECK_EQ(recv(sd, back, 8, MSG_OOB), 1);
    CHECK_EQ(back[0], 'U');
    CHECK_FAILS(sd, recv(sd, back, 8, MSG_OOB), TM_EINVAL);
    CHECK_EQ(ready(sd, EXCEPT), 0);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 3);
    CHECK_EQ(tfIoctl(sd, SIOCATMARK, &at), 0);
    CHECK_EQ(at, 1);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 2);
    CHECK_EQ(memcmp(back, "de", 2), 0);
    CHECK_EQ(tfIoctl(sd, SIOCATMARK, &at), 0);
    CHECK_EQ(at, 0);
    section("announced before it is here");
    peer_segment(peer, TCP_ACK | TCP_URG, "ab", 2, 4);
    pump();
    CHECK_FAILS(sd, recv(sd, back, 8, MSG_OOB), TM_EWOULDBLOCK);
    peer_segment(peer, TCP_ACK | TCP_URG, "cX", 2, 2);
    pump();
    CHECK_EQ(recv(sd, back, 8, MSG_OOB), 1);
    CHECK_EQ(back[0], 'X');
    CHECK_EQ(recv(sd, back, 8, MSG_WAITALL), 3);
    section("in line");
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_OOBINLINE, 1), 0);
    peer_segment(peer, TCP_ACK | TCP_URG, "abcUde", 6, 4);
    pump();
    CHECK_FAILS(sd, recv(sd, back, 8, MSG_OOB), TM_EINVAL);
    CHECK_EQ(tfGetOobDataOffset(sd), 3);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 3);
    CHECK_EQ(tfIoctl(sd, SIOCATMARK, &at), 0);
    CHECK_EQ(at, 1);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 3);
    CHECK_EQ(memcmp(back, "Ude", 3), 0);
    CHECK_FAILS(sd, tfGetOobDataOffset(sd), TM_EINVAL);
    close_cleanly(sd);
}

static struct {
    int calls, events, sd, got, accepted, again;
} heard;

static void on_event(int sd, int events)
{
    heard.calls++;
    heard.events |= events;
    heard.sd = sd;
}

static void on_event_with(int sd, void *param, int events)
{
    char back[4];
    CHECK(param == &heard);
    on_event(sd, events);
    if (events & TM_CB_RECV) {
        int got = recv(sd, back, sizeof back, 0);
        heard.got += got > 0 ? got : 0;
        CHECK_FAILS(sd, recv(sd, back, 4, MSG_OOB), TM_EINVAL);
        /* Nobody turns the loop while this runs. */
        if (tfGetWaitingBytes(sd) == 0)
            CHECK_FAILS(sd, recv(sd, back, 1, 0), TM_EWOULDBLOCK);
    }
    if (events & TM_CB_ACCEPT) {
        int new = accept(sd, 0, 0);
        CHECK(new > 0);
        heard.accepted = new;
        CHECK_EQ(tfRegisterSocketCBParam(new, on_event_with, &heard, TM_CB_RECV | TM_CB_REMOTE_CLOSE), 0);
    }
    tfPoll();
}

static int take_events(void)
{
    int events;
    pump();
    events = heard.events;
    heard.events = 0;
    return events;
}

#define ALL_EVENTS 0x3ff

static void callbacks(void)
{
    int sd = stream_socket(), listener;
    peer_connection *peer;
    char back[64];
    section("callbacks: each event, what is so already, and calls from within");
    CHECK_FAILS(sd, tfRegisterSocketCB(sd, on_event, 0x400), TM_EINVAL);
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, ALL_EVENTS), 0);
    CHECK_EQ(take_events(), 0);
    CHECK_EQ(tfBlockingState(sd, TM_BLOCKING_OFF), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", 9), TM_EINPROGRESS);
    CHECK_EQ(take_events(), TM_CB_CONNECT_COMPLT);
    CHECK_EQ(heard.sd, sd);
    peer = peer_last();
    CHECK_EQ(send(sd, text, 5, 0), 5);
    CHECK_EQ(take_events(), TM_CB_SEND_COMPLT);
    peer_send(peer, text, 5);
    CHECK_EQ(take_events(), TM_CB_RECV);
    peer_segment(peer, TCP_ACK | TCP_URG, "U", 1, 1);
    CHECK_EQ(take_events(), TM_CB_RECV_OOB | TM_CB_RECV);
    CHECK_EQ(set_option(sd, SOL_SOCKET, SO_SNDBUF, 1000), 0);
    peer->acks = 0;
    while (send(sd, text, 10, MSG_DONTWAIT) > 0) {
    }
    CHECK_EQ(take_events(), 0);
    peer_catch_up(peer);
    CHECK_EQ(take_events(), TM_CB_WRITE_READY | TM_CB_SEND_COMPLT);
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, TM_CB_RECV), 0);
    CHECK_EQ(take_events(), TM_CB_RECV);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 5);
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, ALL_EVENTS), 0);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_OOB), 1);
    peer_finish(peer);
    CHECK_EQ(take_events(), TM_CB_REMOTE_CLOSE);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(take_events(), TM_CB_CLOSE_COMPLT);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    sd = connected_to(9);
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, ALL_EVENTS), 0);
    pump();
    peer_resets(peer_last());
    CHECK_EQ(take_events(), TM_CB_RESET | TM_CB_SOCKET_ERROR);
    CHECK_EQ(tfGetSocketError(sd), TM_ECONNRESET);
    CHECK_EQ(tfClose(sd), 0);
    sd = stream_socket();
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, ALL_EVENTS), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_REFUSES), TM_ECONNREFUSED);
    CHECK_EQ(take_events(), TM_CB_SOCKET_ERROR);
    CHECK_EQ(tfRegisterSocketCB(sd, 0, 0), 0);
    CHECK_FAILS(sd, connect_to(sd, "10.0.0.2", PEER_REFUSES), TM_ECONNREFUSED);
    CHECK_EQ(take_events(), 0);
    CHECK_EQ(tfClose(sd), 0);
    listener = listener_at(91);
    CHECK_EQ(tfRegisterSocketCBParam(listener, on_event_with, &heard, ALL_EVENTS), 0);
    heard.got = 0;
    peer = peer_connect(91);
    peer_send(peer, text, 18);
    CHECK_EQ(take_events(), TM_CB_ACCEPT | TM_CB_RECV);
    CHECK_EQ(heard.got, 18);
    sd = heard.accepted;
    peer_finish(peer);
    CHECK_EQ(take_events(), TM_CB_REMOTE_CLOSE);
    peer = peer_connect(91);
    CHECK_EQ(take_events(), TM_CB_ACCEPT);
    CHECK(heard.accepted != sd);
    CHECK_EQ(tfClose(heard.accepted) | tfClose(listener) | tfClose(sd), 0);
    pump();
    section("callbacks on datagram sockets");
    sd = udp_socket(5010);
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, ALL_EVENTS), 0);
    wire_udp(9, 5010, text, 5, 1480);
    CHECK_EQ(take_events(), TM_CB_RECV);
    CHECK_EQ(tfClose(sd), 0);
    sd = udp_socket(0);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 60001), 0);
    CHECK_EQ(tfRegisterSocketCB(sd, on_event, TM_CB_SOCKET_ERROR), 0);
    CHECK_EQ(send(sd, text, 4, 0), 4);
    CHECK_EQ(take_events(), TM_CB_SOCKET_ERROR);
    CHECK_EQ(tfClose(sd), 0);
}

static void lingering(void)
{
    struct linger linger = {1, 0}, got;
    int sd, length = sizeof got;
    section("closing: what is in flight is delivered; zero linger resets; lingering waits; unread data resets");
    peer_acks = 0;
    sd = connected_to(9);
    CHECK_EQ(send(sd, text, 5, 0), 5);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_FAILS(sd, tfClose(sd), TM_EALREADY);
    pump();
    CHECK_FAILS(sd, tfClose(sd), TM_EALREADY);
    CHECK_FAILS(sd, recv(sd, &got, 1, 0), TM_EBADF);
    CHECK_EQ(tfGetSendBytesLeft(sd), 5);
    peer_catch_up(peer_last());
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    sd = connected_to(9);
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_LINGER, &got, &length), 0);
    CHECK(got.l_onoff == 1 && got.l_linger == 0 && length == sizeof got);
    CHECK_EQ(send(sd, text, 5, 0), 5);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    CHECK(peer_last()->reset);
    linger.l_linger = 1;
    sd = connected_to(9);
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CHECK_EQ(send(sd, text, 5, 0), 5);
    CHECK_FAILS(sd, tfClose(sd), TM_ETIMEDOUT);
    peer_catch_up(peer_last());
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    peer_acks = 1;
    sd = connected_to(9);
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CHECK_EQ(send(sd, text, 5, 0), 5);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    CHECK_EQ(peer_last()->length, 5);
    sd = connected_to(9);
    peer_send(peer_last(), text, 5);
    pump();
    CHECK_EQ(tfClose(sd), 0);
    CHECK(peer_last()->reset);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
}

static void options(void)
{
    static const int kept[][2] = {{TCP_NOPUSH, 0}, {TM_TCP_PUSH_ALL, 1}, {TM_TCP_MAX_REXMIT, 5}, {TM_TCP_2MSLTIME, 60},
                                  {TM_TCP_RTO_DEF, 3000}, {TM_TCP_RTO_MIN, 100}, {TM_TCP_RTO_MAX, 9000}, {TM_TCP_PROBE_MIN, 300},
                                  {TM_TCP_PROBE_MAX, 9000}, {TCP_NODELAY, 1}, {TCP_STDURG, 1}, {TCP_MAXSEG, 1000}, {TCP_MAXRT, 20},
                                  {TCP_MAXRT, -1}, {TCP_KEEPALIVE, 60}, {TM_TCP_KEEPALIVE_INTV, 5}, {TM_TCP_KEEPALIVE_CNT, 3},
                                  {TM_TCP_FINWT2TIME, 9}, {TM_TCP_DELAY_ACK, 0}, {TM_TCP_SEL_ACK, 1}, {TM_TCP_WND_SCALE, 1},
                                  {TM_TCP_TS, 1}, {TM_TCP_SLOW_START, 1}};
    static const int refused[][2] = {{TCP_MAXSEG, 10}, {TCP_MAXRT, -2}, {TCP_KEEPALIVE, 0}, {TM_TCP_KEEPALIVE_CNT, 256},
                                     {TM_TCP_DELAY_ACK, 500}, {TM_TCP_DELAY_ACK, -1}, {TM_TCP_RTO_MIN, 0},
                                     {TM_TCP_RTO_MAX, 3600001}, {TM_TCP_PROBE_MIN, -1}, {TM_TCP_MAX_REXMIT, 256}};
    static const int fixed[][2] = {{TCP_NOPUSH, 1}, {TM_TCP_2MSLTIME, 30}, {TM_TCP_SEL_ACK, 0}, {TM_TCP_WND_SCALE, 0}, {TM_TCP_TS, 0}, {TM_TCP_SLOW_START, 0}};
    static const int flags[] = {SO_KEEPALIVE, SO_OOBINLINE, SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST};
    int sd = stream_socket(), udp = udp_socket(0), value = 1, length = sizeof value;
    unsigned at;
    section("options of streams: set, told back, refused");
    for (at = 0; at < sizeof kept / sizeof *kept; at++) {
        CHECK_EQ(set_option(sd, IPPROTO_TCP, kept[at][0], kept[at][1]), 0);
        CHECK_EQ(get_option(sd, IPPROTO_TCP, kept[at][0]), kept[at][1]);
        CHECK_FAILS(udp, set_option(udp, IPPROTO_TCP, kept[at][0], kept[at][1]), TM_ENOPROTOOPT);
        CHECK_FAILS(udp, getsockopt(udp, IPPROTO_TCP, kept[at][0], &value, &length), TM_ENOPROTOOPT);
    }
    for (at = 0; at < sizeof refused / sizeof *refused; at++)
        CHECK_FAILS(sd, set_option(sd, IPPROTO_TCP, refused[at][0], refused[at][1]), TM_EINVAL);
    for (at = 0; at < sizeof flags / sizeof *flags; at++) {
        CHECK_EQ(get_option(sd, SOL_SOCKET, flags[at]), 0);
        CHECK_EQ(set_option(sd, SOL_SOCKET, flags[at], 1), 0);
        CHECK_EQ(get_option(sd, SOL_SOCKET, flags[at]), 1);
    }
    for (at = 0; at < sizeof fixed / sizeof *fixed; at++)
        CHECK_FAILS(sd, set_option(sd, IPPROTO_TCP, fixed[at][0], fixed[at][1]), TM_EOPNOTSUPP);
    CHECK_FAILS(sd, set_option(sd, SOL_SOCKET, TM_SO_RCVCOPY, 4), TM_EOPNOTSUPP);
    CHECK_EQ(get_option(sd, SOL_SOCKET, TM_SO_RCVCOPY), 0);
    CHECK_FAILS(sd, set_option(sd, SOL_SOCKET, TM_SO_SND_DGRAMS, 9), TM_EOPNOTSUPP);
    CHECK_FAILS(sd, getsockopt(sd, SOL_SOCKET, TM_SO_SND_DGRAMS, &value, &length), TM_EOPNOTSUPP);
    CHECK_FAILS(sd, set_option(sd, IPPROTO_TCP, 0x7777, 0), TM_ENOPROTOOPT);
    CHECK_FAILS(sd, set_option(sd, SOL_SOCKET, SO_ACCEPTCONN, 0), TM_EINVAL);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_SNDBUF), 1 << 20);
    CHECK_EQ(get_option(sd, SOL_SOCKET, SO_RCVBUF), 128 << 10);
    CHECK_EQ(set_option(sd, SOL_SOCKET, TM_SO_SNDAPPEND, 64), 0);
    CHECK_EQ(get_option(sd, SOL_SOCKET, TM_SO_SNDAPPEND), 64);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    CHECK(get_option(sd, IPPROTO_TCP, TCP_MAXSEG) <= 1000);
    CHECK_EQ(tfClose(udp), 0);
    close_cleanly(sd);
}

int main(void)
{
    ttUserInterface i = wire_up();
    selecting();
    select_connections();
    urgent();
    callbacks();
    lingering();
    options();
    pump();
    check_all_free(i);
    return finish("stream_events");
}
