/*
 * reopen - a program that closes its only interface and opens one again, the same or another, while its sockets and its buffers stay.
 *
 *   usage: reopen [-d DEVICE ADDRESS MASK] IFACE ADDRESS MASK [IFACE ADDRESS MASK]...        (stops on SIGTERM)
 *
 * With -d an interface with a driver of the program's on that device is opened before the others, and stays open. UDP and TCP port 7 echo. UDP port 8 keeps each datagram in its frame, and answers with the one before. SIGUSR1 closes the interface, if one is open, and opens the next in turn; SIGUSR2 only closes it.
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bound.h"
#include "packet_driver.h"
#include "trsocket.h"

#define ECHO_PORT 7
#define KEEP_PORT 8
#define INTERFACES_MAX 4
#define CONNECTIONS_MAX 16

static volatile sig_atomic_t is_to_open, is_to_close, is_to_stop;

static void on_signal(int number)
{
    if (number == SIGTERM)
        is_to_stop = 1;
    else {
        is_to_close = 1;
        is_to_open = number == SIGUSR1;
    }
}

static void fail(const char *what)
{
    fprintf(stderr, "reopen: %s: error %d: %s\n", what, tfGetLastError(), tfGetLastErrorText());
    exit(1);
}

/* One that never waits. */
static int polled_at(int type, int port)
{
    int sd = socket_at(type, port);

    if (sd == TM_SOCKET_ERROR)
        fail("bind");
    tfBlockingState(sd, TM_BLOCKING_OFF);
    return sd;
}

static void answer(int sd, ttUserMessage message, int length, struct sockaddr_in *to)
{
    if (tfZeroCopySendTo(sd, message, length, 0, (struct sockaddr *)to, sizeof *to) != length)
        tfFreeZeroCopyBuffer(message);
}

/* True if there was a datagram. */
static int receive(int sd, ttUserMessage *message, int *length, struct sockaddr_in *from)
{
    char *data;
    int from_length = sizeof *from;

    *length = tfZeroCopyRecvFrom(sd, message, &data, 65535, 0, (struct sockaddr *)from, &from_length);
    return *length > 0;
}

/* False when the stream has ended. */
static int echo_stream(int sd)
{
    ttUserMessage message;
    char *data;
    int length;

    while ((length = tfZeroCopyRecv(sd, &message, &data, 65535, 0)) > 0)
        if (tfZeroCopySend(sd, message, length, 0) != length)
            fail("tfZeroCopySend");
    return length != 0 && tfGetSocketError(sd) == TM_EWOULDBLOCK;
}

int main(int argc, char **argv)
{
    ttUserInterface interfaces[INTERFACES_MAX], driven = 0;
    int connections[CONNECTIONS_MAX];
    struct sockaddr_in from;
    struct sigaction action;
    struct timeval moment;
    fd_set readable;
    ttUserMessage message, kept = 0;
    tfStats stats;
    int echo, keep, listener, at, sd, error, length, kept_length = 0, count = 0, next = 0, open = -1, opened = 0, connected = 0, turns;
    char **driver = 0;

    if (argc > 4 && strcmp(argv[1], "-d") == 0) {
        driver = argv + 2;
        argc -= 4;
        argv += 4;
    }
    for (at = 1; at + 2 < argc && count < INTERFACES_MAX; at += 3)
        count++;
    if (count == 0 || argc != 1 + 3 * count) {
        fprintf(stderr, "usage: reopen [-d DEVICE ADDRESS MASK] IFACE ADDRESS MASK [IFACE ADDRESS MASK]...\n");
        return 2;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, 0);
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    tfStartTreck();
    if (driver != 0) {
        driven = packet_interface(driver[0], &error);
        if (driven == 0 || tfOpenInterface(driven, inet_addr(driver[1]), inet_addr(driver[2]), TM_DEV_RX_CSUM_PARTIAL, 1) != TM_ENOERROR)
            fail(driver[0]);
    }
    for (at = 0; at < count; at++) {
        interfaces[at] = 0;
        /* The same interface may come more than once, with several addresses. */
        for (sd = 0; sd < at; sd++)
            if (strcmp(argv[1 + 3 * sd], argv[1 + 3 * at]) == 0)
                interfaces[at] = interfaces[sd];
        if (interfaces[at] == 0)
            interfaces[at] = tfAddInterface(argv[1 + 3 * at], tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &error);
        if (interfaces[at] == 0)
            fail(argv[1 + 3 * at]);
    }
    echo = polled_at(SOCK_DGRAM, ECHO_PORT);
    keep = polled_at(SOCK_DGRAM, KEEP_PORT);
    listener = polled_at(SOCK_STREAM, ECHO_PORT);
    if (listen(listener, CONNECTIONS_MAX) == TM_SOCKET_ERROR)
        fail("listen");
    is_to_open = 1;

    for (turns = 0; turns < 1000; turns += is_to_stop && connected == 0 ? 1000 : is_to_stop) {
        if (is_to_close && open >= 0) {
            if (tfCloseInterface(interfaces[open]) != TM_ENOERROR)
                fail("tfCloseInterface");
            open = -1;
            printf("closed\n");
        }
        is_to_close = 0;
        if (is_to_open) {
            is_to_open = 0;
            at = next++ % count;
            if (tfOpenInterface(interfaces[at], inet_addr(argv[2 + 3 * at]), inet_addr(argv[3 + 3 * at]), TM_DEV_RX_CSUM_PARTIAL, 1) == TM_ENOERROR) {
                open = at;
                printf("opened %d\n", ++opened);
            } else {
                printf("refused with %d: %s\n", tfGetLastError(), tfGetLastErrorText());
            }
        }
        fflush(stdout);

        FD_ZERO(&readable);
        FD_SET(echo, &readable);
        FD_SET(keep, &readable);
        FD_SET(listener, &readable);
        for (at = 0; at < connected; at++)
            FD_SET(connections[at], &readable);
        moment.tv_sec = 0;
        moment.tv_usec = 10000;
        if (select(TM_FD_SETSIZE, &readable, 0, 0, &moment) == TM_SOCKET_ERROR)
            fail("select");

        while (receive(keep, &message, &length, &from)) {
            if (kept != 0)
                answer(keep, kept, kept_length, &from);
            kept = message;
            kept_length = length;
        }
        while (receive(echo, &message, &length, &from))
            answer(echo, message, length, &from);
        while (connected < CONNECTIONS_MAX && (sd = accept(listener, 0, 0)) != TM_SOCKET_ERROR) {
            tfBlockingState(sd, TM_BLOCKING_OFF);
            connections[connected++] = sd;
        }
        for (at = connected - 1; at >= 0; at--)
            if (!echo_stream(connections[at])) {
                tfClose(connections[at]);
                connections[at] = connections[--connected];
            }
        tfPoll();
    }

    tfFreeZeroCopyBuffer(kept);
    tfClose(echo);
    tfClose(keep);
    tfClose(listener);
    if (open >= 0 && tfCloseInterface(interfaces[open]) != TM_ENOERROR)
        fail("tfCloseInterface");
    if (driven != 0 && tfCloseInterface(driven) != TM_ENOERROR)
        fail("tfCloseInterface");
    tfGetStats(&stats);
    printf("copied: %lu bytes\n", (unsigned long)(stats.bytesCopiedTx + stats.bytesCopiedRx));
    printf("frames: %lu missing of %lu, %d streams left\n", (unsigned long)(stats.framesTotal - stats.framesFree), (unsigned long)stats.framesTotal, connected);
    return 0;
}
