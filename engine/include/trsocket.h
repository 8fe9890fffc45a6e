/*
 * trsocket.h - a Treck-style zero-copy socket API over Framewire.
 *
 * A program written to these names recompiles and runs: source compatibility is the goal, not binary compatibility.
 * C99 and C++98. Link with -lframewire (libframewire.so, or libframewire.a with -lpthread -ldl -lm).
 *
 * NAMES. The library exports names that begin with tf only. This header maps the plain BSD names (socket, bind, sendto,
 * struct sockaddr_in, SO_BROADCAST, ...) to them with macros, unless TM_NO_BSD_NAMES is defined before it is included.
 * It includes the system's headers for these names first, so the order of #includes does not matter. In C++ define
 * TM_NO_BSD_NAMES if the program has names such as std::bind.
 *
 * IN THIS VERSION: TCP, UDP and raw IP over IPv4, polled and threaded. What is declared and refused:
 *   AF_INET6                                      TM_EAFNOSUPPORT
 *   tfUseAsyncPpp, tfUseSlip                      null, TM_EOPNOTSUPP
 *   listen, accept, SIOCATMARK, tfResetConnection, tfGetSendCompltBytes, tfGetSendBytesLeft, tfGetOobDataOffset, and MSG_OOB on
 *   copying calls, all on a datagram socket       TM_EOPNOTSUPP
 *   IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_ADD_MEMBERSHIP,
 *   IP_DROP_MEMBERSHIP, TM_SO_SND_DGRAMS          TM_EOPNOTSUPP
 *
 * ERRORS. A failing socket call returns TM_SOCKET_ERROR (-1) and stores its reason on the socket: tfGetSocketError(sd).
 * Other calls return the error itself, or null. tfGetLastError() has the calling thread's last error of either kind;
 * tfGetLastErrorText() says of a failed interface call what went wrong and what to do.
 *
 * OWNERSHIP of a zero-copy buffer h given to tfZeroCopySend(To):
 *   success              the stack's. It is free when the driver has sent it.
 *   TM_EWOULDBLOCK       still the caller's, with all its length: retry, or free it.
 *   TM_EFAULT            h is no buffer of the caller's (null, stale, forged, sent, freed). Nothing was touched.
 *   every other error    the stack has freed it.
 * A buffer from tfZeroCopyRecv is the caller's: free it, or send it on (the same frame goes out, uncopied).
 * On a stream the stack keeps a sent buffer until the peer has acknowledged all of it: the frame itself is what is sent again.
 *
 * STREAMS. How a connection ended (TM_ECONNRESET, TM_ETIMEDOUT; TM_ECONNREFUSED, TM_EHOSTUNREACH for one that never began) is told once: by the
 * next send, receive, connect or shutdown, or by SO_ERROR; afterwards such calls are TM_ENOTCONN. What had come before can still be received first. An accepted
 * socket begins with its listener's options and blocking state. Urgent data is one byte, the last of a send with MSG_OOB.
 *
 * RAW SOCKETS. socket(AF_INET, SOCK_RAW, protocol), protocol 0 to 255; 0 is any, as in 4.4BSD. At most 256. A raw socket is a datagram socket
 * without ports: those in addresses are ignored on input and 0 on output. Unless bound or connected it hears all packets of its protocol from when
 * it is opened: ICMP, what the stack answers or uses itself too, and protocols that the stack does not know, for which it then sends no protocol
 * unreachable; never TCP and UDP, which can be sent only. What is received begins with the IPv4 header as it came, in network byte order (of a
 * datagram that came in fragments: made anew, without options). One of those who hear a packet gets the frame that it came in, others copies
 * (counted); of an echo request to us, which the stack answers in the same frame, all get copies.
 * With IP_HDRINCL what is sent begins with the IPv4 header: total length and checksum are filled in, and so are source and identification if they
 * are 0; the packet goes to the header's destination, and is never divided: TM_EMSGSIZE if it is longer than the link's packets. TM_EINVAL (of zero-copy
 * buffers where their other flaws are found, of copied ones last): no such header (cut, version, header length, no destination). A connected raw socket hears of ICMP errors as
 * others do: TM_ECONNREFUSED for port and protocol unreachable, else TM_EHOSTUNREACH.
 *
 * TO RUN IT, POLLED. One thread or several call tfRecvInterface and tfTimerExecute, or tfPoll, or block: a blocking call turns the
 * loop itself (a send once, after it), and sleeps when there is nothing to do. Nothing runs in the background: what waits for
 * an ARP answer goes out in a later turn. Non-blocking calls do not receive. What is sent on a non-blocking socket over
 * AF_XDP leaves with the next turn (a tfPoll, a select that finds nothing ready, a blocking call); on a blocking socket, and
 * with a user driver, at once. Calls from several threads take turns; a sleeping one lets the others in.
 *
 * TO RUN IT, THREADED. After tfStartWorkers(n) n threads of the library's, the workers, turn the loop, and any thread may call any socket,
 * several one socket too. The queues of all interfaces, also of those opened later, are dealt to them in turn: each takes in its queues' frames
 * and makes the system calls that send on them; all else is done by whichever finds it. A worker without a queue sleeps: n is best the number of
 * queues, or 1. If the thread that started them may use n cores or more, each worker runs on one of its own, from the last down (pin that thread
 * later, if at all). They take no signals, and sleep until a frame, a timer or a call comes; if there are more than n cores, they first
 * spin for 50 us. Callbacks and all functions of drivers run on any worker, not always on the same, but one at a
 * time, while other threads' calls wait; open, close and getPhysAddr run in the thread that opens or closes. A blocking call sleeps until something
 * has happened on its socket, or its time is over; tfClose wakes who waits on the socket with TM_EBADF. What is sent leaves with a worker's next turn: a
 * send makes no system call while a worker spins, and waits for none. tfPoll, tfRecvInterface, tfCheckReceiveInterface and tfTimerExecute do nothing
 * then. A driver that has never called tfNotifyReceiveInterfaceIsr is asked every millisecond. tfStopWorkers goes back to polled. Not with a manual clock.
 *
 * With a manual clock (tfUseManualClock) a blocking call turns the loop as long as there is something to do, and then
 * returns TM_EWOULDBLOCK: nobody could move the clock while it waits. So does a call that would block and was made from
 * a driver's function or a callback. From within a driver's function, calls that need what is in use answer TM_EWOULDBLOCK:
 * buffers, tfNotifyReceiveInterfaceIsr and tfSendCompleteInterface always work there.
 *
 * Before the first interface is opened there are no buffers (tfGetZeroCopyBuffer: null, TM_ENOBUFS), a socket can be bound
 * to INADDR_ANY only, and sends fail with TM_EHOSTUNREACH.
 */
