/* Scattered messages: chains of links as they came, trimmed and sent on uncopied; datagrams out of blocks of the application's. */
#include "peer.h"

#define BIG 10000
#define LINKS 7 /* fragments of 1,480 bytes that BIG and a UDP header take */

static char big[BIG];
static struct sockaddr_in sink, echo;

/* A scattered message of BIG bytes in LINKS links. */
static ttUserPacket *receive_big(int sd)
{
    ttUserMessage h = 0;
    char *data = 0;
    wire_udp(9, 6000, big, BIG, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 65536, MSG_SCATTERED), BIG);
    CHECK(h != 0 && ((ttUserPacket *)h)->pktuLinkDataPtr == data);
    return (ttUserPacket *)h;
}

static ttUserPacket *link_of(ttUserPacket *packet, int number)
{
    while (number-- > 0 && packet != 0)
        packet = packet->pktuLinkNextPtr;
    return packet;
}

static int send_scattered(int sd, ttUserPacket *packet, int length)
{
    return tfZeroCopySendTo(sd, (ttUserMessage)packet, length, MSG_SCATTERED, (struct sockaddr *)&sink, sizeof sink);
}

static void chain(int sd)
{
    ttUserPacket *first, *link;
    int links = 0, at = 0, fragments = wire.fragments;
    tfStats before = stats();
    section("a datagram in fragments comes link by link, and goes out again, without a copied byte");
    first = receive_big(sd);
    CHECK_EQ(first->pktuChainDataLength, BIG);
    CHECK_EQ(first->pktuLinkExtraCount, LINKS - 1);
    for (link = first; link != 0; link = link->pktuLinkNextPtr) {
        CHECK_EQ(link->pktuLinkDataLength, links == 0 ? 1472 : links == LINKS - 1 ? BIG - 1472 - 5 * 1480 : 1480);
        CHECK_EQ(memcmp(link->pktuLinkDataPtr, big + at, (size_t)link->pktuLinkDataLength), 0);
        at += link->pktuLinkDataLength;
        links++;
    }
    CHECK_EQ(links, LINKS);
    CHECK_EQ(at, BIG);
    link_of(first, 3)->pktuLinkDataPtr[5] = '!';
    CHECK_EQ(send_scattered(sd, first, BIG), BIG);
    CHECK_EQ(wire.fragments - fragments, LINKS);
    CHECK_EQ(wire.whole_length, BIG);
    CHECK_EQ(wire.whole[1472 + 2 * 1480 + 5], '!');
    wire.whole[1472 + 2 * 1480 + 5] = (unsigned char)big[1472 + 2 * 1480 + 5];
    CHECK_EQ(memcmp(wire.whole, big, BIG), 0);
    CHECK_EQ(stats().bytesCopiedTx, before.bytesCopiedTx);
    CHECK_EQ(stats().bytesCopiedRx, before.bytesCopiedRx);
    pump();
    CHECK_EQ(stats().framesFree, before.framesFree);
    section("its checksum is right: the peer echoes it, and it comes again");
    first = receive_big(sd);
    CHECK_EQ(tfZeroCopySendTo(sd, (ttUserMessage)first, 1000, MSG_SCATTERED, (struct sockaddr *)&echo, sizeof echo), 1000);
    pump();
    CHECK_EQ(recv(sd, wire.sending, 2000, MSG_DONTWAIT), 1000);
    CHECK_EQ(memcmp(wire.sending, big, 1000), 0);
}

static void trimming(int sd)
{
    ttUserPacket *first, *link;
    uint64_t before = stats().framesFree;
    int total, n;
    section("links may be trimmed in place: the front of one, the back of another, all of a third");
    first = receive_big(sd);
    first->pktuLinkDataPtr += 100;
    first->pktuLinkDataLength -= 100;
    link_of(first, 1)->pktuLinkDataLength = 3;
    link_of(first, 2)->pktuLinkDataLength = 0;
    total = BIG - 100 - 1477 - 1480;
    CHECK_EQ(send_scattered(sd, first, total), total);
    CHECK_EQ(wire.whole_length, total);
    CHECK_EQ(memcmp(wire.whole, big + 100, 1372 + 3), 0);
    CHECK_EQ(memcmp(wire.whole + 1375, big + 1472 + 2 * 1480, (size_t)total - 1375), 0);
    pump();
    CHECK_EQ(stats().framesFree, before);
    section("but not beyond what was handed out, and the chain stays as it is: TM_EINVAL, and it is freed");
    for (n = 0; n < 7; n++) {
        first = receive_big(sd);
        link = link_of(first, n % 3);
        switch (n) {
        case 0: link->pktuLinkDataLength++; break;
        case 1: link->pktuLinkDataPtr--; break;
        case 2: link->pktuLinkDataLength = -1; break;
        case 3: link->pktuLinkDataPtr = 0; break;
        case 4: link->pktuLinkNextPtr = 0; break;
        case 5: link->pktuLinkNextPtr = first; break;
        default: link->pktuLinkDataPtr += 1473; link->pktuLinkDataLength = 0; break;
        }
        CHECK_FAILS(sd, send_scattered(sd, first, 10), TM_EINVAL);
        CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first), TM_EFAULT);
        CHECK_EQ(stats().framesFree, before);
    }
    section("a spoilt chain can be given back");
    first = receive_big(sd);
    memset(first, 0xff, sizeof *first);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first), TM_ENOERROR);
    CHECK_EQ(stats().framesFree, before);
}

