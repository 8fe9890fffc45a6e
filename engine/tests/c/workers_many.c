/* Several workers share the queues of several interfaces: as many workers as the first argument says, four interfaces, and two threads on each. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#define INTERFACES 4
#define PER_INTERFACE 2
#define THREADS (INTERFACES * PER_INTERFACE)
#define IDLE 6

/* ---- a driver whose peer answers ARP and sends every datagram back ---- */

static struct cable {
    pthread_mutex_t mutex;
    ttUserInterface interface;
    unsigned char frames[64][FRAME_BYTES], handed_up[FRAME_BYTES], sending[FRAME_BYTES];
    int lengths[64], sending_length;
    unsigned head, tail;
} cables[INTERFACES];

/* Which threads its functions have run on, and whether two did at once. */
static int inside_at_once;
static pthread_mutex_t inside = PTHREAD_MUTEX_INITIALIZER;

static struct cable *cable_of(ttUserInterface interface)
{
    int at;
    for (at = 0; at < INTERFACES; at++)
        if (cables[at].interface == interface)
            return &cables[at];
    return 0;
}

static void swap(unsigned char *one, unsigned char *other, int bytes)
{
    unsigned char held[6];
    memcpy(held, one, (size_t)bytes);
    memcpy(one, other, (size_t)bytes);
    memcpy(other, held, (size_t)bytes);
}

/* Makes the answer to a frame in its place; the checksums stay right. */
static int reflect(unsigned char *frame, int length)
{
    swap(frame, frame + 6, 6);
    if (frame[12] == 8 && frame[13] == 6) {
        /* The one who is asked for has an address like ours, but for the first byte. */
        frame[21] = 2;
        swap(frame + 22, frame + 32, 6);
        swap(frame + 28, frame + 38, 4);
        memcpy(frame + 22, frame + 32, 6);
        frame[22] = 6;
        memcpy(frame + 6, frame + 22, 6);
        return length;
    }
    if (frame[12] != 8 || frame[13] != 0 || frame[23] != 17)
        return 0;
    swap(frame + 26, frame + 30, 4);
    swap(frame + 34, frame + 36, 2);
    return length;
}

static int cable_send(ttUserInterface interface, char *data, int length, int flag)
{
    struct cable *cable = cable_of(interface);
    int alone = pthread_mutex_trylock(&inside) == 0;
    if (!alone)
        inside_at_once++;
    memcpy(cable->sending + cable->sending_length, data, (size_t)length);
    cable->sending_length += length;
    if (flag & TM_USER_BUFFER_LAST) {
        length = reflect(cable->sending, cable->sending_length);
        pthread_mutex_lock(&cable->mutex);
        if (length > 0 && cable->tail - cable->head < 64) {
            memcpy(cable->frames[cable->tail % 64], cable->sending, (size_t)length);
            cable->lengths[cable->tail++ % 64] = length;
        }
        pthread_mutex_unlock(&cable->mutex);
        cable->sending_length = 0;
        tfSendCompleteInterface(interface, 0);
        tfNotifyReceiveInterfaceIsr(interface);
    }
    if (alone)
        pthread_mutex_unlock(&inside);
    return TM_ENOERROR;
}

static int cable_recv(ttUserInterface interface, char **data, int *length, ttUserBuffer *handle)
{
    struct cable *cable = cable_of(interface);
    int any;
    (void)handle;
    pthread_mutex_lock(&cable->mutex);
    any = cable->head != cable->tail;
    if (any) {
        *length = cable->lengths[cable->head % 64];
        memcpy(cable->handed_up, cable->frames[cable->head++ % 64], (size_t)*length);
        *data = (char *)cable->handed_up;
    }
    pthread_mutex_unlock(&cable->mutex);
    return any ? TM_ENOERROR : TM_EWOULDBLOCK;
}

static int cable_mac(ttUserInterface interface, char *mac)
{
    memset(mac, 0, 6);
    mac[0] = 2;
    mac[5] = (char)(cable_of(interface) - cables);
    return TM_ENOERROR;
}

static const char *number(const char *format, int at)
{
    static char text[4][32];
    static int next;
    char *to = text[next++ % 4];
    snprintf(to, sizeof text[0], format, at);
    return to;
}

static void plug(int at)
{
    int error;
    pthread_mutex_init(&cables[at].mutex, 0);
    cables[at].interface = tfAddInterface(number("cable%d", at), tfUseEthernet(), 0, 0, cable_send, cable_recv, 0, 0, cable_mac, &error);
    CHECK_EQ(error, TM_ENOERROR);
}

static void open_cable(int at)
{
    CHECK_EQ(tfOpenInterface(cables[at].interface, inet_addr(number("10.0.%d.1", at)), inet_addr("255.255.255.0"), 0, 1), TM_ENOERROR);
    tfNotifyReceiveInterfaceIsr(cables[at].interface);
}

