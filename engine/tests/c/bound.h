/*
 * bound.h - a socket at a port.
 */
#ifndef BOUND_H
#define BOUND_H

#include <string.h>

#include "trsocket.h"

/* Bound to `port` on every address, or TM_SOCKET_ERROR. */
static int socket_at(int type, int port)
{
    struct sockaddr_in local;
    int sd = socket(AF_INET, type, 0);

    memset(&local, 0, sizeof local);
    local.sin_family = AF_INET;
    local.sin_port = htons((unsigned short)port);
    return sd == TM_SOCKET_ERROR || bind(sd, (struct sockaddr *)&local, sizeof local) == TM_SOCKET_ERROR ? TM_SOCKET_ERROR : sd;
}

#endif
