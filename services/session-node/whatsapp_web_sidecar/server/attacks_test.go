package server_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
)

func (n *network) inject(fault *simulatorv1.InjectFaultRequest) {
	n.t.Helper()
	if _, err := n.InjectFault(n.t.Context(), fault); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) clear() {
	n.t.Helper()
	if _, err := n.ClearFaults(n.t.Context(), &simulatorv1.ClearFaultsRequest{}); err != nil {
		n.t.Fatal(err)
	}
}

// settled waits until it is known what became of a message, whatever that is.
func (l *link) settled(id string) {
	l.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case said := <-l.heard:
			if said.GetAcked().GetNetworkMessageId() == id || said.GetRejected().GetNetworkMessageId() == id || said.GetEnded() != nil {
				return
			}
		case <-timeout:
			l.t.Fatal("nothing became of it")
		}
	}
}

// What is wrong with answers is wrong with what was asked for, and not with what is asked for later.
func TestAnswersThatAreLateOrHalfOrDoubledAreOverWithTheFault(t *testing.T) {
	for name, fault := range map[string]*simulatorv1.InjectFaultRequest{
		"late":    {Kind: simulatorv1.FaultKind_FAULT_KIND_LATE_ANSWERS, Delay: durationpb.New(200 * time.Millisecond)},
		"half":    {Kind: simulatorv1.FaultKind_FAULT_KIND_HALF_ANSWERS},
		"doubled": {Kind: simulatorv1.FaultKind_FAULT_KIND_DOUBLE_ANSWERS},
	} {
		t.Run(name, func(t *testing.T) {
			n, s, rows := world(t)
			other := s.open(s.paired(n, carla))
			l := s.open(rows)
			fault.Phone = account
			n.inject(fault)
			l.settled(l.send("phone:"+bert, text("who are you?")))
			other.receipt(other.send("phone:"+bert, text("from another one")))
			n.clear()
			l.close()
			l = s.open(l.stored())
			l.receipt(l.send("phone:"+carla, text("and on")))
			l.receipt(l.send("phone:"+bert, text("and on")))
		})
	}
}

func TestAnswersThatComeTwiceChangeNothing(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	n.inject(&simulatorv1.InjectFaultRequest{Kind: simulatorv1.FaultKind_FAULT_KIND_DOUBLE_ANSWERS, Phone: account})
	l.receipt(l.send("phone:"+bert, text("hello")))
	l.receipt(l.send("phone:"+carla, text("hello")))
}

// The account's settings are not what its messages need.
func TestSettingsWithWrongSignaturesKeepNoMessage(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	id := l.send("phone:"+bert, text("hello"))
	l.receipt(id)
	n.inject(&simulatorv1.InjectFaultRequest{Kind: simulatorv1.FaultKind_FAULT_KIND_BROKEN_APP_STATE, Phone: account})
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Call{Call: &internalv1.DeviceCall{
		Sequence: 1, Call: &internalv1.DeviceCall_StarMessage{StarMessage: &internalv1.StarMessageCall{
			Target: &internalv1.ReferredMessage{NetworkMessageId: id, Chat: "phone:" + bert}, Starred: true,
		}},
	}}})
	until(l, func(r *internalv1.RunResponse) (bool, bool) { return true, r.GetCallResult().GetSequence() == 1 })
	l.receipt(l.send("phone:"+bert, text("and on")))
	n.write(account, bert, "and you?")
	if got := until(l, incoming); got.GetContent().GetText().GetBody() != "and you?" {
		t.Fatal(got)
	}
}

var (
	fromNetwork = types.ServerJID
	ofBert      = types.NewJID(bert[1:], types.DefaultUserServer)
	ofNobody    = types.NewJID("120363000000000001", types.GroupServer)
)

