package content

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

const (
	// The highest score that the mesh counts.
	maxForwarded = 127
	// As many as the mesh keeps. Each may be a question to the node's database who that is.
	maxMentions = 256
)

// describe fills in what a message says beside its content.
func (r Reader) describe(out *internalv1.IncomingMessage, event *events.Message, context *waE2E.ContextInfo) {
	if context == nil {
		return
	}
	mentions, names := context.GetMentionedJID(), map[string]string{}
	for _, mention := range mentions[:min(len(mentions), maxMentions)] {
		if jid, err := types.ParseJID(mention); err == nil {
			if named := r.Phone(jid); named != "" {
				out.Mentions = append(out.Mentions, named)
				nameAs(names, jid, named)
			}
		}
	}
	rename(out.Content, names)
	rename(out.Edited, names)
	out.ForwardScore = min(context.GetForwardingScore(), maxForwarded)
	if out.ForwardScore == 0 && context.GetIsForwarded() {
		out.ForwardScore = 1
	}
	out.ExpireSeconds = context.GetExpiration()
	if context.GetStanzaID() == "" {
		return
	}
	reply := &internalv1.ReferredMessage{NetworkMessageId: utf8(context.GetStanzaID())}
	if sender, err := types.ParseJID(context.GetParticipant()); err == nil && context.GetParticipant() != "" && !r.isOwn(sender) {
		reply.Sender = r.Phone(sender)
	}
	reply.Chat = address.OfText(context.GetRemoteJID())
	if context.GetQuotedMessage() != nil && kindOf(context.GetQuotedMessage()) != "" {
		reply.Content = read(context.GetQuotedMessage(), false)
	}
	// An answer to buttons or a list names the message by what it quotes.
	switch out.Content.GetKind().(type) {
	case *sessionmeshv1.Content_Choice, *sessionmeshv1.Content_FormReply:
		out.Target = reply
	default:
		out.ReplyTo = reply
	}
}

// referred is a message that another one names by its key, which says whose it is as the other's writer sees it.
func (r Reader) referred(event *events.Message, key *waCommon.MessageKey) *internalv1.ReferredMessage {
	out := &internalv1.ReferredMessage{NetworkMessageId: utf8(key.GetID())}
	switch participant, err := types.ParseJID(key.GetParticipant()); {
	case key.GetFromMe():
		if !event.Info.IsFromMe {
			out.Sender = r.Phone(event.Info.Sender)
		}
	case key.GetParticipant() != "" && err == nil:
		if !r.isOwn(participant) {
			out.Sender = r.Phone(participant)
		}
	case event.Info.IsFromMe && !event.Info.IsGroup:
		out.Sender = r.Phone(event.Info.Chat)
	}
	return out
}

func (r Reader) isOwn(jid types.JID) bool {
	return jid.User != "" && (jid.User == r.Own.User || jid.User == r.OwnHidden.User)
}

// targetOf is the message that a reaction, a vote, an edit or a revocation is about.
func targetOf(message *waE2E.Message) *waCommon.MessageKey {
	switch {
	case message.GetReactionMessage() != nil:
		return message.GetReactionMessage().GetKey()
	case message.GetPollUpdateMessage() != nil:
		return message.GetPollUpdateMessage().GetPollCreationMessageKey()
	case message.GetProtocolMessage() != nil:
		return message.GetProtocolMessage().GetKey()
	}
	return nil
}

// Timer is how long the messages of a chat last, in seconds, as a message there says; false: it does not say.
func Timer(message *waE2E.Message) (seconds uint32, said bool) {
	if seconds, said = TimerSet(message); said {
		return seconds, true
	}
	seconds = contextOf(message).GetExpiration()
	return seconds, seconds > 0
}

// TimerSet is how long the messages of a chat are to last from now on, as a message there sets it; false: it sets nothing.
func TimerSet(message *waE2E.Message) (seconds uint32, sets bool) {
	protocol := message.GetProtocolMessage()
	return protocol.GetEphemeralExpiration(), protocol.GetType() == waE2E.ProtocolMessage_EPHEMERAL_SETTING
}

// contextOf is what a message says beside its content: every kind has it in a field of one name.
func contextOf(message *waE2E.Message) *waE2E.ContextInfo {
	message, _ = unwrapped(message, false)
	var found *waE2E.ContextInfo
	message.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() == nil || field.IsList() || field.IsMap() {
			return true
		}
		inner := field.Message().Fields().ByName("contextInfo")
		if inner == nil || inner.IsList() || !value.Message().Has(inner) {
			return true
		}
		found, _ = value.Message().Get(inner).Message().Interface().(*waE2E.ContextInfo)
		return found == nil
	})
	return found
}

// Secretive says whether what answers a message is encrypted with its secret.
func Secretive(message *waE2E.Message) bool {
	message, _ = unwrapped(message, false)
	return pollOf(message) != nil || message.GetEventMessage() != nil
}