static int socket_on(int at)
{
    struct sockaddr_in peer;
    int sd = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&peer, 0, sizeof peer);
    peer.sin_family = AF_INET;
    peer.sin_port = htons(7);
    peer.sin_addr.s_addr = inet_addr(number("10.0.%d.2", at));
    CHECK_EQ(connect(sd, (struct sockaddr *)&peer, sizeof peer), 0);
    return sd;
}

static void echo_on(int first, int last)
{
    pthread_t all[THREADS];
    struct task tasks[THREADS];
    int at;
    for (at = first * PER_INTERFACE; at < last * PER_INTERFACE; at++) {
        tasks[at].sd = socket_on(at / PER_INTERFACE);
        CHECK_EQ(pthread_create(&all[at], 0, echo_client, &tasks[at]), 0);
    }
    for (at = first * PER_INTERFACE; at < last * PER_INTERFACE; at++) {
        end(all[at], &tasks[at], ECHO_ROUNDS, 0);
        CHECK_EQ(tfClose(tasks[at].sd), 0);
    }
}

static tfStats stats_now(void)
{
    tfStats now;
    CHECK_EQ(tfGetStats(&now), 0);
    return now;
}

int main(int argc, char **argv)
{
    const int workers = argc > 1 ? atoi(argv[1]) : 2;
    pthread_t idle[IDLE], thread;
    struct task tasks[IDLE], task;
    char back[64];
    uint64_t woken;
    int at, round;

    tfStartTreck();
    for (at = 0; at < INTERFACES; at++)
        plug(at);
    section("interfaces that are opened before and after the workers are started are theirs");
    open_cable(0);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);
    echo_on(0, 1);
    for (at = 1; at < INTERFACES; at++)
        open_cable(at);
    echo_on(0, INTERFACES);

    section("stopped and started while calls wait");
    task.sd = socket_on(1);
    begin(&thread, receiver, &task);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);
    CHECK_EQ(send(task.sd, "back", 4, 0), 4);
    end(thread, &task, 4, 0);
    begin(&thread, receiver, &task);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    CHECK_EQ(send(task.sd, "back", 4, 0), 4);
    end(thread, &task, 4, 0);
    CHECK_EQ(tfStartWorkers(1), TM_ENOERROR);
    echo_on(0, INTERFACES);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    CHECK_EQ(tfStartWorkers(workers), TM_ENOERROR);

    section("threads that wait on idle sockets are not woken by others' traffic, but by closing theirs");
    for (at = 0; at < IDLE; at++) {
        tasks[at].sd = socket_on(at % INTERFACES);
        begin(&idle[at], at % 2 ? receiver : selector, &tasks[at]);
    }
    woken = stats_now().callsWoken;
    for (round = 0; round < 500; round++) {
        CHECK_EQ(send(task.sd, "busy", 4, 0), 4);
        while (recv(task.sd, back, sizeof back, MSG_DONTWAIT) != 4)
            pause_ms(1);
    }
    CHECK_EQ(stats_now().callsWoken, woken);
    /* And each by its own. */
    for (at = 0; at < IDLE; at++)
        CHECK_EQ(send(tasks[at].sd, "wake", 4, 0), 4);
    for (at = 0; at < IDLE; at++)
        end(idle[at], &tasks[at], at % 2 ? 4 : 1, 0);
    CHECK_EQ(stats_now().callsWoken, woken + IDLE);
    for (at = 0; at < IDLE; at++) {
        CHECK_EQ(at % 2 ? 4 : recv(tasks[at].sd, back, sizeof back, 0), 4);
        begin(&idle[at], at % 2 ? receiver : selector, &tasks[at]);
    }
    for (at = 0; at < IDLE; at++) {
        CHECK_EQ(tfClose(tasks[at].sd), 0);
        end(idle[at], &tasks[at], TM_SOCKET_ERROR, TM_EBADF);
    }

    section("an interface is closed and opened while the others are busy");
    tasks[0].sd = socket_on(2);
    CHECK_EQ(pthread_create(&thread, 0, echo_client, &tasks[0]), 0);
    for (at = 0; at < 20; at++) {
        CHECK_EQ(tfCloseInterface(cables[3].interface), TM_ENOERROR);
        open_cable(3);
    }
    end(thread, &tasks[0], ECHO_ROUNDS, 0);
    CHECK_EQ(tfClose(tasks[0].sd), 0);
    echo_on(3, 4);

    section("all sleep when nothing happens");
    check_asleep();

    CHECK_EQ(tfClose(task.sd), 0);
    CHECK_EQ(tfStopWorkers(), TM_ENOERROR);
    CHECK_EQ(inside_at_once, 0);
    for (at = 0; at < INTERFACES; at++)
        CHECK_EQ(tfCloseInterface(cables[at].interface), TM_ENOERROR);
    CHECK_EQ(stats_now().framesFree, stats_now().framesTotal);
    return finish("workers_many");
}
