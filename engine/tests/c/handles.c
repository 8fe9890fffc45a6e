/* Handles that are none, null pointers, and sizes at the edges: an error each, and never a fault. */
#include "check.h"

static void *null;

static void handles(void)
{
    int sd = udp_socket(0);
    char *data;
    ttUserMessage h, again;
    uintptr_t forged[] = {0, 1, 2, 3, 42, UINTPTR_MAX, UINTPTR_MAX - 1, (uintptr_t)1 << 63, (uintptr_t)1 << 32 | 1}, live;
    size_t at;
    uint64_t before = stats().framesFree;
    section("double free, use after send, forged, another interface's, a real pointer");
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    h = tfGetZeroCopyBuffer(10, &data);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopySend(sd, h, 1, 0), TM_EFAULT);
    again = tfGetZeroCopyBuffer(10, &data);
    CHECK(again != h);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_EFAULT);
    CHECK_EQ(tfZeroCopySend(sd, again, 10, 0), 10);
    CHECK_FAILS(sd, tfZeroCopySend(sd, again, 10, 0), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer(again), TM_EFAULT);
    pump();
    CHECK_EQ(stats().framesFree, before);
    h = tfGetZeroCopyBuffer(10, &data);
    live = (uintptr_t)h;
    for (at = 0; at < sizeof forged / sizeof *forged; at++)
        if (forged[at] != live)
            CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)forged[at]), TM_EFAULT);
    for (at = 0; at < 64; at++)
        CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)(live ^ (uintptr_t)1 << at)), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)(void *)data), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer((ttUserMessage)(void *)wire.interface), TM_EFAULT);
    CHECK_EQ(tfFreeDriverBuffer((ttUserBuffer)(void *)h), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    section("interfaces");
    CHECK_EQ(tfRecvInterface(0), TM_EFAULT);
    CHECK_EQ(tfRecvInterface((ttUserInterface)(void *)h), TM_EFAULT);
    CHECK_EQ(tfNotifyReceiveInterfaceIsr((ttUserInterface)(uintptr_t)12345), TM_EFAULT);
    CHECK_EQ(tfSendCompleteInterface(0, 0), TM_EFAULT);
    CHECK_EQ(tfCloseInterface((ttUserInterface)((uintptr_t)wire.interface + 2)), TM_EFAULT);
    CHECK_EQ(tfClose(sd), 0);
}

static void sizes(void)
{
    int sd = udp_socket(5200), n;
    char *data, byte = 0;
    ttUserMessage h;
    ttUserBuffer b;
    static const int bad[] = {0, -1, -2147483647 - 1};
    section("sizes 0, -1, INT_MIN, INT_MAX");
    for (n = 0; n < 3; n++) {
        CHECK(tfGetZeroCopyBuffer(bad[n], &data) == 0);
        CHECK_EQ(tfGetLastError(), TM_EINVAL);
        CHECK(tfGetDriverBuffer(&b, bad[n], 4) == 0);
        CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, bad[n], 0), TM_EINVAL);
    }
    CHECK(tfGetZeroCopyBuffer(2147483647, &data) == 0);
    CHECK_EQ(tfGetLastError(), TM_ENOBUFS);
    CHECK(tfGetDriverBuffer(&b, 2147483647, 4) == 0);
    CHECK(tfGetDriverBuffer(&b, 100, 3) == 0);
    CHECK(tfGetDriverBuffer(&b, 100, 512) == 0);
    data = tfGetDriverBuffer(&b, 100, 256);
    CHECK(data != 0 && (uintptr_t)data % 256 == 0);
    CHECK_EQ(tfFreeDriverBuffer(b), TM_ENOERROR);
    CHECK_EQ(tfFreeDriverBuffer(b), TM_EFAULT);
    data = tfGetEthernetBuffer(&b);
    CHECK(data != 0 && ((uintptr_t)data + 14) % 4 == 0);
    CHECK_EQ(tfFreeDriverBuffer(b), TM_ENOERROR);
    h = tfGetZeroCopyBuffer(65536, &data);
    CHECK(h != 0);
    memset(data, 1, 65536);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    CHECK_EQ(connect_to(sd, "10.0.0.2", 9), 0);
    CHECK_FAILS(sd, send(sd, &byte, -1, 0), TM_EINVAL);
    CHECK_FAILS(sd, send(sd, &byte, 2147483647, 0), TM_EMSGSIZE);
    CHECK_FAILS(sd, send(sd, &byte, 65508, 0), TM_EMSGSIZE);
    CHECK_FAILS(sd, recv(sd, &byte, -1, 0), TM_EINVAL);
    CHECK_EQ(tfClose(sd), 0);
}