static void lengths_and_flags(int sd)
{
    ttUserPacket *first;
    ttUserMessage h, peeked;
    char *data;
    uint64_t before = stats().framesFree;
    int tcp = stream_socket();
    section("length, flags; each but the good ones frees the message");
    first = receive_big(sd);
    CHECK_FAILS(sd, send_scattered(sd, first, BIG + 1), TM_EINVAL);
    first = receive_big(sd);
    CHECK_FAILS(sd, send_scattered(sd, first, 0), TM_EINVAL);
    first = receive_big(sd);
    CHECK_FAILS(sd, send_scattered(sd, first, 2147483647), TM_EINVAL);
    first = receive_big(sd);
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, (ttUserMessage)first, BIG, 0, (struct sockaddr *)&sink, sizeof sink), TM_EINVAL);
    first = receive_big(sd);
    CHECK_FAILS(sd, tfZeroCopySend(sd, (ttUserMessage)first, BIG, MSG_SCATTERED), TM_ENOTCONN);
    first = receive_big(sd);
    CHECK_FAILS(tcp, tfZeroCopySend(tcp, (ttUserMessage)first, BIG, MSG_SCATTERED), TM_EINVAL);
    CHECK_FAILS(tcp, tfZeroCopyRecv(tcp, &h, &data, 100, MSG_SCATTERED), TM_EINVAL);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first), TM_EFAULT);
    CHECK_EQ(stats().framesFree, before);
    section("fewer bytes than all: the rest is cut; received with a maxLength too, and the frames behind it are free at once");
    first = receive_big(sd);
    CHECK_EQ(send_scattered(sd, first, 5000), 5000);
    CHECK_EQ(wire.whole_length, 5000);
    CHECK_EQ(memcmp(wire.whole, big, 5000), 0);
    wire_udp(9, 6000, big, BIG, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 1500, MSG_SCATTERED), 1500);
    first = (ttUserPacket *)h;
    CHECK_EQ(first->pktuLinkExtraCount, 1);
    CHECK_EQ(first->pktuChainDataLength, 1500);
    CHECK_EQ(first->pktuLinkNextPtr->pktuLinkDataLength, 28);
    CHECK(first->pktuLinkNextPtr->pktuLinkNextPtr == 0);
    CHECK_EQ(stats().framesFree, before - 2);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    section("a datagram of one frame is a chain of one link, and any buffer may be sent as one piece");
    wire_udp(9, 6000, "hello", 5, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 1500, MSG_SCATTERED), 5);
    first = (ttUserPacket *)h;
    CHECK(first->pktuLinkNextPtr == 0 && first->pktuLinkDataPtr == data);
    CHECK_EQ(first->pktuLinkExtraCount, 0);
    first->pktuLinkDataPtr++;
    first->pktuLinkDataLength = 3;
    CHECK_EQ(tfZeroCopySendTo(sd, h, 3, 0, (struct sockaddr *)&sink, sizeof sink), 3);
    CHECK_EQ(wire.last_udp_length, 3);
    CHECK_EQ(memcmp(wire.last_udp, "ell", 3), 0);
    h = tfGetZeroCopyBuffer(3000, &data);
    memset(data, 'z', 3000);
    CHECK_EQ(send_scattered(sd, (ttUserPacket *)h, 3000), 3000);
    CHECK_EQ(wire.whole_length, 3000);
    section("MSG_PEEK: a copy with a handle of its own");
    wire_udp(9, 6000, big, BIG, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &peeked, &data, 65536, MSG_SCATTERED | MSG_PEEK), BIG);
    CHECK_EQ(((ttUserPacket *)peeked)->pktuLinkDataLength, BIG);
    CHECK_EQ(memcmp(data, big, BIG), 0);
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 65536, MSG_SCATTERED), BIG);
    CHECK(peeked != h);
    CHECK_EQ(tfFreeZeroCopyBuffer(peeked), TM_ENOERROR);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    section("an empty datagram has a null handle; none has come: TM_EWOULDBLOCK");
    wire_udp(9, 6000, big, 0, 1480);
    pump();
    CHECK_EQ(tfZeroCopyRecv(sd, &h, &data, 100, MSG_SCATTERED), 0);
    CHECK(h == 0 && data == 0);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 100, MSG_SCATTERED | MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(stats().framesFree, before);
    CHECK_EQ(tfClose(tcp), 0);
}

