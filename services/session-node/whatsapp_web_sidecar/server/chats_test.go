package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
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

func TestSomebodyIsFoundByANumberThatIsWrittenOtherwiseToday(t *testing.T) {
	const before, now = "+5215512345678", "+525512345678"
	n, s, rows := world(t)
	n.person(before, "Elena")
	n.nobody(now)
	l := s.open(rows)
	if acked := l.acked(l.send("phone:"+now, text("hello"))); acked.GetRecipient().GetPhone() != before {
		t.Fatal(acked)
	}
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Call{Call: &internalv1.DeviceCall{Sequence: 1, Call: &internalv1.DeviceCall_CheckNumbers{
		CheckNumbers: &internalv1.CheckNumbersCall{Phones: []string{now}},
	}}}})
	checked := until(l, func(r *internalv1.RunResponse) (*internalv1.DeviceCallResult, bool) {
		return r.GetCallResult(), r.GetCallResult() != nil
	})
	if number := checked.GetNumbers()[0]; number.GetPhone() != now || !number.GetRegistered() || number.GetIdentity().GetPhone() != before {
		t.Fatal(checked)
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
	set := notice(l, func(n *internalv1.DeviceNotice) (*internalv1.DeviceChatSet, bool) {
		return n.GetChatSet(), n.GetChatSet() != nil
	})
	if set.GetChat() != "phone:"+bert || set.DisappearAfterSeconds == nil || set.GetDisappearAfterSeconds() != 0 {
		t.Fatal(set)
	}
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

// WhatsApp takes what an account sends those whom it knows for a first message to strangers where it has not their tokens.
func TestTokensOfThoseWhomTheAccountKnowsAreKeptWhereItsPastIsNotWanted(t *testing.T) {
	n, s, _ := world(t)
	s.noPast = true
	if _, err := n.SetNetwork(t.Context(), &simulatorv1.SetNetworkRequest{HistoryMessages: 3}); err != nil {
		t.Fatal(err)
	}
	l := s.open(s.paired(n, carla))
	for began := time.Now(); time.Since(began) < patience; {
		n.write(carla, bert, "hello") // a message behind the other: what is read beside them comes to be stored
		if got := until(l, incoming); got.GetHistory() {
			t.Fatal(got)
		}
		for key, value := range l.stored() {
			if strings.HasSuffix(key, "/token") && len(value) > 0 {
				return
			}
		}
	}
	t.Fatal("no token is kept")
}

// Where nobody sends it again, and the network has it no more, nobody would ever hear of it.
func TestAMessageThatCannotBeDecryptedAndDoesNotComeAgainIsToldOf(t *testing.T) {
	n, s, rows := world(t)
	taken, hidden := forgetful(t, n, s, rows)
	source := types.MessageSource{Chat: types.NewJID(hidden, types.HiddenUserServer), Sender: types.NewJID(hidden, types.HiddenUserServer)}
	for id, since := range map[string]time.Time{"OLD": time.Now().Add(-time.Hour), "NEW": time.Now()} {
		taken["login/awaited/"+id], _ = json.Marshal(map[string]any{"Info": types.MessageInfo{MessageSource: source, ID: id, Timestamp: since}, "Since": since})
	}
	next := s.open(taken)
	came := func(id string) *internalv1.IncomingMessage { // what was not acknowledged before comes again
		t.Helper()
		return until(next, func(r *internalv1.RunResponse) (*internalv1.IncomingMessage, bool) {
			return r.GetIncoming(), r.GetIncoming().GetNetworkMessageId() == id
		})
	}
	got := came("OLD")
	if got.GetSender() != "phone:"+bert ||
		got.GetContent().GetUnavailable().GetReason() != sessionmeshv1.UnavailableReason_UNAVAILABLE_REASON_UNDECRYPTABLE {
		t.Fatal(got)
	}
	second := n.write(account, bert, "and again") // which comes again
	if got = came(second); got.GetContent().GetText().GetBody() != "and again" {
		t.Fatal(got)
	}
	for key := range next.stored() {
		if strings.HasPrefix(key, "login/awaited/") && key != "login/awaited/NEW" {
			t.Fatal(key)
		}
	}
	if stored := next.everWritten("login/awaited/" + second); !stored {
		t.Fatal("it was not awaited")
	}
}

// forgetful are the rows of an account whose sessions with Bert are gone: it cannot read what he writes next. hidden is his id.
func forgetful(t *testing.T, n *network, s *node, rows map[string][]byte) (taken map[string][]byte, hidden string) {
	t.Helper()
	l := s.open(rows)
	n.write(account, bert, "hello")
	hidden = until(l, incoming).GetIdentity().GetHiddenId()
	l.receipt(l.send("phone:"+bert, text("hello to you"))) // which is read once his message is acknowledged
	l.close()
	taken = l.stored()
	for key := range taken {
		if strings.HasPrefix(key, "peer/"+hidden) && strings.Contains(key, "/session/") {
			delete(taken, key)
		}
	}
	return taken, hidden
}

// Between telling the network and storing it a crash would lose it.
func TestAMessageThatCannotBeDecryptedStaysWithTheNetworkUntilThatIsStored(t *testing.T) {
	n, s, rows := world(t)
	taken, _ := forgetful(t, n, s, rows)
	l := s.open(taken)
	l.with(func() { l.refuse = true })
	id := n.write(account, bert, "and again")
	until(l, func(r *internalv1.RunResponse) (bool, bool) { return true, r.GetEnded() != nil })
	l.close()
	next := s.open(taken)
	got := until(next, func(r *internalv1.RunResponse) (*internalv1.IncomingMessage, bool) {
		return r.GetIncoming(), r.GetIncoming().GetNetworkMessageId() == id
	})
	if got.GetContent().GetText().GetBody() != "and again" || !next.everWritten("login/awaited/"+id) {
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
