/*
 * http10 - an HTTP/1.0 file server over socket callbacks.
 *
 *   usage: http10 IFACE ADDRESS MASK FOLDER [PORT]        (port 80 unless given; stops on SIGINT, SIGTERM)
 *
 * GET and HEAD of the regular files in FOLDER; a connection carries one request. A file is read piece by piece into frames, and goes out in them: when the send queue is full,
 * TM_CB_WRITE_READY asks for more. The frames are also what is sent again if packets are lost.
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "start.h"

#define CONNECTIONS_MAX 256
#define HEAD_BYTES_MAX  4096        /* of a request */
#define PIECE_BYTES     1448        /* what a segment carries with timestamps */
#define QUEUE_BYTES     (128 << 10) /* of each connection */
#define PATIENCE_S      30          /* with one where nothing happens */
#define EVENTS          (TM_CB_RECV | TM_CB_SEND_COMPLT | TM_CB_REMOTE_CLOSE | TM_CB_SOCKET_ERROR | TM_CB_WRITE_READY)

enum state { FREE, REQUEST, RESPONSE, DRAIN };

struct connection {
    enum state state;
    int  sd;
    char head[HEAD_BYTES_MAX + 1]; /* of the request, then of the response */
    int  length;                   /* of the head */
    int  file;                     /* -1: the response has a head only */
    long long left;                /* bytes of the file */
    ttUserMessage message;         /* a piece that found no room in the queue yet */
    int  message_length;
    time_t last_at;                /* something happened */
};

static struct connection connections[CONNECTIONS_MAX];
static const char *folder;

static time_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void end(struct connection *c)
{
    if (c->message != 0)
        tfFreeZeroCopyBuffer(c->message);
    if (c->file >= 0)
        close(c->file);
    /* Nobody is told of this socket any more: the connection may be another's by then. */
    tfRegisterSocketCB(c->sd, 0, 0);
    tfClose(c->sd);
    c->state = FREE;
}

/* Makes the next piece of the response: the head, with the first bytes of the file behind it, or further bytes. 1: there is one; 0: there are no more; -1: not now, or never. */
static int next_piece(struct connection *c)
{
    char *data;
    long long room = PIECE_BYTES - c->length;
    ssize_t bytes = 0;

    if (c->length == 0 && c->left == 0)
        return 0;
    c->message = tfGetZeroCopyBuffer(PIECE_BYTES, &data);
    if (c->message == 0)
        return -1; /* no frame is free: TM_CB_SEND_COMPLT, or the main loop, brings us back */
    memcpy(data, c->head, (size_t)c->length);
    if (c->left > 0)
        bytes = read(c->file, data + c->length, (size_t)(c->left < room ? c->left : room));
    if (c->left > 0 && bytes <= 0) {
        /* The file has shrunk, or cannot be read: without its length the peer must not take it for whole. */
        tfResetConnection(c->sd);
        end(c);
        return -1;
    }
    c->message_length = c->length + (int)bytes;
    c->length = 0;
    c->left -= bytes;
    return 1;
}

/* Sends until all is sent, or the queue is full. */
static void respond(struct connection *c)
{
    int more;

    for (;;) {
        more = c->message != 0 ? 1 : next_piece(c);
        if (more < 0)
            return;
        if (more == 0)
            break;
        if (tfZeroCopySend(c->sd, c->message, c->message_length, 0) == TM_SOCKET_ERROR) {
            if (tfGetSocketError(c->sd) == TM_EWOULDBLOCK)
                return; /* still ours: TM_CB_WRITE_READY brings us back */
            c->message = 0;
            end(c);
            return;
        }
        c->message = 0; /* the stack's, until the peer has acknowledged it */
    }
    /* The peer reads the end behind the last byte. What it still sends is thrown away, until it ends too: closing now could reset what it has not read. */
    shutdown(c->sd, SHUT_WR);
    c->state = DRAIN;
}

/* Begins a response, with the rest of the file or, without one, a line of text that tells the status. */
static void begin_response(struct connection *c, const char *status, const char *more, int with_body)
{
    int bytes = c->file >= 0 ? 0 : (int)strlen(status) + 1;

    c->length = snprintf(c->head, sizeof c->head,
                         "HTTP/1.0 %s\r\nServer: http10\r\n%sContent-Length: %lld\r\nContent-Type: %s\r\nConnection: close\r\n\r\n",
                         status, more, c->file >= 0 ? c->left : bytes, c->file >= 0 ? "application/octet-stream" : "text/plain");
    if (c->file < 0 && with_body)
        c->length += snprintf(c->head + c->length, sizeof c->head - (size_t)c->length, "%s\n", status);
    if (!with_body)
        c->left = 0;
    c->state = RESPONSE;
    respond(c);
}

static int hex(char digit)
{
    const char *digits = "0123456789abcdef", *at = strchr(digits, digit | (digit > '9' ? 0x20 : 0));

    return digit != '\0' && at != 0 ? (int)(at - digits) : -1;
}

/* The path of a target in the folder, without %xx and ?query; false if it is none, or leads out of the folder. */
static int path_of(const char *target, char *path, size_t size)
{
    size_t length = (size_t)snprintf(path, size, "%s", folder), start = length;

    for (; *target != '\0' && *target != '?'; target++) {
        char byte = *target;

        if (byte == '%') {
            if (hex(target[1]) < 0 || hex(target[2]) < 0)
                return 0;
            byte = (char)(hex(target[1]) << 4 | hex(target[2]));
            target += 2;
        }
        if (byte == '\0' || length + sizeof "index.html" >= size)
            return 0;
        path[length++] = byte;
        path[length] = '\0';
        /* A name that begins with a dot: "..", and what is hidden. */
        if (byte == '.' && path[length - 2] == '/')
            return 0;
    }
    if (path[start] != '/')
        return 0;
    if (path[length - 1] == '/')
        strcpy(path + length, "index.html");
    return 1;
}

