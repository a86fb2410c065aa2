package content

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

var (
	own    = types.NewJID("491510000001", types.DefaultUserServer)
	bert   = types.NewJID("491510000002", types.DefaultUserServer)
	writer = Writer{Own: own, OwnHidden: types.NewJID("900001", types.HiddenUserServer), Chat: bert, Secret: []byte("secret")}
	reader = Reader{Own: bert, Phone: address.Of}
	stored = &internalv1.StoredFile{DirectPath: "/v/1", MediaKey: make([]byte, 32), Sha256: []byte{1}, EncryptedSha256: []byte{2}, SizeBytes: 7}
	media  = &sessionmeshv1.Media{
		MimeType: "image/jpeg", Width: proto.Int32(4), Height: proto.Int32(3), Duration: durationpb.New(5 * time.Second),
		Thumbnail: &sessionmeshv1.Thumbnail{Preview: []byte{9}},
	}
	whole = &sessionmeshv1.MediaReference{
		MimeType: "image/jpeg", SizeBytes: 7, Sha256: []byte{1}, State: sessionmeshv1.MediaState_MEDIA_STATE_PENDING,
	}
)

// across is what somebody reads who gets a message.
func across(t *testing.T, message *internalv1.DeviceMessage) *internalv1.IncomingMessage {
	t.Helper()
	written, err := writer.Write(message)
	if err != nil {
		t.Fatal(err)
	}
	event := &events.Message{RawMessage: written.Message, Info: types.MessageInfo{ID: "A", MessageSource: types.MessageSource{Chat: own, Sender: own}}}
	return reader.Read(event.UnwrapRaw())
}

func of(content *sessionmeshv1.Content) *internalv1.DeviceMessage {
	return &internalv1.DeviceMessage{Request: &sessionmeshv1.SendMessageRequest{Content: content}, File: stored, Media: media}
}

func TestEveryKindIsReadAsItWasWritten(t *testing.T) {
	at := &timestamppb.Timestamp{Seconds: 1_800_000_000}
	for _, content := range []*sessionmeshv1.Content{
		{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "hello\x00 ☀"}}},
		{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "https://a.example", Preview: &sessionmeshv1.LinkPreview{
			Url: "https://a.example", Title: "A", Description: "B", Thumbnail: []byte{1},
		}}}},
		{Kind: &sessionmeshv1.Content_Image{Image: &sessionmeshv1.ImageContent{Media: whole, Caption: "c", Width: 4, Height: 3}}},
		{Kind: &sessionmeshv1.Content_Image{Image: &sessionmeshv1.ImageContent{Media: whole, ViewOnce: true, Width: 4, Height: 3}}},
		{Kind: &sessionmeshv1.Content_Video{Video: &sessionmeshv1.VideoContent{Media: whole, GifPlayback: true, Duration: durationpb.New(5 * time.Second), Width: 4, Height: 3}}},
		{Kind: &sessionmeshv1.Content_Video{Video: &sessionmeshv1.VideoContent{Media: whole, VideoNote: true, Duration: durationpb.New(5 * time.Second), Width: 4, Height: 3}}},
		{Kind: &sessionmeshv1.Content_Video{Video: &sessionmeshv1.VideoContent{Media: whole, ViewOnce: true, Duration: durationpb.New(5 * time.Second), Width: 4, Height: 3}}},
		{Kind: &sessionmeshv1.Content_Audio{Audio: &sessionmeshv1.AudioContent{Media: whole, Duration: durationpb.New(5 * time.Second)}}},
		{Kind: &sessionmeshv1.Content_VoiceNote{VoiceNote: &sessionmeshv1.VoiceNoteContent{Media: whole, Waveform: []byte{1, 2}, Duration: durationpb.New(5 * time.Second)}}},
		{Kind: &sessionmeshv1.Content_VoiceNote{VoiceNote: &sessionmeshv1.VoiceNoteContent{Media: whole, Waveform: []byte{1, 2}, Duration: durationpb.New(5 * time.Second), ViewOnce: true}}},
		{Kind: &sessionmeshv1.Content_Document{Document: &sessionmeshv1.DocumentContent{Media: whole, FileName: "a.txt", Caption: "c"}}},
		{Kind: &sessionmeshv1.Content_Sticker{Sticker: &sessionmeshv1.StickerContent{Media: whole, Animated: true}}},
		{Kind: &sessionmeshv1.Content_Location{Location: &sessionmeshv1.LocationContent{Latitude: proto.Float64(1), Longitude: proto.Float64(-2), Name: "n", StreetAddress: "s", Url: "https://u.example"}}},
		{Kind: &sessionmeshv1.Content_ContactCards{ContactCards: &sessionmeshv1.ContactCardsContent{Cards: []*sessionmeshv1.ContactCard{{DisplayName: "A", Vcard: "v"}}}}},
		{Kind: &sessionmeshv1.Content_ContactCards{ContactCards: &sessionmeshv1.ContactCardsContent{Cards: []*sessionmeshv1.ContactCard{{DisplayName: "A"}, {DisplayName: "B"}}}}},
		{Kind: &sessionmeshv1.Content_Poll{Poll: &sessionmeshv1.PollContent{Question: "q", Answers: []string{"a", "b"}, MaxChoices: 1}}},
		{Kind: &sessionmeshv1.Content_Buttons{Buttons: &sessionmeshv1.ButtonsContent{
			Body: "b", Footer: "f", Header: &sessionmeshv1.InteractiveHeader{Kind: &sessionmeshv1.InteractiveHeader_Text{Text: "h"}},
			Buttons: []*sessionmeshv1.Button{
				{Title: "1", Action: &sessionmeshv1.Button_ReplyId{ReplyId: "one"}}, {Title: "2", Action: &sessionmeshv1.Button_Url{Url: "https://u.example"}},
				{Title: "3", Action: &sessionmeshv1.Button_Phone{Phone: "+4915"}}, {Title: "4", Action: &sessionmeshv1.Button_CopyText{CopyText: "c"}},
			},
		}}},
		{Kind: &sessionmeshv1.Content_List{List: &sessionmeshv1.ListContent{
			Body: "b", Footer: "f", Header: "h", ButtonTitle: "t",
			Sections: []*sessionmeshv1.ListSection{{Title: "s", Rows: []*sessionmeshv1.ListRow{{ReplyId: "r", Title: "t", Description: "d"}}}},
		}}},
		{Kind: &sessionmeshv1.Content_GroupInvite{GroupInvite: &sessionmeshv1.GroupInviteContent{Group: "group:1203", Code: "c", GroupName: "g", Caption: "x", ExpireTime: at}}},
		{Kind: &sessionmeshv1.Content_Appointment{Appointment: &sessionmeshv1.AppointmentContent{
			Name: "n", Description: "d", StartTime: at, EndTime: at, JoinUrl: "https://j.example", Cancelled: true,
			Location: &sessionmeshv1.LocationContent{Latitude: proto.Float64(1), Longitude: proto.Float64(2)},
		}}},
		{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "news", Style: &sessionmeshv1.TextStyle{
			BackgroundColor: "#00FF7F", TextColor: "#000000", Font: sessionmeshv1.TextFont_TEXT_FONT_EXO2,
		}}}},
		{Kind: &sessionmeshv1.Content_Album{Album: &sessionmeshv1.AlbumContent{ImageCount: 2, VideoCount: 1}}},
		{Kind: &sessionmeshv1.Content_LocationRequest{LocationRequest: &sessionmeshv1.LocationRequestContent{Body: "where?"}}},
	} {
		if got := across(t, of(content)); !proto.Equal(got.GetContent(), content) {
			t.Errorf("got %v\nwant %v", got.GetContent(), content)
		}
	}
}