static void handles(int sd)
{
    ttUserPacket *first, *stale, *last = 0;
    uintptr_t live;
    int n, at;
    char *data;
    ttUserMessage h;
    uint64_t before = stats().framesFree;
    section("what is no handle of a chain: TM_EFAULT, and nothing is touched");
    first = receive_big(sd);
    live = (uintptr_t)first;
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first->pktuLinkNextPtr), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)(void *)first->pktuLinkDataPtr), TM_EFAULT);
    CHECK_EQ(tfFreeDriverBuffer((ttUserBuffer)(void *)first), TM_EFAULT);
    for (at = 0; at < 64; at++)
        CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)(live ^ (uintptr_t)1 << at)), TM_EFAULT);
    /* The number that a buffer's handle would have is none either: this is the only buffer, so its number ends in a small one. */
    for (at = 1; at < 64; at++)
        for (n = 0; n < 8; n++)
            CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)((uintptr_t)at << 32 | (uintptr_t)n << 1 | 1)), TM_EFAULT);
    CHECK_EQ(link_of(first, LINKS - 1)->pktuLinkDataLength, BIG - 1472 - 5 * 1480);
    section("double free, use after send; what the stale pointer shows may still be read");
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first), TM_ENOERROR);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first), TM_EFAULT);
    CHECK_FAILS(sd, send_scattered(sd, first, 10), TM_EFAULT);
    CHECK_EQ(first->pktuChainDataLength, BIG);
    stale = receive_big(sd);
    CHECK(stale != first);
    CHECK_EQ(send_scattered(sd, stale, BIG), BIG);
    CHECK_FAILS(sd, send_scattered(sd, stale, BIG), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)stale), TM_EFAULT);
    section("an address names another message after 65,536 links, not before");
    for (n = 0; n < 65536 - 2 * LINKS; n++) {
        wire_udp(9, 6000, "x", 1, 1480);
        if (tfRecvInterface(wire.interface) != TM_ENOERROR || tfZeroCopyRecv(sd, &h, &data, 10, MSG_SCATTERED) != 1)
            break;
        if ((ttUserPacket *)h == first || (ttUserPacket *)h == stale || (ttUserPacket *)h == last)
            break;
        last = (ttUserPacket *)h;
        if (n % 1000 == 0) {
            CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)first), TM_EFAULT);
            CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)stale), TM_EFAULT);
        }
        if (tfFreeZeroCopyBuffer(h) != TM_ENOERROR)
            break;
    }
    CHECK_EQ(n, 65536 - 2 * LINKS);
    for (n = 0; n < 65536 * 2; n++) {
        wire_udp(9, 6000, "x", 1, 1480);
        if (tfRecvInterface(wire.interface) != TM_ENOERROR || tfZeroCopyRecv(sd, &h, &data, 10, MSG_SCATTERED) != 1 || tfFreeZeroCopyBuffer(h) != TM_ENOERROR)
            break;
    }
    CHECK_EQ(n, 65536 * 2);
    CHECK_EQ(stats().framesFree, before);
}

static void would_block(int sd)
{
    ttUserPacket *first = receive_big(sd);
    ttUserMessage h;
    char *data;
    section("TM_EWOULDBLOCK: the caller keeps the chain with all its bytes");
    wire.busy = 1;
    do {
        h = tfGetZeroCopyBuffer(100, &data);
        CHECK(h != 0);
    } while (h != 0 && tfZeroCopySendTo(sd, h, 100, MSG_DONTWAIT, (struct sockaddr *)&sink, sizeof sink) == 100);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    first->pktuLinkDataPtr += 2;
    first->pktuLinkDataLength -= 2;
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, (ttUserMessage)first, 500, MSG_SCATTERED | MSG_DONTWAIT, (struct sockaddr *)&sink, sizeof sink), TM_EWOULDBLOCK);
    CHECK_EQ(first->pktuLinkDataLength, 1470);
    first->pktuLinkDataPtr -= 2;
    first->pktuLinkDataLength += 2;
    wire.busy = 0;
    CHECK_EQ(send_scattered(sd, first, BIG), BIG);
    pump();
    CHECK_EQ(wire.whole_length, BIG);
    CHECK_EQ(memcmp(wire.whole, big, BIG), 0);
}

