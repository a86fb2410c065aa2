package network

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestALineIsHandledOnceWhoeverReadsItWantsMore(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	sender, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	accepted, err := arrivingListener{plain}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	line := accepted.(*arriving)
	if _, err := sender.Write([]byte("12345678")); err != nil {
		t.Fatal(err)
	}
	half := make([]byte, 4)
	if _, err := io.ReadFull(line, half); err != nil || line.handled() {
		t.Fatal("the other half waits", err)
	}
	if _, err := io.ReadFull(line, half); err != nil || line.handled() {
		t.Fatal("nobody has asked for more: it is not handled yet", err)
	}
	go func() { _, _ = line.Read(half) }()
	for deadline := time.Now().Add(time.Minute); !line.handled(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("all of it is handled")
		}
	}
}