func TestWhatIsAboutAnotherMessage(t *testing.T) {
	target := &internalv1.ReferredMessage{NetworkMessageId: "T", Chat: "phone:+491510000002", Sender: "phone:+491510000002"}
	for _, content := range []*sessionmeshv1.Content{
		{Kind: &sessionmeshv1.Content_Reaction{Reaction: &sessionmeshv1.ReactionContent{Emoji: "👍"}}},
		{Kind: &sessionmeshv1.Content_Choice{Choice: &sessionmeshv1.ChoiceContent{ReplyId: "r", Title: "t"}}},
	} {
		got := across(t, &internalv1.DeviceMessage{Request: of(content).Request, Target: target})
		if !proto.Equal(got.GetContent(), content) || got.GetTarget().GetNetworkMessageId() != "T" || got.GetTarget().GetSender() != "" {
			t.Errorf("%v", got) // whoever reads it wrote the other one
		}
	}
	mine := &internalv1.ReferredMessage{NetworkMessageId: "T"}
	got := across(t, &internalv1.DeviceMessage{Request: of(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Revoked{Revoked: &sessionmeshv1.RevokedContent{}}}).Request, Target: mine})
	if got.GetContent().GetRevoked() == nil || got.GetTarget().GetSender() != "phone:+491510000001" {
		t.Errorf("%v", got)
	}
}

func TestAPartOfAnAlbumNamesTheAlbum(t *testing.T) {
	part := of(&sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Image{Image: &sessionmeshv1.ImageContent{Media: whole}}})
	part.Album = &internalv1.ReferredMessage{NetworkMessageId: "T"}
	if got := across(t, part); got.GetAlbum() != "T" || got.GetContent().GetImage() == nil {
		t.Errorf("%v", got)
	}
}

