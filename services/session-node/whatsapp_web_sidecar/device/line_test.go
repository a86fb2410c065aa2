package device

import (
	"net"
	"sync"
	"testing"
)

// connection is a line, and the network's end of it.
func connection(t *testing.T) (*line, net.Conn, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l := &line{}
	l.goOn = sync.NewCond(&l.mu)
	near, err := l.dial(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.shut(); _ = far.Close() })
	return l, near, far
}

func TestNothingLeavesALineThatIsShut(t *testing.T) {
	l, near, far := connection(t)
	l.shut()
	if _, err := near.Write([]byte("too late")); err == nil {
		t.Fatal("written")
	}
	if n, err := far.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes came", n)
	}
	if _, err := l.dial(t.Context(), "tcp", far.LocalAddr().String()); err == nil {
		t.Fatal("connected again")
	}
}

func TestNoMoreIsReadThanABoundWhileAMessageWaits(t *testing.T) {
	l, near, far := connection(t)
	l.wait(true)
	go func() {
		for {
			if _, err := far.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	read := 0
	piece := make([]byte, 64<<10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			n, err := near.Read(piece)
			if err != nil {
				return
			}
			l.mu.Lock()
			read += n
			l.mu.Unlock()
		}
	}()
	for { // until the reader waits
		l.mu.Lock()
		ahead := l.ahead
		l.mu.Unlock()
		if ahead > maxAhead {
			break
		}
	}
	l.mu.Lock()
	if read > maxAhead+len(piece) {
		t.Errorf("%d bytes are read ahead", read)
	}
	l.mu.Unlock()
	l.shut() // and it lets go
	<-done
}

func TestNothingIsReadOfALineThatIsHeld(t *testing.T) {
	l, near, far := connection(t)
	l.hold(true)
	read := make(chan int, 1)
	go func() {
		n, _ := near.Read(make([]byte, 8))
		read <- n
	}()
	if _, err := far.Write([]byte("frame")); err != nil {
		t.Fatal(err)
	}
	for came := 0; came == 0; { // until the reader waits
		l.mu.Lock()
		came = l.ahead
		l.mu.Unlock()
	}
	select {
	case <-read:
		t.Fatal("it was read")
	default:
	}
	l.hold(false)
	if n := <-read; n != len("frame") {
		t.Fatal(n)
	}
}
