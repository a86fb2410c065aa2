package server_test

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"go.mau.fi/whatsmeow/proto/waE2E"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// Whoever has a mobile number in Brazil since before these got a ninth digit is on the network without it.
func TestSomebodyIsWrittenToUnderTheNumberThatTheNetworkHasThemBy(t *testing.T) {
	const before, now = "+551187654321", "+5511987654321"
	n, s, rows := world(t)
	n.person(before, "Dora")
	device := s.open(s.paired(n, before))
	l := s.open(rows)
	for range 2 { // the second time nobody is asked
		id := l.send("phone:"+now, text("hello"))
		if acked := l.acked(id); acked.GetRecipient().GetPhone() != before || acked.GetRecipient().GetHiddenId() == "" {
			t.Fatal(acked)
		}
		if got := until(device, incoming); got.GetNetworkMessageId() != id {
			t.Fatal(got)
		}
		l.receipt(id)
	}
	if known := string(l.stored()["peer/"+now[1:]+"/lid"]); known == "" || known != string(l.stored()["peer/"+before[1:]+"/lid"]) {
		t.Fatal(known)
	}
}

func TestMessagesLastAsLongAsTheirChatSays(t *testing.T) {
	n, s, rows := world(t)
	device := s.open(s.paired(n, bert))
	l := s.open(rows)
	lasting := func() uint32 {
		t.Helper()
		l.acked(l.send("phone:"+bert, text("hello")))
		return until(device, incoming).GetExpireSeconds()
	}
	if lasting() != 0 {
		t.Fatal("it disappears")
	}
	n.say(account, bert, raw(t, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: proto.String("gone tomorrow"), ContextInfo: &waE2E.ContextInfo{Expiration: proto.Uint32(86400)},
	}}))
	until(l, incoming)
	if got := lasting(); got != 86400 {
		t.Fatal(got)
	}
	message := text("hello")
	message.Request.Options = &sessionmeshv1.MessageOptions{DisappearAfter: &durationpb.Duration{Seconds: 604800}}
	l.acked(l.send("phone:"+bert, message))
	if got := until(device, incoming).GetExpireSeconds(); got != 604800 {
		t.Fatal(got)
	}
	n.say(account, bert, raw(t, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: proto.Uint32(0),
	}}))
	n.write(account, bert, "and now for good")
	until(l, incoming)
	if got := lasting(); got != 0 {
		t.Fatal(got)
	}
}

// Phones find members of a group by the ids that it has them by: by others they show a mention as text, and a quotation as
// their own user's.
func TestAGroupsMembersAreNamedAsTheGroupHasThem(t *testing.T) {
	n, s, rows := world(t)
	created, err := n.CreateNetworkGroup(t.Context(), &simulatorv1.CreateNetworkGroupRequest{Subject: "Us", Members: []string{account, bert, carla}})
	if err != nil {
		t.Fatal(err)
	}
	device := s.open(s.paired(n, bert)) // which was told nothing of Carla's number
	l := s.open(rows)
	message := text("look, @" + carla[1:])
	message.Request.Options = &sessionmeshv1.MessageOptions{Mentions: []string{"phone:" + carla}}
	l.acked(l.send(created.GetGroup().GetAddress(), message))
	got := until(device, incoming)
	if len(got.GetMentions()) != 1 || got.GetMentions()[0][:7] != "hidden:" ||
		got.GetContent().GetText().GetBody() != "look, @"+got.GetMentions()[0][7:] {
		t.Fatal(got)
	}
	// And whom a text names by hidden id is named by number where that is known.
	hidden := got.GetMentions()[0][7:]
	said := "look, @" + hidden
	if _, err := n.InjectMessage(t.Context(), &simulatorv1.InjectMessageRequest{
		Phone: account, Sender: "phone:" + bert, Chat: created.GetGroup().GetAddress(),
		Content: &simulatorv1.InjectMessageRequest_Encoded{Encoded: encoded(t, raw(t, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			Text: &said, ContextInfo: &waE2E.ContextInfo{MentionedJID: []string{hidden + "@lid"}},
		}}))},
	}); err != nil {
		t.Fatal(err)
	}
	got = until(l, incoming)
	if got.GetMentions()[0] != "phone:"+carla || got.GetContent().GetText().GetBody() != "look, @"+carla[1:] {
		t.Fatal(got)
	}
}

func TestTheNetworkIsToldTheAccountsName(t *testing.T) {
	n, s, rows := world(t)
	device := s.open(s.paired(n, bert))
	var login map[string]any
	if err := json.Unmarshal(rows["login/device"], &login); err != nil {
		t.Fatal(err)
	}
	login["PushName"] = "Shop"
	rows["login/device"], _ = json.Marshal(login)
	l := s.open(rows)
	for began := time.Now(); ; { // it is told beside the messages
		l.acked(l.send("phone:"+bert, text("hello")))
		got := until(device, incoming).GetIdentity().GetPushName()
		if got == "Shop" {
			return
		}
		if time.Since(began) > patience {
			t.Fatal(got)
		}
	}
}