#ifndef TRSOCKET_H
#define TRSOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/time.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors: 200 + the 4.4BSD number -------------------------------------------------------------------------------- */

#define TM_ENOERROR         0
#define TM_SOCKET_ERROR     (-1)
#define TM_EPERM            201 /* the process lacks a capability */
#define TM_EIO              205 /* a driver or the kernel failed */
#define TM_ENXIO            206 /* no such interface or queue */
#define TM_EBADF            209 /* no open socket */
#define TM_ENOMEM           212 /* the system gives no memory */
#define TM_EACCES           213 /* a broadcast address without SO_BROADCAST */
#define TM_EFAULT           214 /* a null pointer, or a handle that is none of ours */
#define TM_EBUSY            216 /* another program has the queue */
#define TM_EEXIST           217 /* it is there already */
#define TM_EINVAL           222 /* an argument out of its range, or a call at the wrong time */
#define TM_EMFILE           224 /* too many sockets */
#define TM_EPIPE            232 /* not used */
#define TM_EWOULDBLOCK      235 /* it would have to wait, and may not */
#define TM_EAGAIN           235
#define TM_EINPROGRESS      236 /* the connection is being made */
#define TM_EALREADY         237 /* it has been done, or is being done */
#define TM_ENOTSOCK         238
#define TM_EDESTADDRREQ     239
#define TM_EMSGSIZE         240 /* longer than the protocol or the queue can carry */
#define TM_EPROTOTYPE       241
#define TM_ENOPROTOOPT      242 /* no such option */
#define TM_EPROTONOSUPPORT  243
#define TM_ESOCKTNOSUPPORT  244
#define TM_EOPNOTSUPP       245 /* not on this kind of socket, or not in this version */
#define TM_EPFNOSUPPORT     246
#define TM_EAFNOSUPPORT     247
#define TM_EADDRINUSE       248
#define TM_EADDRNOTAVAIL    249
#define TM_ENETDOWN         250 /* the interface is not open */
#define TM_ENETUNREACH      251
#define TM_ENETRESET        252
#define TM_ECONNABORTED     253
#define TM_ECONNRESET       254 /* the peer reset the connection; told once */
#define TM_ENOBUFS          255 /* no frame is free */
#define TM_EISCONN          256 /* connected */
#define TM_ENOTCONN         257 /* not connected, or not any more */
#define TM_ESHUTDOWN        258 /* shut down for sending */
#define TM_ETOOMANYREFS     259
#define TM_ETIMEDOUT        260 /* the peer did not answer, told once; or lingering took too long */
#define TM_ECONNREFUSED     261 /* nobody listens there; reported once */
#define TM_EHOSTDOWN        264
#define TM_EHOSTUNREACH     265 /* no route, or the next hop never answered */

/* ---- numbers: 4.4BSD's; where 4.4BSD has none (AF_INET6, TM_*), ours ------------------------------------------------- */

#define TM_AF_UNSPEC        0
#define TM_AF_INET          2
#define TM_AF_INET6         24
#define TM_SOCK_STREAM      1
#define TM_SOCK_DGRAM       2
#define TM_SOCK_RAW         3
#define TM_IPPROTO_IP       0
#define TM_IPPROTO_ICMP     1
#define TM_IPPROTO_TCP      6
#define TM_IPPROTO_UDP      17

#define TM_MSG_OOB          0x1
#define TM_MSG_PEEK         0x2
#define TM_MSG_DONTROUTE    0x4
#define TM_MSG_WAITALL      0x40
#define TM_MSG_DONTWAIT     0x80
#define TM_MSG_SCATTERED    0x400
#define MSG_SCATTERED       TM_MSG_SCATTERED

