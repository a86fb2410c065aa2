package network

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What a client sent before it died, or gave its account to somebody else, may still wait here to be read when the account logs in
// again: on a busy machine for long. Taken after that login it would look as if two had sent for the account at once.

// arriving is a client's line, of which it is known whether all is handled that has arrived over it.
type arriving struct {
	net.Conn
	read  atomic.Uint64
	asked atomic.Bool // whoever reads has handled what it read, and wants more
}

func (a *arriving) Read(into []byte) (int, error) {
	a.asked.Store(true)
	n, err := a.Conn.Read(into)
	a.asked.Store(false) // before it counts: who sees the one sees the other
	a.read.Add(uint64(n))
	return n, err
}

// handled says whether all is handled that has arrived.
func (a *arriving) handled() bool {
	line, is := a.Conn.(*net.TCPConn)
	if !is {
		return true
	}
	raw, err := line.SyscallConn()
	if err != nil {
		return true
	}
	arrived := uint64(0)
	failed := raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			arrived = info.Bytes_received
		}
	})
	return failed != nil || a.read.Load() >= arrived && a.asked.Load()
}

type arrivingListener struct{ net.Listener }

func (l arrivingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &arriving{Conn: conn}, nil
}

type lineKey struct{}

func withLine(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, lineKey{}, conn)
}

const (
	handledWithin = 2 * time.Second
	handledPoll   = time.Millisecond
)

// untilHandled waits before a login until what arrived over the device's connection before it is handled, if nothing keeps that.
func (n *Network) untilHandled(c *client) {
	old := n.before(c)
	if old == nil || old.line == nil {
		return
	}
	ticker := time.NewTicker(handledPoll)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < handledWithin && !old.effects().stalled && !old.line.handled(); {
		select {
		case <-ticker.C:
		case <-old.done:
			return
		}
	}
}

// before is the connection that a login would replace; nil: there is none.
func (n *Network) before(c *client) *client {
	n.mu.Lock()
	defer n.mu.Unlock()
	account := n.loggingIn(c)
	if account == nil || account.device == nil {
		return nil
	}
	return account.device.client
}
