/* What every program here uses: checks that print what they saw, and a software wire behind a user driver. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trsocket.h"

static int checks, failures;

#define CHECK(condition)                                                            \
    do {                                                                            \
        checks++;                                                                   \
        if (!(condition)) {                                                         \
            failures++;                                                             \
            printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition);           \
        }                                                                           \
    } while (0)

/* Both sides are printed, so that a failure needs no debugger. */
#define CHECK_EQ(got, want)                                                                                      \
    do {                                                                                                         \
        long long got_ = (long long)(got), want_ = (long long)(want);                                            \
        checks++;                                                                                                \
        if (got_ != want_) {                                                                                     \
            failures++;                                                                                          \
            printf("FAILED %s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__, #got, got_, #want, want_);   \
        }                                                                                                        \
    } while (0)

/* A call on a socket fails with this error. */
#define CHECK_FAILS(sd, call, error)                 \
    do {                                             \
        CHECK_EQ(call, TM_SOCKET_ERROR);             \
        CHECK_EQ(tfGetSocketError(sd), error);       \
        CHECK_EQ(tfGetLastError(), error);           \
    } while (0)

static int finish(const char *what)
{
    printf("%s: %d checks, %d failed\n", what, checks, failures);
    return failures == 0 ? 0 : 1;
}

static inline void section(const char *what)
{
    printf("- %s\n", what);
}

/* ---- the wire: one peer, 10.0.0.2, that answers ARP and does by port: 7 echoes, 9 swallows, anything above 60000 is unreachable. ---------- */

#define FRAME_BYTES 2048
#define QUEUE_FRAMES 512

enum wire_memory { OWN_MEMORY, DRIVER_BUFFERS, ETHERNET_BUFFERS };

static struct {
    ttUserInterface interface;
    unsigned char queue[QUEUE_FRAMES][FRAME_BYTES];
    int lengths[QUEUE_FRAMES];
    unsigned head, tail;             /* frames that wait for the stack */
    unsigned char sending[70000];    /* the frame that is being sent piece by piece */
    int sending_length, pieces;
    unsigned char last_udp[FRAME_BYTES];
    int last_udp_length;             /* payload of the last UDP datagram that the peer got */
    unsigned char whole[70000];      /* payload of the last one that came in fragments, in order */
    int whole_length;
    int frames, arp_requests, udp, fragments, opened, closed, freed;
    int answers_arp, completes, busy; /* knobs */
    enum wire_memory memory;
    int notifies;
} wire = {0, {{0}}, {0}, 0, 0, {0}, 0, 0, {0}, 0, {0}, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, OWN_MEMORY, 0};

static const unsigned char our_mac[6] = {2, 0, 0, 0, 0, 1}, peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const unsigned char our_ip[4] = {10, 0, 0, 1}, peer_ip[4] = {10, 0, 0, 2};

/* A program with several threads defines these. */
#ifndef WIRE_LOCK
#define WIRE_LOCK
#define WIRE_UNLOCK
#endif

static inline void wire_push(const unsigned char *frame, int length)
{
    WIRE_LOCK;
    if (wire.tail - wire.head < QUEUE_FRAMES && length <= FRAME_BYTES) {
        memcpy(wire.queue[wire.tail % QUEUE_FRAMES], frame, (size_t)length);
        wire.lengths[wire.tail % QUEUE_FRAMES] = length;
        wire.tail++;
    }
    WIRE_UNLOCK;
    if (wire.notifies)
        tfNotifyReceiveInterfaceIsr(wire.interface);
}

static inline unsigned wire_sum(const unsigned char *bytes, int length, unsigned sum)
{
    int at;
    for (at = 0; at < length; at++)
        sum += at % 2 ? bytes[at] : (unsigned)bytes[at] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static inline void put16(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)(value >> 8);
    at[1] = (unsigned char)value;
}

static inline unsigned get16(const unsigned char *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

/* An IPv4 packet from the peer to us; `fragment` as in the header (flags and offset). */
static inline void wire_ip(int protocol, const unsigned char *payload, int length, unsigned id, unsigned fragment)
{
    unsigned char frame[FRAME_BYTES];
    unsigned char *ip = frame + 14;
    memcpy(frame, our_mac, 6);
    memcpy(frame + 6, peer_mac, 6);
    put16(frame + 12, 0x0800);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    put16(ip + 2, (unsigned)length + 20);
    put16(ip + 4, id);
    put16(ip + 6, fragment);
    ip[8] = 64;
    ip[9] = (unsigned char)protocol;
    memcpy(ip + 12, peer_ip, 4);
    memcpy(ip + 16, our_ip, 4);
    put16(ip + 10, ~wire_sum(ip, 20, 0) & 0xffff);
    memcpy(ip + 20, payload, (size_t)length);
    wire_push(frame, length + 34);
}

/* A UDP datagram from the peer, in fragments of `mtu` bytes of payload if it is longer (a multiple of 8). */
static inline void wire_udp(unsigned from_port, unsigned to_port, const void *payload, int length, int mtu)
{
    static unsigned char segment[70000];
    static unsigned id = 100;
    unsigned char pseudo[12];
    unsigned sum;
    int at;
    put16(segment, from_port);
    put16(segment + 2, to_port);
    put16(segment + 4, (unsigned)length + 8);
    put16(segment + 6, 0);
    if (length > 0)
        memcpy(segment + 8, payload, (size_t)length);
    memcpy(pseudo, peer_ip, 4);
    memcpy(pseudo + 4, our_ip, 4);
    put16(pseudo + 8, 17);
    put16(pseudo + 10, (unsigned)length + 8);
    sum = ~wire_sum(segment, length + 8, wire_sum(pseudo, 12, 0)) & 0xffff;
    put16(segment + 6, sum ? sum : 0xffff);
    id++;
    for (at = 0; at < length + 8; at += mtu) {
        int left = length + 8 - at, now = left < mtu ? left : mtu;
        wire_ip(17, segment + at, now, id, (unsigned)at / 8 | (now < left ? 0x2000u : 0));
    }
}

/* What the peer does with TCP; peer.h defines it. */
#ifndef WIRE_TCP
#define WIRE_TCP(ip)
#endif

/* What the peer does with protocols other than TCP and UDP. */
#ifndef WIRE_OTHER
#define WIRE_OTHER(ip, length)
#endif

static inline void wire_take(const unsigned char *frame, int length)
{
    const unsigned char *ip = frame + 14, *udp;
    wire.frames++;
    if (length >= 42 && get16(frame + 12) == 0x0806 && get16(frame + 20) == 1 && memcmp(frame + 38, peer_ip, 4) == 0) {
        unsigned char reply[42];
        wire.arp_requests++;
        memcpy(reply, frame, 42);
        memcpy(reply, our_mac, 6);
        memcpy(reply + 6, peer_mac, 6);
        put16(reply + 20, 2);
        memcpy(reply + 22, peer_mac, 6);
        memcpy(reply + 28, peer_ip, 4);
        memcpy(reply + 32, our_mac, 6);
        memcpy(reply + 38, our_ip, 4);
        if (wire.answers_arp)
            wire_push(reply, 42);
        return;
    }
    if (length >= 54 && get16(frame + 12) == 0x0800 && ip[9] == 6) {
        WIRE_TCP(ip);
        return;
    }
    if (length >= 34 && get16(frame + 12) == 0x0800 && ip[9] != 6 && ip[9] != 17) {
        WIRE_OTHER(ip, length - 14);
        return;
    }
    if (length < 42 || get16(frame + 12) != 0x0800 || ip[9] != 17)
        return;
    if (get16(ip + 6) & 0x3fff) {
        int at = (int)(get16(ip + 6) & 0x1fff) * 8 - 8, bytes = (int)get16(ip + 2) - 20;
        wire.fragments++;
        if (at < 0)
            memcpy(wire.whole, ip + 28, (size_t)bytes - 8);
        else
            memcpy(wire.whole + at, ip + 20, (size_t)bytes);
        if (!(get16(ip + 6) & 0x2000))
            wire.whole_length = at + bytes;
        return;
    }
    udp = ip + 20;
    wire.udp++;
    wire.last_udp_length = (int)get16(udp + 4) - 8;
    memcpy(wire.last_udp, udp + 8, (size_t)wire.last_udp_length);
    if (get16(udp + 2) == 7)
        wire_udp(7, get16(udp), udp + 8, wire.last_udp_length, 1480);
    else if (get16(udp + 2) > 60000) {
        unsigned char icmp[36];
        memset(icmp, 0, 8);
        icmp[0] = 3;
        icmp[1] = 3;
        memcpy(icmp + 8, ip, 28);
        put16(icmp + 2, ~wire_sum(icmp, 36, 0) & 0xffff);
        wire_ip(1, icmp, 36, 1, 0);
    }
}

static int wire_open(ttUserInterface i)
{
    wire.opened++;
    wire.interface = i;
    return 0;
}

static int wire_close(ttUserInterface i)
{
    wire.closed++;
    return i == wire.interface ? 0 : TM_EIO;
}

static int wire_send(ttUserInterface i, char *data, int length, int flag)
{
    if (wire.busy)
        return TM_EWOULDBLOCK;
    memcpy(wire.sending + wire.sending_length, data, (size_t)length);
    wire.sending_length += length;
    wire.pieces++;
    if (flag & TM_USER_BUFFER_LAST) {
        int whole = wire.sending_length;
        wire.sending_length = 0;
        wire_take(wire.sending, whole);
        if (wire.completes)
            tfSendCompleteInterface(i, TM_DEV_SEND_COMPLETE_APP);
    }
    return 0;
}

static int wire_recv(ttUserInterface i, char **data, int *length, ttUserBuffer *handle)
{
    unsigned at = wire.head % QUEUE_FRAMES;
    int empty;
    (void)i;
    WIRE_LOCK;
    empty = wire.head == wire.tail;
    WIRE_UNLOCK;
    if (empty)
        return TM_EWOULDBLOCK;
    *length = wire.lengths[at];
    if (wire.memory == OWN_MEMORY) {
        *data = (char *)wire.queue[at];
    } else {
        *data = wire.memory == DRIVER_BUFFERS ? tfGetDriverBuffer(handle, *length + 16, 64) : tfGetEthernetBuffer(handle);
        if (*data == 0)
            return TM_EWOULDBLOCK;
        if (wire.memory == DRIVER_BUFFERS)
            *data += 16;
        memcpy(*data, wire.queue[at], (size_t)*length);
    }
    WIRE_LOCK;
    wire.head++;
    WIRE_UNLOCK;
    return 0;
}

static int wire_free_recv(ttUserInterface i, char *data)
{
    (void)i;
    (void)data;
    wire.freed++;
    return 0;
}

static int wire_mac(ttUserInterface i, char *mac)
{
    (void)i;
    memcpy(mac, our_mac, 6);
    return 0;
}

/* The interface 10.0.0.1/24 on the wire, open. */
static inline ttUserInterface wire_up(void)
{
    int error = -1;
    ttUserInterface i;
    CHECK_EQ(tfStartTreck(), TM_ENOERROR);
    i = tfAddInterface("wire0", tfUseEthernet(), wire_open, wire_close, wire_send, wire_recv, wire_free_recv, 0, wire_mac, &error);
    CHECK_EQ(error, TM_ENOERROR);
    CHECK(i != 0);
    CHECK_EQ(tfOpenInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    return i;
}

static inline struct sockaddr_in address_of(const char *ip, unsigned port)
{
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = inet_addr(ip);
    return address;
}

/* A UDP socket, bound to `port` (0: not bound). */
static inline int udp_socket(unsigned port)
{
    int sd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(sd > 0);
    if (port) {
        struct sockaddr_in local = address_of("0.0.0.0", port);
        CHECK_EQ(bind(sd, (struct sockaddr *)&local, sizeof local), 0);
    }
    return sd;
}

static inline int connect_to(int sd, const char *ip, unsigned port)
{
    struct sockaddr_in remote = address_of(ip, port);
    return connect(sd, (struct sockaddr *)&remote, sizeof remote);
}

static inline void pump(void)
{
    while (tfPoll()) {
    }
}

/* The manual clock goes on from `now`, by the way of every timer; returns the time then. */
static inline uint64_t pass_ns(uint64_t now, uint64_t ns)
{
    uint64_t until = now + ns;
    for (;;) {
        uint64_t next = tfNextTimer();
        pump();
        if (next > until)
            break;
        if (next > now)
            now = next;
        CHECK_EQ(tfTimerUpdateTo(now), 0);
        tfTimerExecute();
    }
    CHECK_EQ(tfTimerUpdateTo(until), 0);
    pump();
    return until;
}

static inline ttUserMessage buffer_of(int size, char fill)
{
    char *data = 0;
    ttUserMessage h = tfGetZeroCopyBuffer(size, &data);
    CHECK(h != 0 && data != 0);
    if (h != 0)
        memset(data, fill, (size_t)size);
    return h;
}

static inline ttUserMessage buffer(int size)
{
    return buffer_of(size, 'x');
}

static inline tfStats stats(void)
{
    tfStats now;
    CHECK_EQ(tfGetStats(&now), TM_ENOERROR);
    return now;
}

/* Everything that was handed out has come back. */
static inline void check_all_free(ttUserInterface i)
{
    tfStats now;
    if (i)
        CHECK_EQ(tfCloseInterface(i), TM_ENOERROR);
    now = stats();
    CHECK_EQ(now.framesFree, now.framesTotal);
}

#endif
