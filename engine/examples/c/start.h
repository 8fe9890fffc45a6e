/*
 * start.h - what the examples have in common: the way up, and the way down.
 */
#ifndef START_H
#define START_H

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

/* Says what failed and ends the program. */
static void fail(const char *what)
{
    fprintf(stderr, "%s: error %d\n", what, tfGetLastError());
    exit(1);
}

/* The stack on the Linux interface `name`, driven by AF_XDP, with an address of its own, which the kernel must not have. */
static ttUserInterface start_network(const char *name, const char *address, const char *mask)
{
    ttUserInterface interface;
    int error;

    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    tfStartTreck();
    interface = tfAddInterface(name, tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &error);
    /* Peers on the other end of a veth pair leave checksums to a device that is not there. */
    if (interface != 0)
        error = tfOpenInterface(interface, inet_addr(address), inet_addr(mask), TM_DEV_RX_CSUM_PARTIAL, 1);
    if (error != TM_ENOERROR) {
        fprintf(stderr, "%s: %s (error %d)\n", name, tfGetLastErrorText(), error);
        exit(1);
    }
    return interface;
}

/* A socket that never waits, bound to `port` on every address. */
static int open_socket(int type, int port)
{
    struct sockaddr_in local;
    int sd = socket(AF_INET, type, 0);

    memset(&local, 0, sizeof local);
    local.sin_family = AF_INET;
    local.sin_port = htons((unsigned short)port);
    if (sd == TM_SOCKET_ERROR || bind(sd, (struct sockaddr *)&local, sizeof local) == TM_SOCKET_ERROR)
        fail("bind");
    tfBlockingState(sd, TM_BLOCKING_OFF);
    return sd;
}

/* To be called when everything listens. */
static void ready(void)
{
    printf("ready\n");
    fflush(stdout);
}

/* Lets the loop turn for a while, so that peers get what the sockets just closed had sent; says what was copied, and closes the interface. Returns the program's exit code. */
static int stop_network(ttUserInterface interface)
{
    struct timeval time;
    tfStats stats;

    time.tv_sec = 0;
    time.tv_usec = 200000;
    select(0, 0, 0, 0, &time);
    tfGetStats(&stats);
    printf("copied: %llu bytes out, %llu in\n", (unsigned long long)stats.bytesCopiedTx, (unsigned long long)stats.bytesCopiedRx);
    return tfCloseInterface(interface) == TM_ENOERROR ? 0 : 1;
}

#endif
