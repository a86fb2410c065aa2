package content

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// A Reader of one account's messages.
type Reader struct {
	// The account, by number and by hidden id.
	Own, OwnHidden types.JID
	// Phone returns the address of somebody by number where that is known, else by hidden id.
	Phone func(types.JID) string
}

// Read turns a message into the mesh's form, without its ids, its people, or the network's part of it; nil when it says
// nothing to anybody: keys, settings, notices between the account's devices.
func (r Reader) Read(event *events.Message) *internalv1.IncomingMessage {
	message, viewOnce := unwrapped(event.Message, event.IsViewOnce)
	comment := message.GetCommentMessage() // in a group of announcements, on one of them
	if comment.GetMessage() != nil {
		message, viewOnce = unwrapped(comment.GetMessage(), viewOnce)
	}
	if message == nil || silent(message) {
		return nil
	}
	out := &internalv1.IncomingMessage{Content: content(message, viewOnce)}
	if key := targetOf(message); key != nil {
		out.Target = r.referred(event, key)
	}
	if protocol := message.GetProtocolMessage(); protocol.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT && protocol.GetEditedMessage() != nil {
		out.Edited = read(protocol.GetEditedMessage(), false)
		r.describe(out, event, contextOf(protocol.GetEditedMessage()))
		return out
	}
	r.describe(out, event, contextOf(message))
	if comment.GetMessage() != nil {
		out.ReplyTo = r.referred(event, comment.GetTargetMessageKey())
	}
	for _, said := range []*waE2E.Message{event.Message, message} {
		if association := said.GetMessageContextInfo().GetMessageAssociation(); association.GetAssociationType() == waE2E.MessageAssociation_MEDIA_ALBUM {
			out.Album = association.GetParentMessageKey().GetID()
		}
	}
	if part := FileHolder(message); part != nil {
		out.File, _ = proto.Marshal(part)
	}
	return out
}

// content is what a message says.
func content(message *waE2E.Message, viewOnce bool) *sessionmeshv1.Content {
	switch protocol := message.GetProtocolMessage(); {
	case protocol != nil && protocol.GetType() == waE2E.ProtocolMessage_REVOKE && protocol.Type != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Revoked{Revoked: &sessionmeshv1.RevokedContent{}}}
	case protocol.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT:
		return unknown("edit", nil)
	case message.GetReactionMessage() != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Reaction{
			Reaction: &sessionmeshv1.ReactionContent{Emoji: utf8(message.GetReactionMessage().GetText())},
		}}
	}
	return read(message, viewOnce)
}

// read reads the kinds that stand alone and can be quoted.
func read(message *waE2E.Message, viewOnce bool) *sessionmeshv1.Content {
	message, viewOnce = unwrapped(message, viewOnce)
	if content := readFile(message, viewOnce); content != nil {
		return sane(content, message)
	}
	if content := readInteractive(message); content != nil {
		return sane(content, message)
	}
	if content := readPlain(message); content != nil {
		return sane(content, message)
	}
	raw, _ := proto.Marshal(message)
	return unknown(kindOf(message), raw)
}

// Unavailable is a message that cannot be shown.
func Unavailable(reason sessionmeshv1.UnavailableReason) *sessionmeshv1.Content {
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Unavailable{Unavailable: &sessionmeshv1.UnavailableContent{Reason: reason}}}
}

func unknown(kind string, raw []byte) *sessionmeshv1.Content {
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Unknown{Unknown: &sessionmeshv1.UnknownContent{Kind: kind, Raw: raw}}}
}

// sane mends texts that are none, which proto does not take: people read the rest. What cannot be serialised for another
// reason is kept as it came.
func sane(content *sessionmeshv1.Content, message *waE2E.Message) *sessionmeshv1.Content {
	if _, err := proto.Marshal(content); err == nil {
		return content
	}
	mend(content.ProtoReflect())
	if _, err := proto.Marshal(content); err == nil {
		return content
	}
	raw, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(message)
	return unknown(kindOf(message), raw)
}

// mend replaces what is no text in the texts of a message and of the messages in it.
func mend(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		text, nested := field.Kind() == protoreflect.StringKind, field.Message() != nil
		switch {
		case field.IsMap():
		case field.IsList() && text:
			for i, list := 0, value.List(); i < list.Len(); i++ {
				list.Set(i, protoreflect.ValueOfString(utf8(list.Get(i).String())))
			}
		case field.IsList() && nested:
			for i, list := 0, value.List(); i < list.Len(); i++ {
				mend(list.Get(i).Message())
			}
		case text:
			message.Set(field, protoreflect.ValueOfString(utf8(value.String())))
		case nested:
			mend(value.Message())
		}
		return true
	})
}

// silent says whether a message says nothing to people.
func silent(message *waE2E.Message) bool {
	if protocol := message.GetProtocolMessage(); protocol != nil {
		switch {
		case protocol.Type != nil && protocol.GetType() == waE2E.ProtocolMessage_REVOKE:
			return false
		case protocol.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT:
			return protocol.GetEditedMessage() == nil
		}
		return true
	}
	switch {
	case message.GetPinInChatMessage() != nil, message.GetKeepInChatMessage() != nil, message.GetEncEventResponseMessage() != nil,
		message.GetCallLogMesssage() != nil, message.GetCall() != nil, message.GetStickerSyncRmrMessage() != nil, message.GetRootSecretDistributeMessage() != nil,
		message.GetMessageHistoryNotice() != nil, message.GetMessageHistoryBundle() != nil, message.GetGroupRootKeyShare() != nil:
		return true
	}
	return kindOf(message) == ""
}

// kindOf is the network's name of what a message says; empty when that is nothing.
func kindOf(message *waE2E.Message) string {
	kind := ""
	message.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		switch field.Name() {
		case "messageContextInfo", "senderKeyDistributionMessage", "fastRatchetKeySenderKeyDistributionMessage":
			return true
		}
		kind = strings.TrimSuffix(string(field.Name()), "Message")
		return false
	})
	if kind == "" && len(message.ProtoReflect().GetUnknown()) > 0 {
		kind = "unknown"
	}
	return kind
}

// unwrapped takes a message out of what is around it. Envelopes all have one form, whatever they are called: there are new
// ones every few months, and the library knows some.
func unwrapped(message *waE2E.Message, viewOnce bool) (*waE2E.Message, bool) {
	for range 4 {
		inner, name := enveloped(message)
		if inner == nil {
			break
		}
		message, viewOnce = inner, viewOnce || strings.HasPrefix(name, "viewOnce")
	}
	return message, viewOnce
}

func enveloped(message *waE2E.Message) (inner *waE2E.Message, name string) {
	message.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() == nil || field.Message().FullName() != envelopeName {
			return true
		}
		envelope, _ := value.Message().Interface().(*waE2E.FutureProofMessage)
		inner, name = envelope.GetMessage(), string(field.Name())
		return inner == nil
	})
	return inner, name
}

var envelopeName = (&waE2E.FutureProofMessage{}).ProtoReflect().Descriptor().FullName()

// utf8 is a text without what is none: proto takes no other.
func utf8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
