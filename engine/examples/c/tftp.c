/*
 * tftp - a TFTP server (RFC 1350, with blksize of RFC 2348) over zero-copy UDP.
 *
 *   usage: tftp IFACE ADDRESS MASK FOLDER [-w] [-p PORT]        (port 69 unless given; -w: files may be written; stops on SIGINT, SIGTERM)
 *
 * Blocks are read from the file into the frames that go out, and written to the file from the frames that came in. Every transfer has a port of its own. Names lie in
 * FOLDER: one that leads out of it is refused, and so is writing what is there already. Mode octet only.
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "start.h"

#define TRANSFERS_MAX   32
#define BLOCK_BYTES     512   /* unless the client asks for another size */
#define BLOCK_BYTES_MIN 8
#define BLOCK_BYTES_MAX 1468  /* a packet of 1,500 bytes: no fragments */
#define RETRY_MS        1000
#define TRIES           5

enum { RRQ = 1, WRQ, DATA, ACK, ERROR, OACK };
enum { UNDEFINED, NOT_FOUND, ACCESS_VIOLATION, DISK_FULL, ILLEGAL, UNKNOWN_ID, EXISTS };

struct transfer {
    int  used;
    int  sd;
    struct sockaddr_in peer;
    int  file;
    int  writing;
    char name[512];            /* of the file */
    int  block_bytes;
    int  negotiating;          /* our last packet is an OACK */
    long long block;           /* sending: the one under way; writing: the last that came. On the wire, its last 16 bits */
    int  last;                 /* that is the final one */
    long long sent_at_ms;
    int  tries;
};

static struct transfer transfers[TRANSFERS_MAX];
static const char *folder;
static int may_write;

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void put16(char *at, long long value)
{
    at[0] = (char)(value >> 8);
    at[1] = (char)value;
}

static int get16(const char *at)
{
    return (unsigned char)at[0] << 8 | (unsigned char)at[1];
}

/* Sends it, and is rid of it: what is lost is sent again when the client, or our timer, asks for it. */
static void send_message(int sd, ttUserMessage message, int length, const struct sockaddr_in *to)
{
    if (tfZeroCopySendTo(sd, message, length, 0, (const struct sockaddr *)to, sizeof *to) == TM_SOCKET_ERROR &&
        tfGetSocketError(sd) == TM_EWOULDBLOCK)
        tfFreeZeroCopyBuffer(message);
}

static void send_error(int sd, const struct sockaddr_in *to, int code, const char *text)
{
    char *data;
    int length = 4 + (int)strlen(text) + 1;
    ttUserMessage message = tfGetZeroCopyBuffer(length, &data);

    if (message != 0) {
        put16(data, ERROR);
        put16(data + 2, code);
        strcpy(data + 4, text);
        send_message(sd, message, length, to);
    }
}

static void end(struct transfer *transfer)
{
    close(transfer->file);
    tfClose(transfer->sd);
    transfer->used = 0;
    /* A file that did not come whole is none. */
    if (transfer->writing && !transfer->last)
        unlink(transfer->name);
}

static void refuse(struct transfer *transfer, int code, const char *text)
{
    send_error(transfer->sd, &transfer->peer, code, text);
    end(transfer);
}

/* What the transfer has to say now; said again, it is made anew. False: the transfer has failed, and is over. */
static int send_current(struct transfer *t)
{
    char *data;
    int length = 4;
    ssize_t bytes;
    ttUserMessage message = tfGetZeroCopyBuffer(4 + BLOCK_BYTES_MAX, &data);

    t->sent_at_ms = now_ms();
    if (message == 0)
        return 1; /* no frame is free: the timer comes back to it */
    if (t->negotiating) {
        put16(data, OACK);
        length = 2 + snprintf(data + 2, 32, "blksize%c%d", 0, t->block_bytes) + 1;
    } else if (t->writing) {
        put16(data, ACK);
        put16(data + 2, t->block);
    } else {
        put16(data, DATA);
        put16(data + 2, t->block);
        bytes = pread(t->file, data + 4, (size_t)t->block_bytes, (off_t)((t->block - 1) * t->block_bytes));
        if (bytes < 0) {
            tfFreeZeroCopyBuffer(message);
            refuse(t, UNDEFINED, "cannot read");
            return 0;
        }
        t->last = bytes < t->block_bytes;
        length += (int)bytes;
    }
    send_message(t->sd, message, length, &t->peer);
    return 1;
}

