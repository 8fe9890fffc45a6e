// gVisor's netstack on an AF_PACKET socket of an interface, with one service: a base line of scripts/bench --peers all.
//
// Built from Debian's packages: GO111MODULE=off GOPATH=/usr/share/gocode go build.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	nic         = tcpip.NICID(1)
	blockBytes  = 128 << 10
	bufferBytes = 4 << 20
)

func main() {
	log.SetFlags(0)
	interfaceName := flag.String("interface", "", "interface to send on and receive from; the kernel must have no address there")
	network := flag.String("address", "", "its address with its network")
	port := flag.Int("port", 7, "port to listen on")
	service := flag.String("service", "udp-echo", "udp-echo, tcp-echo, tcp-sink or tcp-source")
	core := flag.Int("core", -1, "core to run on")
	flag.Parse()
	if *core >= 0 {
		var cores unix.CPUSet
		cores.Set(*core)
		// This thread and all that it starts: the runtime has its others from here on only if it starts them.
		check("sched_setaffinity", pinAll(&cores))
		runtime.GOMAXPROCS(1)
	}
	netstack, address := open(*interfaceName, *network)
	at := tcpip.FullAddress{NIC: nic, Addr: address, Port: uint16(*port)}
	switch *service {
	case "udp-echo":
		go udpEcho(netstack, at)
	case "tcp-echo":
		go accept(netstack, at, func(connection net.Conn) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{connection}, struct{ io.Reader }{connection}, make([]byte, blockBytes))
			return err
		})
	case "tcp-sink":
		go accept(netstack, at, func(connection net.Conn) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, connection, make([]byte, blockBytes))
			return err
		})
	case "tcp-source":
		go accept(netstack, at, func(connection net.Conn) error {
			block := make([]byte, blockBytes)
			for {
				if _, err := connection.Write(block); err != nil {
					return err
				}
			}
		})
	default:
		log.Fatalf("no such service: %s", *service)
	}
	fmt.Printf("ready: gVisor netstack over AF_PACKET on %s, port %d, %s\n", *interfaceName, *port, runtime.Version())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}

// pinAll pins every thread that the process has.
func pinAll(cores *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		var id int
		if _, err := fmt.Sscan(thread.Name(), &id); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, cores); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// open makes a stack with one interface.
func open(name, network string) (*stack.Stack, tcpip.Address) {
	ip, subnet, err := net.ParseCIDR(network)
	check("--address", err)
	device, err := net.InterfaceByName(name)
	check("--interface", err)
	// Bound to one interface, and of every protocol.
	protocol := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(protocol))
	check("socket(AF_PACKET)", err)
	check("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: device.Index}))
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		check("SO_RCVBUFFORCE, SO_SNDBUFFORCE", unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, bufferBytes))
	}
	link, err := fdbased.New(&fdbased.Options{
		FDs:                []int{fd},
		MTU:                uint32(device.MTU),
		EthernetHeader:     true,
		Address:            tcpip.LinkAddress(device.HardwareAddr),
		PacketDispatchMode: fdbased.RecvMMsg,
	})
	check("fdbased", err)
	netstack := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	sack := tcpip.TCPSACKEnabled(true)
	must("SACK", netstack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack))
	must("NIC", netstack.CreateNIC(nic, link))
	address := tcpip.Address(ip.To4())
	ones, _ := subnet.Mask.Size()
	must("address", netstack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          header.IPv4ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: address, PrefixLen: ones},
	}, stack.AddressProperties{}))
	netstack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return netstack, address
}

func udpEcho(netstack *stack.Stack, at tcpip.FullAddress) {
	socket, err := gonet.DialUDP(netstack, &at, nil, ipv4.ProtocolNumber)
	check("UDP socket", err)
	datagram := make([]byte, 1<<16)
	for {
		length, from, err := socket.ReadFrom(datagram)
		check("receive", err)
		// What finds no room is lost, as on a wire.
		_, _ = socket.WriteTo(datagram[:length], from)
	}
}

func accept(netstack *stack.Stack, at tcpip.FullAddress, serve func(net.Conn) error) {
	listener, err := gonet.ListenTCP(netstack, at, ipv4.ProtocolNumber)
	check("listen", err)
	for {
		connection, err := listener.Accept()
		check("accept", err)
		go func() {
			// It ends when the other side does, one way or the other.
			_ = serve(connection)
			_ = connection.Close()
		}()
	}
}

func check(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func must(what string, err tcpip.Error) {
	if err != nil {
		log.Fatalf("%s: %s", what, err)
	}
}
