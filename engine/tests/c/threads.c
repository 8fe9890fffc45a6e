/* Several threads on one polled stack: they sleep, wake each other, and none spins. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <time.h>

static pthread_mutex_t wire_mutex = PTHREAD_MUTEX_INITIALIZER;
#define WIRE_LOCK pthread_mutex_lock(&wire_mutex)
#define WIRE_UNLOCK pthread_mutex_unlock(&wire_mutex)
#include "check.h"

#define THREADS 4
#define ROUNDS 1000

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
    struct timespec time = {0, 0};
    time.tv_nsec = ms * 1000000;
    nanosleep(&time, 0);
}

struct task {
    int sd, result, error;
    double woke;
};

static void *receiver(void *argument)
{
    struct task *task = argument;
    char back[64];
    task->result = recv(task->sd, back, sizeof back, 0);
    task->error = tfGetLastError();
    task->woke = seconds(CLOCK_MONOTONIC);
    return 0;
}

static void *selector(void *argument)
{
    struct task *task = argument;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(task->sd, &set);
    task->result = select(task->sd + 1, &set, 0, 0, 0);
    task->woke = seconds(CLOCK_MONOTONIC);
    return 0;
}

static void *echo_client(void *argument)
{
    struct task *task = argument;
    int round;
    char *data;
    ttUserMessage h;
    task->result = 0;
    for (round = 0; round < ROUNDS; round++) {
        h = tfGetZeroCopyBuffer((int)sizeof round, &data);
        if (h == 0)
            return 0;
        memcpy(data, &round, sizeof round);
        if (tfZeroCopySend(task->sd, h, sizeof round, 0) != (int)sizeof round)
            return 0;
        if (tfZeroCopyRecv(task->sd, &h, &data, 64, 0) != (int)sizeof round)
            return 0;
        task->result += memcmp(data, &round, sizeof round) == 0;
        tfFreeZeroCopyBuffer(h);
    }
    return 0;
}

int main(void)
{
    ttUserInterface i = wire_up();
    pthread_t thread, second, all[THREADS];
    struct task task, other, tasks[THREADS];
    double busy, told;
    int at;

    section("blocked threads sleep");
    wire.notifies = 1;
    task.sd = udp_socket(7000);
    other.sd = udp_socket(7001);
    /* The first ring: from now on the stack counts on being told. */
    tfNotifyReceiveInterfaceIsr(i);
    CHECK_EQ(pthread_create(&thread, 0, receiver, &task), 0);
    CHECK_EQ(pthread_create(&second, 0, selector, &other), 0);
    pause_ms(50);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID);
    pause_ms(500);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
    printf("  %.1f ms of processor time in 500 ms\n", busy * 1e3);
    CHECK(busy < 0.05);

    section("a notification from a third thread wakes the one that the frame is for");
    told = seconds(CLOCK_MONOTONIC);
    wire_udp(9, 7000, "wake", 4, 1480);
    CHECK_EQ(pthread_join(thread, 0), 0);
    CHECK_EQ(task.result, 4);
    printf("  after %.2f ms\n", (task.woke - told) * 1e3);
    CHECK(task.woke - told < 0.09);
    told = seconds(CLOCK_MONOTONIC);
    wire_udp(9, 7001, "wake", 4, 1480);
    CHECK_EQ(pthread_join(second, 0), 0);
    CHECK_EQ(other.result, 1);
    CHECK(other.woke - told < 0.09);

    section("a socket is closed while another thread waits in it");
    CHECK_EQ(pthread_create(&thread, 0, receiver, &task), 0);
    pause_ms(50);
    told = seconds(CLOCK_MONOTONIC);
    CHECK_EQ(tfClose(task.sd), 0);
    CHECK_EQ(pthread_join(thread, 0), 0);
    CHECK_EQ(task.result, TM_SOCKET_ERROR);
    CHECK_EQ(task.error, TM_EBADF);
    CHECK(task.woke - told < 0.09);
    CHECK_EQ(tfClose(other.sd), 0);

    section("four threads echo at once");
    for (at = 0; at < THREADS; at++) {
        tasks[at].sd = udp_socket(0);
        CHECK_EQ(connect_to(tasks[at].sd, "10.0.0.2", 7), 0);
        CHECK_EQ(pthread_create(&all[at], 0, echo_client, &tasks[at]), 0);
    }
    for (at = 0; at < THREADS; at++) {
        CHECK_EQ(pthread_join(all[at], 0), 0);
        CHECK_EQ(tasks[at].result, ROUNDS);
        CHECK_EQ(tfClose(tasks[at].sd), 0);
    }
    check_all_free(i);
    return finish("threads");
}
