package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

const (
	account = "+491510000001"
	bert    = "+491510000002"
	carla   = "+491510000003"
)

// world is a network with an account, which is linked, and two people.
func world(t *testing.T) (*network, *node, map[string][]byte) {
	t.Helper()
	n := startNetwork(t)
	n.person(account, "The account")
	n.person(bert, "Bert")
	n.person(carla, "Carla")
	s := startNode(t, n)
	return n, s, s.paired(n, account)
}

func TestTextsGoBothWaysAndAreAcknowledged(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	id := l.send("phone:"+bert, text("hello"))
	if acked := l.acked(id); acked.GetRecipient().GetPhone() != bert || acked.GetRecipient().GetHiddenId() == "" {
		t.Fatal(acked)
	}
	if receipt := l.receipt(id); receipt.GetChat() != "phone:"+bert || receipt.GetSequence() == 0 {
		t.Fatal(receipt)
	}
	written := n.write(account, bert, "hello to you")
	got := until(l, incoming)
	if got.GetNetworkMessageId() != written || got.GetContent().GetText().GetBody() != "hello to you" ||
		got.GetChat() != "phone:"+bert || got.GetSender() != "phone:"+bert || got.GetIdentity().GetPhone() != bert || got.GetFromAccount() {
		t.Fatal(got)
	}
	if len(got.GetChanges()) == 0 {
		t.Fatal("the ratchet's step is not stored with it")
	}
}

func TestAPairingByLetters(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	s := startNode(t, n)
	l := s.link(map[string][]byte{})
	l.pair(account)
	letters := until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetLetters(), r.GetPairingCode() != nil
	})
	if len(letters) != 8 {
		t.Fatal(letters)
	}
	if _, err := n.AcceptPairing(t.Context(), &simulatorv1.AcceptPairingRequest{
		Shown: &simulatorv1.AcceptPairingRequest_Code{Code: letters}, Phone: account,
	}); err != nil {
		t.Fatal(err)
	}
	until(l, func(r *internalv1.RunResponse) (*internalv1.DevicePaired, bool) {
		return r.GetPaired(), r.GetPaired() != nil
	})
	until(l, ended)
	s.open(l.stored())
}

func TestAnAbandonedPairingLeavesNothing(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	s := startNode(t, n)
	l := s.link(map[string][]byte{})
	l.pair("")
	until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetQr(), r.GetPairingCode() != nil
	})
	l.close()
	if rows := l.stored(); len(rows) != 0 {
		t.Fatal(rows)
	}
}

func TestADeviceThatIsNotStoredIsNotLinked(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	s := startNode(t, n)
	l := s.link(map[string][]byte{})
	l.refuse = true
	l.pair("")
	qr := until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetQr(), r.GetPairingCode() != nil
	})
	_, _ = n.AcceptPairing(t.Context(), &simulatorv1.AcceptPairingRequest{Shown: &simulatorv1.AcceptPairingRequest_Qr{Qr: qr}, Phone: account})
	if end := until(l, ended); end.GetEnd() != internalv1.DeviceEnd_DEVICE_END_PAIRING_REFUSED {
		t.Fatal(end)
	}
}

func TestADeviceThatTheNetworkWasNotToldOfIsLoggedOutAndLinkedAgain(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	s := startNode(t, n)
	l := s.link(map[string][]byte{})
	l.dying = true
	l.pair("")
	qr := until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetQr(), r.GetPairingCode() != nil
	})
	if _, err := n.AcceptPairing(t.Context(), &simulatorv1.AcceptPairingRequest{Shown: &simulatorv1.AcceptPairingRequest_Qr{Qr: qr}, Phone: account}); err != nil {
		t.Fatal(err)
	}
	until(l, func(r *internalv1.RunResponse) (*internalv1.DevicePaired, bool) {
		return r.GetPaired(), r.GetPaired() != nil
	})
	l.close()
	next := s.link(l.stored())
	next.reopen()
	if end := until(next, ended); end.GetEnd() != internalv1.DeviceEnd_DEVICE_END_LOGGED_OUT {
		t.Fatal(end)
	}
	s.open(s.paired(n, account))
}