/* ---- blocks ---------------------------------------------------------------------------------------------------------------- */

static char block_memory[3][600];
static int block_frees[3], other_frees;

static void free_block(char *userBuffer)
{
    int at;
    for (at = 0; at < 3; at++)
        if (userBuffer == block_memory[at]) {
            block_frees[at]++;
            return;
        }
    other_frees++;
}

static void expect_frees(int each)
{
    CHECK_EQ(block_frees[0], each);
    CHECK_EQ(block_frees[1], each);
    CHECK_EQ(block_frees[2], each);
    CHECK_EQ(other_frees, 0);
    memset(block_frees, 0, sizeof block_frees);
}

static ttUserBlock blocks[3];

static ttUserBlockPtr fresh_blocks(void)
{
    int at;
    for (at = 0; at < 3; at++) {
        memset(block_memory[at], 'a' + at, sizeof block_memory[at]);
        blocks[at].userBufferPtr = block_memory[at];
        blocks[at].userDataPtr = block_memory[at] + 10 * at;
        blocks[at].userDataLength = 500 + at;
    }
    return blocks;
}

static void blocks_as_one_datagram(int sd)
{
    const struct sockaddr *to = (const struct sockaddr *)&sink;
    struct sockaddr_in other;
    tfStats before = stats();
    int connected = udp_socket(0), refused = udp_socket(0), shut = udp_socket(0), tcp = stream_socket(), small = 50;
    ttUserBlockPtr none = 0;
    section("three blocks are one datagram; each is freed once, and counted as copied");
    CHECK_EQ(tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, to, sizeof sink), 1503);
    memset(blocks, 0, sizeof blocks);
    expect_frees(1);
    pump();
    CHECK_EQ(wire.whole_length, 1503);
    CHECK(wire.whole[0] == 'a' && wire.whole[499] == 'a' && wire.whole[500] == 'b' && wire.whole[1000] == 'b' && wire.whole[1001] == 'c' && wire.whole[1502] == 'c');
    CHECK_EQ(stats().bytesCopiedTx - before.bytesCopiedTx, 1503);
    CHECK_EQ(stats().framesFree, before.framesFree);
    section("without a free function; an empty block between others; connected, with no address");
    CHECK_EQ(connect_to(connected, "10.0.0.2", 9), 0);
    fresh_blocks()[1].userDataLength = 0;
    CHECK_EQ(tfSocketScatteredSendTo(connected, blocks, 3, 0, 0, 0, 0), 1002);
    CHECK_EQ(wire.last_udp_length, 1002);
    section("errors in their order; each block freed once on every one of them");
    CHECK_EQ(tfSocketScatteredSendTo(12345, none, 3, free_block, 0, to, sizeof sink), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 0, free_block, 0, to, sizeof sink), TM_EINVAL);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, blocks, -1, free_block, 0, to, sizeof sink), TM_EINVAL);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, blocks, 2147483647, free_block, 0, to, sizeof sink), TM_EINVAL);
    expect_frees(0);
    blocks[2].userDataPtr = 0;
    CHECK_EQ(tfSocketScatteredSendTo(12345, blocks, 3, free_block, 0, to, sizeof sink), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    expect_frees(1);
    CHECK_EQ(tfSocketScatteredSendTo(12345, fresh_blocks(), 3, free_block, -1, to, sizeof sink), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    expect_frees(1);
    fresh_blocks()[1].userDataLength = -1;
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, blocks, 3, free_block, 0, to, sizeof sink), TM_EINVAL);
    expect_frees(1);
    blocks[0].userDataLength = blocks[1].userDataLength = blocks[2].userDataLength = 0;
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, blocks, 3, free_block, 0, to, sizeof sink), TM_EINVAL);
    blocks[0].userDataLength = blocks[1].userDataLength = blocks[2].userDataLength = 2147483647;
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, blocks, 3, free_block, 0, to, sizeof sink), TM_EINVAL);
    expect_frees(2);
    CHECK_FAILS(tcp, tfSocketScatteredSendTo(tcp, fresh_blocks(), 3, free_block, 0, to, sizeof sink), TM_EOPNOTSUPP);
    expect_frees(1);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, MSG_OOB, to, sizeof sink), TM_EINVAL);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, MSG_SCATTERED, to, sizeof sink), TM_EINVAL);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, to, 3), TM_EINVAL);
    expect_frees(3);
    other = sink;
    other.sin_family = AF_INET6;
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, (struct sockaddr *)&other, sizeof other), TM_EAFNOSUPPORT);
    other = sink;
    other.sin_port = 0;
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, (struct sockaddr *)&other, sizeof other), TM_EADDRNOTAVAIL);
    expect_frees(2);
    CHECK_EQ(connect_to(shut, "10.0.0.2", 9), 0);
    CHECK_EQ(shutdown(shut, SHUT_WR), 0);
    CHECK_FAILS(shut, tfSocketScatteredSendTo(shut, fresh_blocks(), 3, free_block, 0, 0, 0), TM_ESHUTDOWN);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, 0, 0), TM_ENOTCONN);
    CHECK_FAILS(connected, tfSocketScatteredSendTo(connected, fresh_blocks(), 3, free_block, 0, to, sizeof sink), TM_EISCONN);
    expect_frees(3);
    CHECK_EQ(connect_to(refused, "10.0.0.2", 60003), 0);
    CHECK_EQ(setsockopt(refused, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    CHECK_EQ(tfSocketScatteredSendTo(refused, fresh_blocks(), 1, 0, 0, 0, 0), 500);
    pump();
    CHECK_FAILS(refused, tfSocketScatteredSendTo(refused, fresh_blocks(), 3, free_block, MSG_DONTWAIT, 0, 0), TM_ECONNREFUSED);
    CHECK_FAILS(refused, tfSocketScatteredSendTo(refused, fresh_blocks(), 3, free_block, MSG_DONTWAIT, 0, 0), TM_EMSGSIZE);
    other = address_of("192.0.2.1", 9);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, (struct sockaddr *)&other, sizeof other), TM_EHOSTUNREACH);
    other = address_of("255.255.255.255", 9);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, (struct sockaddr *)&other, sizeof other), TM_EACCES);
    expect_frees(4);
    CHECK_EQ(tfClose(connected) | tfClose(refused) | tfClose(shut) | tfClose(tcp), 0);
}

