// Command whatsapp-web-sidecar runs linked devices of WhatsApp for one session-node.
//
//	whatsapp-web-sidecar --socket FOLDER/sidecar.sock
//	whatsapp-web-sidecar --version
//
// The node that started it speaks to it over that socket, and holds its standard input: when that closes, it closes every
// connection and ends. It keeps nothing, and writes nothing anywhere. With --version it only prints a line of JSON: the
// SidecarStarted that it would answer.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	signallog "go.mau.fi/libsignal/logger"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/server"
)

const (
	// Collected twice as often as by default: sessions are many and mostly idle, so memory is dearer than time.
	gcPercent = 50
	// A message of a node is at most some MiB, with its rows; more is a mistake.
	maxFrame = 64 << 20
	// How long closing may take once the node is gone.
	endsWithin = 500 * time.Millisecond
)

func init() {
	// The kernel kills the process with its parent, even while it is stopped. It ties that to the first thread.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	runtime.UnlockOSThread()
}

func main() {
	socket := flag.String("socket", "", "where to listen")
	version := flag.Bool("version", false, "print what this is, and end")
	flag.Parse()
	if *version {
		fmt.Println(protojson.MarshalOptions{}.Format(server.Started()))
		return
	}
	if err := run(*socket); err != nil {
		fmt.Fprintln(os.Stderr, "whatsapp-web-sidecar:", err)
		os.Exit(1)
	}
}

func run(socket string) error {
	if socket == "" {
		return fmt.Errorf("--socket is needed")
	}
	debug.SetGCPercent(gcPercent)
	var quiet signallog.Loggable = silent{}
	signallog.Setup(&quiet)
	unix.Umask(0o077) // only the node's user may speak to it
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	serving := grpc.NewServer(grpc.MaxRecvMsgSize(maxFrame), grpc.MaxSendMsgSize(maxFrame))
	internalv1.RegisterLinkedDeviceServiceServer(serving, &server.Server{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.AfterFunc(endsWithin, func() { os.Exit(0) })
		serving.Stop()
	}()
	return serving.Serve(listener)
}

// silent takes what the ratchets' library writes of every message that it cannot read: the devices say it in fewer words.
type silent struct{}

func (silent) Debug(string, string)   {}
func (silent) Info(string, string)    {}
func (silent) Warning(string, string) {}
func (silent) Error(string, string)   {}
func (silent) Configure(string)       {}