/* Options. SO_SNDBUF of a stream is its send queue (default 1 MiB); of a datagram socket the longest datagram that a non-blocking send takes
 * (default 65,536 bytes). The receive queue is bounded by bytes (SO_RCVBUF: 1 MiB; a stream's begins with 128 KiB and grows to
 * 4 MiB unless it is set) and by frames (TM_SO_RCV_DGRAMS, default 512, of a stream 1,024), since a byte may hold a whole frame. */
#define TM_SOL_SOCKET       0xffff
#define TM_SO_DEBUG         0x1
#define TM_SO_ACCEPTCONN    0x2
#define TM_SO_REUSEADDR     0x4
#define TM_SO_KEEPALIVE     0x8
#define TM_SO_DONTROUTE     0x10
#define TM_SO_BROADCAST     0x20
#define TM_SO_LINGER        0x80
#define TM_SO_OOBINLINE     0x100
#define TM_SO_SNDBUF        0x1001
#define TM_SO_RCVBUF        0x1002
#define TM_SO_SNDLOWAT      0x1003
#define TM_SO_RCVLOWAT      0x1004
#define TM_SO_SNDTIMEO      0x1005 /* struct timeval; zero: for ever */
#define TM_SO_RCVTIMEO      0x1006
#define TM_SO_ERROR         0x1007
#define TM_SO_TYPE          0x1008
#define TM_SO_SNDAPPEND     0x1102 /* kept for source compatibility, as SO_DEBUG: copying sends always fill the last segment that waits */
#define TM_SO_RCVCOPY       0x1103 /* 0 only, else TM_EOPNOTSUPP: what was received is never joined by copying */
#define TM_SO_SND_DGRAMS    0x1104 /* TM_EOPNOTSUPP: all sockets share an interface's queue */
#define TM_SO_RCV_DGRAMS    0x1105

/* Options of streams, at the level IPPROTO_TCP. Modern defaults: SACK, window scale and timestamps are on and stay on, retransmission
 * times follow RFC 6298. Numbers above 0x4001 are ours. */
#define TM_TCP_NODELAY        1
#define TM_TCP_MAXSEG         2      /* 64 to 65,495 payload bytes; to get: what is used */
#define TM_TCP_NOPUSH         4      /* 0 only, else TM_EOPNOTSUPP: tfWritev sends parts together */
#define TM_TCP_STDURG         8      /* the urgent pointer means the last urgent byte (RFC 1122); 0, the default: the one behind it, as others do it */
#define TM_TCP_MAXRT          0x10   /* seconds that data, or a connection attempt, may stay unanswered; 0: the default (300), -1: for ever */
#define TM_TCP_KEEPALIVE      0x4001 /* seconds of silence before a probe, with SO_KEEPALIVE; default 7,200 */
#define TM_TCP_SEL_ACK        0x4002 /* this and the next three: 1 only, 0 is TM_EOPNOTSUPP */
#define TM_TCP_WND_SCALE      0x4003
#define TM_TCP_TS             0x4004
#define TM_TCP_SLOW_START     0x4005
#define TM_TCP_PUSH_ALL       0x4006 /* every segment of data carries the push flag, not only the last of what waits */
#define TM_TCP_DELAY_ACK      0x4007 /* milliseconds, below 500; default 40 */
#define TM_TCP_MAX_REXMIT     0x4008 /* how often data is sent again, up to 255, before TM_ETIMEDOUT; 0, the default: TCP_MAXRT alone bounds it */
#define TM_TCP_KEEPALIVE_INTV 0x4009 /* seconds between probes; default 75 */
#define TM_TCP_KEEPALIVE_CNT  0x400a /* probes; default 9 */
#define TM_TCP_FINWT2TIME     0x400b /* seconds that a closed socket may stay half closed; default 60 */
#define TM_TCP_2MSLTIME       0x400c /* 60 seconds; another is TM_EOPNOTSUPP: the time is the stack's, not the connection's */
#define TM_TCP_RTO_DEF        0x400d /* milliseconds, as the next four, 1 to 3,600,000: the retransmission time before a round trip is known (1,000) */
#define TM_TCP_RTO_MIN        0x400e /* its bounds (200, 60,000); RTO_MIN wins over a smaller RTO_MAX */
#define TM_TCP_RTO_MAX        0x400f
#define TM_TCP_PROBE_MIN      0x4010 /* bounds of the time between probes of a closed window, which otherwise is the retransmission time (200, 60,000) */
#define TM_TCP_PROBE_MAX      0x4011

/* Events of tfRegisterSocketCB. */
#define TM_CB_CONNECT_COMPLT 0x1   /* the connection that was asked for is there */
#define TM_CB_ACCEPT         0x2   /* a connection can be accepted */
#define TM_CB_RECV           0x4   /* data came; again, if a callback took some and left some */
#define TM_CB_RECV_OOB       0x8   /* urgent data came */
#define TM_CB_SEND_COMPLT    0x10  /* everything that was sent is acknowledged */
#define TM_CB_REMOTE_CLOSE   0x20  /* the peer has finished */
#define TM_CB_SOCKET_ERROR   0x40  /* the connection failed, or a datagram could not be delivered: tfGetSocketError, SO_ERROR */
#define TM_CB_RESET          0x80  /* the peer reset the connection; comes with TM_CB_SOCKET_ERROR */
#define TM_CB_CLOSE_COMPLT   0x100 /* after tfClose: everything is delivered, or never will be. The descriptor is free already */
#define TM_CB_WRITE_READY    0x200 /* a send that was refused may be tried again */