static void next(struct transfer *transfer)
{
    transfer->tries = 0;
    send_current(transfer);
}

/* The path of a name in the folder; false if it leads out of it. */
static int path_of(const char *name, char *path, size_t size)
{
    const char *at = name;

    for (;;) {
        if (at[0] == '.' && at[1] == '.' && (at[2] == '/' || at[2] == '\0'))
            return 0;
        at = strchr(at, '/');
        if (at == 0)
            break;
        at++;
    }
    return (size_t)snprintf(path, size, "%s/%s", folder, name) < size;
}

/* The next string of a request; null if it does not end there. */
static const char *next_string(const char **at, const char *past)
{
    const char *text = *at, *zero = memchr(text, 0, (size_t)(past - text));

    if (zero != 0)
        *at = zero + 1;
    return zero != 0 ? text : 0;
}

/* Opens the file that is asked for; otherwise says why not, and returns -1. */
static int open_file(struct transfer *t, const char *name)
{
    struct stat about;
    int file, code;

    if (!path_of(name, t->name, sizeof t->name) || (t->writing && !may_write)) {
        send_error(t->sd, &t->peer, ACCESS_VIOLATION, "not allowed");
        return -1;
    }
    /* O_NONBLOCK: a pipe would make us wait. */
    file = open(t->name, t->writing ? O_WRONLY | O_CREAT | O_EXCL : O_RDONLY | O_NONBLOCK, 0644);
    if (file < 0) {
        code = errno == ENOENT ? NOT_FOUND : errno == EEXIST ? EXISTS : ACCESS_VIOLATION;
        send_error(t->sd, &t->peer, code, strerror(errno));
        return -1;
    }
    if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(file);
        send_error(t->sd, &t->peer, ACCESS_VIOLATION, "no file");
        return -1;
    }
    return file;
}

/* A request has come to the server's port: from now on the transfer's own port answers. */
static void begin(int server, const char *request, int length, const struct sockaddr_in *from)
{
    const char *at = request + 2, *past = request + length, *name, *mode, *option, *value;
    struct transfer *t, *free_one = 0;

    for (t = transfers; t < transfers + TRANSFERS_MAX; t++) {
        if (!t->used)
            free_one = t;
        else if (t->peer.sin_addr.s_addr == from->sin_addr.s_addr && t->peer.sin_port == from->sin_port)
            return; /* it asks again: our timer answers */
    }
    if (length < 2 || (get16(request) != RRQ && get16(request) != WRQ)) {
        send_error(server, from, ILLEGAL, "requests only");
        return;
    }
    name = next_string(&at, past);
    mode = name != 0 ? next_string(&at, past) : 0;
    if (mode == 0 || strcasecmp(mode, "octet") != 0) {
        send_error(server, from, ILLEGAL, "mode octet only");
        return;
    }
    t = free_one;
    if (t == 0) {
        send_error(server, from, UNDEFINED, "too many transfers");
        return;
    }
    memset(t, 0, sizeof *t);
    t->peer = *from;
    t->writing = get16(request) == WRQ;
    t->block_bytes = BLOCK_BYTES;
    while ((option = next_string(&at, past)) != 0 && (value = next_string(&at, past)) != 0) {
        if (strcasecmp(option, "blksize") == 0 && atoi(value) >= BLOCK_BYTES_MIN) {
            t->block_bytes = atoi(value) < BLOCK_BYTES_MAX ? atoi(value) : BLOCK_BYTES_MAX;
            t->negotiating = 1;
        }
    }
    t->sd = open_socket(SOCK_DGRAM, 0);
    t->file = open_file(t, name);
    if (t->file < 0) {
        tfClose(t->sd);
        return;
    }
    t->used = 1;
    /* Reading, a client answers an OACK with ACK 0, as if it had had a block 0. */
    t->block = t->writing || t->negotiating ? 0 : 1;
    next(t);
}

static void take_data(struct transfer *t, const char *packet, int length)
{
    int number = get16(packet + 2);

    if (number == (int)((t->block + 1) & 0xffff) && !t->last) {
        if (length - 4 > t->block_bytes) {
            refuse(t, ILLEGAL, "block too long");
            return;
        }
        if (write(t->file, packet + 4, (size_t)(length - 4)) != length - 4) {
            refuse(t, DISK_FULL, "cannot write");
            return;
        }
        t->negotiating = 0;
        t->block++;
        t->last = length - 4 < t->block_bytes;
        next(t);
    } else if (number == (int)(t->block & 0xffff) && t->block > 0) {
        /* Our acknowledgement was lost. */
        send_current(t);
    }
}

