/*
 * threaded_echo - the threaded way over AF_XDP: a worker turns the loop, and threads of the program's own answer with what they receive, each blocked in calls on a socket of its own.
 *
 *   usage: threaded_echo IFACE ADDRESS MASK        (stops on SIGTERM)
 *
 * UDP ports 7, 8 and 9 have a thread each, and so has every connection to TCP port 7.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "trsocket.h"

#define FIRST_PORT 7
#define UDP_SOCKETS 3
#define CONNECTIONS_MAX 16

struct task {
    pthread_t thread;
    int sd;
    unsigned long answers;
    /* What ended it. */
    int error;
};

static struct task datagrams[UDP_SOCKETS], connections[CONNECTIONS_MAX], acceptor;
static int connected;

static int failed(const char *what)
{
    fprintf(stderr, "threaded_echo: %s: error %d: %s\n", what, tfGetLastError(), tfGetLastErrorText());
    return 1;
}

static void *echo_datagrams(void *argument)
{
    struct task *task = argument;
    struct sockaddr_in from;
    ttUserMessage message;
    char *data;
    int length, from_length;
    for (;;) {
        from_length = sizeof from;
        length = tfZeroCopyRecvFrom(task->sd, &message, &data, 65535, 0, (struct sockaddr *)&from, &from_length);
        if (length <= 0 || tfZeroCopySendTo(task->sd, message, length, 0, (struct sockaddr *)&from, from_length) != length)
            break;
        task->answers++;
    }
    task->error = tfGetLastError();
    return 0;
}

static void *echo_stream(void *argument)
{
    struct task *task = argument;
    ttUserMessage message;
    char *data;
    int length;
    while ((length = tfZeroCopyRecv(task->sd, &message, &data, 65535, 0)) > 0) {
        if (tfZeroCopySend(task->sd, message, length, 0) != length)
            break;
        task->answers++;
    }
    task->error = length == 0 ? TM_ENOERROR : tfGetLastError();
    tfClose(task->sd);
    return 0;
}

static void *accept_streams(void *argument)
{
    struct task *task = argument;
    while (connected < CONNECTIONS_MAX) {
        struct task *next = &connections[connected];
        next->sd = accept(task->sd, 0, 0);
        if (next->sd == TM_SOCKET_ERROR || pthread_create(&next->thread, 0, echo_stream, next) != 0)
            break;
        connected++;
    }
    task->error = tfGetLastError();
    return 0;
}

static int socket_at(int type, unsigned port)
{
    struct sockaddr_in local;
    int sd = socket(AF_INET, type, 0);
    memset(&local, 0, sizeof local);
    local.sin_family = AF_INET;
    local.sin_port = htons((unsigned short)port);
    return sd == TM_SOCKET_ERROR || bind(sd, (struct sockaddr *)&local, sizeof local) != 0 ? TM_SOCKET_ERROR : sd;
}

int main(int argc, char **argv)
{
    ttUserInterface interface;
    sigset_t ends;
    tfStats stats;
    int at, signal_number, error;

    if (argc != 4) {
        fprintf(stderr, "usage: threaded_echo IFACE ADDRESS MASK\n");
        return 2;
    }
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, 0);

    tfStartTreck();
    interface = tfAddInterface(argv[1], tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &error);
    if (interface == 0 || tfOpenInterface(interface, inet_addr(argv[2]), inet_addr(argv[3]), TM_DEV_RX_CSUM_PARTIAL, 1) != TM_ENOERROR)
        return failed(argv[1]);
    if (tfStartWorkers(1) != TM_ENOERROR)
        return failed("tfStartWorkers");
    for (at = 0; at < UDP_SOCKETS; at++) {
        datagrams[at].sd = socket_at(SOCK_DGRAM, FIRST_PORT + (unsigned)at);
        if (datagrams[at].sd == TM_SOCKET_ERROR || pthread_create(&datagrams[at].thread, 0, echo_datagrams, &datagrams[at]) != 0)
            return failed("a datagram socket");
    }
    acceptor.sd = socket_at(SOCK_STREAM, FIRST_PORT);
    if (acceptor.sd == TM_SOCKET_ERROR || listen(acceptor.sd, CONNECTIONS_MAX) != 0 || pthread_create(&acceptor.thread, 0, accept_streams, &acceptor) != 0)
        return failed("the listener");
    printf("ready\n");
    fflush(stdout);

    sigwait(&ends, &signal_number);
    /* Who waits in a call on a socket that is closed gets TM_EBADF. */
    tfClose(acceptor.sd);
    pthread_join(acceptor.thread, 0);
    printf("accept: error %d\n", acceptor.error == TM_EBADF ? 0 : acceptor.error);
    for (at = 0; at < UDP_SOCKETS; at++) {
        tfClose(datagrams[at].sd);
        pthread_join(datagrams[at].thread, 0);
        printf("datagrams %d: %lu answers, error %d\n", at, datagrams[at].answers, datagrams[at].error == TM_EBADF ? 0 : datagrams[at].error);
    }
    for (at = 0; at < connected; at++) {
        pthread_join(connections[at].thread, 0);
        printf("stream %d: %s, error %d\n", at, connections[at].answers > 0 ? "answered" : "silent", connections[at].error);
    }
    if (tfStopWorkers() != TM_ENOERROR)
        return failed("tfStopWorkers");
    tfGetStats(&stats);
    printf("copied: %lu bytes\n", (unsigned long)(stats.bytesCopiedTx + stats.bytesCopiedRx));
    return tfCloseInterface(interface) == TM_ENOERROR ? 0 : failed("tfCloseInterface");
}
