/* Raw sockets over a user driver: ping, protocols that nobody knows, headers of one's own, both ways of calling, errors in their order. */
static void peer_other(const unsigned char *ip, int length);
#define WIRE_OTHER(ip, length) peer_other(ip, length)

#include "check.h"

#define EXPERIMENT 253 /* RFC 3692: no stack has it */
#define REFUSED 254    /* of this one the peer says that it has no such protocol */

static struct {
    unsigned char packet[FRAME_BYTES];
    int length, packets, fragments;
} peer;

/* The peer answers pings, refuses one protocol, and keeps the last packet of all others. */
static void peer_other(const unsigned char *ip, int length)
{
    static unsigned char message[FRAME_BYTES];
    int header = (ip[0] & 15) * 4;
    peer.packets++;
    peer.fragments += (get16(ip + 6) & 0x3fff) != 0;
    peer.length = length;
    memcpy(peer.packet, ip, (size_t)length);
    if (ip[9] == 1 && ip[header] == 8) {
        memcpy(message, ip + header, (size_t)(length - header));
        message[0] = 0;
        put16(message + 2, 0);
        put16(message + 2, ~wire_sum(message, length - header, 0) & 0xffff);
        wire_ip(1, message, length - header, 7, 0);
    } else if (ip[9] == REFUSED) {
        memset(message, 0, 8);
        message[0] = 3;
        message[1] = 2;
        memcpy(message + 8, ip, 28);
        put16(message + 2, ~wire_sum(message, 36, 0) & 0xffff);
        wire_ip(1, message, 36, 8, 0);
    }
}

static int raw_socket(int protocol)
{
    int sd = socket(AF_INET, SOCK_RAW, protocol);
    CHECK(sd > 0);
    return sd;
}

/* An echo request of `length` bytes. */
static void write_ping(unsigned char *message, int length, unsigned sequence)
{
    int at;
    for (at = 0; at < length; at++)
        message[at] = (unsigned char)(at * 3);
    message[0] = 8;
    message[1] = 0;
    put16(message + 2, 0);
    put16(message + 4, 77);
    put16(message + 6, sequence);
    put16(message + 2, ~wire_sum(message, length, 0) & 0xffff);
}

static void ping_copying(void)
{
    int sd = raw_socket(IPPROTO_ICMP), length, number = 0, size = sizeof number;
    unsigned char ping[64], back[200];
    struct sockaddr_in to = address_of("10.0.0.2", 0), from;
    section("ping: what is received begins with the IPv4 header, and has no port");
    write_ping(ping, sizeof ping, 1);
    CHECK_EQ(sendto(sd, ping, sizeof ping, 0, (struct sockaddr *)&to, sizeof to), sizeof ping);
    length = sizeof from;
    memset(&from, 0xff, sizeof from);
    CHECK_EQ(recvfrom(sd, back, sizeof back, 0, (struct sockaddr *)&from, &length), 20 + sizeof ping);
    CHECK_EQ(back[0], 0x45);
    CHECK_EQ(get16(back + 2), 20 + sizeof ping);
    CHECK_EQ(back[9], 1);
    CHECK_EQ(back[20], 0);
    CHECK_EQ(memcmp(back + 24, ping + 4, sizeof ping - 4), 0);
    CHECK_EQ(from.sin_addr.s_addr, inet_addr("10.0.0.2"));
    CHECK_EQ(from.sin_port, 0);
    section("the kind of the socket, TTL and TOS, bytes that wait");
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_TYPE, &number, &size), 0);
    CHECK_EQ(number, SOCK_RAW);
    number = 3;
    CHECK_EQ(setsockopt(sd, IPPROTO_IP, IP_TTL, &number, sizeof number), 0);
    number = 0x20;
    CHECK_EQ(setsockopt(sd, IPPROTO_IP, IP_TOS, &number, sizeof number), 0);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 0), 0);
    CHECK_EQ(send(sd, ping, sizeof ping, 0), sizeof ping);
    pump();
    CHECK_EQ(peer.packet[8], 3);
    CHECK_EQ(peer.packet[1], 0x20);
    CHECK_EQ(tfIoctl(sd, FIONREAD, &number), 0);
    CHECK_EQ(number, 20 + sizeof ping);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_PEEK), 20 + sizeof ping);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_DONTWAIT), 20 + sizeof ping);
    section("a ping of the peer is answered by the stack and heard by the socket");
    peer.packets = 0;
    wire_ip(1, ping, sizeof ping, 5, 0);
    pump();
    CHECK_EQ(peer.packets, 1);
    CHECK_EQ(peer.packet[20], 0);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_DONTWAIT), 20 + sizeof ping);
    CHECK_EQ(back[20], 8);
    CHECK_EQ(tfClose(sd), 0);
}

