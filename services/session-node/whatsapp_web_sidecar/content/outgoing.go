// Package content turns what the mesh says into the network's messages, and back. Nobody else here knows either form.
package content

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// ErrUnsupported is a kind that the library cannot say; ErrInvalid one that it could, if it were not wrong.
var (
	ErrUnsupported = errors.New("the network has no messages of this kind")
	ErrInvalid     = errors.New("the message cannot be said")
)

// An Outgoing message, to be handed to the library.
type Outgoing struct {
	Message *waE2E.Message
	// What stands beside the message in its stanza.
	Beside []waBinary.Node
	// Of a poll: its answers, which votes name by their hashes.
	Answers []string
	// Of a vote: what the library encrypts it for.
	Vote *Vote
	// Where the network has its file; nil: it has none.
	File *internalv1.StoredFile
	// Of a status post: the addresses of who sees it.
	Audience []string
}

// A Vote on a poll.
type Vote struct {
	Poll    types.MessageInfo
	Answers []string
}

// A Writer of one account's messages to one chat.
type Writer struct {
	// The account, by number and by hidden id.
	Own, OwnHidden types.JID
	Chat           types.JID
	// What votes, answers, edits and, in groups of announcements, reactions to the message are encrypted with; the same on
	// every attempt. Without it nobody can react there.
	Secret []byte
	// Member returns a person's id as the chat has its members; nil: as it is.
	Member func(types.JID) types.JID
	// How long the chat's messages last, in seconds; 0: for good.
	Timer uint32
}

// person is a person's id as the chat's members know it: whom a group has by hidden id, phones find by no number there. They
// would show a quotation as their own, no reaction, and a mention as text.
func (w Writer) person(jid types.JID) types.JID {
	if w.Member == nil {
		return jid
	}
	return w.Member(jid)
}

// Write turns a message into the network's form.
func (w Writer) Write(message *internalv1.DeviceMessage) (*Outgoing, error) {
	content := w.named(message.GetRequest())
	out := &Outgoing{
		Message: &waE2E.Message{}, File: message.GetFile(),
		Audience: message.GetRequest().GetOptions().GetAudience().GetAddresses(),
	}
	context, err := w.context(message)
	if err != nil {
		return nil, err
	}
	file := fileOf(message.GetFile(), message.GetMedia())
	switch kind := content.GetKind().(type) {
	case *sessionmeshv1.Content_Reaction:
		key, err := w.key(message.GetTarget())
		if err != nil {
			return nil, err
		}
		out.Message.ReactionMessage = &waE2E.ReactionMessage{
			Key: key, Text: proto.String(kind.Reaction.GetEmoji()), SenderTimestampMS: proto.Int64(time.Now().UnixMilli()),
		}
	case *sessionmeshv1.Content_Revoked:
		key, err := w.key(message.GetTarget())
		if err != nil {
			return nil, err
		}
		out.Message.ProtocolMessage = &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: key}
	case *sessionmeshv1.Content_PollVote:
		return out, w.vote(out, message.GetTarget(), kind.PollVote)
	case *sessionmeshv1.Content_Choice:
		return out, w.choose(out.Message, message.GetTarget(), kind.Choice)
	case *sessionmeshv1.Content_Buttons:
		out.Beside = nativeFlow
		out.Message.InteractiveMessage, err = buttons(kind.Buttons, file, context)
	case *sessionmeshv1.Content_List:
		out.Beside = nativeFlow
		out.Message.InteractiveMessage = list(kind.List, context)
	case *sessionmeshv1.Content_Album:
		out.Message.AlbumMessage = &waE2E.AlbumMessage{
			ExpectedImageCount: proto.Uint32(uint32(kind.Album.GetImageCount())),
			ExpectedVideoCount: proto.Uint32(uint32(kind.Album.GetVideoCount())), ContextInfo: context,
		}
	case *sessionmeshv1.Content_LocationRequest:
		out.Beside = nativeFlow
		out.Message.InteractiveMessage = flow(context, "", kind.LocationRequest.GetBody(), "", button("send_location", map[string]any{}))
	default:
		err = say(out.Message, content, file, context)
	}
	if err != nil {
		return nil, err
	}
	if poll := out.Message.PollCreationMessage; poll != nil {
		out.Answers = content.GetPoll().GetAnswers()
	}
	if out.Message.ReactionMessage == nil && out.Message.ProtocolMessage == nil {
		out.Message.MessageContextInfo = &waE2E.MessageContextInfo{MessageSecret: w.Secret}
	}
	if message.GetAlbum() != nil {
		key, err := w.key(message.GetAlbum())
		if err != nil {
			return nil, err
		}
		out.Message.MessageContextInfo.MessageAssociation = &waE2E.MessageAssociation{
			AssociationType: waE2E.MessageAssociation_MEDIA_ALBUM.Enum(), ParentMessageKey: key,
		}
	}
	return out, nil
}

