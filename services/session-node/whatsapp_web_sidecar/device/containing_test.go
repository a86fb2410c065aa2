package device

import (
	"context"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// handling has the library handle a stanza, and says why the connection ended.
func handling(t *testing.T, node *waBinary.Node) *internalv1.DeviceEnded {
	t.Helper()
	ends := make(chan *internalv1.DeviceEnded, 1)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		if said.GetEnded() != nil {
			ends <- said.GetEnded()
		}
		return true
	})
	t.Cleanup(d.cancel)
	d.store = rows.NewPairing("acc_1", nil)
	d.client = whatsmeow.NewClient(&store.Device{}, d.log)
	d.containStanzas(d.client)
	queue, done := make(chan *waBinary.Node, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go d.client.DangerousInternals().HandlerQueueLoop(ctx, ctx, queue, done)
	queue <- node
	ended := <-ends
	cancel()
	<-done
	return ended
}

func TestAStanzaThatCannotBeHandledEndsItsConnectionAlone(t *testing.T) {
	for name, node := range map[string]*waBinary.Node{
		"a pairing without an id": {Tag: "iq", Attrs: waBinary.Attrs{"from": types.ServerJID}, Content: []waBinary.Node{{Tag: "pair-success"}}},
		"beside other stanzas":    {Tag: "notification", Attrs: waBinary.Attrs{"type": "encrypt", "from": bert}, Content: []waBinary.Node{{Tag: "identity"}}},
	} {
		if ended := handling(t, node); ended.GetEnd() != internalv1.DeviceEnd_DEVICE_END_LOST || !strings.Contains(ended.GetDetail(), "could not be read") {
			t.Fatal(name, ended)
		}
	}
}

func TestNothingIsAcknowledgedThatCannotBeHandled(t *testing.T) {
	d := newDevice(1, "acc_1", nil, func(*internalv1.RunResponse) bool { return true })
	t.Cleanup(d.cancel)
	d.store = rows.NewPairing("acc_1", nil)
	if d.handleContained((*events.Receipt)(nil)) {
		t.Fatal("it is")
	}
}
