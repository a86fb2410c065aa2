// Package content turns what the mesh says into the network's messages, and back. Nobody else here knows either form.
package content

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
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
