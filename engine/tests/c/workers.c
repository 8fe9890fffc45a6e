/* The threaded way to run: workers turn the loop, as many as the first argument says, and any thread calls. */
#define _POSIX_C_SOURCE 200809L
#define WITH_PEER
#include "threads.h"

#define THREADS 4
#define MANY 300
#define SHARED 400

static char big[SENDER_BYTES];

/* Sockets for one select, and which of them it said. */
static int many[MANY], ready;

static void *connector(void *argument)
{
    struct task *task = argument;
    task->result = connect_to(task->sd, "10.0.0.2", PEER_SILENT);
    task->error = tfGetLastError();
    return 0;
}

/* Waits for any of `many`, and says which. */
static void *many_selector(void *argument)
{
    struct task *task = argument;
    fd_set set;
    int at, highest = 0;
    FD_ZERO(&set);
    for (at = 0; at < MANY; at++) {
        FD_SET(many[at], &set);
        if (many[at] > highest)
            highest = many[at];
    }
    task->result = select(highest + 1, &set, 0, 0, 0);
    task->error = tfGetLastError();
    for (at = 0; task->result == 1 && at < MANY; at++)
        if (FD_ISSET(many[at], &set))
            ready = at;
    return 0;
}

/* Takes datagrams until an empty one. */
static void *taker(void *argument)
{
    struct task *task = argument;
    char back[64];
    task->result = 0;
    while (recv(task->sd, back, sizeof back, 0) > 0)
        task->result++;
    return 0;
}

static void *stream_writer(void *argument)
{
    struct task *task = argument;
    uint32_t number;
    for (number = 0; number < 20000; number++)
        if (send(task->sd, &number, sizeof number, 0) != (int)sizeof number)
            return 0;
    task->result = 1;
    return 0;
}

/* ---- callbacks: what they saw, for the main thread to look at when the worker is stopped ---- */

static struct {
    pthread_t thread;
    int calls, moved, recv_error, stop_result, poll_result, accepted;
    int close_complete;
} saw;

static void on_datagram(int sd, int events)
{
    struct sockaddr_in from;
    int length = sizeof from, bytes;
    char *data, byte;
    ttUserMessage h;
    saw.thread = pthread_self();
    saw.calls++;
    if (!(events & TM_CB_RECV))
        return;
    /* Sends every datagram back in its own buffer. */
    while ((bytes = tfZeroCopyRecvFrom(sd, &h, &data, 2000, MSG_DONTWAIT, (struct sockaddr *)&from, &length)) > 0)
        saw.moved += tfZeroCopySendTo(sd, h, bytes, 0, (struct sockaddr *)&from, sizeof from) == bytes;
    /* What would have to wait does not, here. */
    if (recv(sd, &byte, 1, 0) == TM_SOCKET_ERROR)
        saw.recv_error = tfGetLastError();
    saw.stop_result = tfStopWorkers();
}

static void on_stream(int sd, void *param, int events)
{
    int *conversation = param, bytes;
    char *data;
    ttUserMessage h;
    if (events & TM_CB_RECV)
        while ((bytes = tfZeroCopyRecv(sd, &h, &data, 2000, MSG_DONTWAIT)) > 0)
            *conversation += tfZeroCopySend(sd, h, bytes, MSG_DONTWAIT) == bytes ? bytes : 0;
    if (events & TM_CB_REMOTE_CLOSE)
        tfClose(sd);
    if (events & TM_CB_CLOSE_COMPLT)
        saw.close_complete++;
}

static void on_connection(int sd, int events)
{
    static int conversation;
    int accepted;
    if (!(events & TM_CB_ACCEPT))
        return;
    accepted = accept(sd, 0, 0);
    if (accepted > 0 && tfRegisterSocketCBParam(accepted, on_stream, &conversation, 0x3ff) == 0)
        saw.accepted++;
}

static void set_timeout(int sd, int option, long ms)
{
    struct timeval time = {0, 0};
    time.tv_usec = ms * 1000;
    CHECK_EQ(setsockopt(sd, SOL_SOCKET, option, &time, sizeof time), 0);
}

