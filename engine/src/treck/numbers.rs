//! The numbers of the C face, as `trsocket.h` has them; a test compares the two.

use std::ffi::c_int;

macro_rules! numbers {
    ($($name:ident = $value:expr, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: c_int = $value as c_int;)*

        /// Every number above with its name in the header.
        pub const ALL: &[(&str, c_int)] = &[$((stringify!($name), $name),)*];
    };
}

numbers! {
    TM_ENOERROR = 0, "Success.";
    TM_SOCKET_ERROR = -1, "What a failing socket call returns.";

    TM_EPERM = 201, "The process lacks a capability.";
    TM_EIO = 205, "A driver or the kernel failed.";
    TM_ENXIO = 206, "No such interface or queue.";
    TM_EBADF = 209, "The descriptor names no open socket.";
    TM_ENOMEM = 212, "The system gives no memory.";
    TM_EACCES = 213, "A broadcast address without `SO_BROADCAST`.";
    TM_EFAULT = 214, "A null pointer, or a handle that is none of ours.";
    TM_EBUSY = 216, "Another program has the queue.";
    TM_EEXIST = 217, "It is there already.";
    TM_EINVAL = 222, "An argument out of its range, or a call at the wrong time.";
    TM_EMFILE = 224, "Too many sockets.";
    TM_EPIPE = 232, "Not used: `TM_ESHUTDOWN`, `TM_ECONNRESET` and `TM_ENOTCONN` say more.";
    TM_EWOULDBLOCK = 235, "It would have to wait, and may not.";
    TM_EAGAIN = 235, "The same.";
    TM_EINPROGRESS = 236, "The connection is being made.";
    TM_EALREADY = 237, "It has been done, or is being done.";
    TM_ENOTSOCK = 238, "Not a socket.";
    TM_EDESTADDRREQ = 239, "No destination was given.";
    TM_EMSGSIZE = 240, "Longer than the protocol or the queue can carry.";
    TM_EPROTOTYPE = 241, "Protocol and socket type do not match.";
    TM_ENOPROTOOPT = 242, "No such option.";
    TM_EPROTONOSUPPORT = 243, "The protocol is not supported.";
    TM_ESOCKTNOSUPPORT = 244, "The socket type is not supported.";
    TM_EOPNOTSUPP = 245, "Not possible on this kind of socket, or not in this version.";
    TM_EPFNOSUPPORT = 246, "The protocol family is not supported.";
    TM_EAFNOSUPPORT = 247, "The address family is not supported.";
    TM_EADDRINUSE = 248, "Another socket has the address and port.";
    TM_EADDRNOTAVAIL = 249, "No interface has the address, or no port is free.";
    TM_ENETDOWN = 250, "No interface is open.";
    TM_ENETUNREACH = 251, "No route to the network.";
    TM_ENETRESET = 252, "Not used.";
    TM_ECONNABORTED = 253, "Not used.";
    TM_ECONNRESET = 254, "The peer reset the connection; told once.";
    TM_ENOBUFS = 255, "No frame is free.";
    TM_EISCONN = 256, "The socket is connected.";
    TM_ENOTCONN = 257, "The socket is not connected.";
    TM_ESHUTDOWN = 258, "The socket was shut down for sending.";
    TM_ETOOMANYREFS = 259, "Too many references.";
    TM_ETIMEDOUT = 260, "The peer did not answer, told once; or lingering took too long.";
    TM_ECONNREFUSED = 261, "Nobody listens there.";
    TM_EHOSTDOWN = 264, "The host is down.";
    TM_EHOSTUNREACH = 265, "No route, or the next hop never answered.";

    TM_AF_UNSPEC = 0, "No family: disconnects a datagram socket.";
    TM_AF_INET = 2, "IPv4.";
    TM_AF_INET6 = 24, "IPv6: refused in this version.";
    TM_SOCK_STREAM = 1, "TCP.";
    TM_SOCK_DGRAM = 2, "UDP.";
    TM_SOCK_RAW = 3, "Raw IP.";

    TM_MSG_OOB = 0x1, "Urgent data.";
    TM_MSG_PEEK = 0x2, "Leave what is received in the queue.";
    TM_MSG_DONTROUTE = 0x4, "Only to hosts on the link.";
    TM_MSG_WAITALL = 0x40, "Streams only.";
    TM_MSG_DONTWAIT = 0x80, "Do not block.";
    TM_MSG_SCATTERED = 0x400, "The buffer is a chain.";

    TM_SOL_SOCKET = 0xffff, "Option level: the socket.";
    TM_SO_DEBUG = 0x1, "Kept for source compatibility: there is nothing to trace.";
    TM_SO_ACCEPTCONN = 0x2, "The socket listens.";
    TM_SO_REUSEADDR = 0x4, "A stream may be bound to a port that another is bound to; without effect on datagram sockets.";
    TM_SO_KEEPALIVE = 0x8, "Silent connections are probed.";
    TM_SO_DONTROUTE = 0x10, "Only to hosts on the link.";
    TM_SO_BROADCAST = 0x20, "May send to broadcast addresses.";
    TM_SO_LINGER = 0x80, "How closing treats what is not delivered (`struct linger`).";
    TM_SO_OOBINLINE = 0x100, "The urgent byte stays in the stream.";
    TM_SO_SNDBUF = 0x1001, "Send queue of a stream, longest datagram that a non-blocking send takes, in bytes.";
    TM_SO_RCVBUF = 0x1002, "Room of the receive queue, in bytes.";
    TM_SO_SNDLOWAT = 0x1003, "Room that `tfSelect` asks of a stream, in bytes.";
    TM_SO_RCVLOWAT = 0x1004, "Received bytes that `tfSelect` asks of a stream.";
    TM_SO_SNDTIMEO = 0x1005, "How long a send may block (`struct timeval`; zero: for ever).";
    TM_SO_RCVTIMEO = 0x1006, "How long a receive may block.";
    TM_SO_ERROR = 0x1007, "The error that the network reported; reading it clears it.";
    TM_SO_TYPE = 0x1008, "The socket's type.";
    TM_SO_SNDAPPEND = 0x1102, "Kept for source compatibility: copying sends always fill the last segment that waits.";
    TM_SO_RCVCOPY = 0x1103, "0: received frames are never joined by copying.";
    TM_SO_SND_DGRAMS = 0x1104, "Refused: all sockets share an interface's queue.";
    TM_SO_RCV_DGRAMS = 0x1105, "Room of the receive queue, in frames.";

    TM_TCP_NODELAY = 1, "Small segments go out at once.";
    TM_TCP_MAXSEG = 2, "Largest segment, in payload bytes.";
    TM_TCP_NOPUSH = 4, "0: segments that are not full go out when they may.";
    TM_TCP_STDURG = 8, "The urgent pointer means the last urgent byte (RFC 1122) and not the one behind it.";
    TM_TCP_MAXRT = 0x10, "How long data may stay unanswered, in seconds; 0: the default, -1: for ever.";
    TM_TCP_KEEPALIVE = 0x4001, "Silence before the first keep-alive probe, in seconds.";
    TM_TCP_SEL_ACK = 0x4002, "SACK: on.";
    TM_TCP_WND_SCALE = 0x4003, "Window scale: on.";
    TM_TCP_TS = 0x4004, "Timestamps: on.";
    TM_TCP_SLOW_START = 0x4005, "Slow start: on.";
    TM_TCP_PUSH_ALL = 0x4006, "Every segment of data carries the push flag.";
    TM_TCP_DELAY_ACK = 0x4007, "How long an acknowledgment may wait, in milliseconds.";
    TM_TCP_MAX_REXMIT = 0x4008, "How often data is sent again at most; 0: `TM_TCP_MAXRT` alone bounds it.";
    TM_TCP_KEEPALIVE_INTV = 0x4009, "Between keep-alive probes, in seconds.";
    TM_TCP_KEEPALIVE_CNT = 0x400a, "Unanswered keep-alive probes before the connection is given up.";
    TM_TCP_FINWT2TIME = 0x400b, "How long a closed socket may stay half closed, in seconds.";
    TM_TCP_2MSLTIME = 0x400c, "How long TIME-WAIT lasts, in seconds: 60.";
    TM_TCP_RTO_DEF = 0x400d, "Retransmission time before a round trip is known, in milliseconds.";
    TM_TCP_RTO_MIN = 0x400e, "Least retransmission time, in milliseconds.";
    TM_TCP_RTO_MAX = 0x400f, "Most retransmission time, in milliseconds.";
    TM_TCP_PROBE_MIN = 0x4010, "Least time between probes of a closed window, in milliseconds.";
    TM_TCP_PROBE_MAX = 0x4011, "Most time between probes of a closed window, in milliseconds.";

    TM_CB_CONNECT_COMPLT = 0x1, "The connection that was asked for is there.";
    TM_CB_ACCEPT = 0x2, "A connection can be accepted.";
    TM_CB_RECV = 0x4, "Data can be received.";
    TM_CB_RECV_OOB = 0x8, "Urgent data came.";
    TM_CB_SEND_COMPLT = 0x10, "All that was sent is acknowledged.";
    TM_CB_REMOTE_CLOSE = 0x20, "The peer has finished.";
    TM_CB_SOCKET_ERROR = 0x40, "The connection failed, or the network reported an error.";
    TM_CB_RESET = 0x80, "The peer reset the connection.";
    TM_CB_CLOSE_COMPLT = 0x100, "All that was sent before `tfClose` is delivered, or never will be; the descriptor is free.";
    TM_CB_WRITE_READY = 0x200, "A send that was refused may be tried again.";

    TM_IP_HDRINCL = 2, "What a raw socket sends begins with its IPv4 header.";
    TM_IP_TOS = 3, "Type of service of what is sent.";
    TM_IP_TTL = 4, "Time to live of what is sent.";
    TM_IP_MULTICAST_IF = 9, "Refused in this version.";
    TM_IP_MULTICAST_TTL = 10, "Refused in this version.";
    TM_IP_ADD_MEMBERSHIP = 12, "Refused in this version.";
    TM_IP_DROP_MEMBERSHIP = 13, "Refused in this version.";

    TM_FIONREAD = 0x4004_667f_u32, "Bytes that wait to be received.";
    TM_FIONBIO = 0x8004_667e_u32, "Non-blocking or not.";
    TM_SIOCATMARK = 0x4004_7307_u32, "Reading has come to the urgent mark.";

    TM_SHUT_RD = 0, "No more receiving.";
    TM_SHUT_WR = 1, "No more sending.";
    TM_SHUT_RDWR = 2, "Neither.";

    TM_BLOCKING_OFF = 0, "Calls return `TM_EWOULDBLOCK`.";
    TM_BLOCKING_ON = 1, "Calls wait.";

    TM_USER_BUFFER_LAST = 1, "The piece ends its Ethernet frame.";
    TM_DEV_SEND_COMPLETE_ISR = 0, "`tfSendCompleteInterface` is called from an interrupt: no difference here.";
    TM_DEV_SEND_COMPLETE_APP = 1, "It is called from a task: no difference here.";
    TM_DEV_SCATTER_SEND_ENB = 0x1, "The driver takes frames in pieces: taken for granted.";
    TM_DEV_MCAST_ENB = 0x2, "The device receives multicast: without effect.";
    TM_DEV_SET_FLAGS = 1, "A driver's `ioctl`: the flags of `tfOpenInterface` (int).";
    TM_DEV_SET_ADDRESS = 2, "A driver's `ioctl`: address and mask (two `ttUserIpAddress`).";
    TM_DEV_SET_MTU = 3, "A driver's `ioctl`: the MTU in bytes (int).";
    TM_DEV_RX_CSUM_PARTIAL = 0x1_0000, "Take packets whose local sender left the checksum to a device that does not exist (veth, virtual machines).";
    TM_DEV_RX_CSUM_TRUST = 0x2_0000, "Look at no UDP checksum: for links that are memory.";

    TM_IPPROTO_IP = 0, "Option level: IP.";
    TM_IPPROTO_ICMP = 1, "ICMP.";
    TM_IPPROTO_TCP = 6, "TCP.";
    TM_IPPROTO_UDP = 17, "UDP.";
}
