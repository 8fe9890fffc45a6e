/* A TCP peer on the wire, written for tests: it answers as told, loses nothing, and sends nothing twice. */
#ifndef PEER_H
#define PEER_H

struct peer_connection;
static void peer_take(const unsigned char *ip);
#define WIRE_TCP(ip) peer_take(ip)

#include "check.h"

#define TCP_FIN 1u
#define TCP_SYN 2u
#define TCP_RST 4u
#define TCP_PSH 8u
#define TCP_ACK 16u
#define TCP_URG 32u

/* Ports of the peer: what it does with a SYN that comes there. */
#define PEER_SILENT 50000  /* and above: nothing */
#define PEER_REFUSES 60000 /* and above: a reset */

typedef struct peer_connection {
    unsigned port, our_port;      /* the peer's, the stack's */
    uint32_t snd, rcv;            /* what it sends next, what it expects next */
    uint32_t seen;                /* behind the last that came, acknowledged or not */
    unsigned window, offered;     /* its own, and the stack's */
    int open, acks, echoes;       /* knobs: it acknowledges, it sends back */
    int established, fin, reset;  /* what it has seen */
    int segments, urgent;         /* data segments; the urgent pointer's place in data, or -1 */
    unsigned urgent_pointer;
    unsigned mss;
    unsigned char data[1 << 18];
    int length;
} peer_connection;

#define PEER_CONNECTIONS 8
static peer_connection peers[PEER_CONNECTIONS];
static int peer_count;
/* Knobs of connections to come. */
static int peer_acks = 1;
static unsigned peer_window = 65535;

