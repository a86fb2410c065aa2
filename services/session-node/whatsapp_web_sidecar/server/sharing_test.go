package server_test

import (
	"encoding/json"
	"testing"
	"time"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
)

func (n *network) onPhone(act *simulatorv1.ActOnPhoneRequest) {
	n.t.Helper()
	act.Phone, act.Chat = account, "phone:"+bert
	if _, err := n.ActOnPhone(n.t.Context(), act); err != nil {
		n.t.Fatal(err)
	}
}

func pinOnPhone(pinned bool) *simulatorv1.ActOnPhoneRequest {
	return &simulatorv1.ActOnPhoneRequest{Act: &simulatorv1.ActOnPhoneRequest_Pin{Pin: pinned}}
}

func (l *link) changeChat(call *internalv1.ChangeChatCall) *internalv1.DeviceCallResult {
	l.t.Helper()
	call.Last = &internalv1.ReferredMessage{Chat: "phone:" + bert}
	return l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_ChangeChat{ChangeChat: call}})
}

// chatSet waits until something of the chat with Bert is so; what is told before that is stored.
func (l *link) chatSet(wanted func(*internalv1.DeviceChatSet) bool) {
	l.t.Helper()
	for {
		set := notice(l, func(n *internalv1.DeviceNotice) (*internalv1.DeviceChatSet, bool) {
			return n.GetChatSet(), n.GetChatSet() != nil
		})
		if set.GetChat() == "phone:"+bert && wanted(set) {
			return
		}
	}
}

// miscounted are the rows of an account that has read something of what its devices have in common, with a wrong sum of it.
func miscounted(t *testing.T, s *node, rows map[string][]byte) map[string][]byte {
	t.Helper()
	l := s.open(rows)
	l.with(func() { l.noting = true })
	l.changeChat(&internalv1.ChangeChatCall{Change: &internalv1.ChangeChatCall_Archived{Archived: true}})
	for began := time.Now(); !l.everWritten("appversion/regular_low"); {
		if time.Since(began) > patience {
			t.Fatal("it has no version")
		}
	}
	l.close()
	stored := l.stored()
	var state struct {
		Version uint64
		Hash    []byte
	}
	if err := json.Unmarshal(stored["appversion/regular_low"], &state); err != nil {
		t.Fatal(err)
	}
	state.Hash[0] ^= 0xff
	stored["appversion/regular_low"], _ = json.Marshal(state)
	return stored
}

// What was read once nobody says again.
func TestWhatIsNotStoredOfWhatTheDevicesHaveInCommonIsReadAgain(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	pinned := func(set *internalv1.DeviceChatSet) bool { return set.GetPinned() }
	n.onPhone(pinOnPhone(true))
	until(l, func(r *internalv1.RunResponse) (bool, bool) {
		return true, r.GetNotice().GetChatSet() != nil && pinned(r.GetNotice().GetChatSet())
	})
	died := l.stored() // before that is stored
	l.close()
	next := s.open(died)
	next.chatSet(pinned)
	for began := time.Now(); next.stored()["appversion/regular_low"] == nil || next.stored()["login/settings-open/regular_low"] != nil; {
		if time.Since(began) > patience {
			t.Fatal("it is read for ever")
		}
	}
}

// A device that was stopped between two rows of it, or has miscounted once, would be told of nothing any more.
func TestWhatTheDevicesHaveInCommonIsReadAnewWhereItsSumIsWrong(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(miscounted(t, s, rows))
	n.onPhone(pinOnPhone(true))
	l.chatSet(func(set *internalv1.DeviceChatSet) bool { return set.GetPinned() })
	l.changeChat(&internalv1.ChangeChatCall{Change: &internalv1.ChangeChatCall_Pinned{Pinned: false}})
}

func TestAChangeUponAWrongSumIsMadeOnceAllIsReadAnew(t *testing.T) {
	n, s, rows := world(t)
	stored := miscounted(t, s, rows)
	n.onPhone(pinOnPhone(true)) // so that the network refuses the change, and says what it is to be made upon
	l := s.open(stored)
	l.changeChat(&internalv1.ChangeChatCall{Change: &internalv1.ChangeChatCall_Archived{Archived: false}})
	n.onPhone(pinOnPhone(false)) // the phone reads what the device has made
}

func TestThePhoneIsAskedForWhatTheNetworkHasWrongly(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	l.receipt(l.send("phone:"+bert, text("hello")))
	n.inject(&simulatorv1.InjectFaultRequest{Kind: simulatorv1.FaultKind_FAULT_KIND_BROKEN_APP_STATE, Phone: account})
	n.onPhone(pinOnPhone(true))
	l.chatSet(func(set *internalv1.DeviceChatSet) bool { return set.GetPinned() })
}

// Phones have the chats of two people by hidden ids: under the number they find none.
func TestChatsAreChangedByTheIdsThatThePhoneHasThemBy(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	id := l.send("phone:"+bert, text("hello"))
	l.receipt(id)
	l.changeChat(&internalv1.ChangeChatCall{Change: &internalv1.ChangeChatCall_Archived{Archived: true}})
	l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_StarMessage{StarMessage: &internalv1.StarMessageCall{
		Target: &internalv1.ReferredMessage{NetworkMessageId: id, Chat: "phone:" + bert}, Starred: true,
	}}})
	l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_SetLabel{SetLabel: &internalv1.DeviceLabelled{
		LabelId: "1", Chat: "phone:" + bert, Labelled: true,
	}}})
	changes := n.records(simulatorv1.LedgerKind_LEDGER_KIND_APP_STATE_CHANGED)
	if len(changes) != 3 {
		t.Fatal(changes)
	}
	for _, change := range changes {
		if change.GetPeer() != "9"+bert[1:]+"@lid" {
			t.Error(change)
		}
	}
}

// Who wrote a message finds it by the ids alone that it went by.
func TestThatMessagesWereReadIsToldByTheIdsThatTheyCameBy(t *testing.T) {
	n, s, rows := world(t)
	device := s.open(s.paired(n, bert))
	l := s.open(rows)
	group := n.group(account, bert)
	for _, chat := range []struct{ to, from, sender string }{{"phone:" + account, "phone:" + bert, ""}, {group, group, "phone:" + bert}} {
		id := device.send(chat.to, text("hello"))
		until(l, func(r *internalv1.RunResponse) (bool, bool) { return true, r.GetIncoming().GetNetworkMessageId() == id })
		l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_MarkRead{MarkRead: &internalv1.MarkReadCall{
			Chat: chat.from, Sender: chat.sender, NetworkMessageIds: []string{id},
		}}})
		until(device, func(r *internalv1.RunResponse) (bool, bool) {
			return true, r.GetReceipt().GetReceipt() == internalv1.DeviceReceipt_DEVICE_RECEIPT_READ
		})
	}
}
