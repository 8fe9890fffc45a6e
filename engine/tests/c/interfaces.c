/* Interfaces: every way to open, configure and close one, what a driver is told, and the errors of each call down to the shortage. */
#include "peer.h"

static int open_answer;

static int answering_open(ttUserInterface i)
{
    (void)i;
    return open_answer;
}

/* What the driver was told last, of each kind. */
static int told_flags, told_mtu, tellings;
static ttUserIpAddress told_address[2];

static int listening_ioctl(ttUserInterface i, int flag, void *option, int length)
{
    int mtu = 0;
    tellings++;
    /* It may call the API. */
    CHECK_EQ(tfGetIfMtu(i, &mtu), TM_ENOERROR);
    switch (flag) {
    case TM_DEV_SET_FLAGS:
        CHECK_EQ(length, sizeof told_flags);
        memcpy(&told_flags, option, sizeof told_flags);
        break;
    case TM_DEV_SET_ADDRESS:
        CHECK_EQ(length, sizeof told_address);
        memcpy(told_address, option, sizeof told_address);
        break;
    case TM_DEV_SET_MTU:
        CHECK_EQ(length, sizeof told_mtu);
        memcpy(&told_mtu, option, sizeof told_mtu);
        CHECK_EQ(mtu, told_mtu);
        break;
    default: CHECK(0);
    }
    return TM_EOPNOTSUPP; /* makes no difference */
}

#define CHECK_OPEN_ANSWERS(error)                                                                                      \
    do {                                                                                                               \
        open_answer = error;                                                                                           \
        CHECK_EQ(tfNgOpenInterface(never, at, 24, 0, 1), error);                                                       \
        CHECK_EQ(tfOpenInterface(never, address.sin_addr.s_addr, inet_addr("255.255.255.0"), 0, 1), error);            \
        CHECK_EQ(tfGetLastError(), error);                                                                             \
    } while (0)

static void opening(ttUserInterface i, ttUserInterface never)
{
    struct sockaddr_in address = address_of("10.0.0.1", 0);
    struct sockaddr_in6 six;
    struct sockaddr *at = (struct sockaddr *)&address;
    ttUserIpAddress told = 0;
    section("tfNgOpenInterface: its errors");
    CHECK_EQ(tfNgOpenInterface(0, at, 24, 0, 1), TM_EFAULT);
    CHECK_EQ(tfNgOpenInterface(i, 0, 24, 0, 1), TM_EFAULT);
    memset(&six, 0, sizeof six);
    six.sin6_family = AF_INET6;
    CHECK_EQ(tfNgOpenInterface(i, (struct sockaddr *)&six, 64, 0, 1), TM_EAFNOSUPPORT);
    address.sin_family = AF_UNSPEC;
    CHECK_EQ(tfNgOpenInterface(i, at, 24, 0, 1), TM_EAFNOSUPPORT);
    address.sin_family = AF_INET;
    CHECK_EQ(tfNgOpenInterface(i, at, 0, 0, 1), TM_EINVAL);
    CHECK_EQ(tfNgOpenInterface(i, at, -1, 0, 1), TM_EINVAL);
    CHECK_EQ(tfNgOpenInterface(i, at, 33, 0, 1), TM_EINVAL);
    CHECK_EQ(tfNgOpenInterface(i, at, 2147483647, 0, 1), TM_EINVAL);
    CHECK_EQ(tfNgOpenInterface(i, at, 24, 0, 0), TM_EINVAL);
    CHECK_EQ(tfNgOpenInterface(i, at, 24, 0x40000000, 1), TM_EINVAL);
    address = address_of("10.0.0.255", 0);
    CHECK_EQ(tfNgOpenInterface(i, at, 24, 0, 1), TM_EINVAL);
    section("what the driver's open answers is the answer");
    address = address_of("10.9.0.1", 0);
    CHECK_OPEN_ANSWERS(TM_EPERM);
    CHECK_OPEN_ANSWERS(TM_ENXIO);
    CHECK_OPEN_ANSWERS(TM_EBUSY);
    CHECK_OPEN_ANSWERS(TM_ENOMEM);
    CHECK_OPEN_ANSWERS(TM_EIO);
    section("a closed interface: TM_ENETDOWN");
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENETDOWN);
    CHECK_EQ(tfAddDefaultGateway(i, inet_addr("10.0.0.2")), TM_ENETDOWN);
    CHECK_EQ(tfAddStaticRoute(i, inet_addr("10.5.0.0"), inet_addr("255.255.0.0"), inet_addr("10.0.0.2"), 1), TM_ENETDOWN);
    CHECK_EQ(tfGetNetMask(i, &told), TM_ENETDOWN);
    CHECK_EQ(tellings, 0);
    section("opened, it tells the driver flags, address and MTU; the port of the address means nothing");
    CHECK_EQ(tfSetIfMtu(i, 1400), TM_ENOERROR);
    CHECK_EQ(tellings, 0);
    address = address_of("10.0.0.1", 4711);
    CHECK_EQ(tfNgOpenInterface(i, at, 24, TM_DEV_MCAST_ENB, 1), TM_ENOERROR);
    CHECK_EQ(tfNgOpenInterface(i, at, 24, 0, 1), TM_EALREADY);
    CHECK_EQ(tfGetIpAddress(i, &told), TM_ENOERROR);
    CHECK_EQ(told, inet_addr("10.0.0.1"));
    CHECK_EQ(tfGetNetMask(i, &told), TM_ENOERROR);
    CHECK_EQ(told, inet_addr("255.255.255.0"));
    CHECK_EQ(tellings, 3);
    CHECK_EQ(told_flags, TM_DEV_MCAST_ENB);
    CHECK_EQ(told_address[0], inet_addr("10.0.0.1"));
    CHECK_EQ(told_address[1], inet_addr("255.255.255.0"));
    CHECK_EQ(told_mtu, 1400);
    CHECK_EQ(tfSetIfMtu(i, 1300), TM_ENOERROR);
    CHECK_EQ(tellings, 4);
    CHECK_EQ(told_mtu, 1300);
}

