package server_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// proxy is one that speaks SOCKS 5 and counts what goes through it.
type proxy struct {
	net.Listener
	connections atomic.Int64
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(near)
		}
	}()
	return p
}

func (p *proxy) serve(near net.Conn) {
	defer near.Close()
	greeting, request := make([]byte, 3), make([]byte, 4+4+2) // no authentication; connect to an IPv4 address
	if _, err := io.ReadFull(near, greeting); err != nil {
		return
	}
	_, _ = near.Write([]byte{5, 0})
	if _, err := io.ReadFull(near, request); err != nil || !bytes.Equal(request[:4], []byte{5, 1, 0, 1}) {
		return
	}
	far, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: request[4:8], Port: int(binary.BigEndian.Uint16(request[8:]))})
	if err != nil {
		return
	}
	defer far.Close()
	p.connections.Add(1)
	_, _ = near.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	go func() { _, _ = io.Copy(far, near); _ = far.CloseWrite() }()
	_, _ = io.Copy(near, far)
}

func TestAnAccountsTrafficGoesThroughItsProxyAlone(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	n.person(bert, "Bert")
	s, p := startNode(t, n), startProxy(t)
	s.proxy = "socks5://" + p.Addr().String()
	rows := s.paired(n, account)
	if p.connections.Load() != 1 {
		t.Fatal(p.connections.Load(), " for a pairing")
	}
	l := s.open(rows)
	if p.connections.Load() != 2 {
		t.Fatal(p.connections.Load(), " with a login")
	}
	l.upload("document", []byte("a file"))
	if p.connections.Load() != 3 {
		t.Fatal(p.connections.Load(), " with a file")
	}
	l.receipt(l.send("phone:"+bert, text("hello")))
	taken := l.stored()
	l.close()
	_ = p.Close()
	gone := s.link(taken)
	gone.reopen()
	end := until(gone, func(r *internalv1.RunResponse) (internalv1.DeviceEnd, bool) {
		return r.GetEnded().GetEnd(), r.GetEnded() != nil || r.GetConnected() != nil
	})
	if end != internalv1.DeviceEnd_DEVICE_END_LOST {
		t.Fatal("it goes another way")
	}
}

func TestAProxyIsReachedAtTheAddressThatWasAllowedForIt(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	s, p := startNode(t, n), startProxy(t)
	s.proxy, s.proxyAddress = "socks5://elsewhere.invalid:9", p.Addr().String()
	l := s.open(s.paired(n, account))
	l.upload("document", []byte("a file"))
	if p.connections.Load() != 3 {
		t.Fatal(p.connections.Load(), " for a pairing, a login and a file")
	}
}
