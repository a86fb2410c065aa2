package content

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// comes is what the account reads of a message of the network.
func comes(message *waE2E.Message) *internalv1.IncomingMessage {
	event := &events.Message{RawMessage: message, Info: types.MessageInfo{ID: "A", MessageSource: types.MessageSource{Chat: own, Sender: own}}}
	return reader.Read(event.UnwrapRaw())
}

func photo() *waE2E.ImageMessage {
	return &waE2E.ImageMessage{Mimetype: proto.String("image/jpeg"), FileLength: proto.Uint64(7), DirectPath: proto.String("/v/1"), MediaKey: make([]byte, 32)}
}

// Photographs of better quality, motion photos and posts in groups are in envelopes of their own, and there are new ones every
// few months.
func TestAFileIsFetchedFromWhateverEnvelope(t *testing.T) {
	fields := (&waE2E.Message{}).ProtoReflect().Descriptor().Fields()
	envelopes := 0
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || field.Message().FullName() != envelopeName {
			continue
		}
		envelopes++
		message := &waE2E.Message{}
		inner := &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: photo()}}
		message.ProtoReflect().Set(field, protoreflect.ValueOfMessage(inner.ProtoReflect()))
		got := comes(message)
		if got.GetContent().GetImage() == nil || len(got.GetFile()) == 0 {
			t.Error(field.Name(), got)
		}
	}
	if envelopes < 20 {
		t.Fatal(envelopes)
	}
}

func TestWhatBusinessesWriteIsReadInEveryForm(t *testing.T) {
	reply := []*sessionmeshv1.Button{{Title: "Yes", Action: &sessionmeshv1.Button_ReplyId{ReplyId: "y"}}}
	buttons := []*waE2E.HydratedTemplateButton{{HydratedButton: &waE2E.HydratedTemplateButton_QuickReplyButton{
		QuickReplyButton: &waE2E.HydratedTemplateButton_HydratedQuickReplyButton{DisplayText: proto.String("Yes"), ID: proto.String("y")},
	}}}
	filled := func(change func(*waE2E.TemplateMessage_HydratedFourRowTemplate)) *waE2E.Message {
		template := &waE2E.TemplateMessage_HydratedFourRowTemplate{
			HydratedContentText: proto.String("Your order"), HydratedFooterText: proto.String("Shop"), HydratedButtons: buttons,
		}
		change(template)
		return &waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{HydratedTemplate: template}}
	}
	carousel := &waE2E.InteractiveMessage{
		Body:               &waE2E.InteractiveMessage_Body{Text: proto.String("Our offers")},
		InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{}},
	}
	for name, one := range map[string]struct {
		message *waE2E.Message
		want    *sessionmeshv1.Content
	}{
		"a template": {filled(func(*waE2E.TemplateMessage_HydratedFourRowTemplate) {}), &sessionmeshv1.Content{
			Kind: &sessionmeshv1.Content_Buttons{Buttons: &sessionmeshv1.ButtonsContent{Body: "Your order", Footer: "Shop", Buttons: reply}},
		}},
		"a template without buttons": {filled(func(t *waE2E.TemplateMessage_HydratedFourRowTemplate) { t.HydratedButtons = nil }), &sessionmeshv1.Content{
			Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "Your order\n\nShop"}},
		}},
		"a template that is interactive": {&waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{
			Format: &waE2E.TemplateMessage_InteractiveMessageTemplate{InteractiveMessageTemplate: carousel},
		}}, &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "Our offers"}}}},
		"a carousel": {&waE2E.Message{InteractiveMessage: carousel}, &sessionmeshv1.Content{
			Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "Our offers"}},
		}},
	} {
		if got := comes(one.message).GetContent(); !proto.Equal(got, one.want) {
			t.Errorf("%s: got %v\nwant %v", name, got, one.want)
		}
	}
	for name, message := range map[string]*waE2E.Message{
		"a template": filled(func(t *waE2E.TemplateMessage_HydratedFourRowTemplate) {
			t.Title = &waE2E.TemplateMessage_HydratedFourRowTemplate_ImageMessage{ImageMessage: photo()}
		}),
		"buttons": {ButtonsMessage: &waE2E.ButtonsMessage{
			Header:      &waE2E.ButtonsMessage_ImageMessage{ImageMessage: photo()},
			ContentText: proto.String("Your order"), FooterText: proto.String("Shop"),
		}},
		"an interactive message": {InteractiveMessage: &waE2E.InteractiveMessage{
			Header: &waE2E.InteractiveMessage_Header{Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: photo()}},
			Body:   &waE2E.InteractiveMessage_Body{Text: proto.String("Your order")}, Footer: &waE2E.InteractiveMessage_Footer{Text: proto.String("Shop")},
		}},
	} {
		got := comes(message)
		if got.GetContent().GetImage().GetCaption() != "Your order\n\nShop" || len(got.GetFile()) == 0 {
			t.Errorf("%s with a file above: %v", name, got)
		}
	}
}

func TestAQuotationAndAReactionNameTheirWriterAsTheGroupDoes(t *testing.T) {
	hidden := types.NewJID("900002", types.HiddenUserServer)
	group := Writer{
		Own: own, OwnHidden: writer.OwnHidden, Chat: types.NewJID("1203", types.GroupServer), Member: func(types.JID) types.JID { return hidden },
	}
	target := &internalv1.ReferredMessage{NetworkMessageId: "T", Sender: "phone:+491510000002"}
	answer := of(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "so?"}}})
	answer.ReplyTo = target
	written, err := group.Write(answer)
	if err != nil || written.Message.GetExtendedTextMessage().GetContextInfo().GetParticipant() != hidden.String() {
		t.Fatal(written, err)
	}
	reaction := of(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Reaction{Reaction: &sessionmeshv1.ReactionContent{Emoji: "👍"}}})
	reaction.Target = target
	written, err = group.Write(reaction)
	if err != nil || written.Message.GetReactionMessage().GetKey().GetParticipant() != hidden.String() {
		t.Fatal(written, err)
	}
}

func TestTheKeyOfACallIsNoMessage(t *testing.T) {
	if got := comes(&waE2E.Message{Call: &waE2E.Call{CallKey: []byte("key")}}); got != nil {
		t.Fatal(got)
	}
}

func TestOfATextThatIsNoneTheRestIsRead(t *testing.T) {
	bad := "hello \xff\xfe you"
	got := comes(&waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{
		Contacts: []*waE2E.ContactMessage{{DisplayName: &bad, Vcard: proto.String("BEGIN:VCARD")}},
	}})
	if name := got.GetContent().GetContactCards().GetCards()[0].GetDisplayName(); name != "hello \uFFFD you" {
		t.Fatal(got)
	}
	got = comes(&waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{
		Name: proto.String("Well?"), Options: []*waE2E.PollCreationMessage_Option{{OptionName: &bad}},
	}})
	if answers := got.GetContent().GetPoll().GetAnswers(); len(answers) != 1 || answers[0] != "hello \uFFFD you" {
		t.Fatal(got)
	}
	got = comes(&waE2E.Message{Conversation: &bad})
	if got.GetContent().GetText().GetBody() != "hello \uFFFD you" {
		t.Fatal(got)
	}
}
