package content

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

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

func readPlain(message *waE2E.Message) *sessionmeshv1.Content {
	switch {
	case message.Conversation != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: message.GetConversation()}}}
	case message.ExtendedTextMessage != nil:
		said := message.ExtendedTextMessage
		text := &sessionmeshv1.TextContent{Body: said.GetText()}
		if said.GetMatchedText() != "" {
			text.Preview = &sessionmeshv1.LinkPreview{
				Url: said.GetMatchedText(), Title: said.GetTitle(), Description: said.GetDescription(), Thumbnail: said.GetJPEGThumbnail(),
			}
		}
		text.Style = styleOf(said)
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: text}}
	case message.LocationMessage != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Location{Location: place(message.LocationMessage)}}
	case message.LiveLocationMessage != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_LiveLocation{LiveLocation: livePlace(message.LiveLocationMessage)}}
	case message.ContactMessage != nil:
		return contactCards(message.ContactMessage)
	case message.ContactsArrayMessage != nil:
		return contactCards(message.ContactsArrayMessage.GetContacts()...)
	case pollOf(message) != nil:
		poll := pollOf(message)
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Poll{Poll: &sessionmeshv1.PollContent{
			Question: poll.GetName(), Answers: AnswersOf(message), MaxChoices: pixels(poll.GetSelectableOptionsCount()),
		}}}
	case message.PollUpdateMessage != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_PollVote{PollVote: &sessionmeshv1.PollVoteContent{}}}
	case message.GroupInviteMessage != nil:
		invite := message.GroupInviteMessage
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_GroupInvite{GroupInvite: &sessionmeshv1.GroupInviteContent{
			Group: address.OfText(invite.GetGroupJID()), Code: invite.GetInviteCode(), GroupName: invite.GetGroupName(),
			Caption: invite.GetCaption(), ExpireTime: instant(invite.GetInviteExpiration()),
		}}}
	case message.EventMessage != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Appointment{Appointment: event(message.EventMessage)}}
	case message.AlbumMessage != nil:
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Album{Album: &sessionmeshv1.AlbumContent{
			ImageCount: pixels(message.AlbumMessage.GetExpectedImageCount()), VideoCount: pixels(message.AlbumMessage.GetExpectedVideoCount()),
		}}}
	case message.ProductMessage != nil:
		product := message.ProductMessage.GetProduct()
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Product{Product: &sessionmeshv1.ProductContent{
			ProductId: product.GetRetailerID(), Title: product.GetTitle(), Body: message.ProductMessage.GetBody(),
			Footer: message.ProductMessage.GetFooter(), Price: money(product.GetCurrencyCode(), product.GetPriceAmount1000()),
		}}}
	case message.OrderMessage != nil:
		order := message.OrderMessage
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Order{Order: &sessionmeshv1.OrderContent{
			OrderId: order.GetOrderID(), Note: order.GetMessage(), Total: money(order.GetTotalCurrencyCode(), order.GetTotalAmount1000()),
		}}}
	case message.PlaceholderMessage != nil:
		return Unavailable(sessionmeshv1.UnavailableReason_UNAVAILABLE_REASON_PHONE_ONLY)
	}
	return nil
}

// styleOf is how a status post shows its text; nil for other texts.
func styleOf(said *waE2E.ExtendedTextMessage) *sessionmeshv1.TextStyle {
	if said.BackgroundArgb == nil {
		return nil
	}
	style := &sessionmeshv1.TextStyle{BackgroundColor: fmt.Sprintf("#%06X", said.GetBackgroundArgb()&0xFFFFFF)}
	if said.TextArgb != nil {
		style.TextColor = fmt.Sprintf("#%06X", said.GetTextArgb()&0xFFFFFF)
	}
	for font, theirs := range fonts {
		if said.Font != nil && theirs == said.GetFont() {
			style.Font = font
		}
	}
	return style
}

// Unavailable is a message that cannot be shown.
func Unavailable(reason sessionmeshv1.UnavailableReason) *sessionmeshv1.Content {
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Unavailable{Unavailable: &sessionmeshv1.UnavailableContent{Reason: reason}}}
}

func unknown(kind string, raw []byte) *sessionmeshv1.Content {
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Unknown{Unknown: &sessionmeshv1.UnknownContent{Kind: kind, Raw: raw}}}
}

