/* Threads blocked on streams: each wakes with data, with the error, or because another thread closed the socket. */
#define _POSIX_C_SOURCE 200809L
#define WITH_PEER
#include "threads.h"

static char big[SENDER_BYTES];

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