static inline void put32(unsigned char *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static inline uint32_t get32(const unsigned char *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* A segment to the stack. `urgent`: the pointer, if TCP_URG is set. */
static void peer_segment(peer_connection *peer, unsigned flags, const void *payload, int length, unsigned urgent)
{
    unsigned char segment[2000], pseudo[12];
    int header = flags & TCP_SYN ? 24 : 20;
    memset(segment, 0, 24);
    put16(segment, peer->port);
    put16(segment + 2, peer->our_port);
    put32(segment + 4, peer->snd);
    put32(segment + 8, flags & TCP_ACK ? peer->rcv : 0);
    segment[12] = (unsigned char)(header / 4 << 4);
    segment[13] = (unsigned char)flags;
    put16(segment + 14, peer->window);
    put16(segment + 18, urgent);
    if (flags & TCP_SYN) {
        segment[20] = 2;
        segment[21] = 4;
        put16(segment + 22, peer->mss);
    }
    if (length > 0)
        memcpy(segment + header, payload, (size_t)length);
    length += header;
    memcpy(pseudo, peer_ip, 4);
    memcpy(pseudo + 4, our_ip, 4);
    put16(pseudo + 8, 6);
    put16(pseudo + 10, (unsigned)length);
    put16(segment + 16, ~wire_sum(segment, length, wire_sum(pseudo, 12, 0)) & 0xffff);
    peer->snd += (uint32_t)(length - header) + ((flags & (TCP_SYN | TCP_FIN)) != 0);
    wire_ip(6, segment, length, 1, 0x4000);
}

static peer_connection *peer_new(unsigned port, unsigned our_port)
{
    peer_connection *peer = &peers[peer_count++ % PEER_CONNECTIONS];
    memset(peer, 0, sizeof *peer);
    peer->port = port;
    peer->our_port = our_port;
    peer->snd = 1000;
    peer->window = peer_window;
    peer->open = 1;
    peer->acks = peer_acks;
    peer->echoes = port == 7;
    peer->urgent = -1;
    peer->mss = 1460;
    return peer;
}

/* The latest connection. */
static inline peer_connection *peer_last(void)
{
    return &peers[(peer_count - 1) % PEER_CONNECTIONS];
}

static void peer_take(const unsigned char *ip)
{
    const unsigned char *tcp = ip + 20;
    unsigned our_port = get16(tcp), port = get16(tcp + 2), flags = tcp[13];
    int header = (tcp[12] >> 4) * 4, length = (int)get16(ip + 2) - 20 - header, at;
    peer_connection *peer = 0;
    for (at = 0; at < PEER_CONNECTIONS; at++)
        if (peers[at].open && peers[at].port == port && peers[at].our_port == our_port)
            peer = &peers[at];
    if (flags & TCP_SYN && !(flags & TCP_ACK)) {
        if (peer == 0 && port >= PEER_REFUSES) {
            peer = peer_new(port, our_port);
            peer->rcv = get32(tcp + 4) + 1;
            peer->snd = 0;
            peer_segment(peer, TCP_RST | TCP_ACK, 0, 0, 0);
            peer->open = 0;
            return;
        }
        if (port >= PEER_SILENT)
            return;
        if (peer == 0)
            peer = peer_new(port, our_port);
        else
            peer->snd = 1000;
        peer->rcv = get32(tcp + 4) + 1;
        peer_segment(peer, TCP_SYN | TCP_ACK, 0, 0, 0);
        return;
    }
    if (peer == 0)
        return;
    if (flags & TCP_RST) {
        peer->reset = 1;
        peer->open = 0;
        return;
    }
    if (flags & TCP_SYN) {
        peer->rcv = get32(tcp + 4) + 1;
        peer->established = 1;
        peer_segment(peer, TCP_ACK, 0, 0, 0);
        return;
    }
    peer->established = 1;
    peer->offered = get16(tcp + 14);
    peer->seen = get32(tcp + 4) + (uint32_t)length + (flags & TCP_FIN);
    if (!peer->acks)
        return;
    if (get32(tcp + 4) != peer->rcv) {
        /* A probe, or something again. */
        peer_segment(peer, TCP_ACK, 0, 0, 0);
        return;
    }
    if (flags & TCP_URG) {
        peer->urgent_pointer = get16(tcp + 18);
        peer->urgent = peer->length + (int)peer->urgent_pointer;
    }
    if (length > 0) {
        peer->segments++;
        if (peer->length + length <= (int)sizeof peer->data)
            memcpy(peer->data + peer->length, tcp + header, (size_t)length);
        peer->length += length;
        peer->rcv += (uint32_t)length;
    }
    if (flags & TCP_FIN) {
        peer->fin = 1;
        peer->rcv++;
    }
    if (length > 0 || flags & TCP_FIN)
        peer_segment(peer, TCP_ACK | (length > 0 ? TCP_PSH : 0), tcp + header, peer->echoes ? length : 0, 0);
}

/* The peer connects to a port of the stack's. */
static inline peer_connection *peer_connect(unsigned our_port)
{
    static unsigned port = 30000;
    peer_connection *peer = peer_new(port++, our_port);
    peer_segment(peer, TCP_SYN, 0, 0, 0);
    pump();
    return peer;
}

static inline void peer_send(peer_connection *peer, const void *data, int length)
{
    peer_segment(peer, TCP_ACK | TCP_PSH, data, length, 0);
}

static inline void peer_finish(peer_connection *peer)
{
    peer_segment(peer, TCP_ACK | TCP_FIN, 0, 0, 0);
}

static inline void peer_resets(peer_connection *peer)
{
    peer_segment(peer, TCP_ACK | TCP_RST, 0, 0, 0);
    peer->open = 0;
}

/* It acknowledges `length` bytes that it did not take down. */
static inline void peer_acknowledge(peer_connection *peer, int length)
{
    peer->rcv += (uint32_t)length;
    peer_segment(peer, TCP_ACK, 0, 0, 0);
}

/* From now on it acknowledges; and all that it was sent before. */
static inline void peer_catch_up(peer_connection *peer)
{
    peer->acks = 1;
    peer->rcv = peer->seen;
    peer_segment(peer, TCP_ACK, 0, 0, 0);
    pump();
}

static inline int stream_socket(void)
{
    int sd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(sd > 0);
    return sd;
}

/* A stream connected to the peer's port. */
static inline int connected_to(unsigned port)
{
    int sd = stream_socket();
    CHECK_EQ(connect_to(sd, "10.0.0.2", port), 0);
    return sd;
}

static inline int listener_at(unsigned port)
{
    int sd = stream_socket();
    struct sockaddr_in local = address_of("0.0.0.0", port);
    CHECK_EQ(bind(sd, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_EQ(listen(sd, 5), 0);
    return sd;
}

/* Closes a stream whose peer answers, and sees the descriptor freed. */
static inline void close_cleanly(int sd)
{
    CHECK_EQ(tfClose(sd), 0);
    pump();
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
}

static inline int set_option(int sd, int level, int option, int value)
{
    return setsockopt(sd, level, option, &value, sizeof value);
}

static inline int get_option(int sd, int level, int option)
{
    int value = -1, length = sizeof value;
    CHECK_EQ(getsockopt(sd, level, option, &value, &length), 0);
    return value;
}

#endif