// sane keeps a content that cannot be serialised, for texts that are none, as it came.
func sane(content *sessionmeshv1.Content, message *waE2E.Message) *sessionmeshv1.Content {
	if _, err := proto.Marshal(content); err == nil {
		return content
	}
	raw, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(message)
	return unknown(kindOf(message), raw)
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
	if protocol := message.GetProtocolMessage(); protocol.GetType() == waE2E.ProtocolMessage_EPHEMERAL_SETTING {
		return protocol.GetEphemeralExpiration(), true
	}
	seconds = contextOf(message).GetExpiration()
	return seconds, seconds > 0
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

func pollOf(message *waE2E.Message) *waE2E.PollCreationMessage {
	for _, poll := range []*waE2E.PollCreationMessage{
		message.GetPollCreationMessage(), message.GetPollCreationMessageV2(), message.GetPollCreationMessageV3(),
		message.GetPollCreationMessageV5(), message.GetPollCreationMessageV6(),
	} {
		if poll != nil {
			return poll
		}
	}
	return nil
}

// AnswersOf are a poll's answers; none: it is no poll.
func AnswersOf(message *waE2E.Message) []string {
	message, _ = unwrapped(message, false)
	var answers []string
	for _, option := range pollOf(message).GetOptions() {
		answers = append(answers, option.GetOptionName())
	}
	return answers
}

// Secretive says whether what answers a message is encrypted with its secret.
func Secretive(message *waE2E.Message) bool {
	message, _ = unwrapped(message, false)
	return pollOf(message) != nil || message.GetEventMessage() != nil
}

func place(said *waE2E.LocationMessage) *sessionmeshv1.LocationContent {
	return &sessionmeshv1.LocationContent{
		Latitude: proto.Float64(said.GetDegreesLatitude()), Longitude: proto.Float64(said.GetDegreesLongitude()),
		Name: said.GetName(), StreetAddress: said.GetAddress(), Url: said.GetURL(),
	}
}

func livePlace(said *waE2E.LiveLocationMessage) *sessionmeshv1.LiveLocationContent {
	out := &sessionmeshv1.LiveLocationContent{
		Latitude: proto.Float64(said.GetDegreesLatitude()), Longitude: proto.Float64(said.GetDegreesLongitude()),
		Caption: said.GetCaption(), Sequence: said.GetSequenceNumber(),
	}
	if said.AccuracyInMeters != nil {
		out.Accuracy = proto.Float64(float64(said.GetAccuracyInMeters()))
	}
	if said.SpeedInMps != nil {
		out.Speed = proto.Float64(float64(said.GetSpeedInMps()))
	}
	if said.DegreesClockwiseFromMagneticNorth != nil {
		out.Heading = proto.Float64(float64(said.GetDegreesClockwiseFromMagneticNorth()))
	}
	return out
}

func contactCards(contacts ...*waE2E.ContactMessage) *sessionmeshv1.Content {
	cards := make([]*sessionmeshv1.ContactCard, len(contacts))
	for i, contact := range contacts {
		cards[i] = &sessionmeshv1.ContactCard{DisplayName: contact.GetDisplayName(), Vcard: contact.GetVcard()}
	}
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_ContactCards{ContactCards: &sessionmeshv1.ContactCardsContent{Cards: cards}}}
}

func event(said *waE2E.EventMessage) *sessionmeshv1.AppointmentContent {
	out := &sessionmeshv1.AppointmentContent{
		Name: said.GetName(), Description: said.GetDescription(), JoinUrl: said.GetJoinLink(), Cancelled: said.GetIsCanceled(),
		StartTime: instant(said.GetStartTime()), EndTime: instant(said.GetEndTime()),
	}
	if said.GetLocation() != nil {
		out.Location = place(said.GetLocation())
	}
	return out
}

func money(currency string, amount int64) *sessionmeshv1.Money {
	if currency == "" {
		return nil
	}
	return &sessionmeshv1.Money{Currency: currency, Amount_1000: amount}
}

// instant is a time as the network counts it: seconds; 0: none. Nothing that is no time of ours.
func instant(seconds int64) *timestamppb.Timestamp {
	if seconds <= 0 || seconds > 253402300799 {
		return nil
	}
	return &timestamppb.Timestamp{Seconds: seconds}
}

// utf8 is a text without what is none: proto takes no other.
func utf8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// Voted is a vote: which of a poll's answers it chose, which it names by their hashes.
func Voted(answers []string, chosen [][]byte) *sessionmeshv1.Content {
	vote := &sessionmeshv1.PollVoteContent{}
	for _, answer := range answers {
		hash := sha256.Sum256([]byte(answer))
		if slices.ContainsFunc(chosen, func(choice []byte) bool { return bytes.Equal(choice, hash[:]) }) {
			vote.Answers = append(vote.Answers, answer)
		}
	}
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_PollVote{PollVote: vote}}
}
