package device

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

func written(kind string, sealed []byte) *waBinary.Node {
	return &waBinary.Node{Tag: "message", Attrs: waBinary.Attrs{"id": "3EB0", "from": bert}, Content: []waBinary.Node{
		{Tag: "enc", Attrs: waBinary.Attrs{"type": kind, "v": "2"}, Content: sealed},
	}}
}

// waits returns once somebody waits.
func waits(t *testing.T, mu *sync.Mutex, what *chan struct{}) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		mu.Lock()
		waiting := *what != nil
		mu.Unlock()
		if waiting {
			return
		}
	}
	t.Fatal("nobody waits")
}

func TestWhatIsReadAndNotHandledIsBounded(t *testing.T) {
	for name, node := range map[string]*waBinary.Node{
		"in number": written("msg", nil), "in bytes": written("msg", make([]byte, maxUnhandledBytes/4)),
	} {
		var u unhandled
		seen := 0
		for ; !u.full(); seen++ {
			u.see(node)
		}
		if seen > maxUnhandled || u.bytes > maxUnhandledBytes+sizeOf(node) {
			t.Fatal(name, seen, u.bytes)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		u.wait(over) // the connection has ended: nobody waits
		read := make(chan struct{})
		go func() { u.wait(t.Context()); close(read) }()
		waits(t, &u.mu, &u.fewer)
		for range seen {
			u.done(node, sizeOf(node))
		}
		if <-read; u.stanzas != 0 || u.bytes != 0 {
			t.Fatal(u.stanzas, u.bytes)
		}
	}
}

func TestAnswersOfTheNetworkAreNotCountedAsUnhandled(t *testing.T) {
	var u unhandled
	u.see(&waBinary.Node{Tag: "iq", Content: make([]byte, 2*maxUnhandledBytes)})
	u.see(&waBinary.Node{Tag: "ack"})
	if u.full() || u.stanzas > 0 {
		t.Fatal(u.stanzas, u.bytes)
	}
}

func TestWhatWaitsForTheNetworkDoesNotHoldUpTheRestAndIsBounded(t *testing.T) {
	d := silentDevice()
	t.Cleanup(d.cancel)
	d.client = whatsmeow.NewClient(&store.Device{}, d.log)
	answered, begun := make(chan struct{}), make(chan struct{})
	d.askingAgain.do(d, func() { close(begun); <-answered })
	<-begun
	garbage := written("msg", []byte("garbage"))
	phone := &waBinary.Node{Tag: "message", Attrs: garbage.Attrs, Content: []waBinary.Node{{Tag: "unavailable"}}}
	library := func(context.Context, *waBinary.Node) { t.Error("the library would wait") }
	for range maxAside {
		for _, node := range []*waBinary.Node{garbage, phone} {
			if !d.handleAside(t.Context(), d.client, node, library) {
				t.Fatal("the library handles it")
			}
		}
	}
	if waits := len(d.askingAgain.waiting); waits != maxAside {
		t.Fatal(waits)
	}
	d.cancel()
	close(answered)
}

func TestALetterThatIsOneIsTheLibrarysToRead(t *testing.T) {
	d := silentDevice()
	read := 0
	library := func(context.Context, *waBinary.Node) { read++ }
	client := whatsmeow.NewClient(&store.Device{}, d.log)
	if !d.handleAside(t.Context(), client, written("other", []byte("bytes")), library) || read != 1 {
		t.Fatal(read)
	}
	if d.handleAside(t.Context(), client, &waBinary.Node{Tag: "receipt", Attrs: waBinary.Attrs{"type": "read"}}, library) {
		t.Fatal("a receipt is read here")
	}
}

func TestHowOftenSomebodyWasAskedAgainIsForgotten(t *testing.T) {
	client := whatsmeow.NewClient(&store.Device{}, nil)
	counts := private(client, "messageRetries").Addr().Interface().(*map[string]int)
	for i := range maxAskedAgain + 1 {
		(*counts)[fmt.Sprint(i)] = 1
	}
	if forgetMany(client); len(*counts) > 0 {
		t.Fatal(len(*counts))
	}
}

func TestNotificationsThatAreHandledBesideAreBounded(t *testing.T) {
	d := silentDevice()
	for range maxBeside {
		d.beside <- struct{}{}
	}
	// With a client that has nothing: handled, or acknowledged, it would be used.
	changed := &waBinary.Node{Tag: "notification", Attrs: waBinary.Attrs{"type": "encrypt", "from": bert}}
	if !d.handleBeside(t.Context(), &whatsmeow.Client{}, changed) {
		t.Fatal("the library handles it")
	}
}

func TestReceiptsWaitForThoseBeforeThem(t *testing.T) {
	var r receipts
	for i := range manyReceipts {
		r.wait(t.Context()) // for nothing, yet
		id := fmt.Sprint(i)
		r.see(receiptOf(id, "read"))
		r.number(types.ReceiptTypeRead, id)
	}
	goOn := make(chan struct{})
	go func() { r.wait(t.Context()); close(goOn) }()
	waits(t, &r.mu, &r.fewer)
	r.stored(manyReceipts)
	<-goOn
}
