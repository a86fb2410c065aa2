// Package content turns what people are made to write into WhatsApp's own messages, and tells which of those say the same.
package content

import (
	"errors"
	"fmt"
	"strings"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

const (
	// Raw is the kind of an Other whose body is a serialised message of WhatsApp's own.
	Raw = "whatsapp"
	// Call is the kind of an Other that is no message: the person calls. Its body is empty, or `video`.
	Call = "call"
)

// ErrKind says that people cannot write this kind of content.
var ErrKind = errors.New("people of this network cannot write this kind of content")

// Surroundings are what a content refers to.
type Surroundings struct {
	// Chat is the WhatsApp address of the conversation, and Sender that of who writes.
	Chat, Sender string
	// Address turns an address of ours into one of WhatsApp.
	Address func(address string) string
	// File is what a reference names, stored for the recipient. False: it is not stored, and its path leads nowhere.
	File func(ref, kind string) (Sealed, string)
}

// Message is the content as WhatsApp says it.
func Message(c *simnetv1.Content, s Surroundings) (*waE2E.Message, error) {
	context := contextOf(c.GetContext(), s)
	switch kind := c.GetKind().(type) {
	case *simnetv1.Content_Text:
		return words(kind.Text, c.GetContext(), context), nil
	case *simnetv1.Content_Blob:
		return file(kind.Blob, context, s)
	case *simnetv1.Content_Reaction:
		return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
			Key: key(kind.Reaction.GetId(), kind.Reaction.GetSender(), s), Text: &kind.Reaction.Emoji,
		}}, nil
	case *simnetv1.Content_Edit:
		var inner simnetv1.Content
		if err := proto.Unmarshal(kind.Edit.GetContent(), &inner); err != nil {
			return nil, fmt.Errorf("the new content of an edit: %w", err)
		}
		edited, err := Message(&inner, s)
		if err != nil {
			return nil, err
		}
		return &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{
			ProtocolMessage: &waE2E.ProtocolMessage{
				Key:  key(kind.Edit.GetId(), "", s),
				Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), EditedMessage: edited,
			},
		}}}, nil
	case *simnetv1.Content_Revoke:
		return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Key: key(kind.Revoke.GetId(), kind.Revoke.GetSender(), s), Type: waE2E.ProtocolMessage_REVOKE.Enum(),
		}}, nil
	case *simnetv1.Content_Other:
		return other(kind.Other, context)
	}
	return nil, ErrKind
}

func words(text string, c *simnetv1.Context, context *waE2E.ContextInfo) *waE2E.Message {
	preview := c.GetLinkPreview()
	if context == nil && preview == nil {
		return &waE2E.Message{Conversation: &text}
	}
	extended := &waE2E.ExtendedTextMessage{Text: &text, ContextInfo: context}
	if preview != nil {
		extended.MatchedText, extended.Title = &preview.Url, &preview.Title
		extended.Description, extended.JPEGThumbnail = &preview.Description, preview.Thumbnail
	}
	return &waE2E.Message{ExtendedTextMessage: extended}
}

// key names a message; without a sender one of the writer's own.
func key(id, sender string, s Surroundings) *waCommon.MessageKey {
	author := s.Sender
	if sender != "" {
		author = s.Address(sender)
	}
	k := &waCommon.MessageKey{RemoteJID: &s.Chat, ID: &id, FromMe: proto.Bool(author == s.Sender)}
	if strings.HasSuffix(s.Chat, "@g.us") {
		k.Participant = &author
	}
	return k
}

func contextOf(c *simnetv1.Context, s Surroundings) *waE2E.ContextInfo {
	if c == nil || (c.ReplyTo == "" && len(c.Mentions) == 0 && c.ExpireSeconds == 0 && !c.Forwarded &&
		c.ForwardScore == 0 && c.Album == "") {
		return nil
	}
	info := &waE2E.ContextInfo{}
	if c.ReplyTo != "" {
		info.StanzaID = &c.ReplyTo
		if c.ReplyToSender != "" {
			info.Participant = proto.String(s.Address(c.ReplyToSender))
		}
		info.QuotedMessage = &waE2E.Message{Conversation: proto.String("")}
		var quoted simnetv1.Content
		if len(c.Quoted) > 0 && proto.Unmarshal(c.Quoted, &quoted) == nil {
			if said, err := Message(&quoted, s); err == nil {
				info.QuotedMessage = said
			}
		}
	}
	for _, mention := range c.Mentions {
		info.MentionedJID = append(info.MentionedJID, s.Address(mention))
	}
	if c.ExpireSeconds > 0 {
		info.Expiration = &c.ExpireSeconds
	}
	if c.Forwarded || c.ForwardScore > 0 {
		info.IsForwarded = proto.Bool(true)
		info.ForwardingScore = proto.Uint32(max(c.ForwardScore, 1))
	}
	return info
}

func other(c *simnetv1.Other, context *waE2E.ContextInfo) (*waE2E.Message, error) {
	switch c.GetKind() {
	case Raw:
		var message waE2E.Message
		if err := proto.Unmarshal(c.GetBody(), &message); err != nil {
			return nil, err
		}
		return &message, nil
	case "location":
		var l sessionmeshv1.LocationContent
		if err := proto.Unmarshal(c.GetBody(), &l); err != nil {
			return nil, err
		}
		return &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: l.Latitude, DegreesLongitude: l.Longitude, Name: &l.Name, Address: &l.StreetAddress,
			URL: &l.Url, ContextInfo: context,
		}}, nil
	case "contact_cards":
		var cards sessionmeshv1.ContactCardsContent
		if err := proto.Unmarshal(c.GetBody(), &cards); err != nil {
			return nil, err
		}
		list := make([]*waE2E.ContactMessage, len(cards.GetCards()))
		for i, card := range cards.GetCards() {
			list[i] = &waE2E.ContactMessage{DisplayName: &card.DisplayName, Vcard: &card.Vcard}
		}
		if len(list) == 1 {
			list[0].ContextInfo = context
			return &waE2E.Message{ContactMessage: list[0]}, nil
		}
		return &waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{
			DisplayName: proto.String(fmt.Sprintf("%d contacts", len(list))), Contacts: list, ContextInfo: context,
		}}, nil
	case "poll":
		var poll sessionmeshv1.PollContent
		if err := proto.Unmarshal(c.GetBody(), &poll); err != nil {
			return nil, err
		}
		options := make([]*waE2E.PollCreationMessage_Option, len(poll.GetAnswers()))
		for i, answer := range poll.GetAnswers() {
			options[i] = &waE2E.PollCreationMessage_Option{OptionName: &answer}
		}
		return &waE2E.Message{PollCreationMessageV3: &waE2E.PollCreationMessage{
			Name: &poll.Question, Options: options, SelectableOptionsCount: proto.Uint32(uint32(poll.MaxChoices)),
			ContextInfo: context,
		}}, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrKind, c.GetKind())
}