func TestTheNextOwnerIsReadByEverybody(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	for i := range 5 {
		l.receipt(l.send("phone:"+bert, text(fmt.Sprint(i))))
	}
	taken := l.stored()
	_ = s.connection.Close() // the node dies
	next := startNode(t, n).open(taken)
	for i := range 5 {
		next.receipt(next.send("phone:"+bert, text(fmt.Sprint("again ", i))))
	}
	n.write(account, bert, "are you there?")
	if got := until(next, incoming); got.GetContent().GetText().GetBody() != "are you there?" {
		t.Fatal(got)
	}
}

// Bert's own device has lost the keys that the message was encrypted with, and asks for it when another sidecar has the
// account.
func TestTheNextOwnerSendsAgainWhatSomebodyCouldNotRead(t *testing.T) {
	n, s, rows := world(t)
	before := s.open(s.paired(n, bert)) // the network has its keys with its first login
	before.close()
	berts := before.stored()
	l := s.open(rows)
	id := l.send("phone:"+bert, text("hello"))
	l.acked(id)
	taken := l.stored()
	_ = s.connection.Close() // the node dies
	maps.DeleteFunc(berts, func(key string, _ []byte) bool { return strings.HasPrefix(key, "prekey/") })
	next := startNode(t, n)
	device := next.open(berts)
	next.open(taken)
	got := until(device, incoming)
	for got.GetContent().GetText().GetBody() != "hello" { // a placeholder of what cannot be read
		got = until(device, incoming)
	}
	if got.GetNetworkMessageId() != id || got.GetSender() != "phone:"+account {
		t.Fatal(got)
	}
}

func TestAMessageThatIsNotStoredComesAgain(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	n.write(account, bert, "first")
	until(l, incoming)
	l.with(func() { l.hold = true })
	n.write(account, bert, "second")
	until(l, incoming)
	taken := l.stored()
	l.close()
	next := s.open(taken)
	if got := until(next, incoming); got.GetContent().GetText().GetBody() != "second" {
		t.Fatal(got)
	}
}

func TestNothingIsSentFromAStateThatCannotBeStored(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	before, err := n.GetNetworkStats(t.Context(), &simulatorv1.GetNetworkStatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	l.with(func() { l.refuse = true })
	l.send("phone:"+bert, text("never"))
	until(l, func(r *internalv1.RunResponse) (bool, bool) {
		return true, r.GetEnded() != nil || r.GetRejected().GetReason() == internalv1.DeviceRejection_DEVICE_REJECTION_NOT_SENT
	})
	l.close()
	after, err := n.GetNetworkStats(t.Context(), &simulatorv1.GetNetworkStatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if after.GetAccepted() != before.GetAccepted() {
		t.Fatal("it was sent")
	}
}

func TestEveryKindIsReadByWhomItGoesTo(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	first := l.send("phone:"+bert, text("what is referred to"))
	l.receipt(first)
	referred := &internalv1.ReferredMessage{NetworkMessageId: first, Chat: "phone:" + bert}
	for name, message := range map[string]*internalv1.DeviceMessage{
		"location": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Location{Location: &sessionmeshv1.LocationContent{
			Latitude: proto.Float64(52.5), Longitude: proto.Float64(13.4), Name: "Berlin",
		}}}),
		"live_location": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_LiveLocation{LiveLocation: &sessionmeshv1.LiveLocationContent{
			Latitude: proto.Float64(52.5), Longitude: proto.Float64(13.4),
		}}}),
		"contact_cards": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_ContactCards{ContactCards: &sessionmeshv1.ContactCardsContent{
			Cards: []*sessionmeshv1.ContactCard{{DisplayName: "Carla", Vcard: "BEGIN:VCARD\nEND:VCARD"}},
		}}}),
		"poll": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Poll{Poll: &sessionmeshv1.PollContent{Question: "Well?", Answers: []string{"yes", "no"}}}}),
		"reaction": {
			Request: &sessionmeshv1.SendMessageRequest{Content: &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Reaction{Reaction: &sessionmeshv1.ReactionContent{Emoji: "👍"}}}},
			Target:  referred,
		},
		"buttons": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Buttons{Buttons: &sessionmeshv1.ButtonsContent{
			Body: "Choose", Buttons: []*sessionmeshv1.Button{{Title: "This", Action: &sessionmeshv1.Button_ReplyId{ReplyId: "1"}}},
		}}}),
		"list": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_List{List: &sessionmeshv1.ListContent{
			Body: "Choose", ButtonTitle: "Open", Sections: []*sessionmeshv1.ListSection{{Rows: []*sessionmeshv1.ListRow{{ReplyId: "1", Title: "This"}}}},
		}}}),
		"group_invite": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_GroupInvite{GroupInvite: &sessionmeshv1.GroupInviteContent{
			Group: "group:120363000000000001", Code: "AbCdEf", GroupName: "Us",
		}}}),
		"appointment": saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Appointment{Appointment: &sessionmeshv1.AppointmentContent{Name: "Lunch"}}}),
		"revoked": {
			Request: &sessionmeshv1.SendMessageRequest{Content: &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Revoked{Revoked: &sessionmeshv1.RevokedContent{}}}},
			Target:  referred,
		},
		"an answer": {Request: text("an answer").GetRequest(), ReplyTo: referred},
	} {
		t.Log(name)
		id := l.send("phone:"+bert, message)
		l.acked(id)
	}
}

