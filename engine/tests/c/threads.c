/* Several threads on one polled stack: they sleep, wake each other, and none spins. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#define THREADS 4

int main(void)
{
    ttUserInterface i = wire_up();
    pthread_t thread, second, all[THREADS];
    struct task task, other, tasks[THREADS];
    double told;
    int at;

    section("blocked threads sleep");
    wire.notifies = 1;
    task.sd = udp_socket(7000);
    other.sd = udp_socket(7001);
    /* The first ring: from now on the stack counts on being told. */
    tfNotifyReceiveInterfaceIsr(i);
    CHECK_EQ(pthread_create(&thread, 0, receiver, &task), 0);
    CHECK_EQ(pthread_create(&second, 0, selector, &other), 0);
    check_asleep();

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
        CHECK_EQ(tasks[at].result, ECHO_ROUNDS);
        CHECK_EQ(tfClose(tasks[at].sd), 0);
    }
    check_all_free(i);
    return finish("threads");
}
