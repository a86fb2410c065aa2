package device

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

func silentDevice() *Device {
	return newDevice(1, "acc_1", nil, func(*internalv1.RunResponse) bool { return true })
}

func TestWhatPeopleSendIsReadUpToASize(t *testing.T) {
	d, client := silentDevice(), &whatsmeow.Client{Log: silentDevice().log}
	half := bytes.Repeat([]byte{0xff}, maxStanza/2)
	message := func(parts ...[]byte) *waBinary.Node {
		var children []waBinary.Node
		for _, part := range parts {
			children = append(children, waBinary.Node{Tag: "enc", Content: part})
		}
		return &waBinary.Node{Tag: "message", Attrs: waBinary.Attrs{"id": "3EB0"}, Content: children}
	}
	named := message(half)
	named.Attrs["notify"] = string(half)
	for _, large := range []*waBinary.Node{message(half, half), named} {
		if !d.passOver(t.Context(), client, large) {
			t.Fatal("it would be read: ", sizeOf(large))
		}
	}
	for _, other := range []*waBinary.Node{message(half), {Tag: "iq", Content: append(half, half...)}} {
		if d.passOver(t.Context(), client, other) {
			t.Fatal(other.Tag, sizeOf(other))
		}
	}
}

func TestAReceiptOfVeryManyMessagesTellsOfSome(t *testing.T) {
	told := make(chan int, 1)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		told <- len(said.GetReceipt().GetNetworkMessageIds())
		return true
	})
	d.store = rows.NewPairing("acc_1", nil)
	person := types.NewJID("4915100000001", types.DefaultUserServer)
	d.onReceipt(receiptEvent(person, make([]string, 100*maxReceiptIDs)))
	if ids := <-told; ids != maxReceiptIDs {
		t.Fatal(ids)
	}
}

func TestOfReceiptsNoMoreIsKeptThanTheirAcknowledgementNeeds(t *testing.T) {
	var r receipts
	large := receiptOf("3EB0", "read")
	large.Content = []waBinary.Node{{Tag: "list", Content: make([]byte, maxStanza)}}
	r.see(large)
	r.number(types.ReceiptTypeRead, "3EB0")
	if kept := r.stored(1); len(kept) != 1 || sizeOf(kept[0]) > 100 {
		t.Fatal(kept)
	}
}

type endless struct{}

func (endless) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(zeros{})}, nil
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) { return len(into), nil }

func TestWhatTheLibraryKeepsInMemoryOfAFileIsBounded(t *testing.T) {
	client := &http.Client{Transport: inMemory{endless{}}}
	ask := func(request *http.Request) error {
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, err = io.CopyN(io.Discard, response.Body, maxInMemory+1)
		return err
	}
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://mmg.whatsapp.net/", nil)
	if err := ask(request); !errors.Is(err, errLargeAnswer) {
		t.Fatal(err)
	}
	if err := ask(request.WithContext(toFile(t.Context()))); err != nil {
		t.Fatal(err)
	}
}

func TestADeviceAsksTheNodeForSomeThingsAtATime(t *testing.T) {
	const asked = 10 * maxQuestions
	questions := make(chan uint64, asked)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		questions <- said.GetReadRows().GetSequence()
		return true
	})
	answers := make(chan error, asked)
	for range asked {
		go func() {
			_, err := d.Read(t.Context(), []string{"key"}, nil)
			answers <- err
		}()
	}
	var open []uint64
	for range maxQuestions {
		open = append(open, <-questions)
	}
	for range asked - maxQuestions {
		if len(questions) > 0 {
			t.Fatal("more are open")
		}
		d.RowsRead(&internalv1.RowsRead{Sequence: open[0]})
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
		open = append(open[1:], <-questions)
	}
	d.cancel()
	for range maxQuestions {
		if err := <-answers; !errors.Is(err, rows.ErrNotStored) {
			t.Fatal(err)
		}
	}
}

func TestNoticesOfHistoryThatWaitAreBounded(t *testing.T) {
	for name, payload := range map[string][]byte{"in number": nil, "in bytes": make([]byte, maxStanza/2)} {
		d := silentDevice()
		d.store = rows.NewPairing("acc_1", nil)
		for i := range maxHistoryNotices + 1 {
			d.keepHistory(fmt.Sprint(i), &waE2E.HistorySyncNotification{InitialHistBootstrapInlinePayload: payload})
		}
		kept, err := d.store.History()
		bytes := 0
		for _, notice := range kept {
			bytes += len(notice)
		}
		if err != nil || len(kept) == 0 || len(kept) > maxHistoryNotices || bytes > maxHistoryNoticeBytes {
			t.Fatal(name, len(kept), bytes, err)
		}
	}
}
