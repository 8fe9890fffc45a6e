/*
 * udp_echo - answers every UDP datagram with itself, from the frame that it came in: no byte is copied.
 *
 *   usage: udp_echo IFACE ADDRESS MASK [PORT]        (port 7 unless given; stops on SIGINT, SIGTERM)
 */
#include "start.h"

int main(int argc, char **argv)
{
    struct sockaddr_in from;
    struct timeval time;
    ttUserInterface interface;
    fd_set readable;
    int sd, length, from_length;
    ttUserMessage message;
    char *data;

    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: udp_echo IFACE ADDRESS MASK [PORT]\n");
        return 2;
    }
    interface = start_network(argv[1], argv[2], argv[3]);
    /* Non-blocking: answers are collected and leave together, at the end of each turn of the loop. */
    sd = open_socket(SOCK_DGRAM, argc > 4 ? atoi(argv[4]) : 7);
    ready();

    while (!stopping) {
        /* Sleeps until a datagram comes; a tenth of a second at most, to look at `stopping`. */
        FD_ZERO(&readable);
        FD_SET(sd, &readable);
        time.tv_sec = 0;
        time.tv_usec = 100000;
        if (select(sd + 1, &readable, 0, 0, &time) == TM_SOCKET_ERROR)
            fail("select");
        for (;;) {
            from_length = sizeof from;
            length = tfZeroCopyRecvFrom(sd, &message, &data, 65535, 0, (struct sockaddr *)&from, &from_length);
            if (length == TM_SOCKET_ERROR)
                break;
            if (length == 0) {
                /* An empty datagram has no buffer. */
                sendto(sd, 0, 0, 0, (struct sockaddr *)&from, from_length);
            } else if (tfZeroCopySendTo(sd, message, length, 0, (struct sockaddr *)&from, from_length) != length &&
                       tfGetSocketError(sd) == TM_EWOULDBLOCK) {
                /* No room to send: the frame is still ours, and UDP may lose it. In every other case it is the stack's again. */
                tfFreeZeroCopyBuffer(message);
            }
        }
        tfPoll();
    }

    tfClose(sd);
    return stop_network(interface);
}