int main(int argc, char **argv)
{
    const int workers = argc > 1 ? atoi(argv[1]) : 1;
    ttUserInterface i;
    pthread_t thread, second, all[THREADS];
    struct task task, other, tasks[THREADS];
    struct timeval brief = {0, 30000};
    struct sockaddr_in peer = address_of("10.0.0.2", 7);
    char back[64], *data;
    ttUserMessage h;
    fd_set set;
    double begun, busy;
    uint32_t number, got;
    int at, fill;
    memset(&task, 0, sizeof task);
    memset(&other, 0, sizeof other);

    section("starting and stopping");
    CHECK_EQ(tfStartWorkers(workers), TM_EINVAL);
    i = wire_up();
    CHECK_EQ(tfStopWorkers(), TM_EINVAL);
    CHECK_EQ(tfStartWorkers(0), TM_EINVAL);
    CHECK_EQ(tfStartWorkers(-1), TM_EINVAL);
    CHECK_EQ(tfStartWorkers(65), TM_EINVAL);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);
    CHECK_EQ(tfStartWorkers(workers), TM_EALREADY);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    CHECK_EQ(tfStopWorkers(), TM_EINVAL);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);

    section("the worker asks a driver that does not notify, and callers do not turn the loop");
    task.sd = udp_socket(0);
    CHECK_EQ(connect_to(task.sd, "10.0.0.2", 7), 0);
    CHECK_EQ(send(task.sd, "hello", 5, 0), 5);
    CHECK_EQ(recv(task.sd, back, sizeof back, 0), 5);
    CHECK_EQ(tfPoll(), 0);
    tfTimerExecute();
    CHECK_EQ(tfRecvInterface(i), TM_EWOULDBLOCK);
    CHECK_EQ(tfCheckReceiveInterface(i), TM_EWOULDBLOCK);
    CHECK_EQ(tfClose(task.sd), 0);

    section("a call wakes a worker that sleeps");
    wire.notifies = 1;
    tfNotifyReceiveInterfaceIsr(i);
    task.sd = udp_socket(7000);
    CHECK_EQ(connect_to(task.sd, "10.0.0.2", 7), 0);
    CHECK_EQ(tfBlockingState(task.sd, TM_BLOCKING_OFF), 0);
    begun = seconds(CLOCK_MONOTONIC);
    for (at = 0; at < 200; at++) {
        pause_ms(1);
        CHECK_EQ(send(task.sd, "hello", 5, 0), 5);
        FD_ZERO(&set);
        FD_SET(task.sd, &set);
        CHECK_EQ(select(task.sd + 1, &set, 0, 0, 0), 1);
        CHECK_EQ(recv(task.sd, back, sizeof back, 0), 5);
    }
    /* Each one missed takes 100 ms. */
    CHECK(seconds(CLOCK_MONOTONIC) - begun < 10);
    CHECK_EQ(tfClose(task.sd), 0);

    section("all sleep when nothing happens");
    task.sd = udp_socket(7000);
    begin(&thread, receiver, &task);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID);
    pause_ms(500);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
    printf("  %.1f ms of processor time in 500 ms\n", busy * 1e3);
    CHECK(busy < 0.05);

    section("a frame wakes the one that it is for; so does closing the socket");
    wire_udp(9, 7000, "wake", 4, 1480);
    end(thread, &task, 4, 0);
    begin(&thread, receiver, &task);
    CHECK_EQ(tfClose(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    task.sd = connected_to(9);
    begin(&thread, receiver, &task);
    CHECK_EQ(tfClose(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    task.sd = listener_at(99);
    begin(&thread, acceptor, &task);
    CHECK_EQ(tfClose(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    task.sd = stream_socket();
    begin(&thread, connector, &task);
    CHECK_EQ(tfClose(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    task.sd = connected_to(9);
    begin(&thread, receiver, &task);
    peer_resets(peer_last());
    end(thread, &task, TM_SOCKET_ERROR, TM_ECONNRESET);
    CHECK_EQ(tfClose(task.sd), 0);

    section("a sender waits for room; closing the socket wakes it and frees the buffer");
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
    EVENTUALLY(tfGetSendBytesLeft(task.sd) == 0);
    peer_last()->acks = 0;
    CHECK_EQ(send(task.sd, big, 1000, 0), 1000);
    begin(&thread, sender, &task);
    CHECK_EQ(tfResetConnection(task.sd), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_ENOTCONN);
    CHECK_EQ(tfClose(task.sd), 0);
    EVENTUALLY(stats().framesFree == stats().framesTotal);

    section("time-outs");
    peer_acks = 0;
    task.sd = connected_to(9);
    peer_acks = 1;
    set_timeout(task.sd, SO_RCVTIMEO, 30);
    set_timeout(task.sd, SO_SNDTIMEO, 30);
    begun = seconds(CLOCK_MONOTONIC);
    CHECK_FAILS(task.sd, recv(task.sd, back, sizeof back, 0), TM_EWOULDBLOCK);
    CHECK(seconds(CLOCK_MONOTONIC) - begun >= 0.03);
    CHECK_EQ(set_option(task.sd, SOL_SOCKET, SO_SNDBUF, 1000), 0);
    CHECK_EQ(send(task.sd, big, 1000, 0), 1000);
    h = tfGetZeroCopyBuffer(500, &data);
    begun = seconds(CLOCK_MONOTONIC);
    CHECK_FAILS(task.sd, tfZeroCopySend(task.sd, h, 500, 0), TM_EWOULDBLOCK);
    CHECK(seconds(CLOCK_MONOTONIC) - begun >= 0.03);
    CHECK_EQ(tfFreeZeroCopyBuffer(h), TM_ENOERROR);
    FD_ZERO(&set);
    FD_SET(task.sd, &set);
    begun = seconds(CLOCK_MONOTONIC);
    CHECK_EQ(select(task.sd + 1, &set, 0, 0, &brief), 0);
    CHECK(seconds(CLOCK_MONOTONIC) - begun >= 0.03);
    CHECK_EQ(tfResetConnection(task.sd), 0);
    CHECK_EQ(tfClose(task.sd), 0);

    section("select over many sockets");
    for (at = 0; at < MANY; at++)
        many[at] = udp_socket(10000 + (unsigned)at);
    for (at = MANY - 1; at >= 0; at -= 97) {
        begin(&thread, many_selector, &task);
        wire_udp(9, 10000 + (unsigned)at, "wake", 4, 1480);
        end(thread, &task, 1, 0);
        CHECK_EQ(ready, at);
        CHECK_EQ(recv(many[at], back, sizeof back, MSG_DONTWAIT), 4);
    }
    begin(&thread, many_selector, &task);
    CHECK_EQ(tfClose(many[0]), 0);
    end(thread, &task, TM_SOCKET_ERROR, TM_EBADF);
    for (at = 1; at < MANY; at++)
        CHECK_EQ(tfClose(many[at]), 0);

    section("callbacks run on the worker and call the API");
    task.sd = udp_socket(7100);
    CHECK_EQ(tfRegisterSocketCB(task.sd, on_datagram, TM_CB_RECV), 0);
    for (at = 0; at < 10; at++) {
        wire_udp(9, 7100, "call", 4, 1480);
        pause_ms(2);
    }
    other.sd = listener_at(100);
    CHECK_EQ(tfRegisterSocketCB(other.sd, on_connection, TM_CB_ACCEPT), 0);
    peer_connect(100);
    EVENTUALLY(peer_last()->established);
    peer_send(peer_last(), big, 1000);
    EVENTUALLY(peer_last()->length == 1000);
    peer_finish(peer_last());
    EVENTUALLY(peer_last()->fin);
    pause_ms(30);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    CHECK(saw.calls > 0);
    CHECK_EQ(saw.moved, 10);
    CHECK_EQ(saw.recv_error, TM_EWOULDBLOCK);
    CHECK_EQ(saw.stop_result, TM_EWOULDBLOCK);
    CHECK(!pthread_equal(saw.thread, pthread_self()));
    CHECK_EQ(saw.accepted, 1);
    CHECK_EQ(saw.close_complete, 1);
    CHECK_EQ(tfClose(task.sd), 0);
    CHECK_EQ(tfClose(other.sd), 0);

    section("who waits goes on when the worker is stopped, and when one is started");
    task.sd = udp_socket(7000);
    other.sd = udp_socket(7001);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);
    begin(&thread, receiver, &task);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    wire_udp(9, 7000, "wake", 4, 1480);
    end(thread, &task, 4, 0);
    begin(&second, receiver, &other);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);
    wire_udp(9, 7001, "wake", 4, 1480);
    end(second, &other, 4, 0);
    CHECK_EQ(tfClose(other.sd), 0);

    section("two threads receive from one datagram socket: each datagram is one's");
    other = task;
    CHECK_EQ(pthread_create(&thread, 0, taker, &task), 0);
    CHECK_EQ(pthread_create(&second, 0, taker, &other), 0);
    for (at = 0; at < SHARED; at++) {
        wire_udp(9, 7000, "data", 4, 1480);
        if (at % 100 == 99)
            pause_ms(5);
    }
    EVENTUALLY(tfGetWaitingBytes(task.sd) == 0);
    pause_ms(20);
    wire_udp(9, 7000, "", 0, 1480);
    wire_udp(9, 7000, "", 0, 1480);
    CHECK_EQ(pthread_join(thread, 0), 0);
    CHECK_EQ(pthread_join(second, 0), 0);
    CHECK_EQ(task.result + other.result, SHARED);
    CHECK_EQ(tfClose(task.sd), 0);

    section("one thread sends on a stream, another receives what comes back");
    task.sd = connected_to(7);
    CHECK_EQ(pthread_create(&thread, 0, stream_writer, &task), 0);
    for (number = 0; number < 20000; number++) {
        for (fill = 0; fill < (int)sizeof got; fill += at) {
            at = recv(task.sd, (char *)&got + fill, sizeof got - (unsigned)fill, 0);
            if (at <= 0)
                break;
        }
        if (fill != (int)sizeof got || got != number)
            break;
    }
    CHECK_EQ(number, 20000);
    end(thread, &task, 1, 0);
    CHECK_EQ(tfClose(task.sd), 0);

    section("four threads echo at once, on sockets of their own");
    for (at = 0; at < THREADS; at++) {
        tasks[at].sd = udp_socket(0);
        CHECK_EQ(connect(tasks[at].sd, (struct sockaddr *)&peer, sizeof peer), 0);
        CHECK_EQ(pthread_create(&all[at], 0, echo_client, &tasks[at]), 0);
    }
    for (at = 0; at < THREADS; at++) {
        CHECK_EQ(pthread_join(all[at], 0), 0);
        CHECK_EQ(tasks[at].result, ECHO_ROUNDS);
        CHECK_EQ(tfClose(tasks[at].sd), 0);
    }
    check_all_free(i);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    return finish("workers");
}
