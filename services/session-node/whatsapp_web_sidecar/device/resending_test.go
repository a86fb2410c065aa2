package device

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

var (
	bert       = types.NewJID("491510000002", types.DefaultUserServer)
	bertHidden = types.NewJID("9491510000002", types.HiddenUserServer)
	carla      = types.NewJID("491510000003", types.DefaultUserServer)
)

// kept are the rows that a node has of the account.
type kept map[string][]byte

func (k kept) Read(context.Context, []string, []string) (map[string][]byte, error) { return k, nil }
func (kept) Write([]rows.Change) <-chan bool                                       { return nil }

// answering is what the library asks for messages, and a node that answers each time the same.
func answering(t *testing.T, answer *internalv1.MessageRead) sentBefore {
	t.Helper()
	var d *Device
	d = newDevice(1, "acc_1", nil, func(said *internalv1.RunResponse) bool {
		if asked := said.GetReadMessage(); asked != nil {
			answer.Sequence = asked.GetSequence()
			d.MessageRead(answer)
		}
		return true
	})
	t.Cleanup(d.cancel)
	d.store = rows.New("acc_1", kept{})
	own := types.NewJID("491510000001", types.DefaultUserServer)
	d.client = whatsmeow.NewClient(&store.Device{ID: &own, IdentityKey: keys.NewKeyPair()}, d.log)
	return sentBefore{nil, d}
}

func hello(t *testing.T) []byte {
	t.Helper()
	encoded, err := proto.Marshal(&internalv1.DeviceMessage{Request: &sessionmeshv1.SendMessageRequest{
		Content: &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "hello"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestAMessageIsRememberedForItsChatByEitherName(t *testing.T) {
	for name, chats := range map[string][2]types.JID{
		"as it was sent":    {bert, bertHidden},
		"by the other name": {bertHidden, bert},
	} {
		remembered := answering(t, &internalv1.MessageRead{Recipient: "phone:+491510000002", Message: hello(t)})
		format, encoded, err := remembered.GetOutgoingEvent(t.Context(), chats[0], chats[1], "3EB0")
		var message waE2E.Message
		if err != nil || format != "wa" || proto.Unmarshal(encoded, &message) != nil || message.GetConversation() != "hello" ||
			len(message.GetMessageContextInfo().GetMessageSecret()) == 0 {
			t.Fatal(name, format, err, &message)
		}
	}
}

func TestAMessageThatWentToAnotherNumberIsRememberedForThatOne(t *testing.T) {
	remembered := answering(t, &internalv1.MessageRead{Recipient: "phone:+5511987654321", Message: hello(t)})
	before := types.NewJID("551187654321", types.DefaultUserServer)
	remembered.device.store = rows.New("acc_1", kept{"peer/5511987654321/lid": []byte("9"), "peer/9_1/pn": []byte(before.User)})
	if _, encoded, err := remembered.GetOutgoingEvent(t.Context(), before, types.EmptyJID, "3EB0"); err != nil || encoded == nil {
		t.Fatal(err)
	}
}

func TestAMessageToSomebodyElseIsNotHandedOver(t *testing.T) {
	for name, asking := range map[string]types.JID{"a person": carla, "a group": types.NewJID("1", types.GroupServer)} {
		remembered := answering(t, &internalv1.MessageRead{Recipient: "phone:+491510000002", Message: hello(t)})
		_, encoded, err := remembered.GetOutgoingEvent(t.Context(), asking, types.EmptyJID, "3EB0")
		if !errors.Is(err, errNotKept) || encoded != nil {
			t.Fatal(name, encoded, err)
		}
	}
}

func TestAMessageThatIsGoneIsNotAskedForForEver(t *testing.T) {
	remembered := answering(t, &internalv1.MessageRead{})
	_, _, err := remembered.GetOutgoingEvent(t.Context(), bert, types.EmptyJID, "3EB0")
	if !errors.Is(err, errNotKept) || errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// The library acknowledges a request after any other error: nobody would ask again.
func TestARequestForAMessageThatCannotBeReadStaysWithTheNetwork(t *testing.T) {
	remembered := answering(t, &internalv1.MessageRead{Failed: true})
	if _, _, err := remembered.GetOutgoingEvent(t.Context(), bert, types.EmptyJID, "3EB0"); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
