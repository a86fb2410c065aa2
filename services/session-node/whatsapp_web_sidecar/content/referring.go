package content

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// context is what stands beside a content; nil when there is nothing.
func (w Writer) context(message *internalv1.DeviceMessage) (*waE2E.ContextInfo, error) {
	options := message.GetRequest().GetOptions()
	context := &waE2E.ContextInfo{}
	used := false
	if reply := message.GetReplyTo(); reply.GetNetworkMessageId() != "" {
		used = true
		sender := w.person(w.Own.ToNonAD())
		if reply.GetSender() != "" {
			jid, err := address.Parse(reply.GetSender())
			if err != nil {
				return nil, fmt.Errorf("%w: who wrote the message that it answers has no address", ErrInvalid)
			}
			sender = w.person(jid)
		} else if w.Chat.Server == types.HiddenUserServer {
			sender = w.OwnHidden.ToNonAD()
		}
		context.StanzaID = proto.String(reply.GetNetworkMessageId())
		context.Participant = proto.String(sender.String())
		context.QuotedMessage = quoted(reply.GetContent())
		if chat, err := address.Parse(reply.GetChat()); err == nil && chat != w.Chat && reply.GetChat() != "" {
			context.RemoteJID = proto.String(chat.String())
		}
	}
	for _, mention := range options.GetMentions() {
		jid, err := address.Parse(mention)
		if err != nil {
			return nil, fmt.Errorf("%w: %s cannot be mentioned", ErrInvalid, mention)
		}
		used = true
		context.MentionedJID = append(context.MentionedJID, w.person(jid).String())
	}
	after := w.Timer
	if asked := options.GetDisappearAfter().GetSeconds(); asked > 0 {
		after = uint32(asked)
	}
	if after > 0 {
		used = true
		context.Expiration = proto.Uint32(after)
	}
	if score := options.GetForwardScore(); score > 0 {
		used = true
		context.ForwardingScore, context.IsForwarded = proto.Uint32(uint32(score)), proto.Bool(true)
	}
	if !used {
		return nil, nil
	}
	return context, nil
}

// quoted is a message as an answer to it shows it; an empty text where it is not known, or cannot be shown.
func quoted(content *sessionmeshv1.Content) *waE2E.Message {
	out := &waE2E.Message{}
	if say(out, content, &file{}, nil) != nil {
		out.Conversation = proto.String("")
	}
	return out
}

// key names another message of the chat.
func (w Writer) key(target *internalv1.ReferredMessage) (*waCommon.MessageKey, error) {
	if target.GetNetworkMessageId() == "" {
		return nil, fmt.Errorf("%w: the message that it is about is not known", ErrInvalid)
	}
	key := &waCommon.MessageKey{
		RemoteJID: proto.String(w.Chat.String()), FromMe: proto.Bool(true), ID: proto.String(target.GetNetworkMessageId()),
	}
	if target.GetSender() == "" {
		return key, nil
	}
	sender, err := address.Parse(target.GetSender())
	if err != nil {
		return nil, fmt.Errorf("%w: who wrote the message that it is about has no address", ErrInvalid)
	}
	if sender.User == w.Own.User || sender.User == w.OwnHidden.User {
		return key, nil
	}
	key.FromMe = proto.Bool(false)
	if !address.IsPerson(w.Chat) {
		key.Participant = proto.String(w.person(sender).String())
	}
	return key, nil
}

func (w Writer) vote(out *Outgoing, poll *internalv1.ReferredMessage, vote *sessionmeshv1.PollVoteContent) error {
	key, err := w.key(poll)
	if err != nil {
		return err
	}
	info := types.MessageInfo{ID: poll.GetNetworkMessageId(), MessageSource: types.MessageSource{
		Chat: w.Chat, IsFromMe: key.GetFromMe(), IsGroup: w.Chat.Server == types.GroupServer, Sender: w.Own.ToNonAD(),
	}}
	if w.Chat.Server == types.HiddenUserServer {
		info.Sender = w.OwnHidden.ToNonAD()
	}
	if !key.GetFromMe() {
		info.Sender, _ = address.Parse(poll.GetSender())
		info.Sender = w.person(info.Sender)
	}
	out.Vote = &Vote{Poll: info, Answers: vote.GetAnswers()}
	return nil
}
