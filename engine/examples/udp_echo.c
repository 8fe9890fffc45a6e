/*
 * udp_echo - answers every UDP datagram with itself, from the frame that it came in: no byte is copied.
 *
 *   usage: udp_echo IFACE ADDRESS MASK [PORT]        (port 7 unless given; stops on SIGINT, SIGTERM)
 *
 *   gcc -I engine/include engine/examples/udp_echo.c -L target/release -lframewire -Wl,-rpath,$PWD/target/release -o udp_echo
 *
 * IFACE is a Linux interface, driven by AF_XDP; ADDRESS is an address of the program's own on that link, which the kernel must not have.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trsocket.h"

static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static int failed(const char *what)
{
    fprintf(stderr, "udp_echo: %s: error %d\n", what, tfGetLastError());
    return 1;
}

int main(int argc, char **argv)
{
    struct sockaddr_in local, from;
    struct timeval time;
    ttUserInterface interface;
    fd_set readable;
    tfStats stats;
    int sd, error, length, from_length;
    ttUserMessage message;
    char *data;
    unsigned long echoed = 0;

    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: udp_echo IFACE ADDRESS MASK [PORT]\n");
        return 2;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);

    tfStartTreck();
    interface = tfAddInterface(argv[1], tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &error);
    if (interface == 0) {
        fprintf(stderr, "udp_echo: %s (error %d)\n", tfGetLastErrorText(), error);
        return 1;
    }
    /* Peers on the other end of a veth pair leave checksums to a device that is not there. */
    error = tfOpenInterface(interface, inet_addr(argv[2]), inet_addr(argv[3]), TM_DEV_RX_CSUM_PARTIAL, 1);
    if (error != TM_ENOERROR) {
        fprintf(stderr, "udp_echo: %s (error %d)\n", tfGetLastErrorText(), error);
        return 1;
    }

    sd = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&local, 0, sizeof local);
    local.sin_family = AF_INET;
    local.sin_port = htons((unsigned short)(argc > 4 ? atoi(argv[4]) : 7));
    if (sd == TM_SOCKET_ERROR || bind(sd, (struct sockaddr *)&local, sizeof local) == TM_SOCKET_ERROR)
        return failed("bind");
    /* Non-blocking: answers are collected and leave together, at the end of each turn of the loop. */
    tfBlockingState(sd, TM_BLOCKING_OFF);
    printf("udp_echo: %s answers on port %u\n", argv[2], (unsigned)ntohs(local.sin_port));
    fflush(stdout);

    while (!stopping) {
        /* Sleeps until a datagram comes; a tenth of a second at most, to look at `stopping`. */
        FD_ZERO(&readable);
        FD_SET(sd, &readable);
        time.tv_sec = 0;
        time.tv_usec = 100000;
        if (select(sd + 1, &readable, 0, 0, &time) == TM_SOCKET_ERROR)
            return failed("select");
        for (;;) {
            from_length = sizeof from;
            length = tfZeroCopyRecvFrom(sd, &message, &data, 65535, 0, (struct sockaddr *)&from, &from_length);
            if (length == TM_SOCKET_ERROR)
                break;
            if (length == 0) {
                /* An empty datagram has no buffer. */
                sendto(sd, 0, 0, 0, (struct sockaddr *)&from, from_length);
                echoed++;
            } else if (tfZeroCopySendTo(sd, message, length, 0, (struct sockaddr *)&from, from_length) == length) {
                /* The frame is the stack's again. */
                echoed++;
            } else if (tfGetSocketError(sd) == TM_EWOULDBLOCK) {
                /* No room to send: the frame is still ours, and UDP may lose it. */
                tfFreeZeroCopyBuffer(message);
            }
        }
        tfPoll();
    }

    tfClose(sd);
    tfGetStats(&stats);
    error = tfCloseInterface(interface);
    printf("udp_echo: %lu datagrams echoed, %lu bytes copied\n", echoed, (unsigned long)(stats.bytesCopiedTx + stats.bytesCopiedRx));
    return error == TM_ENOERROR ? 0 : 1;
}
