package device

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

var newsletter = types.NewJID("120363", types.NewsletterServer)

func TestAPostThatWasTakenBackSaysSo(t *testing.T) {
	node := &waBinary.Node{Tag: "message", Attrs: waBinary.Attrs{"from": newsletter, "id": "P1", "edit": "8"}, Content: []waBinary.Node{
		{Tag: "plaintext"}, {Tag: "meta"},
	}}
	(&Device{}).seeChannels(node)
	said := node.GetChildByTag("plaintext")
	var message waE2E.Message
	if err := proto.Unmarshal(said.Content.([]byte), &message); err != nil || message.GetProtocolMessage().GetKey().GetID() != "P1" {
		t.Fatal(err, &message)
	}
	if _, kept := node.GetOptionalChildByTag("meta"); !kept {
		t.Error("the rest of the stanza is gone")
	}
}

func TestWhatIsOfNoChannelIsLeftAsItCame(t *testing.T) {
	for _, node := range []*waBinary.Node{
		{Tag: "message", Attrs: waBinary.Attrs{"from": types.NewJID("1", types.DefaultUserServer), "id": "P1", "edit": "8"}},
		{Tag: "message", Attrs: waBinary.Attrs{"from": newsletter, "id": "P1"}},
		{Tag: "message"},
		{Tag: "notification", Attrs: waBinary.Attrs{"type": "mex"}, Content: []waBinary.Node{{Tag: "update", Content: []byte("{")}, {Tag: "update"}}},
	} {
		content := node.Content
		(&Device{}).seeChannels(node)
		if content == nil && node.Content != nil {
			t.Error("changed", node)
		}
	}
}

func TestAnEditAndATakingBackNameThePostAndHaveIDsOfTheirOwn(t *testing.T) {
	said := &events.Message{
		Info:           types.MessageInfo{ID: "P1"},
		NewsletterMeta: &events.NewsletterMessageMeta{EditTS: time.UnixMilli(42)},
	}
	edit := &internalv1.IncomingMessage{Chat: "channel:1", Sender: "channel:1", NetworkMessageId: "P1", Content: &sessionmeshv1.Content{
		Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "right"}},
	}}
	ofPost(said, edit)
	if edit.GetNetworkMessageId() != "P1-42" || edit.GetTarget().GetNetworkMessageId() != "P1" || edit.GetEdited().GetText().GetBody() != "right" {
		t.Error(edit)
	}
	gone := &internalv1.IncomingMessage{Chat: "channel:1", Sender: "channel:1", NetworkMessageId: "P1", Content: &sessionmeshv1.Content{
		Kind: &sessionmeshv1.Content_Revoked{Revoked: &sessionmeshv1.RevokedContent{}},
	}}
	ofPost(said, gone)
	if gone.GetNetworkMessageId() != "P1-revoked" || gone.GetTarget().GetSender() != "channel:1" || gone.GetEdited() != nil {
		t.Error(gone)
	}
}

func TestChangesThatTheLibraryDoesNotReadNameTheirChannel(t *testing.T) {
	for body, channel := range map[string]types.JID{
		`{"data":{"xwa2_notify_newsletter_on_metadata_update":{"id":"120363@newsletter"}}}`: newsletter,
		`{"data":{"xwa2_notify_newsletter_on_state_change":{"id":"120363@newsletter"}}}`:    newsletter,
		`{"data":{"xwa2_notify_newsletter_on_join":{"id":"120363@newsletter"}}}`:            types.EmptyJID,
		`{"data":[]}`: types.EmptyJID,
		`{`:           types.EmptyJID,
	} {
		if found := channelChanged([]byte(body)); found != channel {
			t.Error(body, found)
		}
	}
}

func TestOldPostsAreForgotten(t *testing.T) {
	var known posts
	for number := 1; number <= maxKnownPosts+1; number++ {
		known.remember(newsletter, types.MessageID(time.UnixMilli(int64(number)).String()), number)
	}
	if len(known.numbers) != maxKnownPosts || len(known.order) != maxKnownPosts {
		t.Error(len(known.numbers), len(known.order))
	}
	if known.number(newsletter, time.UnixMilli(1).String()) != 0 || known.number(newsletter, time.UnixMilli(2).String()) != 2 {
		t.Error("not the oldest one is gone")
	}
}
