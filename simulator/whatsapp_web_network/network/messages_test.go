package network_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/content"
	"sessionmesh.dev/whatsapp-web-network/network"
)

func TestAPersonReadsConfirmsAndAnswers(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	soon := time.Millisecond
	n.SetBehaviour(nil, &network.Behaviour{ReadAfter: &soon, AutoReply: "fine, and you?"})
	id := c.mustSay(bob, "how are you?")
	for _, kind := range []types.ReceiptType{types.ReceiptTypeDelivered, types.ReceiptTypeRead} {
		receipt := next(c, func(r *events.Receipt) bool { return r.Type == kind })
		if receipt.MessageIDs[0] != id || receipt.Sender.User != "9491510000002" {
			t.Fatalf("%+v", receipt)
		}
	}
	answer := next(c, saying("fine, and you?"))
	if answer.Info.SenderAlt.User != bob[1:] {
		t.Fatalf("it came from %v", answer.Info.SenderAlt)
	}
}

func TestAPersonWritesFirst(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	id := write(t, n, alice, bob, "hello")
	if m := next(c, saying("hello")); m.Info.ID != id {
		t.Fatal(m.Info.ID)
	}
	until(t, "the message is acknowledged", func() bool { return n.Account(alice).Pending() == 0 })
}

func TestTheOwnPhoneWrites(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	inject(t, n, network.Writing{Account: n.Account(alice), Chat: "phone:" + bob, Content: textContent("from my phone")})
	m := next(c, saying("from my phone"))
	if !m.Info.IsFromMe || m.Info.Chat.User != bob[1:] {
		t.Fatalf("%+v", m.Info)
	}
}

