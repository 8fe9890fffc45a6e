/* A driver that calls back, and one that does everything wrong. */
#include "check.h"

static int inner_sd, calls, inner_results[8];
static ttUserMessage kept;

/* Whatever is called from within send finds the stack in use: would-block, and the buffer stays the caller's. */
static int calling_send(ttUserInterface i, char *data, int length, int flag)
{
    if (calls++ == 0) {
        char *at, byte;
        int mtu;
        kept = tfGetZeroCopyBuffer(4, &at);
        inner_results[0] = tfZeroCopySend(inner_sd, kept, 4, 0);
        inner_results[1] = tfGetLastError();
        inner_results[2] = recv(inner_sd, &byte, 1, 0);
        inner_results[3] = tfRecvInterface(i);
        inner_results[4] = tfNotifyReceiveInterfaceIsr(i);
        inner_results[5] = tfPoll();
        inner_results[6] = tfGetIfMtu(i, &mtu);
    }
    return wire_send(i, data, length, flag);
}

static int wrong;

static int wrong_recv(ttUserInterface i, char **data, int *length, ttUserBuffer *handle)
{
    static char frame[64];
    ttUserBuffer stolen;
    char *at;
    (void)i;
    *data = frame;
    *length = (int)sizeof frame;
    switch (wrong--) {
    case 10: *data = 0; return 0;                                   /* a frame at null */
    case 9: *length = 0; return 0;                                  /* of no length */
    case 8: *length = -1; return 0;
    case 7: *length = 2147483647; return 0;
    case 6: *handle = (ttUserBuffer)(uintptr_t)0x1234567; return 0; /* a forged handle */
    case 5: at = tfGetDriverBuffer(handle, 64, 4); *data = at - 1; return 0;   /* data in front of its buffer */
    case 4: at = tfGetDriverBuffer(handle, 64, 4); *data = at + 4096; return 0; /* behind it */
    case 3: *data = tfGetDriverBuffer(handle, 64, 4); *length = 5000; return 0; /* longer than it */
    case 2: *data = tfGetDriverBuffer(&stolen, 64, 4); *handle = stolen; tfFreeDriverBuffer(stolen); return 0; /* freed before */
    case 1: *data = tfGetDriverBuffer(handle, 64, 4); memset(*data, 0, 64); return 0; /* right, but no packet for us */
    default: return TM_EWOULDBLOCK;
    }
}

static int failing_open(ttUserInterface i)
{
    (void)i;
    return TM_EIO;
}

static int multicast_mac(ttUserInterface i, char *mac)
{
    (void)i;
    memset(mac, 0xff, 6);
    return 0;
}

static int odd_send(ttUserInterface i, char *data, int length, int flag)
{
    (void)i;
    (void)data;
    (void)length;
    (void)flag;
    return TM_EIO;
}

int main(void)
{
    int error, sd;
    char *data;
    ttUserInterface i, bad;
    ttUserIpAddress mask = inet_addr("255.255.255.0");
    CHECK_EQ(tfStartTreck(), TM_ENOERROR);
    i = tfAddInterface("calls", tfUseEthernet(), wire_open, wire_close, calling_send, wire_recv, wire_free_recv, 0, wire_mac, &error);
    CHECK_EQ(tfOpenInterface(i, inet_addr("10.0.0.1"), mask, 0, 1), TM_ENOERROR);

    section("calls from within a driver's send");
    inner_sd = udp_socket(8000);
    CHECK_EQ(connect_to(inner_sd, "10.0.0.2", 9), 0);
    tfTimerExecute();
    CHECK(calls > 0);
    CHECK_EQ(inner_results[0], TM_SOCKET_ERROR);
    CHECK_EQ(inner_results[1], TM_EWOULDBLOCK);
    CHECK_EQ(inner_results[2], TM_SOCKET_ERROR);
    CHECK_EQ(inner_results[3], TM_EWOULDBLOCK);
    CHECK_EQ(inner_results[4], TM_ENOERROR);
    CHECK_EQ(inner_results[5], 0);
    CHECK_EQ(inner_results[6], TM_ENOERROR);
    CHECK_EQ(tfZeroCopySend(inner_sd, kept, 4, 0), 4);

    section("a receive that hands up nonsense: counted, nothing leaks, nothing breaks");
    bad = tfAddInterface("wrong", tfUseEthernet(), 0, 0, odd_send, wrong_recv, 0, 0, wire_mac, &error);
    CHECK_EQ(tfOpenInterface(bad, inet_addr("10.1.0.1"), mask, 0, 1), TM_ENOERROR);
    wrong = 10;
    CHECK_EQ(tfRecvInterface(bad), TM_ENOERROR);
    CHECK_EQ(wrong, -1);
    section("a send that fails drops the frame");
    sd = udp_socket(0);
    CHECK_EQ(connect_to(sd, "10.1.0.2", 9), 0);
    CHECK_EQ(send(sd, "x", 1, 0), 1);
    CHECK_EQ(tfClose(sd), 0);

    section("drivers that do not open");
    bad = tfAddInterface("no-open", tfUseEthernet(), failing_open, 0, wire_send, wire_recv, 0, 0, wire_mac, &error);
    CHECK_EQ(tfOpenInterface(bad, inet_addr("10.2.0.1"), mask, 0, 1), TM_EIO);
    CHECK(strstr(tfGetLastErrorText(), "no-open") != 0);
    bad = tfAddInterface("no-mac", tfUseEthernet(), 0, 0, wire_send, wire_recv, 0, 0, multicast_mac, &error);
    CHECK_EQ(tfOpenInterface(bad, inet_addr("10.2.0.1"), mask, 0, 1), TM_EINVAL);
    CHECK_EQ(tfRecvInterface(bad), TM_ENETDOWN);

    section("a Linux interface that is not there");
    bad = tfAddInterface("nosuch0", tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &error);
    CHECK(bad != 0);
    error = tfOpenInterface(bad, inet_addr("10.3.0.1"), mask, 0, 1);
    CHECK(error == TM_ENXIO || error == TM_EOPNOTSUPP); /* the latter without AF_XDP in the library */
    CHECK(strlen(tfGetLastErrorText()) > 20);

    section("sixteen interfaces and no more");
    for (error = 0; error == 0;) {
        static char name[8] = "eth-a";
        name[4]++;
        if (tfAddInterface(name, tfUseEthernet(), 0, 0, wire_send, wire_recv, 0, 0, wire_mac, &error) == 0)
            break;
    }
    CHECK_EQ(error, TM_ENOBUFS);

    section("a buffer that nobody hands back outlives its interface, and is freed");
    kept = tfGetZeroCopyBuffer(4, &data);
    CHECK_EQ(tfCloseInterface(i), TM_ENOERROR);
    memset(data, 1, 4);
    CHECK_EQ(tfFreeZeroCopyBuffer(kept), TM_ENOERROR);
    return finish("driver");
}