static void null_pointers(void)
{
    int sd = udp_socket(5300), length = 16, on = 1, most = sd + 1;
    char *data, byte = 0, text[64];
    ttUserMessage h = 0;
    struct sockaddr_in address = address_of("10.0.0.2", 9);
    struct sockaddr *null_address = (struct sockaddr *)null;
    tfFdSet set;
    section("null pointers");
    CHECK(tfGetZeroCopyBuffer(10, (char **)null) == 0);
    CHECK_EQ(tfGetLastError(), TM_EFAULT);
    CHECK_EQ(tfFreeZeroCopyBuffer(0), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, (ttUserMessage *)null, &data, 10, 0), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, (char **)null, 10, 0), TM_EFAULT);
    CHECK_FAILS(sd, tfZeroCopyRecvFrom(sd, &h, &data, 10, 0, (struct sockaddr *)&address, (int *)null), TM_EFAULT);
    CHECK_FAILS(sd, bind(sd, null_address, 16), TM_EFAULT);
    CHECK_FAILS(sd, connect(sd, null_address, 16), TM_EFAULT);
    CHECK_FAILS(sd, getsockname(sd, null_address, &length), TM_EFAULT);
    CHECK_FAILS(sd, getsockname(sd, (struct sockaddr *)&address, (int *)null), TM_EFAULT);
    CHECK_FAILS(sd, setsockopt(sd, SOL_SOCKET, SO_BROADCAST, null, 4), TM_EFAULT);
    CHECK_FAILS(sd, getsockopt(sd, SOL_SOCKET, SO_BROADCAST, null, &length), TM_EFAULT);
    CHECK_FAILS(sd, getsockopt(sd, SOL_SOCKET, SO_BROADCAST, &on, (int *)null), TM_EFAULT);
    CHECK_FAILS(sd, tfIoctl(sd, FIONREAD, (int *)null), TM_EFAULT);
    CHECK_FAILS(sd, recv(sd, null, 10, 0), TM_EFAULT);
    address = address_of("10.0.0.2", 9);
    CHECK_EQ(connect(sd, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_FAILS(sd, send(sd, null, 10, 0), TM_EFAULT);
    CHECK_EQ(send(sd, null, 0, 0), 0);
    CHECK_FAILS(sd, recvfrom(sd, &byte, 1, 0, (struct sockaddr *)&address, (int *)null), TM_EFAULT);
    CHECK_EQ(tfGetStats((tfStats *)null), TM_EFAULT);
    CHECK_EQ(tfGetIpAddress(wire.interface, (ttUserIpAddress *)null), TM_EFAULT);
    CHECK_EQ(tfGetIfMtu(wire.interface, (int *)null), TM_EFAULT);
    CHECK_EQ(tfAddArpEntry(inet_addr("10.0.0.9"), (char *)null, 6), TM_EFAULT);
    CHECK(tfGetEthernetBuffer((ttUserBuffer *)null) == 0);
    CHECK(tfAddInterface((char *)null, tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &on) == 0);
    CHECK_EQ(on, TM_EFAULT);
    CHECK(tfAddInterface("x", 0, 0, 0, 0, 0, 0, 0, 0, (int *)null) == 0);
    CHECK_EQ(tfInetAddr((char *)null), INADDR_NONE);
    CHECK_EQ(inet_aton("1.2.3.4", (struct in_addr *)null), 0);
    CHECK_EQ(inet_pton(AF_INET, (char *)null, text), -1);
    CHECK(inet_ntop(AF_INET, null, text, sizeof text) == 0);
    FD_ZERO(&set);
    CHECK_EQ(select(most, 0, 0, 0, &(struct timeval){0, 0}), 0);
    CHECK_EQ(tfClose(sd), 0);
}

static void descriptors(void)
{
    int sd = udp_socket(0), length = sizeof length, value;
    struct sockaddr_in local = address_of("0.0.0.0", 5400);
    int other;
    section("descriptors: closed, reused, never opened; what sockets there are");
    CHECK_EQ(tfClose(sd), 0);
    CHECK_EQ(tfClose(sd), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    CHECK_EQ(tfGetSocketError(sd), TM_EBADF);
    CHECK_EQ(tfGetSocketError(-1), TM_EBADF);
    CHECK_EQ(tfGetSocketError(0), TM_EBADF);
    CHECK_EQ(tfGetSocketError(2147483647), TM_EBADF);
    CHECK_EQ(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EPROTONOSUPPORT);
    CHECK_EQ(socket(AF_INET, SOCK_RAW, 300), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EPROTONOSUPPORT);
    CHECK_EQ(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EPROTONOSUPPORT);
    CHECK_EQ(socket(AF_INET6, SOCK_DGRAM, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EAFNOSUPPORT);
    CHECK_EQ(socket(AF_INET, 77, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_ESOCKTNOSUPPORT);
    section("bind, listen, accept, options");
    sd = udp_socket(5400);
    other = udp_socket(0);
    CHECK_FAILS(other, bind(other, (struct sockaddr *)&local, sizeof local), TM_EADDRINUSE);
    CHECK_FAILS(sd, bind(sd, (struct sockaddr *)&local, sizeof local), TM_EINVAL);
    local = address_of("10.9.9.9", 5401);
    CHECK_FAILS(other, bind(other, (struct sockaddr *)&local, sizeof local), TM_EADDRNOTAVAIL);
    CHECK_FAILS(sd, listen(sd, 5), TM_EOPNOTSUPP);
    CHECK_FAILS(sd, accept(sd, 0, 0), TM_EOPNOTSUPP);
    CHECK_FAILS(sd, tfIoctl(sd, SIOCATMARK, &value), TM_EOPNOTSUPP);
    CHECK_FAILS(sd, tfIoctl(sd, 1, &value), TM_EINVAL);
    CHECK_FAILS(sd, shutdown(sd, 3), TM_EINVAL);
    value = 8;
    CHECK_EQ(setsockopt(sd, IPPROTO_IP, IP_TTL, &value, sizeof value), 0);
    value = 0;
    CHECK_EQ(getsockopt(sd, IPPROTO_IP, IP_TTL, &value, &length), 0);
    CHECK_EQ(value, 8);
    value = 256;
    CHECK_FAILS(sd, setsockopt(sd, IPPROTO_IP, IP_TTL, &value, sizeof value), TM_EINVAL);
    CHECK_FAILS(sd, setsockopt(sd, IPPROTO_IP, IP_TTL, &value, 1), TM_EINVAL);
    CHECK_FAILS(sd, setsockopt(sd, SOL_SOCKET, 0x7777, &value, sizeof value), TM_ENOPROTOOPT);
    CHECK_FAILS(sd, setsockopt(sd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &value, sizeof value), TM_EOPNOTSUPP);
    CHECK_EQ(getsockopt(sd, SOL_SOCKET, SO_TYPE, &value, &length), 0);
    CHECK_EQ(value, SOCK_DGRAM);
    CHECK_EQ(tfClose(sd) | tfClose(other), 0);
    section("a thousand sockets at once");
    {
        static int all[1000];
        int at;
        char back[8];
        for (at = 0; at < 1000; at++)
            all[at] = udp_socket(10000 + (unsigned)at);
        for (at = 0; at < 1000; at++) {
            wire_udp(9, 10000 + (unsigned)at, &at, sizeof at, 1480);
            pump();
        }
        for (at = 0; at < 1000; at++) {
            CHECK_EQ(recv(all[at], back, sizeof back, MSG_DONTWAIT), sizeof at);
            CHECK_EQ(memcmp(back, &at, sizeof at), 0);
            CHECK_EQ(tfClose(all[at]), 0);
        }
    }
}

static void addresses(void)
{
    struct in_addr ip;
    struct in6_addr six;
    char text[64];
    section("inet_*");
    CHECK_EQ(inet_addr("10.0.0.1"), htonl(0x0a000001));
    CHECK_EQ(inet_addr("10.1"), htonl(0x0a000001));
    CHECK_EQ(inet_addr("nonsense"), INADDR_NONE);
    CHECK_EQ(inet_aton("0x7f.1", &ip), 1);
    CHECK_EQ(strcmp(inet_ntoa(ip), "127.0.0.1"), 0);
    CHECK_EQ(inet_aton("1.2.3.4.5", &ip), 0);
    CHECK_EQ(inet_pton(AF_INET, "192.0.2.7", &ip), 1);
    CHECK(inet_ntop(AF_INET, &ip, text, 10) == text && strcmp(text, "192.0.2.7") == 0);
    CHECK(inet_ntop(AF_INET, &ip, text, 9) == 0);
    CHECK_EQ(inet_pton(AF_INET, "192.0.2", &ip), 0);
    CHECK_EQ(inet_pton(AF_INET6, "2001:db8::7", &six), 1);
    CHECK_EQ(six.s6_addr[15], 7);
    CHECK(inet_ntop(AF_INET6, &six, text, sizeof text) == text && strcmp(text, "2001:db8::7") == 0);
    CHECK_EQ(inet_pton(77, "1.2.3.4", &ip), -1);
}

static void remaining_errors(ttUserInterface i)
{
    static const char neighbour[6] = {2, 0, 0, 0, 0, 9}, group[6] = {1, 0, 0, 0, 0, 9};
    uint32_t mask = inet_addr("255.255.255.0"), own = inet_addr("10.0.0.1");
    int sd = udp_socket(0);
    char *data, byte = 0;
    ttUserMessage h;
    section("errors of interface calls and of receiving that no other program looks for");
    CHECK_EQ(tfAddArpEntry(inet_addr("10.0.0.9"), neighbour, 5), TM_EINVAL);
    CHECK_EQ(tfAddArpEntry(inet_addr("10.0.0.9"), group, 6), TM_EINVAL);
    CHECK_EQ(tfAddArpEntry(inet_addr("192.0.2.9"), neighbour, 6), TM_EHOSTUNREACH);
    CHECK_EQ(tfAddArpEntry(inet_addr("10.0.0.9"), neighbour, 6), TM_ENOERROR);
    CHECK_EQ(tfOpenInterface(0, own, mask, 0, 1), TM_EFAULT);
    CHECK_EQ(tfConfigInterface(0, own, mask, 0, 1), TM_EFAULT);
    CHECK_EQ(tfConfigInterface(i, own, mask, 0, 0), TM_EINVAL);
    CHECK_EQ(tfGetIfMtu(i, 0), TM_EFAULT);
    CHECK_EQ(tfSetIfMtu(i, 10), TM_EINVAL);
    CHECK_EQ(tfZeroCopyRecv(999, &h, &data, 10, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    CHECK_EQ(recv(999, &byte, 1, 0), TM_SOCKET_ERROR);
    CHECK_EQ(tfGetLastError(), TM_EBADF);
    CHECK_FAILS(sd, tfZeroCopyRecv(sd, &h, &data, 10, MSG_DONTWAIT), TM_EWOULDBLOCK);
    CHECK_FAILS(sd, send(sd, &byte, 1, 0), TM_ENOTCONN);
    CHECK_FAILS(sd, send(sd, &byte, 1, MSG_OOB), TM_EOPNOTSUPP);
    CHECK_EQ(tfClose(sd), 0);
}

int main(void)
{
    ttUserInterface i = wire_up();
    handles();
    sizes();
    null_pointers();
    descriptors();
    remaining_errors(i);
    addresses();
    check_all_free(i);
    return finish("handles");
}