func TestWhatTheLibraryCannotSayIsRejected(t *testing.T) {
	n, s, rows := world(t)
	n.nobody("+491519999999")
	l := s.open(rows)
	for _, refused := range []struct {
		to      string
		message *internalv1.DeviceMessage
		reason  internalv1.DeviceRejection
	}{
		{"phone:" + bert, saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Template{Template: &sessionmeshv1.TemplateContent{}}}), internalv1.DeviceRejection_DEVICE_REJECTION_UNSUPPORTED},
		{"phone:" + bert, saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Product{Product: &sessionmeshv1.ProductContent{}}}), internalv1.DeviceRejection_DEVICE_REJECTION_UNSUPPORTED},
		{"phone:" + bert, saying(nil), internalv1.DeviceRejection_DEVICE_REJECTION_UNSUPPORTED},
		{"channel:1", text("hello"), internalv1.DeviceRejection_DEVICE_REJECTION_UNKNOWN_RECIPIENT},
		{"username:bert", text("hello"), internalv1.DeviceRejection_DEVICE_REJECTION_UNKNOWN_RECIPIENT},
		{"phone:+491519999999", text("hello"), internalv1.DeviceRejection_DEVICE_REJECTION_UNKNOWN_RECIPIENT},
		{"phone:" + bert, saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Reaction{Reaction: &sessionmeshv1.ReactionContent{Emoji: "👍"}}}), internalv1.DeviceRejection_DEVICE_REJECTION_CONTENT},
	} {
		id := l.send(refused.to, refused.message)
		got := until(l, func(r *internalv1.RunResponse) (*internalv1.MessageRejected, bool) {
			return r.GetRejected(), r.GetRejected().GetNetworkMessageId() == id
		})
		if got.GetReason() != refused.reason {
			t.Errorf("%s %v: %v", refused.to, refused.message, got)
		}
	}
	l.receipt(l.send("phone:"+bert, text("and the account goes on")))
}

func TestFilesGoUpAndComeDown(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	file := bytes.Repeat([]byte("a file that is larger than a piece "), 40_000)
	stored := l.upload("document", file)
	sum := sha256.Sum256(file)
	if !bytes.Equal(stored.GetSha256(), sum[:]) || stored.GetSizeBytes() != uint64(len(file)) {
		t.Fatal(stored)
	}
	document := saying(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Document{Document: &sessionmeshv1.DocumentContent{FileName: "a.txt"}}})
	document.File, document.Media = stored, &sessionmeshv1.Media{MimeType: "text/plain"}
	l.receipt(l.send("phone:"+bert, document))

	sent := stored.GetSha256()
	n.say(account, bert, &simnetv1.Content{Kind: &simnetv1.Content_Blob{Blob: &simnetv1.Blob{
		Ref: n.put(file), Sha256: sent, Size: uint64(len(file)), Mime: "text/plain", FileName: "a.txt", ShownAs: "document",
	}}})
	came := until(l, incoming)
	if came.GetContent().GetDocument().GetFileName() != "a.txt" || len(came.GetFile()) == 0 {
		t.Fatal(came)
	}
	if got := l.download(came.GetFile()); !bytes.Equal(got, file) {
		t.Fatalf("%d bytes, want %d", len(got), len(file))
	}
	if _, done := l.fetch([]byte("no reference")); done.GetFailure() != internalv1.FileFailure_FILE_FAILURE_BROKEN {
		t.Fatal(done)
	}
}

