/*
 * threaded_echo - the threaded way over AF_XDP: workers turn the loop, and threads of the program's own answer with what they receive, each blocked in calls on a socket of its own.
 *
 *   usage: threaded_echo WORKERS IFACE ADDRESS MASK [IFACE ADDRESS MASK]...        (stops on SIGTERM)
 *
 * UDP ports 7, 8 and 9 have a thread each, and so has every connection to TCP port 7. UDP and TCP port 10 answer out of memory that the program keeps until it is given back. SIGUSR1 stops the workers and starts them again, SIGUSR2 closes the first interface and opens it again.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bound.h"
#include "trsocket.h"

#define FIRST_PORT 7
#define UDP_SOCKETS 3
#define USER_PORT (FIRST_PORT + UDP_SOCKETS)
#define CONNECTIONS_MAX 16
#define INTERFACES_MAX 4

struct task {
    pthread_t thread;
    int sd, is_stream;
    unsigned long answers;
    /* What ended it. */
    int error;
};

static struct task datagrams[UDP_SOCKETS + 1], connections[CONNECTIONS_MAX], acceptor, user_acceptor;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int connected;

/* A received message that is sent as memory of the program's. */
struct lent {
    ttUserMessage message;
};

static unsigned long lent, given_back;

static void count(unsigned long *what)
{
    pthread_mutex_lock(&mutex);
    (*what)++;
    pthread_mutex_unlock(&mutex);
}

static unsigned long counted(const unsigned long *what)
{
    unsigned long now;
    pthread_mutex_lock(&mutex);
    now = *what;
    pthread_mutex_unlock(&mutex);
    return now;
}

/* Twice for one, and the address sanitizer says so. */
static void give_back(char *buffer)
{
    struct lent *back = (struct lent *)(void *)buffer;
    tfFreeZeroCopyBuffer(back->message);
    free(back);
    count(&given_back);
}

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

/* Echoes out of memory that it keeps: datagrams, or a stream. */
static void *echo_lent(void *argument)
{
    struct task *task = argument;
    struct sockaddr_in from;
    struct lent *next;
    char *data;
    int length = TM_SOCKET_ERROR, from_length, sent;
    for (;;) {
        next = malloc(sizeof *next);
        if (next == 0)
            break;
        from_length = sizeof from;
        length = task->is_stream ? tfZeroCopyRecv(task->sd, &next->message, &data, 65535, 0)
                                 : tfZeroCopyRecvFrom(task->sd, &next->message, &data, 65535, 0, (struct sockaddr *)&from, &from_length);
        if (length <= 0) {
            free(next);
            break;
        }
        count(&lent);
        sent = task->is_stream ? tfZeroCopyUserBufferSend(task->sd, (char *)next, data, length, give_back, 0)
                               : tfZeroCopyUserBufferSendTo(task->sd, (char *)next, data, length, give_back, 0, (struct sockaddr *)&from, from_length);
        if (sent != length)
            break;
        task->answers++;
    }
    task->error = length == 0 ? TM_ENOERROR : tfGetLastError();
    if (task->is_stream)
        tfClose(task->sd);
    return 0;
}

static void *accept_streams(void *argument)
{
    struct task *task = argument;
    for (;;) {
        int sd = accept(task->sd, 0, 0), started = 0;
        if (sd == TM_SOCKET_ERROR)
            break;
        pthread_mutex_lock(&mutex);
        if (connected < CONNECTIONS_MAX) {
            struct task *next = &connections[connected];
            next->sd = sd;
            next->is_stream = 1;
            started = pthread_create(&next->thread, 0, task == &acceptor ? echo_stream : echo_lent, next) == 0;
            connected += started;
        }
        pthread_mutex_unlock(&mutex);
        if (!started)
            tfClose(sd);
    }
    task->error = tfGetLastError();
    return 0;
}

static int listen_at(struct task *task, int port)
{
    task->sd = socket_at(SOCK_STREAM, port);
    return task->sd == TM_SOCKET_ERROR || listen(task->sd, CONNECTIONS_MAX) != 0 || pthread_create(&task->thread, 0, accept_streams, task) != 0;
}

/* Name, address and mask. */
static int open_at(ttUserInterface interface, char **arguments)
{
    return tfOpenInterface(interface, inet_addr(arguments[1]), inet_addr(arguments[2]), TM_DEV_RX_CSUM_PARTIAL, 1);
}

