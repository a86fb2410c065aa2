package content

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow/proto/waE2E"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

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
			Question: poll.GetName(), Answers: AnswersOf(message), MaxChoices: counted(poll.GetSelectableOptionsCount()),
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
			ImageCount: counted(message.AlbumMessage.GetExpectedImageCount()), VideoCount: counted(message.AlbumMessage.GetExpectedVideoCount()),
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