// say writes the kinds that can also be quoted.
func say(out *waE2E.Message, content *sessionmeshv1.Content, file *file, context *waE2E.ContextInfo) error {
	switch kind := content.GetKind().(type) {
	case *sessionmeshv1.Content_Text:
		text(out, kind.Text, context)
	case *sessionmeshv1.Content_Image, *sessionmeshv1.Content_Video, *sessionmeshv1.Content_Audio,
		*sessionmeshv1.Content_VoiceNote, *sessionmeshv1.Content_Document, *sessionmeshv1.Content_Sticker:
		sayFile(out, content, file, context)
	case *sessionmeshv1.Content_Location:
		out.LocationMessage = location(kind.Location, context)
	case *sessionmeshv1.Content_LiveLocation:
		out.LiveLocationMessage = liveLocation(kind.LiveLocation, context)
	case *sessionmeshv1.Content_ContactCards:
		cards(out, kind.ContactCards.GetCards(), context)
	case *sessionmeshv1.Content_Poll:
		out.PollCreationMessage = &waE2E.PollCreationMessage{
			Name: proto.String(kind.Poll.GetQuestion()), SelectableOptionsCount: proto.Uint32(uint32(max(kind.Poll.GetMaxChoices(), 0))),
			ContextInfo: context,
		}
		for _, answer := range kind.Poll.GetAnswers() {
			option := &waE2E.PollCreationMessage_Option{OptionName: proto.String(answer)}
			out.PollCreationMessage.Options = append(out.PollCreationMessage.Options, option)
		}
	case *sessionmeshv1.Content_GroupInvite:
		return invite(out, kind.GroupInvite, context)
	case *sessionmeshv1.Content_Appointment:
		out.EventMessage = appointment(kind.Appointment, context)
	default:
		return ErrUnsupported
	}
	return nil
}

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

func text(out *waE2E.Message, text *sessionmeshv1.TextContent, context *waE2E.ContextInfo) {
	preview, style := text.GetPreview(), text.GetStyle()
	if context == nil && preview == nil && style == nil {
		out.Conversation = proto.String(text.GetBody())
		return
	}
	out.ExtendedTextMessage = &waE2E.ExtendedTextMessage{Text: proto.String(text.GetBody()), ContextInfo: context}
	if preview != nil {
		out.ExtendedTextMessage.MatchedText = proto.String(preview.GetUrl())
		out.ExtendedTextMessage.Title = proto.String(preview.GetTitle())
		out.ExtendedTextMessage.Description = proto.String(preview.GetDescription())
		out.ExtendedTextMessage.JPEGThumbnail = preview.GetThumbnail()
	}
	if style != nil {
		out.ExtendedTextMessage.BackgroundArgb = argb(style.GetBackgroundColor())
		out.ExtendedTextMessage.TextArgb = argb(style.GetTextColor())
		out.ExtendedTextMessage.Font = fonts[style.GetFont()].Enum()
	}
}

// fonts are the network's typefaces; it shows none as the device's own.
var fonts = map[sessionmeshv1.TextFont]waE2E.ExtendedTextMessage_FontType{
	sessionmeshv1.TextFont_TEXT_FONT_SYSTEM:         waE2E.ExtendedTextMessage_SYSTEM,
	sessionmeshv1.TextFont_TEXT_FONT_SYSTEM_TEXT:    waE2E.ExtendedTextMessage_SYSTEM_TEXT,
	sessionmeshv1.TextFont_TEXT_FONT_SCRIPT:         waE2E.ExtendedTextMessage_FB_SCRIPT,
	sessionmeshv1.TextFont_TEXT_FONT_SYSTEM_BOLD:    waE2E.ExtendedTextMessage_SYSTEM_BOLD,
	sessionmeshv1.TextFont_TEXT_FONT_MORNING_BREEZE: waE2E.ExtendedTextMessage_MORNINGBREEZE_REGULAR,
	sessionmeshv1.TextFont_TEXT_FONT_CALISTOGA:      waE2E.ExtendedTextMessage_CALISTOGA_REGULAR,
	sessionmeshv1.TextFont_TEXT_FONT_EXO2:           waE2E.ExtendedTextMessage_EXO2_EXTRABOLD,
	sessionmeshv1.TextFont_TEXT_FONT_COURIER_PRIME:  waE2E.ExtendedTextMessage_COURIERPRIME_BOLD,
}