#define TM_IP_HDRINCL       2 /* raw sockets only, else TM_ENOPROTOOPT */
#define TM_IP_TOS           3
#define TM_IP_TTL           4
#define TM_IP_MULTICAST_IF  9
#define TM_IP_MULTICAST_TTL 10
#define TM_IP_ADD_MEMBERSHIP  12
#define TM_IP_DROP_MEMBERSHIP 13

#define TM_FIONREAD         0x4004667fUL
#define TM_FIONBIO          0x8004667eUL
#define TM_SIOCATMARK       0x40047307UL
#define TM_SHUT_RD          0
#define TM_SHUT_WR          1
#define TM_SHUT_RDWR        2
#define TM_BLOCKING_OFF     0
#define TM_BLOCKING_ON      1

/* Flag of a driver's send: the piece ends its Ethernet frame. */
#define TM_USER_BUFFER_LAST 1
/* Lock flags of tfSendCompleteInterface: no difference here. */
#define TM_DEV_SEND_COMPLETE_ISR 0
#define TM_DEV_SEND_COMPLETE_APP 1
/* What a driver's ioctl is told. */
#define TM_DEV_SET_FLAGS        1 /* option: int, the flags of tfOpenInterface or tfConfigInterface */
#define TM_DEV_SET_ADDRESS      2 /* option: ttUserIpAddress[2], address and mask */
#define TM_DEV_SET_MTU          3 /* option: int, bytes */
/* Flags of tfOpenInterface. */
#define TM_DEV_SCATTER_SEND_ENB 0x1     /* taken for granted */
#define TM_DEV_MCAST_ENB        0x2     /* without effect */
#define TM_DEV_RX_CSUM_PARTIAL  0x10000 /* take packets whose local sender left the checksum to a device that does not exist: veth, virtual machines */
#define TM_DEV_RX_CSUM_TRUST    0x20000 /* look at no UDP checksum: for links that are memory */

/* ---- types ---------------------------------------------------------------------------------------------------------- */

/* Handles. They are numbers, not pointers: never to be dereferenced, but for a scattered message (ttUserPacket, below). */
typedef struct tsUserMessage   *ttUserMessage;
typedef struct tsUserBuffer    *ttUserBuffer;
typedef struct tsUserInterface *ttUserInterface;
typedef struct tsUserLinkLayer *ttUserLinkLayer;

/* An IPv4 address in network byte order, as inet_addr gives it. */
typedef uint32_t ttUserIpAddress;

/* Callbacks on sockets: they run in a turn of the loop, in the thread that turns it: a worker, if there are any. */
typedef void (*ttUserSocketCBFunc)(int sd, int events);
typedef void (*ttUserSocketCBParamFunc)(int sd, void *param, int events);
/* Frees memory that tfZeroCopyUserBufferSend or tfSocketScatteredSendTo was given. */
typedef void (*ttUserFreeFuncPtr)(char *userBuffer);

/* A piece of a datagram for tfSocketScatteredSendTo: `userDataLength` bytes at `userDataPtr`, somewhere in `userBufferPtr`. */
typedef struct tsUserBlock {
    char *userBufferPtr; /* what the free function is called with */
    char *userDataPtr;
    int   userDataLength;
} ttUserBlock;
typedef ttUserBlock *ttUserBlockPtr;

/* What the handle of a scattered message (tfZeroCopyRecv with MSG_SCATTERED) points to: the first link of a chain, one link for each frame that the datagram came in. The
 * application may write the bytes, and trim a link in place: move pktuLinkDataPtr forward, make pktuLinkDataLength smaller (0: nothing of it is sent). A send of the
 * message then takes what is left; a link that reaches out of what it was given, and a changed pktuLinkNextPtr, are TM_EINVAL. The other two members are not read again.
 * When the handle is given back or sent, the links are worth nothing; their memory stays readable, and is another message's after 65,536 links at the earliest. */
typedef struct tsUserPacket {
    struct tsUserPacket *pktuLinkNextPtr; /* null: the last link */
    char *pktuLinkDataPtr;
    int   pktuLinkDataLength;
    int   pktuChainDataLength; /* on the first link: bytes of all links */
    int   pktuLinkExtraCount;  /* on the first link: how many more links there are */
} ttUserPacket;

struct tfInAddr {
    uint32_t s_addr;
};

/* The len members are set on output and ignored on input. */
struct tfSockaddr {
    unsigned char sa_len;
    unsigned char sa_family;
    char          sa_data[14];
};

struct tfSockaddrIn {
    unsigned char   sin_len;
    unsigned char   sin_family;
    unsigned short  sin_port;
    struct tfInAddr sin_addr;
    char            sin_zero[8];
};

struct tfIn6Addr {
    unsigned char tf_s6_addr[16];
};

struct tfSockaddrIn6 {
    unsigned char    sin6_len;
    unsigned char    sin6_family;
    unsigned short   sin6_port;
    uint32_t         sin6_flowinfo;
    struct tfIn6Addr sin6_addr;
    uint32_t         sin6_scope_id;
};

