// Command whatsapp-web-sidecar runs linked devices of WhatsApp for one session-node.
//
//	whatsapp-web-sidecar [--version]
//
// The node that started it speaks to it over the socket that is its standard input: when that closes, it closes every
// connection and ends. It keeps nothing, and writes nothing anywhere. With --version it only prints a line of JSON: the
// SidecarStarted that it would answer.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"

	signallog "go.mau.fi/libsignal/logger"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"sessionmesh.dev/whatsapp-web-sidecar/server"
)

func init() {
	// The kernel kills the process with its parent, even while it is stopped. It ties that to the first thread.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	runtime.UnlockOSThread()
}

func main() {
	version := flag.Bool("version", false, "print what this is, and end")
	flag.Parse()
	if *version {
		fmt.Println(protojson.MarshalOptions{}.Format(server.Started()))
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "whatsapp-web-sidecar:", err)
		os.Exit(1)
	}
}

func run() error {
	var quiet signallog.Loggable = silent{}
	signallog.Setup(&quiet)
	connection, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("standard input is no socket, as a session-node makes it: %w", err)
	}
	_ = os.Stdin.Close() // it was duplicated
	return server.Serve(connection)
}

// silent takes what the ratchets' library writes of every message that it cannot read: the devices say it in fewer words.
type silent struct{}

func (silent) Debug(string, string)   {}
func (silent) Info(string, string)    {}
func (silent) Warning(string, string) {}
func (silent) Error(string, string)   {}
func (silent) Configure(string)       {}
