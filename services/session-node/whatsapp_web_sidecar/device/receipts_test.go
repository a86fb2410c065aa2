package device

import (
	"fmt"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

func receiptOf(id, kind string) *waBinary.Node {
	attrs := waBinary.Attrs{"id": id}
	if kind != "" {
		attrs["type"] = kind
	}
	return &waBinary.Node{Tag: "receipt", Attrs: attrs}
}

func receiptEvent(from types.JID, ids []string) *events.Receipt {
	return &events.Receipt{MessageSource: types.MessageSource{Chat: from, Sender: from}, MessageIDs: ids}
}

func TestAReceiptWaitsToBeStoredHoweverManyCameThatSayNothing(t *testing.T) {
	var r receipts
	for i := range 3 * maxReceipts {
		r.see(receiptOf(fmt.Sprint(i), "retry"))
	}
	if len(r.came) > maxReceipts {
		t.Fatal(len(r.came), " are kept")
	}
	r.see(receiptOf("3EB0", "read"))
	if number := r.number(types.ReceiptTypeRead, "3EB0"); number != 1 {
		t.Fatal("it is acknowledged before it is stored")
	}
	if nodes := r.stored(1); len(nodes) != 1 || nodes[0].Attrs["id"] != "3EB0" {
		t.Fatal(nodes)
	}
}

func TestReceiptsAreAcknowledgedUpToTheLastThatIsStored(t *testing.T) {
	var r receipts
	for _, id := range []string{"1", "2", "3"} {
		r.see(receiptOf(id, ""))
		r.number(types.ReceiptTypeDelivered, id)
	}
	if nodes := r.stored(2); len(nodes) != 2 || nodes[1].Attrs["id"] != "2" {
		t.Fatal(nodes)
	}
	if nodes := r.stored(3); len(nodes) != 1 || nodes[0].Attrs["id"] != "3" {
		t.Fatal(nodes)
	}
}