static void corrupt_datagram(unsigned port)
{
    unsigned char segment[12] = {0, 9, 0, 0, 0, 12, 0x12, 0x34, 'a', 'b', 'c', 'd'};
    put16(segment + 2, port);
    wire_ip(17, segment, sizeof segment, 1, 0);
    pump();
}

static void configuring(ttUserInterface i)
{
    int sd = udp_socket(7000);
    char back[8];
    section("tfConfigInterface: address and flags; the driver is told");
    corrupt_datagram(7000);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.0.0"), 0x40000000, 1), TM_EINVAL);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.0.0"), TM_DEV_RX_CSUM_TRUST, 1), TM_ENOERROR);
    CHECK_EQ(told_flags, TM_DEV_RX_CSUM_TRUST);
    CHECK_EQ(told_address[1], inet_addr("255.255.0.0"));
    corrupt_datagram(7000);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_DONTWAIT), 4);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    corrupt_datagram(7000);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, MSG_DONTWAIT), TM_EWOULDBLOCK);
    section("closed and opened with other flags");
    CHECK_EQ(tfCloseInterface(i), TM_ENOERROR);
    CHECK_EQ(tfOpenInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), TM_DEV_RX_CSUM_TRUST, 1), TM_ENOERROR);
    corrupt_datagram(7000);
    CHECK_EQ(recv(sd, back, sizeof back, MSG_DONTWAIT), 4);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    CHECK_EQ(tfClose(sd), 0);
}