func TestGroups(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	created, err := n.CreateNetworkGroup(t.Context(), &simulatorv1.CreateNetworkGroupRequest{Subject: "Us", Members: []string{account, bert, carla}})
	if err != nil {
		t.Fatal(err)
	}
	group := created.GetGroup().GetAddress()
	id := l.send(group, text("hello all"))
	l.acked(id)
	members := map[string]bool{}
	for len(members) < 2 {
		receipt := l.receipt(id)
		if receipt.GetChat() != group || len(receipt.GetMembers()) == 0 {
			t.Fatal(receipt)
		}
		for _, member := range receipt.GetMembers() {
			members[member] = true
		}
	}
	if !members["phone:"+bert] || !members["phone:"+carla] {
		t.Fatal(members)
	}
	if _, err := n.InjectMessage(t.Context(), &simulatorv1.InjectMessageRequest{
		Phone: account, Sender: "phone:" + carla, Chat: group, Content: &simulatorv1.InjectMessageRequest_Text{Text: "hello account"},
	}); err != nil {
		t.Fatal(err)
	}
	got := until(l, incoming)
	if got.GetChat() != group || got.GetSender() != "phone:"+carla || got.GetContent().GetText().GetBody() != "hello account" {
		t.Fatal(got)
	}
}

func TestHowConnectionsEnd(t *testing.T) {
	for name, ending := range map[string]struct {
		kind simulatorv1.FaultKind
		why  internalv1.DeviceEnd
	}{
		"dropped":    {simulatorv1.FaultKind_FAULT_KIND_DROP_CONNECTION, internalv1.DeviceEnd_DEVICE_END_LOST},
		"logged out": {simulatorv1.FaultKind_FAULT_KIND_LOG_OUT, internalv1.DeviceEnd_DEVICE_END_LOGGED_OUT},
	} {
		t.Run(name, func(t *testing.T) {
			n, s, rows := world(t)
			l := s.open(rows)
			if _, err := n.InjectFault(t.Context(), &simulatorv1.InjectFaultRequest{Kind: ending.kind, Phone: account}); err != nil {
				t.Fatal(err)
			}
			if end := until(l, ended); end.GetEnd() != ending.why {
				t.Fatal(end)
			}
		})
	}
}

func TestALoginThatIsRefused(t *testing.T) {
	for name, ending := range map[string]struct {
		kind simulatorv1.FaultKind
		why  internalv1.DeviceEnd
	}{
		"an expired client": {simulatorv1.FaultKind_FAULT_KIND_EXPIRE_CLIENTS, internalv1.DeviceEnd_DEVICE_END_CLIENT_EXPIRED},
		"a ban":             {simulatorv1.FaultKind_FAULT_KIND_BAN, internalv1.DeviceEnd_DEVICE_END_BANNED},
		"try later":         {simulatorv1.FaultKind_FAULT_KIND_REFUSE_LOGINS, internalv1.DeviceEnd_DEVICE_END_REFUSED},
	} {
		t.Run(name, func(t *testing.T) {
			n, s, rows := world(t)
			if _, err := n.InjectFault(t.Context(), &simulatorv1.InjectFaultRequest{Kind: ending.kind, Phone: account}); err != nil {
				t.Fatal(err)
			}
			l := s.link(rows)
			l.reopen()
			if end := until(l, ended); end.GetEnd() != ending.why {
				t.Fatal(end)
			}
		})
	}
}

func TestASecondLoginReplacesTheFirst(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	s.open(l.stored())
	if end := until(l, ended); end.GetEnd() != internalv1.DeviceEnd_DEVICE_END_REPLACED {
		t.Fatal(end)
	}
}

func TestRowsThatAreNoDevice(t *testing.T) {
	_, s, rows := world(t)
	rows["login/device"] = rows["login/device"][:20]
	l := s.link(rows)
	l.reopen()
	if end := until(l, ended); end.GetEnd() != internalv1.DeviceEnd_DEVICE_END_STATE_UNUSABLE {
		t.Fatal(end)
	}
}