struct tfSockaddrStorage {
    unsigned char ss_len;
    unsigned char ss_family;
    char          ss_pad[6];
    uint64_t      ss_align[15];
};

/* Sets of descriptors for tfSelect, which looks at the bits below nfds only. May be defined larger before inclusion, up to 65,536. */
#ifndef TM_FD_SETSIZE
#define TM_FD_SETSIZE 1024
#endif
typedef struct tfFdSet {
    uint32_t fds_bits[(TM_FD_SETSIZE + 31) / 32];
} tfFdSet;
#define TM_FD_WORD(sd, set)  ((set)->fds_bits[(unsigned)(sd) / 32u])
#define TM_FD_BIT(sd)        ((uint32_t)1 << ((unsigned)(sd) % 32u))
#define TM_FD_SET(sd, set)   ((void)(TM_FD_WORD(sd, set) |= TM_FD_BIT(sd)))
#define TM_FD_CLR(sd, set)   ((void)(TM_FD_WORD(sd, set) &= ~TM_FD_BIT(sd)))
#define TM_FD_ISSET(sd, set) ((TM_FD_WORD(sd, set) & TM_FD_BIT(sd)) != 0)
#define TM_FD_ZERO(set)                                                                          \
    do {                                                                                         \
        size_t tm_word;                                                                          \
        for (tm_word = 0; tm_word < sizeof((set)->fds_bits) / sizeof(uint32_t); tm_word++)       \
            (set)->fds_bits[tm_word] = 0;                                                        \
    } while (0)

/* Ours: what tfGetStats tells. */
typedef struct tfStats {
    uint64_t framesTotal;   /* 0 before the first interface is opened */
    uint64_t framesFree;
    uint64_t bytesCopiedTx; /* payload bytes copied on the way out: 0 with zero-copy calls */
    uint64_t bytesCopiedRx; /* and on the way in: more than 0 only for copying calls, MSG_PEEK, and datagrams that came in fragments */
    uint64_t udpReceived;
    uint64_t udpSent;
    uint64_t dropped;
    uint64_t callsWoken;    /* calls that waited beside workers, and something happened on their socket */
} tfStats;

/* A driver: functions of the application's that move Ethernet frames. All run in the thread that turns the loop.
 *
 *   open         makes the device ready; 0, or an error that tfOpenInterface returns. May be null, as close, freeRecv and ioctl.
 *   send         sends `length` bytes at `data`, a frame or a piece of one; `flag` has TM_USER_BUFFER_LAST on the last piece. 0: taken;
 *                TM_EWOULDBLOCK: no room now, the piece comes again later; else: the frame is dropped. The driver reads `data`, and never
 *                writes there. The memory stays as it is until tfSendCompleteInterface is called for that frame, oldest first. A
 *                driver that holds 128 frames and has never called it is taken for one that is done when its send returns.
 *   recv         0 and a frame, or TM_EWOULDBLOCK. With *bufferHandle from tfGetDriverBuffer or tfGetEthernetBuffer the frame goes up uncopied, and
 *                *data may point anywhere into that buffer; with *bufferHandle left null the memory is the driver's: it is copied
 *                (counted in no tfStats member: it is the wire's) and freeRecv is called.
 *   getPhysAddr  writes the six bytes of the Ethernet address; called once, after open.
 *   ioctl        tells what the device may want to know; what it returns makes no difference. After open, and when tfConfigInterface changes them: TM_DEV_SET_FLAGS,
 *                TM_DEV_SET_ADDRESS; after open, and when tfSetIfMtu changes it: TM_DEV_SET_MTU. `length` is the option's size in bytes. */
typedef int (*ttDevOpenFunc)(ttUserInterface i);
typedef int (*ttDevCloseFunc)(ttUserInterface i);
typedef int (*ttDevSendFunc)(ttUserInterface i, char *data, int length, int flag);
typedef int (*ttDevRecvFunc)(ttUserInterface i, char **data, int *length, ttUserBuffer *bufferHandle);
typedef int (*ttDevFreeRecvFunc)(ttUserInterface i, char *data);
typedef int (*ttDevIoctlFunc)(ttUserInterface i, int flag, void *option, int length);
typedef int (*ttDevGetPhysAddrFunc)(ttUserInterface i, char *mac);

/* ---- start-up and interfaces: return TM_ENOERROR or the error -------------------------------------------------------- */

int tfStartTreck(void);                 /* before all but tfUseManualClock; TM_EALREADY the second time */
ttUserLinkLayer tfUseEthernet(void);
/* Links that an appliance on Ethernet has not: null, and TM_EOPNOTSUPP by tfGetLastError. */
ttUserLinkLayer tfUseAsyncPpp(void);
ttUserLinkLayer tfUseSlip(void);

/* All functions null: `name` is a Linux interface, driven by AF_XDP on all of its queues (`ethtool -L` sets how many). All interfaces share the
 * frames of the one that is opened first. A Linux interface brings more the more queues it has: open the one with the most first, before any driver. When all are closed the frames stay for those that are opened next. Otherwise they are the driver; send, recv and getPhysAddr must be there. Null on failure, and the reason in *error
 * (if not null): TM_EINVAL, TM_EFAULT (no name), TM_EEXIST, TM_ENOBUFS (16 interfaces). */