func TestHundredMessagesEachWayAtOnceAreAllReadable(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	a.mustSay(bob, "first")
	next(b, saying("first"))
	b.mustSay(alice, "second")
	next(a, saying("second"))
	const each = 100
	var both sync.WaitGroup
	for _, pair := range []struct {
		from *linked
		to   string
	}{{a, bob}, {b, alice}} {
		both.Add(1)
		go func() {
			defer both.Done()
			for i := range each {
				if _, err := pair.from.say(pair.to, said(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	both.Wait()
	for _, c := range []*linked{a, b} {
		for i := range each {
			next(c, saying(fmt.Sprint(i)))
		}
	}
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad != 0 {
		t.Fatal("unreadable:", bad)
	}
}

func TestHundredMessagesWithAPersonEachWayAreAllReadable(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	n.SetBehaviour(nil, &network.Behaviour{AutoReply: "yes"})
	for i := range 100 {
		c.mustSay(bob, fmt.Sprint(i))
		next(c, saying("yes"))
	}
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad != 0 {
		t.Fatal("unreadable:", bad)
	}
}

func TestAMessageThatAPersonCannotReadIsAskedForAgain(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	first := c.mustSay(bob, "one")
	next(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == first })
	damage(c.store)
	second := c.mustSay(bob, "two")
	next(c, func(r *events.Receipt) bool { return r.MessageIDs[0] == second && r.Type == types.ReceiptTypeDelivered })
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad == 0 {
		t.Fatal("the damage did nothing")
	}
}

func TestAMessageThatADeviceCannotReadIsEncryptedAnew(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	c.mustSay(bob, "one")
	write(t, n, alice, bob, "two")
	next(c, saying("two"))
	c.store.forget()
	write(t, n, alice, bob, "three")
	next(c, saying("three"))
	until(t, "the message is acknowledged", func() bool { return n.Account(alice).Pending() == 0 })
}

func TestMessagesWaitForAnAbsentDevice(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	c.Disconnect()
	until(t, "it is gone", func() bool { return !n.Account(alice).Connected() })
	write(t, n, alice, bob, "while you were away")
	again := client(t, n, c.Store)
	again.connect()
	next(again, saying("while you were away"))
	until(t, "the message is acknowledged", func() bool { return n.Account(alice).Pending() == 0 })
}

func TestAGroupIsWrittenToByAllKindsOfMembers(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	g := n.CreateGroup("Us", []string{alice[1:], bob[1:], carol[1:]}, []string{alice[1:]})
	jid := types.NewJID(g.ID, types.GroupServer)
	for i := range 3 {
		text := fmt.Sprint("to all ", i)
		id, err := a.sayTo(jid, said(text))
		if err != nil {
			t.Fatal(err)
		}
		if m := next(b, saying(text)); m.Info.Chat != jid {
			t.Fatal(m.Info.Chat)
		}
		confirmed := map[string]bool{}
		for len(confirmed) < 2 {
			r := next(a, func(r *events.Receipt) bool { return r.MessageIDs[0] == id })
			confirmed[r.Sender.User] = true
		}
	}
	inject(t, n, network.Writing{
		Account: n.Account(alice), Sender: "phone:" + carol, Chat: "group:" + g.ID, Content: textContent("I too"),
	})
	if m := next(a, saying("I too")); m.Info.Chat != jid || m.Info.Sender.User != "9"+carol[1:] {
		t.Fatalf("%+v", m.Info)
	}
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad != 0 {
		t.Fatal("unreadable:", bad)
	}
}

func TestFilesGoBothWays(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	photo := bytes.Repeat([]byte("photo"), 10_000)
	up, err := a.Upload(context.Background(), photo, whatsmeow.MediaImage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.say(bob, &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
		URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256,
		FileSHA256: up.FileSHA256, FileLength: &up.FileLength, Mimetype: proto.String("image/jpeg"),
	}}); err != nil {
		t.Fatal(err)
	}
	hasImage := func(m *events.Message) bool { return m.Message.GetImageMessage() != nil }
	got, err := b.Download(context.Background(), next(b, hasImage).Message.GetImageMessage())
	if err != nil || !bytes.Equal(got, photo) {
		t.Fatal(err, len(got))
	}
	ref, _ := n.PutFile([]byte("a picture"))
	inject(t, n, network.Writing{Account: n.Account(alice), Sender: "phone:" + carol, Content: &simnetv1.Content{
		Kind: &simnetv1.Content_Blob{Blob: &simnetv1.Blob{Ref: ref, Mime: "image/png", ShownAs: "image"}},
	}})
	got, err = a.Download(context.Background(), next(a, hasImage).Message.GetImageMessage())
	if err != nil || string(got) != "a picture" {
		t.Fatal(err, got)
	}
}

func TestKindsOfContentArrive(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	say := func(said *simnetv1.Content) {
		inject(t, n, network.Writing{Account: n.Account(alice), Sender: "phone:" + bob, Content: said})
	}
	inner, _ := proto.Marshal(textContent("corrected"))
	say(&simnetv1.Content{Kind: &simnetv1.Content_Edit{Edit: &simnetv1.Edit{Id: "3A01", Content: inner}}})
	next(c, func(m *events.Message) bool {
		return m.IsEdit && m.Message.GetProtocolMessage().GetEditedMessage().GetConversation() == "corrected"
	})
	say(&simnetv1.Content{Kind: &simnetv1.Content_Revoke{Revoke: &simnetv1.Revoke{Id: "3A01"}}})
	next(c, func(m *events.Message) bool {
		return m.Message.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_REVOKE &&
			m.Message.GetProtocolMessage().GetKey().GetID() == "3A01"
	})
	say(&simnetv1.Content{Kind: &simnetv1.Content_Reaction{Reaction: &simnetv1.Reaction{Id: "3EB0", Emoji: "+", Sender: "phone:" + alice}}})
	next(c, func(m *events.Message) bool { return m.Message.GetReactionMessage().GetText() == "+" })
	raw, _ := proto.Marshal(&waE2E.Message{PollCreationMessageV3: &waE2E.PollCreationMessage{Name: proto.String("Tea?")}})
	say(&simnetv1.Content{Kind: &simnetv1.Content_Other{Other: &simnetv1.Other{Kind: content.Raw, Body: raw}}})
	next(c, func(m *events.Message) bool { return m.Message.GetPollCreationMessageV3().GetName() == "Tea?" })
	say(&simnetv1.Content{Kind: &simnetv1.Content_Other{Other: &simnetv1.Other{Kind: content.Call}}})
	next[*events.CallOffer](c, nil)
}

func TestAMessageIdThatComesAgainIsNotShownAgain(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	for range 2 {
		if _, err := a.say(bob, said("once"), whatsmeow.SendRequestExtra{ID: "3EB0AAAA"}); err != nil {
			t.Fatal(err)
		}
	}
	a.mustSay(bob, "after it")
	next(b, saying("once"))
	if m := next(b, func(m *events.Message) bool { return words(m) != "" }); words(m) != "after it" {
		t.Fatal("shown again")
	}
	if again := count(n, simulatorv1.LedgerKind_LEDGER_KIND_RESENT); again != 1 {
		t.Fatal("resent:", again)
	}
}

func TestNumbersThatAreNotOnTheNetworkAreKnown(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	n.Change(func(s *network.Settings) { s.Unregistered = map[string]bool{carol[1:]: true} })
	found, err := c.IsOnWhatsApp(context.Background(), []string{bob, carol})
	if err != nil || len(found) != 2 || !found[0].IsIn || found[1].IsIn {
		t.Fatalf("%v %+v", err, found)
	}
}

func TestARefusalReachesTheSender(t *testing.T) {
	n := start(t)
	c := paired(t, n, alice)
	n.SetBehaviour(n.Account(alice), &network.Behaviour{Refusals: []network.Refusal{{
		Recipient: "phone:" + bob, Reason: simnetv1.RejectReason_REJECT_REASON_RESTRICTED,
	}}})
	if _, err := c.say(bob, said("hello")); err == nil {
		t.Fatal("it was taken")
	}
	if _, err := c.say(carol, said("hello")); err != nil {
		t.Fatal(err)
	}
}

// damage changes the keys that the device encrypts with next, so that nobody can read it.
func damage(m *memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for address, stored := range m.sessions {
		session, err := store.SignalProtobufSerializer.Session.Deserialize(stored)
		if err != nil {
			panic(err)
		}
		session.SessionState.SenderChain.ChainKey.Key[0] ^= 1
		m.sessions[address] = store.SignalProtobufSerializer.Session.Serialize(session)
	}
}

func TestAMessageThatADeviceCannotReadIsAskedForAtItsAuthors(t *testing.T) {
	n := start(t)
	a, b := paired(t, n, alice), paired(t, n, bob)
	a.mustSay(bob, "one")
	next(b, saying("one"))
	b.mustSay(alice, "two")
	next(a, saying("two"))
	damage(a.store)
	a.mustSay(bob, "three")
	next(b, saying("three"))
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad == 0 {
		t.Fatal("the damage did nothing")
	}
}