static void close_and_join(struct task *task)
{
    /* Who waits in a call on a socket that is closed gets TM_EBADF. */
    tfClose(task->sd);
    pthread_join(task->thread, 0);
    if (task->error == TM_EBADF)
        task->error = TM_ENOERROR;
}

int main(int argc, char **argv)
{
    ttUserInterface interfaces[INTERFACES_MAX];
    struct timespec moment = {0, 1000000};
    sigset_t signals;
    tfStats stats;
    int at, signal_number, error, opened = 0, reopened = 0, workers = argc > 1 ? atoi(argv[1]) : 0;

    if (argc < 5 || (argc - 2) % 3 != 0 || (argc - 2) / 3 > INTERFACES_MAX) {
        fprintf(stderr, "usage: threaded_echo WORKERS IFACE ADDRESS MASK [IFACE ADDRESS MASK]...\n");
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals, 0);

    tfStartTreck();
    for (at = 2; at < argc; at += 3, opened++) {
        interfaces[opened] = tfAddInterface(argv[at], tfUseEthernet(), 0, 0, 0, 0, 0, 0, 0, &error);
        if (interfaces[opened] == 0 || open_at(interfaces[opened], argv + at) != TM_ENOERROR)
            return failed(argv[at]);
        /* The others are opened beside workers. */
        if (opened == 0 && tfStartWorkers(workers) != TM_ENOERROR)
            return failed("tfStartWorkers");
    }
    for (at = 0; at <= UDP_SOCKETS; at++) {
        datagrams[at].sd = socket_at(SOCK_DGRAM, FIRST_PORT + at);
        if (datagrams[at].sd == TM_SOCKET_ERROR || pthread_create(&datagrams[at].thread, 0, at == UDP_SOCKETS ? echo_lent : echo_datagrams, &datagrams[at]) != 0)
            return failed("a datagram socket");
    }
    if (listen_at(&acceptor, FIRST_PORT) || listen_at(&user_acceptor, USER_PORT))
        return failed("a listener");
    printf("ready\n");
    fflush(stdout);

    while (sigwait(&signals, &signal_number) == 0 && signal_number != SIGTERM) {
        if (signal_number == SIGUSR1 && (tfStopWorkers() != TM_ENOERROR || tfStartWorkers(workers) != TM_ENOERROR))
            return failed("workers");
        if (signal_number == SIGUSR2 && (tfCloseInterface(interfaces[0]) != TM_ENOERROR || open_at(interfaces[0], argv + 2) != TM_ENOERROR))
            return failed("the first interface");
        if (signal_number == SIGUSR1)
            printf("restarted\n");
        else
            printf("reopened %d\n", ++reopened);
        fflush(stdout);
    }
    close_and_join(&acceptor);
    close_and_join(&user_acceptor);
    printf("accept: error %d\n", acceptor.error ? acceptor.error : user_acceptor.error);
    for (at = 0; at <= UDP_SOCKETS; at++) {
        close_and_join(&datagrams[at]);
        printf("datagrams %d: %lu answers, error %d\n", at, datagrams[at].answers, datagrams[at].error);
    }
    for (at = 0; at < connected; at++) {
        pthread_join(connections[at].thread, 0);
        printf("stream %d: %s, error %d\n", at, connections[at].answers > 0 ? "answered" : "silent", connections[at].error);
    }
    /* The device may have the last of them still. */
    for (at = 0; at < 5000 && counted(&given_back) != counted(&lent); at++)
        nanosleep(&moment, 0);
    printf("lent: %lu, %lu not given back\n", lent, lent - given_back);
    if (tfStopWorkers() != TM_ENOERROR)
        return failed("tfStopWorkers");
    tfGetStats(&stats);
    printf("copied: %lu bytes\n", (unsigned long)(stats.bytesCopiedTx + stats.bytesCopiedRx));
    for (at = 0; at < opened; at++)
        if (tfCloseInterface(interfaces[at]) != TM_ENOERROR)
            return failed("tfCloseInterface");
    tfGetStats(&stats);
    printf("frames: %lu missing\n", (unsigned long)(stats.framesTotal - stats.framesFree));
    return 0;
}
