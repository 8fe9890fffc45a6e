/*
 * trsocket_bsd.h - the plain BSD names for trsocket.h, which includes this unless TM_NO_BSD_NAMES is defined. Not to be included by itself.
 *
 * The system's headers are included before, so that they are not read again behind these macros. Names that have the same number in both
 * (IPPROTO_UDP, SHUT_WR, INADDR_ANY, ...) are left to the system, as are struct timeval, in_addr_t, htons and their like.
 */
#ifndef TRSOCKET_BSD_H
#define TRSOCKET_BSD_H

/* structures and sets */
#undef in_addr
#define in_addr tfInAddr
#undef sockaddr
#define sockaddr tfSockaddr
#undef sockaddr_in
#define sockaddr_in tfSockaddrIn
#undef in6_addr
#define in6_addr tfIn6Addr
#undef sockaddr_in6
#define sockaddr_in6 tfSockaddrIn6
#undef sockaddr_storage
#define sockaddr_storage tfSockaddrStorage
#undef fd_set
#define fd_set tfFdSet
#undef s6_addr
#define s6_addr tf_s6_addr
#undef FD_SETSIZE
#define FD_SETSIZE TM_FD_SETSIZE
#undef FD_SET
#define FD_SET TM_FD_SET
#undef FD_CLR
#define FD_CLR TM_FD_CLR
#undef FD_ISSET
#define FD_ISSET TM_FD_ISSET
#undef FD_ZERO
#define FD_ZERO TM_FD_ZERO

/* calls */
#undef socket
#define socket tfSocket
#undef bind
#define bind tfBind
#undef listen
#define listen tfListen
#undef accept
#define accept tfAccept
#undef connect
#define connect tfConnect
#undef send
#define send tfSend
#undef sendto
#define sendto tfSendTo
#undef recv
#define recv tfRecv
#undef recvfrom
#define recvfrom tfRecvFrom
#undef shutdown
#define shutdown tfShutdown
#undef setsockopt
#define setsockopt tfSetsockopt
#undef getsockopt
#define getsockopt tfGetsockopt
#undef getsockname
#define getsockname tfGetsockname
#undef getpeername
#define getpeername tfGetpeername
#undef select
#define select tfSelect
#undef readv
#define readv tfReadv
#undef writev
#define writev tfWritev
#undef inet_addr
#define inet_addr tfInetAddr
#undef inet_aton
#define inet_aton tfInetAton
#undef inet_ntoa
#define inet_ntoa tfInetNtoa
#undef inet_pton
#define inet_pton tfInetPton
#undef inet_ntop
#define inet_ntop tfInetNtop

/* numbers */
#undef AF_UNSPEC
#define AF_UNSPEC TM_AF_UNSPEC
#undef AF_INET
#define AF_INET TM_AF_INET
#undef AF_INET6
#define AF_INET6 TM_AF_INET6
#undef SOCK_STREAM
#define SOCK_STREAM TM_SOCK_STREAM
#undef SOCK_DGRAM
#define SOCK_DGRAM TM_SOCK_DGRAM
#undef SOCK_RAW
#define SOCK_RAW TM_SOCK_RAW
#undef MSG_OOB
#define MSG_OOB TM_MSG_OOB
#undef MSG_PEEK
#define MSG_PEEK TM_MSG_PEEK
#undef MSG_DONTROUTE
#define MSG_DONTROUTE TM_MSG_DONTROUTE
#undef MSG_WAITALL
#define MSG_WAITALL TM_MSG_WAITALL
#undef MSG_DONTWAIT
#define MSG_DONTWAIT TM_MSG_DONTWAIT
#undef SOL_SOCKET
#define SOL_SOCKET TM_SOL_SOCKET
#undef SO_DEBUG
#define SO_DEBUG TM_SO_DEBUG
#undef SO_ACCEPTCONN
#define SO_ACCEPTCONN TM_SO_ACCEPTCONN
#undef SO_REUSEADDR
#define SO_REUSEADDR TM_SO_REUSEADDR
#undef SO_KEEPALIVE
#define SO_KEEPALIVE TM_SO_KEEPALIVE
#undef SO_DONTROUTE
#define SO_DONTROUTE TM_SO_DONTROUTE
#undef SO_BROADCAST
#define SO_BROADCAST TM_SO_BROADCAST
#undef SO_LINGER
#define SO_LINGER TM_SO_LINGER
#undef SO_OOBINLINE
#define SO_OOBINLINE TM_SO_OOBINLINE
#undef SO_SNDBUF
#define SO_SNDBUF TM_SO_SNDBUF
#undef SO_RCVBUF
#define SO_RCVBUF TM_SO_RCVBUF
#undef SO_SNDLOWAT
#define SO_SNDLOWAT TM_SO_SNDLOWAT
#undef SO_RCVLOWAT
#define SO_RCVLOWAT TM_SO_RCVLOWAT
#undef SO_SNDTIMEO
#define SO_SNDTIMEO TM_SO_SNDTIMEO
#undef SO_RCVTIMEO
#define SO_RCVTIMEO TM_SO_RCVTIMEO
#undef SO_ERROR
#define SO_ERROR TM_SO_ERROR
#undef SO_TYPE
#define SO_TYPE TM_SO_TYPE
#undef IP_HDRINCL
#define IP_HDRINCL TM_IP_HDRINCL
#undef IP_TOS
#define IP_TOS TM_IP_TOS
#undef IP_TTL
#define IP_TTL TM_IP_TTL
#undef IP_MULTICAST_IF
#define IP_MULTICAST_IF TM_IP_MULTICAST_IF
#undef IP_MULTICAST_TTL
#define IP_MULTICAST_TTL TM_IP_MULTICAST_TTL
#undef IP_ADD_MEMBERSHIP
#define IP_ADD_MEMBERSHIP TM_IP_ADD_MEMBERSHIP
#undef IP_DROP_MEMBERSHIP
#define IP_DROP_MEMBERSHIP TM_IP_DROP_MEMBERSHIP
#undef TCP_NODELAY
#define TCP_NODELAY TM_TCP_NODELAY
#undef TCP_MAXSEG
#define TCP_MAXSEG TM_TCP_MAXSEG
#undef TCP_NOPUSH
#define TCP_NOPUSH TM_TCP_NOPUSH
#undef TCP_STDURG
#define TCP_STDURG TM_TCP_STDURG
#undef TCP_MAXRT
#define TCP_MAXRT TM_TCP_MAXRT
#undef TCP_KEEPALIVE
#define TCP_KEEPALIVE TM_TCP_KEEPALIVE
#undef FIONREAD
#define FIONREAD TM_FIONREAD
#undef FIONBIO
#define FIONBIO TM_FIONBIO
#undef SIOCATMARK
#define SIOCATMARK TM_SIOCATMARK

#endif /* TRSOCKET_BSD_H */