ttUserInterface tfAddInterface(const char *name, ttUserLinkLayer link, ttDevOpenFunc open, ttDevCloseFunc close, ttDevSendFunc send,
                               ttDevRecvFunc recv, ttDevFreeRecvFunc freeRecv, ttDevIoctlFunc ioctl, ttDevGetPhysAddrFunc getPhysAddr,
                               int *error);

/* TM_EFAULT (no such interface), TM_EINVAL (address, mask, flags, buffersPerFrame < 1), TM_EALREADY; the error of the driver's open; of a Linux interface
 * TM_EPERM, TM_ENXIO, TM_EBUSY, TM_ENOMEM, TM_EOPNOTSUPP, TM_EIO. */
int tfOpenInterface(ttUserInterface i, ttUserIpAddress address, ttUserIpAddress mask, int flags, int buffersPerFrame);
/* The same in another form: `address` is a sockaddr_in whose port means nothing. Also TM_EFAULT (null address), TM_EAFNOSUPPORT (AF_INET6); TM_EINVAL: prefixLength not 1 to 32. */
int tfNgOpenInterface(ttUserInterface i, const struct tfSockaddr *address, int prefixLength, int flags, int buffersPerFrame);
/* Another address in the old one's place, and other flags. TM_EFAULT, TM_EINVAL, TM_ENETDOWN. */
int tfConfigInterface(ttUserInterface i, ttUserIpAddress address, ttUserIpAddress mask, int flags, int buffersPerFrame);
/* Sends what is queued, closes the device; it may be opened again, and sockets and buffers stay. TM_EFAULT, TM_ENETDOWN. */
int tfCloseInterface(ttUserInterface i);

/* TM_EFAULT, TM_ENETDOWN, TM_EHOSTUNREACH (the gateway is not on the interface's network), TM_EINVAL, TM_EEXIST, TM_ENOBUFS. */
int tfAddDefaultGateway(ttUserInterface i, ttUserIpAddress gateway);
int tfAddStaticRoute(ttUserInterface i, ttUserIpAddress destination, ttUserIpAddress mask, ttUserIpAddress gateway, int hops);
/* TM_EHOSTUNREACH: there is none such. TM_ENETDOWN, TM_EINVAL. */
int tfDelDefaultGateway(ttUserIpAddress gateway);
int tfDelStaticRoute(ttUserIpAddress destination, ttUserIpAddress mask);
int tfAddArpEntry(ttUserIpAddress address, const char *physAddr, int physAddrLength);

int tfGetIpAddress(ttUserInterface i, ttUserIpAddress *address); /* TM_EFAULT, TM_ENETDOWN */
int tfGetNetMask(ttUserInterface i, ttUserIpAddress *mask);      /* TM_EFAULT, TM_ENETDOWN */
int tfGetIfMtu(ttUserInterface i, int *mtu);                     /* TM_EFAULT */
int tfSetIfMtu(ttUserInterface i, int mtu);                      /* TM_EFAULT, TM_EINVAL (68 to 9,216; once open, at most what the link carries) */

/* ---- the loop ------------------------------------------------------------------------------------------------------- */

int tfCheckReceiveInterface(ttUserInterface i); /* TM_ENOERROR: frames wait; TM_EWOULDBLOCK: none. TM_EFAULT, TM_ENETDOWN */
int tfRecvInterface(ttUserInterface i);         /* handles up to 64 of them, and sends the answers. As above */
void tfTimerExecute(void);                      /* fires every timer that is due */
int tfPoll(void);                               /* ours: one turn of everything; 1 if there was something to do, else 0 */

/* Ours: the threaded way to run. TM_EINVAL (n is not 1 to 64, not started, manual clock), TM_EALREADY, TM_EIO (the kernel gives no thread). */
int tfStartWorkers(int n);
int tfStopWorkers(void); /* ours: back to polled. TM_EINVAL (none runs), TM_EALREADY (another thread stops them), TM_EWOULDBLOCK (from a callback or a driver) */

int tfNotifyReceiveInterfaceIsr(ttUserInterface i);           /* any thread: frames have come. TM_EFAULT */
int tfSendCompleteInterface(ttUserInterface i, int lockFlag); /* any thread: the oldest frame is sent. TM_EFAULT */

/* A frame to receive into, or null (TM_EFAULT, TM_EINVAL, TM_ENOBUFS). Alignment: a power of two up to 256. */
char *tfGetDriverBuffer(ttUserBuffer *h, int length, int alignment);
char *tfGetEthernetBuffer(ttUserBuffer *h); /* room for one frame at MTU 1,500; its IP header is aligned */
int tfFreeDriverBuffer(ttUserBuffer h);     /* ours: gives back one that was not handed up. TM_EFAULT */

/* Ours: time from the application. Before tfStartTreck, else TM_EINVAL. Random numbers then have a fixed seed: for tests. */
int tfUseManualClock(void);
int tfTimerUpdateTo(uint64_t nanoseconds); /* TM_EINVAL: in the past, or the clock is not manual */
uint64_t tfNextTimer(void);                /* when the next timer is due, or a little earlier; UINT64_MAX: there is none */

