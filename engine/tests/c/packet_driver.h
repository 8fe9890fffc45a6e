/*
 * packet_driver.h - a driver of the application's over a Linux interface: a packet socket, which sees each frame that comes there and sends what it is given.
 *
 * Made of bare system calls: the kernel's headers have the same names as trsocket.h.
 */
#ifndef PACKET_DRIVER_H
#define PACKET_DRIVER_H

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "trsocket.h"

#define KERNEL_AF_PACKET 17
#define KERNEL_SOCK_RAW 3
#define KERNEL_MSG_DONTWAIT 0x40
#define KERNEL_ETH_P_ALL 3
#define PACKET_FRAME_BYTES 2048

long syscall(long number, ...);

/* struct sockaddr_ll */
struct packet_address {
    unsigned short family, protocol;
    int ifindex;
    unsigned short hardware_type;
    unsigned char packet_type, address_length, address[8];
};

static const char *packet_device;
static long packet_fd = -1;

/* The first line of /sys/class/net/<device>/<name>; 0 if there is none. */
static const char *packet_attribute(const char *name)
{
    static char line[64];
    char path[128];
    FILE *file;
    const char *got = 0;

    snprintf(path, sizeof path, "/sys/class/net/%s/%s", packet_device, name);
    file = fopen(path, "r");
    if (file != 0) {
        got = fgets(line, sizeof line, file);
        fclose(file);
    }
    return got;
}

static int packet_open(ttUserInterface i)
{
    struct packet_address address;
    const char *line = packet_attribute("ifindex");

    (void)i;
    memset(&address, 0, sizeof address);
    address.family = KERNEL_AF_PACKET;
    address.protocol = htons(KERNEL_ETH_P_ALL);
    if (line == 0 || sscanf(line, "%d", &address.ifindex) != 1)
        return TM_ENXIO;
    packet_fd = syscall(SYS_socket, KERNEL_AF_PACKET, KERNEL_SOCK_RAW, (int)address.protocol);
    return packet_fd >= 0 && syscall(SYS_bind, packet_fd, &address, sizeof address) == 0 ? TM_ENOERROR : TM_EIO;
}

static int packet_close(ttUserInterface i)
{
    (void)i;
    syscall(SYS_close, packet_fd);
    return TM_ENOERROR;
}

static int packet_mac(ttUserInterface i, char *mac)
{
    const char *line = packet_attribute("address");
    unsigned byte[6];
    int at;

    (void)i;
    if (line == 0 || sscanf(line, "%x:%x:%x:%x:%x:%x", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4], &byte[5]) != 6)
        return TM_EIO;
    for (at = 0; at < 6; at++)
        mac[at] = (char)byte[at];
    return TM_ENOERROR;
}

/* What the kernel does not take is lost, as on any wire. */
static int packet_send(ttUserInterface i, char *data, int length, int flag)
{
    static char frame[PACKET_FRAME_BYTES];
    static int gathered;

    if (gathered + length <= (int)sizeof frame)
        memcpy(frame + gathered, data, (size_t)length);
    gathered += length;
    if (flag & TM_USER_BUFFER_LAST) {
        if (gathered <= (int)sizeof frame)
            syscall(SYS_sendto, packet_fd, frame, (long)gathered, KERNEL_MSG_DONTWAIT, 0, 0);
        gathered = 0;
        tfSendCompleteInterface(i, 0);
    }
    return TM_ENOERROR;
}

static int packet_recv(ttUserInterface i, char **data, int *length, ttUserBuffer *handle)
{
    (void)i;
    *data = tfGetDriverBuffer(handle, PACKET_FRAME_BYTES, 4);
    if (*data == 0)
        return TM_EWOULDBLOCK;
    *length = (int)syscall(SYS_recvfrom, packet_fd, *data, (long)PACKET_FRAME_BYTES, KERNEL_MSG_DONTWAIT, 0, 0);
    if (*length > 0)
        return TM_ENOERROR;
    tfFreeDriverBuffer(*handle);
    return TM_EWOULDBLOCK;
}

static ttUserInterface packet_interface(const char *device, int *error)
{
    packet_device = device;
    return tfAddInterface("packets", tfUseEthernet(), packet_open, packet_close, packet_send, packet_recv, 0, 0, packet_mac, error);
}

#endif
