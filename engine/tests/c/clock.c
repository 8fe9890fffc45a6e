/* A manual clock and a user driver: one thread, every step at a known time. Also start-up in every wrong order, interfaces and routes. */
#include "check.h"

#define SECOND UINT64_C(1000000000)

static void before_start(void)
{
    int error = 0;
    struct sockaddr_in local = address_of("0.0.0.0", 6000), away = address_of("10.0.0.2", 9);
    int sd, same, any, length = sizeof local;
    char *data;
    section("before tfStartTreck");
    CHECK_EQ(socket(AF_INET, SOCK_DGRAM, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EINVAL);
    CHECK(tfAddInterface("wire0", tfUseEthernet(), 0, 0, wire_send, wire_recv, 0, 0, wire_mac, &error) == 0);
    CHECK_EQ(error, TM_EINVAL);
    CHECK_EQ(tfTimerUpdateTo(5), TM_EINVAL);
    CHECK_EQ(tfUseManualClock(), TM_ENOERROR);
    CHECK_EQ(tfNextTimer(), UINT64_MAX);
    CHECK_EQ(tfPoll(), 0);
    tfTimerExecute();
    CHECK_EQ(tfStartTreck(), TM_ENOERROR);
    CHECK_EQ(tfStartTreck(), TM_EALREADY);
    CHECK_EQ(tfUseManualClock(), TM_EINVAL);
    CHECK_EQ(tfStartWorkers(1), TM_EINVAL);
    section("before an interface is open: no buffers, ports are promised, nobody can be reached");
    CHECK(tfGetZeroCopyBuffer(10, &data) == 0);
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    sd = udp_socket(6000);
    same = udp_socket(0);
    any = udp_socket(0);
    CHECK_FAILS(same, bind(same, (struct sockaddr *)&local, sizeof local), TM_EADDRINUSE);
    CHECK_FAILS(sd, bind(sd, (struct sockaddr *)&local, sizeof local), TM_EINVAL);
    local = address_of("10.0.0.1", 6001);
    CHECK_FAILS(same, bind(same, (struct sockaddr *)&local, sizeof local), TM_EADDRNOTAVAIL);
    local = address_of("0.0.0.0", 0);
    CHECK_EQ(bind(any, (struct sockaddr *)&local, sizeof local), 0);
    CHECK_FAILS(same, sendto(same, "x", 1, 0, (struct sockaddr *)&away, sizeof away), TM_EHOSTUNREACH);
    CHECK_FAILS(same, connect_to(same, "10.0.0.2", 9), TM_EHOSTUNREACH);
    CHECK_FAILS(sd, recv(sd, &error, 1, 0), TM_EWOULDBLOCK);
    CHECK_EQ(stats().framesTotal, 0);
    section("interfaces: names, functions, addresses");
    CHECK(tfAddInterface("", tfUseEthernet(), 0, 0, wire_send, wire_recv, 0, 0, wire_mac, &error) == 0);
    CHECK(tfAddInterface("a-name-of-16-byt", tfUseEthernet(), 0, 0, wire_send, wire_recv, 0, 0, wire_mac, &error) == 0);
    CHECK_EQ(error, TM_EINVAL);
    CHECK(tfAddInterface("half", tfUseEthernet(), 0, 0, wire_send, 0, 0, 0, 0, &error) == 0);
    CHECK_EQ(error, TM_EINVAL);
    CHECK(strlen(tfGetLastErrorText()) > 10);
    wire.interface = tfAddInterface("wire0", tfUseEthernet(), wire_open, wire_close, wire_send, wire_recv, wire_free_recv, 0, wire_mac, &error);
    CHECK(wire.interface != 0);
    CHECK(tfAddInterface("wire0", tfUseEthernet(), 0, 0, wire_send, wire_recv, 0, 0, wire_mac, &error) == 0);
    CHECK_EQ(error, TM_EEXIST);
    CHECK_EQ(tfRecvInterface(wire.interface), TM_ENETDOWN);
    CHECK_EQ(tfCheckReceiveInterface(wire.interface), TM_ENETDOWN);
    CHECK_EQ(tfCloseInterface(wire.interface), TM_ENETDOWN);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.1"), inet_addr("255.0.255.0"), 0, 1), TM_EINVAL);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.255"), inet_addr("255.255.255.0"), 0, 1), TM_EINVAL);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 0), TM_EINVAL);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0x40000000, 1), TM_EINVAL);
    CHECK_EQ(wire.opened, 0);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_EALREADY);
    CHECK_EQ(wire.opened, 1);
    section("what was promised is bound");
    wire_udp(9, 6000, "kept", 4, 1480);
    CHECK_EQ(tfCheckReceiveInterface(wire.interface), TM_ENOERROR);
    CHECK_EQ(tfRecvInterface(wire.interface), TM_ENOERROR);
    CHECK_EQ(tfRecvInterface(wire.interface), TM_EWOULDBLOCK);
    CHECK_EQ(tfCheckReceiveInterface(wire.interface), TM_EWOULDBLOCK);
    CHECK_EQ(recv(sd, &error, 4, 0), 4);
    CHECK_EQ(getsockname(any, (struct sockaddr *)&local, &length), 0);
    CHECK(ntohs(local.sin_port) >= 49152);
    CHECK_EQ(tfClose(sd) | tfClose(same) | tfClose(any), 0);
}

