package content

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

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