int tfGetStats(tfStats *stats);       /* ours. TM_EFAULT */
int tfGetLastError(void);             /* ours: the calling thread's last error */
const char *tfGetLastErrorText(void); /* ours: why its last interface call failed; valid until the next does */

/* ---- zero-copy ------------------------------------------------------------------------------------------------------ */

/* `size` contiguous bytes; null for size <= 0 (TM_EINVAL), too large or none left (TM_ENOBUFS). */
ttUserMessage tfGetZeroCopyBuffer(int size, char **dataPtrPtr);
int tfFreeZeroCopyBuffer(ttUserMessage h); /* TM_EFAULT: nothing was touched */

/* All of `length` or nothing; returns `length`. Errors in the order of checking: TM_EFAULT (h), TM_EBADF, TM_EINVAL (length <= 0 or longer than
 * the buffer, a flag that is none of MSG_DONTWAIT, MSG_OOB, MSG_DONTROUTE, MSG_SCATTERED; MSG_OOB off TCP, MSG_SCATTERED on TCP), then the address of
 * ...SendTo (TM_EINVAL, TM_EAFNOSUPPORT, TM_EADDRNOTAVAIL: port 0), TM_ESHUTDOWN (TCP: also after tfClose), TM_ENOTCONN (TM_ECONNRESET, TM_ETIMEDOUT: once first;
 * TM_EISCONN: an address on a connected socket), TM_ECONNREFUSED, TM_EHOSTUNREACH, TM_EMSGSIZE (not blocking, and longer than the send queue), TM_EACCES (broadcast),
 * TM_EWOULDBLOCK, TM_ENOBUFS. A blocking send on a stream of more than the whole queue waits until the queue is empty, and is taken whole.
 * MSG_SCATTERED: a scattered message goes out as it lies, uncopied, its first `length` bytes over all links; without the flag one of several links is TM_EINVAL. Other buffers are one piece, with or without. */
int tfZeroCopySend(int sd, ttUserMessage h, int length, int flags);
int tfZeroCopySendTo(int sd, ttUserMessage h, int length, int flags, const struct tfSockaddr *to, int toLength);

/* `length` bytes at `userData`, somewhere in `userBuffer`, with the errors of tfZeroCopySend (TM_EFAULT: userData is null). freeFn(userBuffer), if freeFn is not null, is called exactly once: on success when
 * the bytes are no longer needed, and at once on every error but TM_EWOULDBLOCK.
 * Bytes that all lie in one buffer that the application holds (from tfGetZeroCopyBuffer, tfZeroCopyRecv or a driver's buffer; of a scattered message, in one link) go out as they lie. They must not change until freeFn is
 * called, in a turn of the loop: when no frame with them is with a driver, and, on a stream, the peer has acknowledged them or the connection has ended. The buffer stays the application's: it may send any parts of it, any
 * number of times, and free it, even before that; tfZeroCopySend of the buffer itself is TM_EWOULDBLOCK until then, and a driver's cannot be handed up.
 * All other memory is copied into frames (counted), and freeFn is called before this returns. Copied and counted too, in UMEM or not: MSG_OOB; raw sockets; a datagram that waits for the next hop's Ethernet address (freeFn: in a turn); packets
 * of a driver or device that sends no packets in pieces. */
int tfZeroCopyUserBufferSend(int sd, char *userBuffer, char *userData, int length, ttUserFreeFuncPtr freeFn, int flags);
int tfZeroCopyUserBufferSendTo(int sd, char *userBuffer, char *userData, int length, ttUserFreeFuncPtr freeFn, int flags,
                               const struct tfSockaddr *to, int toLength);
/* 1 to 1,024 blocks as one datagram; a null `to` means the connected peer. Returns the datagram's length. The array may be used again on return. If each lies in a buffer of the application's they go out as
 * tfZeroCopyUserBufferSend sends such bytes; else all are copied into frames (counted). freeFn(userBufferPtr), if freeFn is not null, is called once for each block, when that calls it; but not without an array (TM_EFAULT) and with a count out of range (TM_EINVAL),
 * where nothing is read. Errors in the order of tfZeroCopySendTo; TM_EFAULT: also a block of null with a length; TM_EINVAL: no bytes, a negative length, flags other
 * than MSG_DONTWAIT and MSG_DONTROUTE; TM_EOPNOTSUPP: a stream. */
int tfSocketScatteredSendTo(int sd, ttUserBlockPtr blocks, int count, ttUserFreeFuncPtr freeFn, int flags, const struct tfSockaddr *to,
                            int toLength);

/* The frame that the datagram, or the next bytes of a stream, came in. Of a datagram, what is beyond maxLength is lost; of a stream it stays, and what is taken is then copied.
 * Returns the length; 0 and a null handle for an empty datagram, at the end of a stream and after shutdown. MSG_PEEK: a copy, with a handle of its own. A datagram
 * that came in several frames (fragments) is made contiguous, a counted copy; with MSG_SCATTERED it comes as it lies, and the handle is a ttUserPacket *. Errors: TM_EBADF, TM_EFAULT
 * (null pointers), TM_EINVAL (maxLength <= 0, flags, MSG_SCATTERED on a stream), TM_ENOTCONN (TM_ECONNRESET, TM_ETIMEDOUT: once first), TM_ECONNREFUSED and TM_EHOSTUNREACH (once),
 * TM_EWOULDBLOCK, TM_ENOBUFS. */