func TestNumbersAreAskedFor(t *testing.T) {
	n, s, rows := world(t)
	n.nobody("+491519999999")
	l := s.open(rows)
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Call{Call: &internalv1.DeviceCall{
		Sequence: 7, Call: &internalv1.DeviceCall_CheckNumbers{CheckNumbers: &internalv1.CheckNumbersCall{Phones: []string{bert, "+491519999999"}}},
	}}})
	answer := until(l, func(r *internalv1.RunResponse) (*internalv1.DeviceCallResult, bool) {
		return r.GetCallResult(), r.GetCallResult() != nil
	})
	if answer.GetSequence() != 7 || answer.GetError() != "" || len(answer.GetNumbers()) != 2 ||
		!answer.GetNumbers()[0].GetRegistered() || answer.GetNumbers()[0].GetIdentity().GetPhone() != bert || answer.GetNumbers()[1].GetRegistered() {
		t.Fatal(answer)
	}
}

func TestTheNetworkGivesASignOfLife(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Ping{Ping: &internalv1.PingNetwork{}}})
	until(l, func(r *internalv1.RunResponse) (bool, bool) { return true, r.GetHeard() != nil })
}

func TestAReceiptIsOfferedUntilItIsStored(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	id := l.send("phone:"+bert, text("hello"))
	l.receipt(id)
	taken := l.stored()
	l.close() // without ReceiptsStored
	next := s.open(taken)
	receipt := next.receipt(id)
	next.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_ReceiptsStored{ReceiptsStored: &internalv1.ReceiptsStored{Sequence: receipt.GetSequence()}}})
}

func TestAPairingThatAsksForThePasskey(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	if _, err := n.SetNetwork(t.Context(), &simulatorv1.SetNetworkRequest{PasskeyPhones: []string{account}}); err != nil {
		t.Fatal(err)
	}
	s := startNode(t, n)
	l := s.link(map[string][]byte{})
	l.pair("")
	qr := until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetQr(), r.GetPairingCode() != nil
	})
	if _, err := n.AcceptPairing(t.Context(), &simulatorv1.AcceptPairingRequest{Shown: &simulatorv1.AcceptPairingRequest_Qr{Qr: qr}, Phone: account}); err != nil {
		t.Fatal(err)
	}
	options := until(l, func(r *internalv1.RunResponse) ([]byte, bool) {
		return r.GetPasskeyRequest().GetOptions(), r.GetPasskeyRequest() != nil
	})
	if !bytes.Contains(options, []byte(`"challenge"`)) {
		t.Fatalf("%s", options)
	}
	var asked struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(options, &asked); err != nil {
		t.Fatal(err)
	}
	said, _ := json.Marshal(map[string]string{"type": "webauthn.get", "challenge": asked.Challenge, "origin": "https://web.whatsapp.com"})
	answer, _ := json.Marshal(map[string]any{
		"id": "a2V5", "rawId": "a2V5", "type": "public-key", "response": map[string]any{
			"clientDataJSON": base64.RawURLEncoding.EncodeToString(said), "authenticatorData": "AAAA", "signature": "AAAA", "userHandle": nil,
		},
	})
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_PasskeyAnswer{PasskeyAnswer: &internalv1.PasskeyAnswer{Credential: answer}}})
	until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPasskeyComparison().GetCode(), r.GetPasskeyComparison() != nil
	})
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_PasskeyConfirmation{PasskeyConfirmation: &internalv1.PasskeyConfirmation{}}})
	until(l, func(r *internalv1.RunResponse) (*internalv1.DevicePaired, bool) {
		return r.GetPaired(), r.GetPaired() != nil
	})
	until(l, ended)
	s.open(l.stored())
}