static void ping_zero_copy(void)
{
    int sd = raw_socket(IPPROTO_ICMP), size, length;
    ttUserMessage h;
    char *data;
    struct sockaddr_in to = address_of("10.0.0.2", 0), from;
    tfStats before = stats(), after;
    section("ping without a copied byte");
    for (size = 8; size <= 1480; size += 23) {
        h = tfGetZeroCopyBuffer(size, &data);
        CHECK(h != 0);
        write_ping((unsigned char *)data, size, (unsigned)size);
        CHECK_EQ(tfZeroCopySendTo(sd, h, size, 0, (struct sockaddr *)&to, sizeof to), size);
        length = sizeof from;
        CHECK_EQ(tfZeroCopyRecvFrom(sd, &h, &data, 2000, 0, (struct sockaddr *)&from, &length), size + 20);
        CHECK_EQ(get16((unsigned char *)data + 26), size);
        CHECK_EQ(from.sin_addr.s_addr, to.sin_addr.s_addr);
        CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    }
    after = stats();
    CHECK_EQ(after.bytesCopiedTx, before.bytesCopiedTx);
    CHECK_EQ(after.bytesCopiedRx, before.bytesCopiedRx);
    CHECK_EQ(tfClose(sd), 0);
}

static void unknown_protocols(int promised)
{
    static unsigned char big[8000], back[9000];
    int sd = raw_socket(EXPERIMENT), every = raw_socket(0), at;
    struct sockaddr_in to = address_of("10.0.0.2", 0), local = address_of("10.0.0.1", 0);
    struct timeval none = {0, 0};
    fd_set readable;
    tfStats before = stats();
    section("a protocol that the stack does not know: all who hear it get it; nobody is told that it is unknown");
    CHECK_EQ(bind(sd, (struct sockaddr *)&local, sizeof local), 0);
    peer.packets = 0;
    wire_ip(EXPERIMENT, (const unsigned char *)"what is this", 12, 5, 0);
    pump();
    CHECK_EQ(recv(sd, back, sizeof back, MSG_DONTWAIT), 32);
    CHECK_EQ(memcmp(back + 20, "what is this", 12), 0);
    CHECK_EQ(recv(every, back, sizeof back, MSG_DONTWAIT), 32);
    CHECK_EQ(recv(promised, back, sizeof back, MSG_DONTWAIT), 32);
    CHECK_EQ(peer.packets, 0);
    CHECK_EQ(stats().bytesCopiedRx - before.bytesCopiedRx, 2 * 32 + 3 * 32);
    section("and one that nobody hears is unreachable; UDP is not for raw sockets");
    CHECK_EQ(tfClose(every), 0);
    wire_ip(EXPERIMENT - 1, (const unsigned char *)"and this", 8, 5, 0);
    wire_udp(9, 9, "datagram", 8, 1480);
    pump();
    CHECK_EQ(peer.packet[20], 3);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, MSG_DONTWAIT), TM_EWOULDBLOCK);
    section("large ones in fragments, both ways");
    for (at = 0; at < (int)sizeof big; at++)
        big[at] = (unsigned char)(at * 5);
    peer.fragments = 0;
    CHECK_EQ(sendto(sd, big, sizeof big, 0, (struct sockaddr *)&to, sizeof to), sizeof big);
    CHECK_EQ(peer.fragments, 6);
    for (at = 0; at < (int)sizeof big; at += 1480) {
        int left = (int)sizeof big - at, now = left < 1480 ? left : 1480;
        wire_ip(EXPERIMENT, big + at, now, 900, (unsigned)at / 8 | (now < left ? 0x2000u : 0));
    }
    FD_ZERO(&readable);
    FD_SET(sd, &readable);
    CHECK_EQ(select(sd + 1, &readable, 0, 0, 0), 1);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 20 + sizeof big);
    CHECK_EQ(memcmp(back + 20, big, sizeof big), 0);
    CHECK_EQ(get16(back + 2), 20 + sizeof big);
    CHECK_EQ(get16(back + 6), 0);
    FD_SET(sd, &readable);
    CHECK_EQ(select(sd + 1, &readable, 0, 0, &none), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void own_headers(void)
{
    int sd = raw_socket(EXPERIMENT), on = 1, size = sizeof on, udp = udp_socket(0);
    unsigned char packet[32], *data;
    struct sockaddr_in to = address_of("10.0.0.2", 0);
    ttUserMessage h;
    section("IP_HDRINCL: length, checksum, identification and source are filled in, the rest stays");
    CHECK_EQ(getsockopt(sd, IPPROTO_IP, IP_HDRINCL, &on, &size), 0);
    CHECK_EQ(on, 0);
    on = 1;
    CHECK_EQ(setsockopt(sd, IPPROTO_IP, IP_HDRINCL, &on, sizeof on), 0);
    memset(packet, 0, sizeof packet);
    packet[0] = 0x45;
    packet[1] = 0x10;
    packet[8] = 9;
    packet[9] = EXPERIMENT;
    memcpy(packet + 16, peer_ip, 4);
    memcpy(packet + 20, "twelve bytes", 12);
    CHECK_EQ(sendto(sd, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to), sizeof packet);
    CHECK_EQ(peer.length, sizeof packet);
    CHECK_EQ(wire_sum(peer.packet, 20, 0), 0xffff);
    CHECK_EQ(get16(peer.packet + 2), sizeof packet);
    CHECK(get16(peer.packet + 4) != 0);
    CHECK_EQ(memcmp(peer.packet + 12, our_ip, 4), 0);
    CHECK_EQ(peer.packet[1], 0x10);
    CHECK_EQ(peer.packet[8], 9);
    CHECK_EQ(memcmp(peer.packet + 20, "twelve bytes", 12), 0);
    put16(packet + 4, 1234);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 0), 0);
    h = tfGetZeroCopyBuffer(sizeof packet, (char **)&data);
    CHECK(h != 0);
    memcpy(data, packet, sizeof packet);
    CHECK_EQ(tfZeroCopySend(sd, h, sizeof packet, 0), sizeof packet);
    CHECK_EQ(get16(peer.packet + 4), 1234);
    section("what is no header is TM_EINVAL, what does not fit a packet TM_EMSGSIZE; the buffer is gone either way");
    CHECK_FAILS(sd, send(sd, packet, 19, 0), TM_EINVAL);
    packet[0] = 0x65;
    CHECK_FAILS(sd, send(sd, packet, sizeof packet, 0), TM_EINVAL);
    packet[0] = 0x4f;
    CHECK_FAILS(sd, send(sd, packet, sizeof packet, 0), TM_EINVAL);
    h = tfGetZeroCopyBuffer(sizeof packet, (char **)&data);
    CHECK(h != 0);
    memset(data, 0, sizeof packet);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, sizeof packet, 0), TM_EINVAL);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    packet[0] = 0x45;
    h = tfGetZeroCopyBuffer(1501, (char **)&data);
    CHECK(h != 0);
    memcpy(data, packet, sizeof packet);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 1501, 0), TM_EMSGSIZE);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    section("only raw sockets have it");
    CHECK_FAILS(udp, setsockopt(udp, IPPROTO_IP, IP_HDRINCL, &on, sizeof on), TM_ENOPROTOOPT);
    CHECK_FAILS(udp, getsockopt(udp, IPPROTO_IP, IP_HDRINCL, &on, &size), TM_ENOPROTOOPT);
    CHECK_EQ(tfClose(udp), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static int told, told_events;

static void tell(int sd, int events)
{
    char back[100];
    told++;
    told_events |= events;
    if (events & TM_CB_RECV)
        CHECK_EQ(recv(sd, back, sizeof back, MSG_DONTWAIT), 24);
}

static void events_and_errors(void)
{
    int sd = raw_socket(REFUSED), error = 0, size = sizeof error, length;
    struct sockaddr_in to = address_of("10.0.0.2", 0), other = address_of("10.0.0.7", 0), far = address_of("192.0.2.1", 0), name;
    ttUserMessage h;
    char *data;
    section("errors of a zero-copy send, in their order");
    h = tfGetZeroCopyBuffer(8, &data);
    CHECK(h != 0);
    CHECK_FAILS(sd, tfZeroCopySend(sd, 0, 8, 0), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 9, MSG_OOB), TM_EINVAL);
    h = tfGetZeroCopyBuffer(8, &data);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 8, MSG_OOB), TM_EINVAL);
    h = tfGetZeroCopyBuffer(8, &data);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 8, 0), TM_ENOTCONN);
    h = tfGetZeroCopyBuffer(8, &data);
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, h, 8, 0, (struct sockaddr *)&far, sizeof far), TM_EHOSTUNREACH);
    CHECK_FAILS(sd, bind(sd, (struct sockaddr *)&other, sizeof other), TM_EADDRNOTAVAIL);
    CHECK_FAILS(sd, connect_to(sd, "192.0.2.1", 0), TM_EHOSTUNREACH);
    CHECK_FAILS(sd, connect_to(sd, "0.0.0.0", 0), TM_EADDRNOTAVAIL);
    CHECK_FAILS(sd, tfListen(sd, 1), TM_EOPNOTSUPP);
    section("protocol unreachable is told once to a connected socket");
    CHECK_EQ(tfRegisterSocketCB(sd, tell, TM_CB_RECV | TM_CB_SOCKET_ERROR), 0);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 0), 0);
    CHECK_FAILS(sd, sendto(sd, "x", 1, 0, (struct sockaddr *)&to, sizeof to), TM_EISCONN);
    CHECK_EQ(send(sd, "12345678", 8, 0), 8);
    pump();
    CHECK_EQ(told, 1);
    CHECK_EQ(told_events, TM_CB_SOCKET_ERROR);
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    CHECK_EQ(error, TM_ECONNREFUSED);
    CHECK_EQ(send(sd, "12345678", 8, 0), 8);
    pump();
    CHECK_FAILS(sd, send(sd, "x", 1, 0), TM_ECONNREFUSED);
    section("callbacks, names");
    wire_ip(REFUSED, (const unsigned char *)"four", 4, 5, 0);
    wire_ip(REFUSED, (const unsigned char *)"more", 4, 6, 0);
    pump();
    CHECK(told_events & TM_CB_RECV);
    CHECK_EQ(tfGetWaitingBytes(sd), 0);
    length = sizeof name;
    CHECK_EQ(getpeername(sd, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(name.sin_addr.s_addr, to.sin_addr.s_addr);
    length = sizeof name;
    CHECK_EQ(getsockname(sd, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(name.sin_addr.s_addr, inet_addr("10.0.0.1"));
    CHECK_EQ(name.sin_port, 0);
    CHECK_EQ(tfShutdown(sd, SHUT_WR), 0);
    CHECK_FAILS(sd, send(sd, "x", 1, 0), TM_ESHUTDOWN);
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(socket(AF_INET, SOCK_RAW, 256), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EPROTONOSUPPORT);
    CHECK_EQ(socket(AF_INET, SOCK_RAW, -1), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EPROTONOSUPPORT);
}

static void so_many(void)
{
    int all[256], count = 0, sd, at;
    section("there are 256 raw sockets");
    for (; (sd = socket(AF_INET, SOCK_RAW, EXPERIMENT)) > 0 && count < 256; count++)
        all[count] = sd;
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    CHECK_EQ(count, 255);
    for (at = 0; at < count; at++)
        CHECK_EQ(tfClose(all[at]), 0);
}

int main(void)
{
    ttUserInterface i;
    struct sockaddr_in local = address_of("10.0.0.1", 0);
    char back[8];
    int error = -1, promised;
    section("before the first interface a raw socket is promised");
    CHECK_EQ(socket(AF_INET, SOCK_RAW, EXPERIMENT), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EINVAL);
    CHECK_EQ(tfStartTreck(), TM_ENOERROR);
    promised = raw_socket(EXPERIMENT);
    CHECK_FAILS(promised, recv(promised, back, sizeof back, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_FAILS(promised, bind(promised, (struct sockaddr *)&local, sizeof local), TM_EADDRNOTAVAIL);
    i = tfAddInterface("wire0", tfUseEthernet(), wire_open, wire_close, wire_send, wire_recv, wire_free_recv, 0, wire_mac, &error);
    CHECK(i != 0);
    CHECK_EQ(tfOpenInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    ping_copying();
    ping_zero_copy();
    unknown_protocols(promised);
    own_headers();
    events_and_errors();
    so_many();
    CHECK_EQ(tfClose(promised), 0);
    check_all_free(i);
    return finish("raw");
}
