/* Threads blocked on streams: each wakes with data, with the error, or because another thread closed the socket. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <time.h>

static pthread_mutex_t wire_mutex = PTHREAD_MUTEX_INITIALIZER;
#define WIRE_LOCK pthread_mutex_lock(&wire_mutex)
#define WIRE_UNLOCK pthread_mutex_unlock(&wire_mutex)
#include "peer.h"

static char big[4000];

struct task {
    int sd, result, error;
};

static void pause_ms(long ms)
{
    struct timespec time = {0, 0};
    time.tv_nsec = ms * 1000000;
    nanosleep(&time, 0);
}

static void *receiver(void *argument)
{
    struct task *task = argument;
    char back[64];
    task->result = recv(task->sd, back, sizeof back, 0);
    task->error = tfGetLastError();
    return 0;
}

static void *sender(void *argument)
{
    struct task *task = argument;
    char *data;
    ttUserMessage h = tfGetZeroCopyBuffer((int)sizeof big, &data);
    task->result = h == 0 ? 0 : tfZeroCopySend(task->sd, h, (int)sizeof big, 0);
    task->error = tfGetLastError();
    return 0;
}

static void *acceptor(void *argument)
{
    struct task *task = argument;
    task->result = accept(task->sd, 0, 0);
    task->error = tfGetLastError();
    return 0;
}

static void begin(pthread_t *thread, void *(*what)(void *), struct task *task)
{
    CHECK_EQ(pthread_create(thread, 0, what, task), 0);
    pause_ms(30);
}

static void end(pthread_t thread, struct task *task, int result, int error)
{
    CHECK_EQ(pthread_join(thread, 0), 0);
    CHECK_EQ(task->result, result);
    if (error)
        CHECK_EQ(task->error, error);
}

int main(void)
{
    ttUserInterface i = wire_up();
    pthread_t thread;
    struct task task;
    wire.notifies = 1;
    tfNotifyReceiveInterfaceIsr(i);

    section("a receiver wakes with data, the end of the stream, a reset, and when its socket is closed");
    task.sd = connected_to(9);
    begin(&thread, receiver, &task);
    peer_send(peer_last(), "wake", 4);
    end(thread, &task, 4, 0);
    begin(&thread, receiver, &task);
    CHECK_EQ(tfClose(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    task.sd = connected_to(9);
    begin(&thread, receiver, &task);
    peer_finish(peer_last());
    end(thread, &task, 0, 0);
    close_cleanly(task.sd);
    task.sd = connected_to(9);
    begin(&thread, receiver, &task);
    peer_resets(peer_last());
    end(thread, &task, TM_SOCKET_ERROR, TM_ECONNRESET);
    CHECK_EQ(tfClose(task.sd), 0);

    section("a sender waits for room, longer than the queue as its buffer is; a reset wakes it with the error and frees the buffer");
    peer_acks = 0;
    task.sd = connected_to(9);
    peer_acks = 1;
    CHECK_EQ(set_option(task.sd, SOL_SOCKET, SO_SNDBUF, 1000), 0);
    CHECK_EQ(send(task.sd, big, 1000, 0), 1000);
    begin(&thread, sender, &task);
    CHECK_EQ(tfGetSendBytesLeft(task.sd), 1000);
    peer_last()->acks = 1;
    peer_acknowledge(peer_last(), 1000);
    end(thread, &task, (int)sizeof big, 0);
    pump();
    CHECK_EQ(tfGetSendCompltBytes(task.sd), 1000 + (int)sizeof big);
    peer_last()->acks = 0;
    CHECK_EQ(send(task.sd, big, 1000, 0), 1000);
    begin(&thread, sender, &task);
    peer_resets(peer_last());
    end(thread, &task, TM_SOCKET_ERROR, TM_ECONNRESET);
    CHECK_EQ(tfClose(task.sd), 0);
    CHECK_EQ(stats().framesFree, stats().framesTotal);

    section("an acceptor wakes with a connection, and when the listener is closed");
    task.sd = listener_at(99);
    begin(&thread, acceptor, &task);
    peer_connect(99);
    CHECK_EQ(pthread_join(thread, 0), 0);
    CHECK(task.result > 0);
    close_cleanly(task.result);
    begin(&thread, acceptor, &task);
    CHECK_EQ(tfClose(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    check_all_free(i);
    return finish("stream_threads");
}