static void routes(ttUserInterface i)
{
    ttUserIpAddress gateway = inet_addr("10.0.0.2"), mask = inet_addr("255.255.255.255"), net = inet_addr("198.51.100.0");
    int udp = udp_socket(0), tcp, count, on = 1;
    struct sockaddr_in far_away = address_of("198.51.100.9", 9);
    section("routes: errors");
    CHECK_EQ(tfAddDefaultGateway(0, gateway), TM_EFAULT);
    CHECK_EQ(tfAddStaticRoute(0, net, mask, gateway, 1), TM_EFAULT);
    CHECK_EQ(tfAddStaticRoute(i, net, inet_addr("255.0.255.0"), gateway, 1), TM_EINVAL);
    CHECK_EQ(tfAddStaticRoute(i, net, mask, gateway, -1), TM_EINVAL);
    CHECK_EQ(tfDelStaticRoute(net, inet_addr("255.0.255.0")), TM_EINVAL);
    CHECK_EQ(tfConfigInterface(i, inet_addr("100.0.0.1"), inet_addr("128.0.0.0"), 0, 1), TM_ENOERROR);
    CHECK_EQ(tfAddDefaultGateway(i, 0), TM_EINVAL);
    CHECK_EQ(tfAddStaticRoute(i, net, mask, 0, 1), TM_EINVAL);
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    mask = inet_addr("255.255.255.0");
    CHECK_EQ(tfAddStaticRoute(i, net, mask, inet_addr("192.0.2.1"), 1), TM_EHOSTUNREACH);
    CHECK_EQ(tfAddStaticRoute(i, net, mask, gateway, 1), TM_ENOERROR);
    CHECK_EQ(tfAddStaticRoute(i, net, mask, gateway, 1), TM_EEXIST);
    section("MSG_DONTROUTE, SO_DONTROUTE: not through a gateway, datagrams and streams");
    CHECK_FAILS(udp, sendto(udp, "x", 1, MSG_DONTROUTE, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    CHECK_EQ(sendto(udp, "x", 1, 0, (struct sockaddr *)&far_away, sizeof far_away), 1);
    CHECK_EQ(setsockopt(udp, SOL_SOCKET, SO_DONTROUTE, &on, sizeof on), 0);
    CHECK_FAILS(udp, sendto(udp, "x", 1, 0, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    far_away = address_of("10.0.0.2", 9);
    CHECK_EQ(sendto(udp, "x", 1, MSG_DONTROUTE, (struct sockaddr *)&far_away, sizeof far_away), 1);
    tcp = connected_to(9);
    CHECK_EQ(send(tcp, "x", 1, MSG_DONTROUTE), 1);
    CHECK_EQ(tfDelStaticRoute(net, mask), TM_ENOERROR);
    /* From now on the peer itself is behind a gateway. */
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.255.252"), 0, 1), TM_ENOERROR);
    CHECK_EQ(tfAddStaticRoute(i, inet_addr("10.0.0.2"), inet_addr("255.255.255.255"), inet_addr("10.0.0.2"), 1), TM_ENOERROR);
    CHECK_FAILS(tcp, send(tcp, "x", 1, MSG_DONTROUTE), TM_EHOSTUNREACH);
    CHECK_FAILS(tcp, tfZeroCopyUserBufferSend(tcp, 0, (char *)&on, 1, 0, MSG_DONTROUTE), TM_EHOSTUNREACH);
    CHECK_EQ(send(tcp, "x", 1, 0), 1);
    close_cleanly(tcp);
    tcp = stream_socket();
    CHECK_FAILS(tcp, send(tcp, "x", 1, MSG_DONTROUTE), TM_ENOTCONN);
    CHECK_EQ(set_option(tcp, SOL_SOCKET, SO_DONTROUTE, 1), 0);
    CHECK_FAILS(tcp, connect_to(tcp, "10.0.0.2", 9), TM_EHOSTUNREACH);
    CHECK_EQ(tfClose(tcp) | tfClose(udp), 0);
    CHECK_EQ(tfDelStaticRoute(inet_addr("10.0.0.2"), inet_addr("255.255.255.255")), TM_ENOERROR);
    section("as many routes as there may be");
    for (count = 0; count < 100000; count++) {
        int error = tfAddStaticRoute(i, htonl(0xc6000000u + (unsigned)count), inet_addr("255.255.255.255"), gateway, 1);
        if (error == TM_ENOERROR)
            continue;
        CHECK_EQ(error, TM_ENOBUFS);
        break;
    }
    CHECK(count > 1000 && count < 100000);
    CHECK_EQ(tfAddDefaultGateway(i, gateway), TM_ENOBUFS);
    while (count-- > 0)
        CHECK_EQ(tfDelStaticRoute(htonl(0xc6000000u + (unsigned)count), inet_addr("255.255.255.255")), TM_ENOERROR);
}

static void neighbours(ttUserInterface i)
{
    static const char mac[6] = {2, 0, 0, 0, 1, 1};
    int count, error = 0;
    section("as many neighbours as there may be");
    CHECK_EQ(tfConfigInterface(i, inet_addr("10.0.0.1"), inet_addr("255.255.0.0"), 0, 1), TM_ENOERROR);
    for (count = 0; count < 60000 && error == 0; count++)
        error = tfAddArpEntry(htonl(0x0a000100u + (unsigned)count), mac, 6);
    CHECK_EQ(error, TM_ENOBUFS);
    CHECK(count > 100);
}

static void buffers(void)
{
    static ttUserBuffer all[8192];
    static ttUserMessage messages[8192];
    int count = 0, more = 0;
    char *data;
    ttUserBuffer one;
    section("as many buffers as there may be: a driver still gets some when senders do not");
    while (more < 8192 && (messages[more] = tfGetZeroCopyBuffer(100, &data)) != 0)
        more++;
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    while (count < 8192 && tfGetDriverBuffer(&all[count], 1500, 4) != 0)
        count++;
    CHECK(count > 0 && count < 8192);
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    CHECK(tfGetEthernetBuffer(&one) == 0);
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    while (count > 0)
        CHECK_EQ(tfFreeDriverBuffer(all[--count]), TM_ENOERROR);
    while (more > 0)
        CHECK_EQ(tfFreeZeroCopyBuffer(messages[--more]), TM_ENOERROR);
}

int main(void)
{
    int error = -1;
    ttUserInterface i, never;
    CHECK_EQ(tfStartTreck(), TM_ENOERROR);
    section("other link layers: none");
    CHECK(tfUseAsyncPpp() == 0);
    CHECK_EQ(tfGetLastError(), TM_EOPNOTSUPP);
    CHECK(tfUseSlip() == 0);
    CHECK_EQ(tfGetLastError(), TM_EOPNOTSUPP);
    CHECK(tfAddInterface("ppp0", tfUseAsyncPpp(), 0, 0, wire_send, wire_recv, 0, 0, wire_mac, &error) == 0);
    CHECK_EQ(error, TM_EINVAL);
    i = tfAddInterface("wire0", tfUseEthernet(), wire_open, wire_close, wire_send, wire_recv, wire_free_recv, listening_ioctl, wire_mac, &error);
    CHECK_EQ(error, TM_ENOERROR);
    never = tfAddInterface("never", tfUseEthernet(), answering_open, 0, wire_send, wire_recv, 0, 0, wire_mac, &error);
    CHECK_EQ(error, TM_ENOERROR);
    opening(i, never);
    configuring(i);
    routes(i);
    buffers();
    neighbours(i);
    check_all_free(i);
    return finish("interfaces");
}
