/* What the programs with several threads share: a wire that they may all use, clocks, and threads that wait in one call and say what came of it. To be included after _POSIX_C_SOURCE and instead of check.h, or of peer.h: then WITH_PEER is defined. */
#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <time.h>

static pthread_mutex_t wire_mutex = PTHREAD_MUTEX_INITIALIZER;
#define WIRE_LOCK pthread_mutex_lock(&wire_mutex)
#define WIRE_UNLOCK pthread_mutex_unlock(&wire_mutex)
#ifdef WITH_PEER
#include "peer.h"
#else
#include "check.h"
#endif

static inline double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline void pause_ms(long ms)
{
    struct timespec time = {0, 0};
    time.tv_sec = ms / 1000;
    time.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&time, 0);
}

/* Nobody spins: all threads together take a tenth of the time at most. */
static inline void check_asleep(void)
{
    double busy;
    pause_ms(50);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID);
    pause_ms(500);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
    printf("  %.1f ms of processor time in 500 ms\n", busy * 1e3);
    CHECK(busy < 0.05);
}

/* Until others have done what makes it so; a test that hangs is stopped from outside. Once is enough: a worker may be at the next frame already. */
#define EVENTUALLY(condition)  \
    do {                       \
        while (!(condition))   \
            pause_ms(1);       \
    } while (0)

/* A call in a thread of its own: on which socket, what it returned, its error, and when. */
struct task {
    int sd, result, error;
    double woke;
};

static inline void ended(struct task *task, int result)
{
    task->result = result;
    task->error = tfGetLastError();
    task->woke = seconds(CLOCK_MONOTONIC);
}

static inline void *receiver(void *argument)
{
    struct task *task = argument;
    char back[64];
    ended(task, recv(task->sd, back, sizeof back, 0));
    return 0;
}

/* More than fits a small queue. */
#define SENDER_BYTES 4000

static inline void *sender(void *argument)
{
    struct task *task = argument;
    char *data;
    ttUserMessage h = tfGetZeroCopyBuffer(SENDER_BYTES, &data);
    if (h != 0)
        memset(data, 0, SENDER_BYTES);
    ended(task, h == 0 ? 0 : tfZeroCopySend(task->sd, h, SENDER_BYTES, 0));
    return 0;
}

static inline void *acceptor(void *argument)
{
    struct task *task = argument;
    ended(task, accept(task->sd, 0, 0));
    return 0;
}

static inline void *selector(void *argument)
{
    struct task *task = argument;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(task->sd, &set);
    ended(task, select(task->sd + 1, &set, 0, 0, 0));
    return 0;
}

#define ECHO_ROUNDS 1000

/* Sends numbers over a connected datagram socket, and counts those that come back. */
static inline void *echo_client(void *argument)
{
    struct task *task = argument;
    int round, right = 0;
    char *data;
    ttUserMessage h;
    for (round = 0; round < ECHO_ROUNDS; round++) {
        h = tfGetZeroCopyBuffer((int)sizeof round, &data);
        if (h == 0)
            break;
        memcpy(data, &round, sizeof round);
        if (tfZeroCopySend(task->sd, h, sizeof round, 0) != (int)sizeof round)
            break;
        if (tfZeroCopyRecv(task->sd, &h, &data, 64, 0) != (int)sizeof round)
            break;
        right += memcmp(data, &round, sizeof round) == 0;
        tfFreeZeroCopyBuffer(h);
    }
    ended(task, right);
    return 0;
}

/* Starts a thread, and gives it time to wait in its call. */
static inline void begin(pthread_t *thread, void *(*what)(void *), struct task *task)
{
    CHECK_EQ(pthread_create(thread, 0, what, task), 0);
    pause_ms(30);
}

static inline void end(pthread_t thread, struct task *task, int result, int error)
{
    CHECK_EQ(pthread_join(thread, 0), 0);
    CHECK_EQ(task->result, result);
    if (error)
        CHECK_EQ(task->error, error);
}

#endif