// argb is a color as the network has it, all of it opaque, from #RRGGBB.
func argb(color string) *uint32 {
	rgb, err := strconv.ParseUint(strings.TrimPrefix(color, "#"), 16, 24)
	if err != nil {
		return nil
	}
	return proto.Uint32(0xFF000000 | uint32(rgb))
}

func location(place *sessionmeshv1.LocationContent, context *waE2E.ContextInfo) *waE2E.LocationMessage {
	return &waE2E.LocationMessage{
		DegreesLatitude: proto.Float64(place.GetLatitude()), DegreesLongitude: proto.Float64(place.GetLongitude()),
		Name: optional(place.GetName()), Address: optional(place.GetStreetAddress()), URL: optional(place.GetUrl()),
		ContextInfo: context,
	}
}

func liveLocation(place *sessionmeshv1.LiveLocationContent, context *waE2E.ContextInfo) *waE2E.LiveLocationMessage {
	out := &waE2E.LiveLocationMessage{
		DegreesLatitude: proto.Float64(place.GetLatitude()), DegreesLongitude: proto.Float64(place.GetLongitude()),
		Caption: optional(place.GetCaption()), SequenceNumber: proto.Int64(time.Now().UnixMicro()), ContextInfo: context,
	}
	if place.Accuracy != nil {
		out.AccuracyInMeters = proto.Uint32(uint32(max(place.GetAccuracy(), 0)))
	}
	if place.Speed != nil {
		out.SpeedInMps = proto.Float32(float32(place.GetSpeed()))
	}
	if place.Heading != nil {
		out.DegreesClockwiseFromMagneticNorth = proto.Uint32(uint32(max(place.GetHeading(), 0)))
	}
	return out
}

func cards(out *waE2E.Message, cards []*sessionmeshv1.ContactCard, context *waE2E.ContextInfo) {
	contacts := make([]*waE2E.ContactMessage, len(cards))
	for i, card := range cards {
		contacts[i] = &waE2E.ContactMessage{DisplayName: proto.String(card.GetDisplayName()), Vcard: proto.String(card.GetVcard())}
	}
	if len(contacts) == 1 {
		out.ContactMessage = contacts[0]
		out.ContactMessage.ContextInfo = context
		return
	}
	out.ContactsArrayMessage = &waE2E.ContactsArrayMessage{
		DisplayName: proto.String(fmt.Sprintf("%d contacts", len(contacts))), Contacts: contacts, ContextInfo: context,
	}
}

func invite(out *waE2E.Message, invite *sessionmeshv1.GroupInviteContent, context *waE2E.ContextInfo) error {
	group, err := address.Parse(invite.GetGroup())
	if err != nil {
		return fmt.Errorf("%w: the group has no address", ErrInvalid)
	}
	out.GroupInviteMessage = &waE2E.GroupInviteMessage{
		GroupJID: proto.String(group.String()), InviteCode: proto.String(invite.GetCode()),
		GroupName: proto.String(invite.GetGroupName()), Caption: optional(invite.GetCaption()), ContextInfo: context,
	}
	if invite.GetExpireTime() != nil {
		out.GroupInviteMessage.InviteExpiration = proto.Int64(invite.GetExpireTime().GetSeconds())
	}
	return nil
}

func appointment(event *sessionmeshv1.AppointmentContent, context *waE2E.ContextInfo) *waE2E.EventMessage {
	out := &waE2E.EventMessage{
		Name: proto.String(event.GetName()), Description: optional(event.GetDescription()), JoinLink: optional(event.GetJoinUrl()),
		StartTime: proto.Int64(event.GetStartTime().GetSeconds()), IsCanceled: proto.Bool(event.GetCancelled()), ContextInfo: context,
	}
	if event.GetEndTime() != nil {
		out.EndTime = proto.Int64(event.GetEndTime().GetSeconds())
	}
	if event.GetLocation() != nil {
		out.Location = location(event.GetLocation(), nil)
	}
	return out
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
