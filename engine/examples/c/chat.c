/*
 * chat - a line-based chat server over select().
 *
 *   usage: chat IFACE ADDRESS MASK [PORT]        (port 4000 unless given; stops on SIGINT, SIGTERM)
 *
 * The first line that a client sends is its name; every further one goes to everybody else as "name: line". A client that sends its end leaves: what it
 * was sent is still delivered. Nobody waits for one that does not read: when its send queue is full, it is cut off.
 */
#include "start.h"

#define CLIENTS_MAX 128
#define NAME_LENGTH 16       /* characters of a name at most */
#define LINE_LENGTH 512      /* bytes of a line without its end */
#define QUEUE_BYTES (256 << 10)

struct client {
    int  used;
    int  sd;
    int  leaving;            /* to be closed at the end of this round */
    int  overlong;           /* the line is too long: the rest of it is thrown away */
    int  length;             /* of the line so far */
    char line[LINE_LENGTH];
    char name[NAME_LENGTH + 1]; /* empty: has not said it yet */
};

static struct client clients[CLIENTS_MAX];

static void say_to(struct client *client, const char *text, int length)
{
    /* It takes all that there is room for; one who has left no room does not read. */
    if (!client->leaving && send(client->sd, text, length, 0) != length) {
        client->leaving = 1;
        tfResetConnection(client->sd);
    }
}

static void tell(struct client *client, const char *text)
{
    say_to(client, text, (int)strlen(text));
}

/* To all who have a name, but for `from`. */
static void tell_others(const struct client *from, const char *text)
{
    struct client *client;

    for (client = clients; client < clients + CLIENTS_MAX; client++) {
        if (client->used && client != from && client->name[0] != '\0')
            tell(client, text);
    }
}

static struct client *find(const char *name)
{
    struct client *client;

    for (client = clients; client < clients + CLIENTS_MAX; client++) {
        if (client->used && strcmp(client->name, name) == 0)
            return client;
    }
    return 0;
}

static int is_name(const char *name)
{
    const char *at;

    for (at = name; *at != '\0'; at++) {
        if (*at <= ' ' || *at == 0x7f || *at == ':')
            return 0;
    }
    return at > name && at - name <= NAME_LENGTH;
}

static void take_name(struct client *client, const char *name)
{
    char text[128];

    if (!is_name(name)) {
        tell(client, "* a name is 1 to 16 characters without blanks and colons; yours?\r\n");
    } else if (find(name) != 0) {
        tell(client, "* that name is taken; yours?\r\n");
    } else {
        strcpy(client->name, name);
        snprintf(text, sizeof text, "* welcome, %s\r\n", client->name);
        tell(client, text);
        snprintf(text, sizeof text, "* %s has joined\r\n", client->name);
        tell_others(client, text);
    }
}

static void take_line(struct client *client)
{
    char line[LINE_LENGTH + 1], text[LINE_LENGTH + NAME_LENGTH + 8];

    if (client->length > 0 && client->line[client->length - 1] == '\r')
        client->length--;
    memcpy(line, client->line, (size_t)client->length);
    line[client->length] = '\0';
    client->length = 0;

    if (client->overlong) {
        client->overlong = 0;
        tell(client, "* that line was too long, and went nowhere\r\n");
    } else if (client->name[0] == '\0') {
        take_name(client, line);
    } else if (line[0] != '\0') {
        snprintf(text, sizeof text, "%s: %s\r\n", client->name, line);
        tell_others(client, text);
    }
}

static void take_bytes(struct client *client, const char *data, int length)
{
    int i;

    for (i = 0; i < length && !client->leaving; i++) {
        if (data[i] == '\n')
            take_line(client);
        else if (client->length < LINE_LENGTH)
            client->line[client->length++] = data[i];
        else
            client->overlong = 1;
    }
}

static void receive(struct client *client)
{
    char data[2048];
    int length = recv(client->sd, data, sizeof data, 0);

    if (length > 0) {
        take_bytes(client, data, length);
    } else if (length == 0) {
        /* A last line without its end counts too. */
        if (client->length > 0)
            take_line(client);
        client->leaving = 1;
    } else if (tfGetSocketError(client->sd) != TM_EWOULDBLOCK) {
        client->leaving = 1;
    }
}

static void welcome(int listener)
{
    struct client *client;
    int sd;

    while ((sd = accept(listener, 0, 0)) != TM_SOCKET_ERROR) {
        for (client = clients; client < clients + CLIENTS_MAX && client->used; client++)
            ;
        if (client == clients + CLIENTS_MAX) {
            send(sd, "* the room is full\r\n", 20, 0);
            tfClose(sd);
            continue;
        }
        memset(client, 0, sizeof *client);
        client->used = 1;
        client->sd = sd;
        tell(client, "* your name?\r\n");
    }
}

/* Sees off all who leave. That may fill another's queue, who then leaves too. */
static void see_off(void)
{
    struct client *client;
    char text[64], name[NAME_LENGTH + 1];
    int any;

    do {
        any = 0;
        for (client = clients; client < clients + CLIENTS_MAX; client++) {
            if (!client->used || !client->leaving)
                continue;
            any = 1;
            client->used = 0;
            tfClose(client->sd);
            strcpy(name, client->name);
            if (name[0] != '\0') {
                snprintf(text, sizeof text, "* %s has left\r\n", name);
                tell_others(client, text);
            }
        }
    } while (any);
}

int main(int argc, char **argv)
{
    struct client *client;
    struct timeval time;
    ttUserInterface interface;
    fd_set readable;
    int listener, highest, on = 1, queue = QUEUE_BYTES;

    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: chat IFACE ADDRESS MASK [PORT]\n");
        return 2;
    }
    interface = start_network(argv[1], argv[2], argv[3]);
    listener = open_socket(SOCK_STREAM, argc > 4 ? atoi(argv[4]) : 4000);
    /* Accepted sockets have these too: who has vanished is found out, and lines go at once. */
    setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &queue, sizeof queue);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (listen(listener, 16) == TM_SOCKET_ERROR)
        fail("listen");
    ready();

    while (!stopping) {
        FD_ZERO(&readable);
        FD_SET(listener, &readable);
        highest = listener;
        for (client = clients; client < clients + CLIENTS_MAX; client++) {
            if (client->used) {
                FD_SET(client->sd, &readable);
                if (client->sd > highest)
                    highest = client->sd;
            }
        }
        /* Sleeps until somebody says something; a tenth of a second at most, to look at `stopping`. */
        time.tv_sec = 0;
        time.tv_usec = 100000;
        if (select(highest + 1, &readable, 0, 0, &time) == TM_SOCKET_ERROR)
            fail("select");
        for (client = clients; client < clients + CLIENTS_MAX; client++) {
            if (client->used && FD_ISSET(client->sd, &readable))
                receive(client);
        }
        if (FD_ISSET(listener, &readable))
            welcome(listener);
        see_off();
        tfPoll();
    }

    for (client = clients; client < clients + CLIENTS_MAX; client++) {
        if (client->used) {
            tell(client, "* good night\r\n");
            tfClose(client->sd);
        }
    }
    tfClose(listener);
    return stop_network(interface);
}