/* Goes from timer to timer up to `until`; returns the time of the first at which the wire got another ARP request, or 0. */
static uint64_t next_request(uint64_t until)
{
    int had = wire.arp_requests;
    for (;;) {
        uint64_t at = tfNextTimer();
        if (at > until)
            return 0;
        CHECK_EQ(tfTimerUpdateTo(at), TM_ENOERROR);
        tfTimerExecute();
        if (wire.arp_requests > had)
            return at;
    }
}

static void arp_by_the_clock(void)
{
    uint64_t begun = 10 * SECOND, at;
    int sd = udp_socket(0), had;
    section("ARP: one request at once, two more a second apart, then the host is unreachable, told to the sender");
    CHECK_EQ(tfTimerUpdateTo(begun), TM_ENOERROR);
    CHECK_EQ(tfTimerUpdateTo(begun - 1), TM_EINVAL);
    tfTimerExecute();
    wire.answers_arp = 0;
    had = wire.arp_requests;
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    CHECK_EQ(send(sd, "x", 1, 0), 1);
    CHECK_EQ(wire.arp_requests, had + 1);
    CHECK_EQ(next_request(begun + 10 * SECOND) / 1000000, (begun + SECOND) / 1000000);
    CHECK_EQ(next_request(begun + 10 * SECOND) / 1000000, (begun + 2 * SECOND) / 1000000);
    CHECK_EQ(next_request(begun + 5 * SECOND), 0);
    CHECK_EQ(wire.udp, 0);
    CHECK_FAILS(sd, send(sd, "x", 1, 0), TM_EHOSTUNREACH);
    section("asked again later, it answers, and what waited goes out");
    wire.answers_arp = 1;
    at = begun + 60 * SECOND;
    CHECK_EQ(tfTimerUpdateTo(at), TM_ENOERROR);
    tfTimerExecute();
    CHECK_EQ(send(sd, "late", 4, 0), 4);
    CHECK_EQ(wire.udp, 0);
    CHECK_EQ(tfRecvInterface(wire.interface), TM_ENOERROR);
    CHECK_EQ(wire.udp, 1);
    CHECK_EQ(memcmp(wire.last_udp, "late", 4), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void blocking_ends(void)
{
    int sd = udp_socket(0), n;
    char back[8];
    fd_set set;
    struct timeval time = {5, 0};
    section("a blocking call pulls frames while there are any, then returns: nobody could move the clock");
    CHECK_EQ(connect_to(sd, "10.0.0.2", 7), 0);
    CHECK_EQ(send(sd, "ping", 4, 0), 4);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 4);
    CHECK_FAILS(sd, recv(sd, back, sizeof back, 0), TM_EWOULDBLOCK);
    FD_ZERO(&set);
    FD_SET(sd, &set);
    CHECK_EQ(select(sd + 1, &set, 0, 0, &time), 0);
    FD_SET(sd, &set);
    n = select(sd + 1, &set, 0, 0, 0);
    CHECK_EQ(n, TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EWOULDBLOCK);
    CHECK_EQ(tfClose(sd), 0);
}

static void routes(void)
{
    ttUserIpAddress any = 0, net = inet_addr("198.51.100.0"), mask = inet_addr("255.255.255.0"), gateway = inet_addr("10.0.0.2"), told;
    int sd = udp_socket(0), mtu = 0, had;
    char *data;
    ttUserMessage h;
    struct sockaddr_in far_away = address_of("198.51.100.9", 9);
    section("routes and gateways");
    CHECK_FAILS(sd, sendto(sd, "x", 1, 0, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    CHECK_EQ(tfAddDefaultGateway(wire.interface, inet_addr("192.0.2.1")), TM_EHOSTUNREACH);
    CHECK_EQ(tfAddDefaultGateway(wire.interface, gateway), TM_ENOERROR);
    CHECK_EQ(tfAddDefaultGateway(wire.interface, gateway), TM_EEXIST);
    had = wire.udp;
    CHECK_EQ(sendto(sd, "x", 1, 0, (struct sockaddr *)&far_away, sizeof far_away), 1);
    CHECK_EQ(wire.udp, had + 1);
    section("MSG_DONTROUTE: hosts on the link only; the buffer is freed");
    h = tfGetZeroCopyBuffer(1, &data);
    CHECK_FAILS(sd, tfZeroCopySendTo(sd, h, 1, MSG_DONTROUTE, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_EQ(tfDelDefaultGateway(gateway), TM_ENOERROR);
    CHECK_EQ(tfDelDefaultGateway(gateway), TM_EHOSTUNREACH);
    CHECK_FAILS(sd, sendto(sd, "x", 1, 0, (struct sockaddr *)&far_away, sizeof far_away), TM_EHOSTUNREACH);
    CHECK_EQ(tfAddStaticRoute(wire.interface, net, inet_addr("255.0.255.0"), gateway, 1), TM_EINVAL);
    CHECK_EQ(tfAddStaticRoute(wire.interface, net, mask, gateway, -1), TM_EINVAL);
    CHECK_EQ(tfAddStaticRoute(wire.interface, net, mask, any, 1), TM_EHOSTUNREACH);
    CHECK_EQ(tfAddStaticRoute(wire.interface, net, mask, gateway, 1), TM_ENOERROR);
    CHECK_EQ(sendto(sd, "x", 1, 0, (struct sockaddr *)&far_away, sizeof far_away), 1);
    CHECK_EQ(tfDelStaticRoute(net, mask), TM_ENOERROR);
    CHECK_EQ(tfDelStaticRoute(net, mask), TM_EHOSTUNREACH);
    section("address, mask, MTU");
    CHECK_EQ(tfGetIpAddress(wire.interface, &told), TM_ENOERROR);
    CHECK_EQ(told, inet_addr("10.0.0.1"));
    CHECK_EQ(tfGetNetMask(wire.interface, &told), TM_ENOERROR);
    CHECK_EQ(told, mask);
    CHECK_EQ(tfGetIfMtu(wire.interface, &mtu), TM_ENOERROR);
    CHECK_EQ(mtu, 1500);
    CHECK_EQ(tfSetIfMtu(wire.interface, 67), TM_EINVAL);
    CHECK_EQ(tfSetIfMtu(wire.interface, 1501), TM_EINVAL);
    CHECK_EQ(tfSetIfMtu(wire.interface, 576), TM_ENOERROR);
    had = wire.fragments;
    far_away = address_of("10.0.0.2", 9);
    h = tfGetZeroCopyBuffer(1000, &data);
    CHECK_EQ(tfZeroCopySendTo(sd, h, 1000, 0, (struct sockaddr *)&far_away, sizeof far_away), 1000);
    CHECK_EQ(wire.fragments, had + 2);
    section("another address");
    CHECK_EQ(tfConfigInterface(wire.interface, inet_addr("10.0.0.3"), mask, 0, 1), TM_ENOERROR);
    CHECK_EQ(tfGetIpAddress(wire.interface, &told), TM_ENOERROR);
    CHECK_EQ(told, inet_addr("10.0.0.3"));
    CHECK_EQ(tfClose(sd), 0);
}

static void reopening(void)
{
    int sd = udp_socket(6100);
    char back[8];
    section("closed and opened again, sockets go on");
    CHECK_EQ(tfCloseInterface(wire.interface), TM_ENOERROR);
    CHECK_EQ(wire.closed, 1);
    CHECK_EQ(tfGetIpAddress(wire.interface, (ttUserIpAddress *)back), TM_ENETDOWN);
    CHECK_EQ(tfSetIfMtu(wire.interface, 1400), TM_ENOERROR);
    CHECK_EQ(tfOpenInterface(wire.interface, inet_addr("10.0.0.1"), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    CHECK_EQ(wire.opened, 2);
    wire_udp(9, 6100, "again", 5, 1480);
    CHECK_EQ(recv(sd, back, sizeof back, 0), 5);
    CHECK_EQ(tfClose(sd), 0);
}

int main(void)
{
    before_start();
    arp_by_the_clock();
    blocking_ends();
    routes();
    reopening();
    check_all_free(wire.interface);
    return finish("clock");
}
