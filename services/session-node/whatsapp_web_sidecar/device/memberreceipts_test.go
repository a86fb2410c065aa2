package device

import (
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// confirming is a device that is told what members of a group confirm, and what it says of it.
func confirming() (*Device, chan *internalv1.MessageReceipt) {
	told := make(chan *internalv1.MessageReceipt, 10)
	d := newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		told <- said.GetReceipt()
		return true
	})
	d.store = rows.NewPairing("acc_1", nil)
	return d, told
}

func confirmation(member int, id string, kind types.ReceiptType) *events.Receipt {
	group := types.NewJID("120363000000000001", types.GroupServer)
	sender := types.NewJID(fmt.Sprint(4915100000000+member), types.DefaultUserServer)
	return &events.Receipt{
		MessageSource: types.MessageSource{Chat: group, Sender: sender, IsGroup: true},
		MessageIDs:    []string{id}, Type: kind, Timestamp: time.Unix(1_700_000_000+int64(member), 0),
	}
}

func TestWhatManyMembersConfirmIsToldAtOnce(t *testing.T) {
	d, told := confirming()
	for member := range 10 {
		d.receipts.see(receiptOf("3EB0", ""))
		if d.onReceipt(confirmation(member%9, "3EB0", types.ReceiptTypeDelivered)) {
			t.Fatal("it is acknowledged before it is stored")
		}
	}
	receipt := <-told
	if len(receipt.Members) != 9 || receipt.Members[8] != "phone:+4915100000008" || receipt.Sequence != 10 {
		t.Fatal(receipt)
	}
	if receipt.MemberTimes[8] != 1_700_000_008_000_000 || len(receipt.Known) != 9 || receipt.Known[0].Identity.Phone != "+4915100000000" {
		t.Fatal(receipt)
	}
}

func TestAnotherReceiptIsToldBehindThoseBeforeIt(t *testing.T) {
	d, told := confirming()
	d.onReceipt(confirmation(1, "A", types.ReceiptTypeDelivered))
	d.onReceipt(confirmation(1, "B", types.ReceiptTypeDelivered))
	d.onReceipt(confirmation(1, "B", types.ReceiptTypeRead))
	d.onReceipt(receiptEvent(types.NewJID("4915100000001", types.DefaultUserServer), []string{"C"}))
	for _, id := range []string{"A", "B", "B", "C"} {
		if receipt := <-told; receipt.NetworkMessageIds[0] != id {
			t.Fatal(id, receipt)
		}
	}
}

func TestWhoAMemberIsIsToldOnce(t *testing.T) {
	d, told := confirming()
	for id, known := range []int{1, 0} {
		d.onReceipt(confirmation(1, fmt.Sprint(id), types.ReceiptTypeDelivered))
		if receipt := <-told; len(receipt.Known) != known {
			t.Fatal(receipt)
		}
	}
}

func TestSoManyMembersAreToldWithoutWaiting(t *testing.T) {
	d, told := confirming()
	for member := range maxMembers + 1 {
		d.onReceipt(confirmation(member, "A", types.ReceiptTypeDelivered))
	}
	if first, rest := <-told, <-told; len(first.Members) != maxMembers || len(rest.Members) != 1 {
		t.Fatal(len(first.Members), len(rest.Members))
	}
}