// strange are stanzas that no network sends: answers that nobody waits for, and others without what makes them what they are.
var strange = []waBinary.Node{
	{Tag: "iq", Attrs: waBinary.Attrs{"id": "nobody-asked", "type": "result", "from": fromNetwork}},
	{Tag: "iq", Attrs: waBinary.Attrs{"id": "nobody-asked", "type": "error", "from": fromNetwork}},
	{Tag: "iq", Attrs: waBinary.Attrs{"type": "get", "from": fromNetwork}, Content: []waBinary.Node{{Tag: "ping"}}},
	{Tag: "iq", Attrs: waBinary.Attrs{"type": "set", "from": fromNetwork, "id": "1"}, Content: []waBinary.Node{{Tag: "pair-success"}}},
	{Tag: "ack", Attrs: waBinary.Attrs{"class": "message", "id": "never-sent", "from": ofBert}},
	{Tag: "ack", Attrs: waBinary.Attrs{"error": "4xx", "class": "message"}},
	{Tag: "ack"},
	{Tag: "receipt"},
	{Tag: "receipt", Attrs: waBinary.Attrs{"from": ofBert, "id": "never-sent", "type": "retry"}},
	{Tag: "receipt", Attrs: waBinary.Attrs{"from": ofBert, "id": "never-sent", "type": "retry", "t": "1"}, Content: []waBinary.Node{{Tag: "retry"}}},
	{Tag: "receipt", Attrs: waBinary.Attrs{"from": ofBert, "id": "a", "t": "never"}, Content: []waBinary.Node{{Tag: "list"}}},
	{Tag: "message"},
	{Tag: "message", Attrs: waBinary.Attrs{"from": ofBert, "id": "a"}},
	{Tag: "message", Attrs: waBinary.Attrs{"from": ofBert, "id": "a", "t": "1"}, Content: []waBinary.Node{{Tag: "enc"}}},
	{Tag: "message", Attrs: waBinary.Attrs{"from": ofBert, "id": "b", "t": "1"}, Content: []waBinary.Node{
		{Tag: "enc", Attrs: waBinary.Attrs{"type": "pkmsg", "v": "2"}, Content: []byte{0x33, 8, 0}},
	}},
	{Tag: "message", Attrs: waBinary.Attrs{"from": ofNobody, "id": "c", "t": "1"}, Content: []waBinary.Node{
		{Tag: "enc", Attrs: waBinary.Attrs{"type": "skmsg", "v": "2"}, Content: []byte{0x33}},
	}},
	{Tag: "message", Attrs: waBinary.Attrs{"from": ofBert, "id": "d", "t": "1"}, Content: []waBinary.Node{{Tag: "unavailable"}}},
	{Tag: "notification"},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "encrypt", "from": fromNetwork, "id": "1"}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "encrypt", "from": ofBert, "id": "2"}, Content: []waBinary.Node{{Tag: "identity"}}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "devices", "from": ofBert, "id": "3"}, Content: []waBinary.Node{{Tag: "add"}}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "w:gp2", "from": ofNobody, "id": "4"}, Content: []waBinary.Node{{Tag: "create"}, {Tag: "add"}, {Tag: "ephemeral"}}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "picture", "from": ofBert, "id": "5"}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "from": ofBert, "id": "6"}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "server_sync", "from": fromNetwork, "id": "7"}, Content: []waBinary.Node{{Tag: "collection"}}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "account_sync", "from": fromNetwork, "id": "8"}, Content: []waBinary.Node{{Tag: "devices"}, {Tag: "privacy"}}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "privacy_token", "from": ofBert, "id": "9"}, Content: []waBinary.Node{{Tag: "tokens"}}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "link_code_companion_reg", "from": fromNetwork, "id": "10"}},
	{Tag: "notification", Attrs: waBinary.Attrs{"type": "newsletter", "from": fromNetwork, "id": "11"}},
	{Tag: "call", Attrs: waBinary.Attrs{"from": ofBert, "id": "1"}},
	{Tag: "call", Attrs: waBinary.Attrs{"from": ofBert, "id": "1"}, Content: []waBinary.Node{{Tag: "offer"}}},
	{Tag: "presence"},
	{Tag: "chatstate", Attrs: waBinary.Attrs{"from": ofBert}},
	{Tag: "ib", Content: []waBinary.Node{{Tag: "dirty"}, {Tag: "offline_preview"}, {Tag: "edge_routing"}}},
	{Tag: "success"},
	{Tag: "failure"},
	{Tag: "stream:error"},
	{Tag: "xmlstreamend"},
}

func TestNoStanzaDoesMoreThanEndTheConnectionThatItCameBy(t *testing.T) {
	n, s, rows := world(t)
	other := s.open(s.paired(n, carla))
	for i, node := range strange {
		whole, err := waBinary.Marshal(node)
		if err != nil {
			t.Fatal(err)
		}
		l := s.open(rows)
		for _, stanza := range [][]byte{whole, whole[:1+rand.IntN(len(whole)-1)], append(whole[:len(whole):len(whole)], 0xf8, 2, 3)} {
			n.inject(&simulatorv1.InjectFaultRequest{Kind: simulatorv1.FaultKind_FAULT_KIND_STANZA, Phone: account, Stanza: stanza})
		}
		l.settled(l.send("phone:"+bert, text(fmt.Sprint(node.Tag, " ", i))))
		l.close()
		rows = l.stored()
	}
	other.receipt(other.send("phone:"+bert, text("from another one")))
	l := s.open(rows)
	l.receipt(l.send("phone:"+bert, text("and on")))
}

// The library learns of a member's new device, or that one is gone, between two messages, or in the middle of one.
func TestAGroupIsSentToWhileItsMembersChangeTheirDevices(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	created, err := n.CreateNetworkGroup(t.Context(), &simulatorv1.CreateNetworkGroupRequest{Subject: "Us", Members: []string{account, bert, carla}})
	if err != nil {
		t.Fatal(err)
	}
	group := created.GetGroup().GetAddress()
	changing := make(chan *link, 1)
	go func() {
		var device *link
		for _, member := range []string{bert, carla, bert, bert} {
			device = s.open(s.paired(n, member))
		}
		changing <- device
	}()
	var device *link
	for i := 0; device == nil; i++ {
		l.acked(l.send(group, text(fmt.Sprint("hello ", i))))
		select {
		case device = <-changing:
		default:
		}
	}
	last := l.send(group, text("and the last one"))
	l.acked(last)
	for {
		got := until(device, incoming)
		if got.GetNetworkMessageId() == last && got.GetContent().GetText().GetBody() == "and the last one" {
			return
		}
	}
}