/* The head of the request is whole. */
static void take_request(struct connection *c)
{
    char *method = c->head, *target, *version, path[1024];
    struct stat about;
    int head_only;

    c->head[strcspn(c->head, "\r\n")] = '\0';
    target = strchr(method, ' ');
    version = target != 0 ? strchr(target + 1, ' ') : 0;
    if (version == 0 || strncmp(version + 1, "HTTP/1.", 7) != 0) {
        begin_response(c, "400 Bad Request", "", 1);
        return;
    }
    *target++ = '\0';
    *version = '\0';
    head_only = strcmp(method, "HEAD") == 0;
    if (!head_only && strcmp(method, "GET") != 0) {
        begin_response(c, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", 1);
        return;
    }
    if (!path_of(target, path, sizeof path)) {
        begin_response(c, "400 Bad Request", "", !head_only);
        return;
    }
    /* O_NONBLOCK: a pipe would make us wait. */
    c->file = open(path, O_RDONLY | O_NONBLOCK);
    if (c->file >= 0 && (fstat(c->file, &about) != 0 || !S_ISREG(about.st_mode))) {
        close(c->file);
        c->file = -1;
    }
    if (c->file < 0) {
        begin_response(c, "404 Not Found", "", !head_only);
        return;
    }
    c->left = about.st_size;
    begin_response(c, "200 OK", "", !head_only);
}

static void receive_request(struct connection *c)
{
    int length = recv(c->sd, c->head + c->length, HEAD_BYTES_MAX - c->length, 0);

    if (length == TM_SOCKET_ERROR && tfGetSocketError(c->sd) == TM_EWOULDBLOCK)
        return;
    if (length <= 0) {
        end(c); /* it ended before it had asked */
        return;
    }
    c->length += length;
    c->head[c->length] = '\0';
    if (strstr(c->head, "\r\n\r\n") != 0 || strstr(c->head, "\n\n") != 0)
        take_request(c);
    else if (c->length == HEAD_BYTES_MAX || strlen(c->head) < (size_t)c->length)
        begin_response(c, "400 Bad Request", "", 1);
}

/* Throws away what comes after the request; true at the end. */
static int drain(struct connection *c)
{
    char data[2048];
    int length;

    while ((length = recv(c->sd, data, sizeof data, 0)) > 0)
        ;
    return length == 0 || tfGetSocketError(c->sd) != TM_EWOULDBLOCK;
}

static void handle_connection(int sd, void *param, int events)
{
    struct connection *c = param;

    (void)sd;
    c->last_at = now_s();
    if (events & TM_CB_SOCKET_ERROR)
        end(c);
    else if (c->state == REQUEST)
        receive_request(c);
    else if (c->state == RESPONSE)
        respond(c);
    else if (c->state == DRAIN && drain(c))
        end(c);
}

static void handle_listener(int listener, int events)
{
    struct connection *c;
    int sd;

    (void)events;
    while ((sd = accept(listener, 0, 0)) != TM_SOCKET_ERROR) {
        for (c = connections; c < connections + CONNECTIONS_MAX && c->state != FREE; c++)
            ;
        if (c == connections + CONNECTIONS_MAX) {
            tfResetConnection(sd);
            tfClose(sd);
            continue;
        }
        memset(c, 0, sizeof *c);
        c->state = REQUEST;
        c->sd = sd;
        c->file = -1;
        c->last_at = now_s();
        /* What has come already is told, too. */
        tfRegisterSocketCBParam(sd, handle_connection, c, EVENTS);
    }
}

/* Ten times a second: who found no frame goes on, and who does nothing is cut off. */
static void look_after_all(void)
{
    struct connection *c;

    for (c = connections; c < connections + CONNECTIONS_MAX; c++) {
        if (c->state == FREE)
            continue;
        if (now_s() - c->last_at >= PATIENCE_S) {
            tfResetConnection(c->sd);
            end(c);
        } else if (c->state == RESPONSE) {
            respond(c);
        }
    }
}

int main(int argc, char **argv)
{
    struct connection *c;
    struct timeval time;
    ttUserInterface interface;
    int listener, queue = QUEUE_BYTES;

    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: http10 IFACE ADDRESS MASK FOLDER [PORT]\n");
        return 2;
    }
    folder = argv[4];
    interface = start_network(argv[1], argv[2], argv[3]);
    listener = open_socket(SOCK_STREAM, argc > 5 ? atoi(argv[5]) : 80);
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &queue, sizeof queue); /* accepted sockets have it too */
    if (listen(listener, 128) == TM_SOCKET_ERROR)
        fail("listen");
    tfRegisterSocketCB(listener, handle_listener, TM_CB_ACCEPT);
    ready();

    while (!stopping) {
        /* Turns the loop, and sleeps when there is nothing to do; all else happens in the callbacks. */
        time.tv_sec = 0;
        time.tv_usec = 100000;
        select(0, 0, 0, 0, &time);
        look_after_all();
    }

    tfClose(listener);
    for (c = connections; c < connections + CONNECTIONS_MAX; c++) {
        if (c->state != FREE)
            end(c);
    }
    return stop_network(interface);
}