func TestAPasskeyThatIsNone(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	if _, err := n.SetNetwork(t.Context(), &simulatorv1.SetNetworkRequest{PasskeyPhones: []string{account}}); err != nil {
		t.Fatal(err)
	}
	l := startNode(t, n).link(map[string][]byte{})
	l.pair("")
	qr := until(l, func(r *internalv1.RunResponse) (string, bool) {
		return r.GetPairingCode().GetQr(), r.GetPairingCode() != nil
	})
	if _, err := n.AcceptPairing(t.Context(), &simulatorv1.AcceptPairingRequest{Shown: &simulatorv1.AcceptPairingRequest_Qr{Qr: qr}, Phone: account}); err != nil {
		t.Fatal(err)
	}
	until(l, func(r *internalv1.RunResponse) (bool, bool) { return true, r.GetPasskeyRequest() != nil })
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_PasskeyAnswer{PasskeyAnswer: &internalv1.PasskeyAnswer{Credential: []byte("no JSON")}}})
	if end := until(l, ended); end.GetEnd() != internalv1.DeviceEnd_DEVICE_END_PAIRING_REFUSED {
		t.Fatal(end)
	}
}

func TestThePhonesHistoryComesAsHistory(t *testing.T) {
	n := startNetwork(t)
	n.person(account, "The account")
	n.person(bert, "Bert")
	if _, err := n.SetNetwork(t.Context(), &simulatorv1.SetNetworkRequest{HistoryMessages: 30}); err != nil {
		t.Fatal(err)
	}
	s := startNode(t, n)
	l := s.open(s.paired(n, account))
	notice(l, func(n *internalv1.DeviceNotice) (bool, bool) { return true, n.GetChatSet().GetName() != "" }) // the chat comes first
	for range 30 {
		if got := until(l, incoming); !got.GetHistory() || got.GetContent().GetText().GetBody() == "" || got.GetChat() == "" {
			t.Fatal(got)
		}
	}
	n.write(account, bert, "new")
	for {
		got := until(l, incoming)
		if !got.GetHistory() {
			if got.GetContent().GetText().GetBody() != "new" {
				t.Fatal(got)
			}
			return
		}
	}
}

// What is wrong with one account's traffic is that account's alone.
func TestWhatTheNetworkDoesToOneDoesNotTouchOthers(t *testing.T) {
	for name, kind := range map[string]simulatorv1.FaultKind{
		"garbage":          simulatorv1.FaultKind_FAULT_KIND_GARBAGE,
		"a large frame":    simulatorv1.FaultKind_FAULT_KIND_LARGE_FRAME,
		"wrong signatures": simulatorv1.FaultKind_FAULT_KIND_WRONG_SIGNATURES,
		"endless history":  simulatorv1.FaultKind_FAULT_KIND_ENDLESS_HISTORY,
		"a stall":          simulatorv1.FaultKind_FAULT_KIND_STALL,
	} {
		t.Run(name, func(t *testing.T) {
			n, s, rows := world(t)
			n.person("+491510000009", "Another account")
			other := s.open(s.paired(n, "+491510000009"))
			l := s.open(rows)
			if _, err := n.InjectFault(t.Context(), &simulatorv1.InjectFaultRequest{Kind: kind, Phone: account, Duration: durationpb.New(patience)}); err != nil {
				t.Fatal(err)
			}
			l.send("phone:"+bert, text("from the one"))
			for i := range 3 {
				other.receipt(other.send("phone:"+bert, text(fmt.Sprint("from the other ", i))))
			}
			l.close()
		})
	}
}

func TestWithTheStreamEverythingCloses(t *testing.T) {
	n, s, rows := world(t)
	s.open(rows)
	_ = s.connection.Close()
	deadline := time.Now().Add(patience)
	for {
		stats, err := n.GetNetworkStats(t.Context(), &simulatorv1.GetNetworkStatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if stats.GetConnected() == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it is still connected")
		}
	}
}

func TestWhatIsQueuedDoesNotLeaveAfterClosing(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	l.receipt(l.send("phone:"+bert, text("hello")))
	for i := range 50 {
		l.send("phone:"+bert, text(fmt.Sprint(i)))
	}
	l.close()
	first, err := n.GetNetworkStats(t.Context(), &simulatorv1.GetNetworkStatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.open(l.stored()) // whatever was on its way is there before the new login
	second, err := n.GetNetworkStats(t.Context(), &simulatorv1.GetNetworkStatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if second.GetAccepted()-first.GetAccepted() > 1 { // one may have been in the network's hands
		t.Fatalf("%d left after closing", second.GetAccepted()-first.GetAccepted())
	}
}