int tfZeroCopyRecv(int sd, ttUserMessage *hPtr, char **dataPtrPtr, int maxLength, int flags);
int tfZeroCopyRecvFrom(int sd, ttUserMessage *hPtr, char **dataPtrPtr, int maxLength, int flags, struct tfSockaddr *from, int *fromLength);

/* ---- BSD calls ------------------------------------------------------------------------------------------------------ */

/* By tfGetLastError: TM_EINVAL (before tfStartTreck), TM_EAFNOSUPPORT, TM_EPROTONOSUPPORT, TM_ESOCKTNOSUPPORT, TM_EMFILE, TM_ENOBUFS (too many raw
 * sockets). */
int tfSocket(int family, int type, int protocol);
int tfBind(int sd, const struct tfSockaddr *address, int addressLength);
int tfListen(int sd, int backlog); /* backlog: 1 to 4,096 */
int tfAccept(int sd, struct tfSockaddr *address, int *addressLength);
/* A stream: TM_EINPROGRESS if it may not wait (or SO_SNDTIMEO is over), then TM_EALREADY, then TM_EISCONN, or why there is no connection.
 * A datagram socket with AF_UNSPEC: to nobody again. */
int tfConnect(int sd, const struct tfSockaddr *address, int addressLength);
int tfSend(int sd, const void *data, int length, int flags);
int tfSendTo(int sd, const void *data, int length, int flags, const struct tfSockaddr *to, int toLength);
int tfWrite(int sd, const void *data, int length);
int tfRecv(int sd, void *data, int length, int flags);
int tfRecvFrom(int sd, void *data, int length, int flags, struct tfSockaddr *from, int *fromLength);
int tfRead(int sd, void *data, int length);
int tfReadv(int sd, const struct iovec *vector, int count);
int tfWritev(int sd, const struct iovec *vector, int count);
int tfShutdown(int sd, int how); /* connected sockets only (TM_ENOTCONN) */
/* What was sent on a stream is still delivered: until then the descriptor stays taken, sends on it are TM_ESHUTDOWN, another tfClose is TM_EALREADY, all else
 * TM_EBADF. SO_LINGER with zero seconds, and data that nobody has read, reset the connection; with more seconds a blocking socket waits: TM_ETIMEDOUT if they are too few
 * (delivery goes on). */
int tfClose(int sd);
int tfResetConnection(int sd); /* the descriptor stays, not connected. TM_EBADF, TM_EOPNOTSUPP, TM_ENOTCONN */
int tfGetsockname(int sd, struct tfSockaddr *address, int *addressLength);
int tfGetpeername(int sd, struct tfSockaddr *address, int *addressLength);
int tfSetsockopt(int sd, int level, int option, const void *value, int valueLength);
int tfGetsockopt(int sd, int level, int option, void *value, int *valueLength);
int tfIoctl(int sd, unsigned long request, int *value);
int tfBlockingState(int sd, int state);
int tfGetSocketError(int sd); /* of its last failing call, or how its connection ended if that came later; TM_EBADF for a bad descriptor */

int tfGetWaitingBytes(int sd);    /* to be received. TM_EBADF */
int tfGetSendCompltBytes(int sd); /* sent on this connection and acknowledged, at most INT_MAX. TM_EBADF, TM_EOPNOTSUPP */
int tfGetSendBytesLeft(int sd);   /* sent and not acknowledged yet. TM_EBADF, TM_EOPNOTSUPP */
int tfGetOobDataOffset(int sd);   /* bytes to read before the place of the urgent byte. TM_EBADF, TM_EOPNOTSUPP, TM_ENOTCONN, TM_EINVAL (none) */

/* fn is called when an event of `mask` happened, until another is registered; null or an empty mask: nobody is. What is so already is told in the next turn. fn may call the
 * API; what would have to wait there answers TM_EWOULDBLOCK. TM_EBADF, TM_EINVAL (a bit that is no event). */
int tfRegisterSocketCB(int sd, ttUserSocketCBFunc fn, int mask);
int tfRegisterSocketCBParam(int sd, ttUserSocketCBParamFunc fn, void *param, int mask);

/* How many are ready; 0: time is over. With a manual clock every finite time is over when nothing is left to do, and a null timeout
 * (for ever) ends with TM_EWOULDBLOCK then. Errors by tfGetLastError: TM_EINVAL, TM_EBADF, TM_EWOULDBLOCK. */
int tfSelect(int nfds, tfFdSet *readSet, tfFdSet *writeSet, tfFdSet *exceptSet, const struct timeval *timeout);

uint32_t tfInetAddr(const char *text);
int tfInetAton(const char *text, struct tfInAddr *address);
char *tfInetNtoa(struct tfInAddr address);
int tfInetPton(int family, const char *text, void *address);
const char *tfInetNtop(int family, const void *address, char *text, int size);

#ifdef __cplusplus
}
#endif

#ifndef TM_NO_BSD_NAMES
#include "trsocket_bsd.h"
#endif

#endif /* TRSOCKET_H */