static void take_ack(struct transfer *t, int number)
{
    /* An old one that comes twice is not answered, or every block from there on would go out twice (RFC 1123 4.2.3.1). */
    if (number != (int)(t->block & 0xffff))
        return;
    if (t->last) {
        end(t);
        return;
    }
    t->negotiating = 0;
    t->block++;
    next(t);
}

static void take_packet(struct transfer *t, const char *packet, int length, const struct sockaddr_in *from)
{
    if (from->sin_addr.s_addr != t->peer.sin_addr.s_addr || from->sin_port != t->peer.sin_port)
        send_error(t->sd, from, UNKNOWN_ID, "unknown transfer");
    else if (length >= 4 && get16(packet) == DATA && t->writing)
        take_data(t, packet, length);
    else if (length >= 4 && get16(packet) == ACK && !t->writing)
        take_ack(t, get16(packet + 2));
    else if (length >= 2 && get16(packet) == ERROR)
        end(t);
    else
        refuse(t, ILLEGAL, "out of place");
}

/* Everything that has come to the server's port (`transfer` is null), or to a transfer's. */
static void receive(int sd, struct transfer *transfer)
{
    struct sockaddr_in from;
    int length, from_length;
    ttUserMessage message;
    char *data;

    while (transfer == 0 || transfer->used) {
        from_length = sizeof from;
        length = tfZeroCopyRecvFrom(sd, &message, &data, 65535, 0, (struct sockaddr *)&from, &from_length);
        if (length == TM_SOCKET_ERROR)
            break; /* nothing more; or an error of the network's, which the timer finds out */
        if (length == 0)
            continue; /* an empty datagram has no buffer */
        if (transfer == 0)
            begin(sd, data, length, &from);
        else
            take_packet(transfer, data, length, &from);
        tfFreeZeroCopyBuffer(message);
    }
}

static void check_timer(struct transfer *t)
{
    if (now_ms() - t->sent_at_ms < RETRY_MS)
        return;
    if (t->writing && t->last) {
        /* It was kept in case our last acknowledgement was lost; see RFC 1350 section 6. */
        if (now_ms() - t->sent_at_ms >= 3 * RETRY_MS)
            end(t);
    } else if (++t->tries == TRIES) {
        end(t);
    } else {
        send_current(t);
    }
}

int main(int argc, char **argv)
{
    struct transfer *t;
    struct timeval time;
    ttUserInterface interface;
    fd_set readable;
    int server, highest, i, port = 69;

    for (i = 5; i < argc; i++) {
        if (strcmp(argv[i], "-w") == 0)
            may_write = 1;
        else if (strcmp(argv[i], "-p") == 0 && i + 1 < argc)
            port = atoi(argv[++i]);
        else
            argc = 0;
    }
    if (argc < 5) {
        fprintf(stderr, "usage: tftp IFACE ADDRESS MASK FOLDER [-w] [-p PORT]\n");
        return 2;
    }
    folder = argv[4];
    interface = start_network(argv[1], argv[2], argv[3]);
    server = open_socket(SOCK_DGRAM, port);
    ready();

    while (!stopping) {
        FD_ZERO(&readable);
        FD_SET(server, &readable);
        highest = server;
        for (t = transfers; t < transfers + TRANSFERS_MAX; t++) {
            if (t->used) {
                FD_SET(t->sd, &readable);
                if (t->sd > highest)
                    highest = t->sd;
            }
        }
        /* Sleeps until a packet comes; a tenth of a second at most, to look at the timers and at `stopping`. */
        time.tv_sec = 0;
        time.tv_usec = 100000;
        if (select(highest + 1, &readable, 0, 0, &time) == TM_SOCKET_ERROR)
            fail("select");
        for (t = transfers; t < transfers + TRANSFERS_MAX; t++) {
            if (t->used && FD_ISSET(t->sd, &readable))
                receive(t->sd, t);
            if (t->used)
                check_timer(t);
        }
        if (FD_ISSET(server, &readable))
            receive(server, 0);
        tfPoll();
    }

    for (t = transfers; t < transfers + TRANSFERS_MAX; t++) {
        if (t->used)
            refuse(t, UNDEFINED, "the server stops");
    }
    tfClose(server);
    return stop_network(interface);
}
