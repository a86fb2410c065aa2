// whatsapp-web-network is a network to test against that speaks WhatsApp Web's protocol with real clients:
//
//	whatsapp-web-network --listen HOST:PORT --control HOST:PORT [--root FILE]
//
// Clients are redirected to the first address, for the protocol and for files; the second serves SimulatorService. Both must
// be of loopback, as neither asks who calls. The line that it prints once it serves is JSON, with both addresses and the
// public key that clients must trust. It ends on SIGTERM.
package main

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/control"
	"sessionmesh.dev/whatsapp-web-network/network"
	"sessionmesh.dev/whatsapp-web-network/noise"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "host:port that clients connect to")
	controlled := flag.String("control", "127.0.0.1:0", "host:port of SimulatorService")
	root := flag.String("root", "", "file with the private key that certificates are signed with; made when missing")
	flag.Parse()
	if err := run(*listen, *controlled, *root); err != nil {
		fmt.Fprintln(os.Stderr, "whatsapp-web-network:", err)
		os.Exit(1)
	}
}

func run(listen, controlled, root string) error {
	for _, address := range []string{listen, controlled} {
		if err := onLoopback(address); err != nil {
			return err
		}
	}
	key, err := noise.LoadRoot(root)
	if err != nil {
		return err
	}
	n, err := network.Start(listen, key)
	if err != nil {
		return err
	}
	defer n.Close()
	listener, err := net.Listen("tcp", controlled)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(8 << 20))
	simulatorv1.RegisterSimulatorServiceServer(server, control.New(n))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	ready, err := json.Marshal(map[string]string{
		"event": "network ready", "network": n.Address, "grpc": listener.Addr().String(),
		"root_key": hex.EncodeToString(n.RootKey()),
	})
	if err != nil {
		return err
	}
	fmt.Println(string(ready))
	go func() { <-ended(); server.Stop() }()
	return server.Serve(listener)
}

// ended closes when the process is told to end.
func ended() <-chan struct{} {
	done := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		close(done)
	}()
	return done
}

func onLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not an address of loopback", address)
	}
	return nil
}