func TestWhatStandsBesideAContent(t *testing.T) {
	quoted := &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "before"}}}
	got := across(t, &internalv1.DeviceMessage{
		Request: &sessionmeshv1.SendMessageRequest{
			Content: &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: "@491510000003"}}},
			Options: &sessionmeshv1.MessageOptions{
				Mentions: []string{"phone:+491510000003", "hidden:77"}, ForwardScore: 5, DisappearAfter: durationpb.New(24 * time.Hour),
			},
		},
		ReplyTo: &internalv1.ReferredMessage{NetworkMessageId: "Q", Sender: "phone:+491510000003", Content: quoted},
	})
	if len(got.GetMentions()) != 2 || got.GetMentions()[1] != "hidden:77" || got.GetForwardScore() != 5 || got.GetExpireSeconds() != 86400 ||
		got.GetReplyTo().GetNetworkMessageId() != "Q" || got.GetReplyTo().GetSender() != "phone:+491510000003" || !proto.Equal(got.GetReplyTo().GetContent(), quoted) {
		t.Error(got)
	}
}

func TestAnEditSaysWhatItReplaces(t *testing.T) {
	edit := &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: &waCommon.MessageKey{ID: proto.String("E"), FromMe: proto.Bool(true)},
		EditedMessage: &waE2E.Message{Conversation: proto.String("better")},
	}}}}
	got := reader.Read((&events.Message{RawMessage: edit, Info: types.MessageInfo{MessageSource: types.MessageSource{Chat: own, Sender: own}}}).UnwrapRaw())
	if got.GetTarget().GetNetworkMessageId() != "E" || got.GetEdited().GetText().GetBody() != "better" {
		t.Error(got)
	}
}

func TestWhatIsNotKnownKeepsItsBytes(t *testing.T) {
	payment := &waE2E.Message{RequestPaymentMessage: &waE2E.RequestPaymentMessage{CurrencyCodeIso4217: proto.String("EUR")}}
	got := reader.Read((&events.Message{RawMessage: payment}).UnwrapRaw())
	var kept waE2E.Message
	unknown := got.GetContent().GetUnknown()
	if unknown.GetKind() != "requestPayment" || proto.Unmarshal(unknown.GetRaw(), &kept) != nil || !proto.Equal(&kept, payment) {
		t.Error(got)
	}
}

func TestWhatSaysNothingToPeople(t *testing.T) {
	for _, message := range []*waE2E.Message{
		{}, {SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}},
		{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum()}},
		{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum()}},
		{PinInChatMessage: &waE2E.PinInChatMessage{}},
	} {
		if got := reader.Read((&events.Message{RawMessage: message}).UnwrapRaw()); got != nil {
			t.Errorf("%v: %v", message, got)
		}
	}
}

func TestAVoteNamesItsAnswers(t *testing.T) {
	first, second := hashOf("a"), hashOf("nothing of it")
	vote := Voted([]string{"a", "b"}, [][]byte{first, second}).GetPollVote()
	if len(vote.GetAnswers()) != 1 || vote.GetAnswers()[0] != "a" {
		t.Error(vote)
	}
}

func TestWhatTheLibraryCannotSay(t *testing.T) {
	for _, content := range []*sessionmeshv1.Content{
		nil, {}, {Kind: &sessionmeshv1.Content_Template{Template: &sessionmeshv1.TemplateContent{}}},
		{Kind: &sessionmeshv1.Content_ProductList{ProductList: &sessionmeshv1.ProductListContent{}}},
		{Kind: &sessionmeshv1.Content_Flow{Flow: &sessionmeshv1.FlowContent{}}},
	} {
		if _, err := writer.Write(of(content)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v", content, err)
		}
	}
}

func hashOf(answer string) []byte {
	hash := sha256.Sum256([]byte(answer))
	return hash[:]
}

func TestNoMorePeopleAreLookedUpThanAMessageMayMention(t *testing.T) {
	crowd := make([]string, 100_000)
	for i := range crowd {
		crowd[i] = fmt.Sprintf("%d@lid", i+1)
	}
	asked := 0
	counting := Reader{Own: bert, Phone: func(jid types.JID) string { asked++; return address.Of(jid) }}
	read := counting.Read(&events.Message{Message: &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: proto.String("everybody"), ContextInfo: &waE2E.ContextInfo{MentionedJID: crowd},
	}}})
	if asked != maxMentions || len(read.GetMentions()) != maxMentions {
		t.Fatal(asked, len(read.GetMentions()))
	}
}

func TestSoundsSayTheirCodecAsPhonesWantIt(t *testing.T) {
	for _, content := range []*sessionmeshv1.Content{
		{Kind: &sessionmeshv1.Content_VoiceNote{VoiceNote: &sessionmeshv1.VoiceNoteContent{}}},
		{Kind: &sessionmeshv1.Content_Audio{Audio: &sessionmeshv1.AudioContent{}}},
	} {
		message := of(content)
		message.Media = &sessionmeshv1.Media{MimeType: "audio/ogg"}
		written, err := writer.Write(message)
		if err != nil || written.Message.GetAudioMessage().GetMimetype() != "audio/ogg; codecs=opus" {
			t.Error(written, err)
		}
	}
}