static void blocks_wait(int sd)
{
    static ttUserMessage all[8192];
    const struct sockaddr *to = (const struct sockaddr *)&sink;
    struct sockaddr_in far_away = address_of("192.0.2.1", 9);
    int count = 0;
    char *data;
    section("TM_EWOULDBLOCK frees nothing: the same blocks may be tried again");
    wire.busy = 1;
    while (tfSocketScatteredSendTo(sd, fresh_blocks(), 3, 0, MSG_DONTWAIT, to, sizeof sink) == 1503 && count < 10000)
        count++;
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, MSG_DONTWAIT, to, sizeof sink), TM_EWOULDBLOCK);
    expect_frees(0);
    wire.busy = 0;
    CHECK_EQ(tfSocketScatteredSendTo(sd, blocks, 3, free_block, 0, to, sizeof sink), 1503);
    expect_frees(1);
    pump();
    section("TM_ENOBUFS: no frame for the copy; behind the errors before it");
    for (count = 0; count < 8192 && (all[count] = tfGetZeroCopyBuffer(1, &data)) != 0; count++) {
    }
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, to, sizeof sink), TM_ENOBUFS);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, 0, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, tfSocketScatteredSendTo(sd, fresh_blocks(), 3, free_block, 0, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    expect_frees(3);
    while (count > 0)
        CHECK_EQ(tfFreeZeroCopyBuffer(all[--count]), TM_ENOERROR);
}

int main(void)
{
    ttUserInterface i = wire_up();
    int at, sd = udp_socket(6000);
    for (at = 0; at < BIG; at++)
        big[at] = (char)(at * 13 ^ at >> 7);
    sink = address_of("10.0.0.2", 9);
    echo = address_of("10.0.0.2", 7);
    /* The peer's Ethernet address, so that nothing waits for it. */
    CHECK_EQ(sendto(sd, "x", 1, 0, (struct sockaddr *)&sink, sizeof sink), 1);
    pump();
    chain(sd);
    trimming(sd);
    lengths_and_flags(sd);
    handles(sd);
    would_block(sd);
    blocks_as_one_datagram(sd);
    blocks_wait(sd);
    CHECK_EQ(tfClose(sd), 0);
    check_all_free(i);
    return finish("scattered");
}
