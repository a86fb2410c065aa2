package content

import (
	"regexp"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/types"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// mentioned is how a text names somebody whom it mentions: by their id's number, which apps show as a name.
var mentioned = regexp.MustCompile(`@\d{5,20}`)

// renamed puts other numbers behind the @ of a text.
func renamed(text string, names map[string]string) string {
	return mentioned.ReplaceAllStringFunc(text, func(found string) string {
		if name, is := names[found[1:]]; is {
			return "@" + name
		}
		return found
	})
}

// rename does so in whatever text a content has.
func rename(content *sessionmeshv1.Content, names map[string]string) {
	if len(names) == 0 {
		return
	}
	switch kind := content.GetKind().(type) {
	case *sessionmeshv1.Content_Text:
		kind.Text.Body = renamed(kind.Text.GetBody(), names)
	case *sessionmeshv1.Content_Image:
		kind.Image.Caption = renamed(kind.Image.GetCaption(), names)
	case *sessionmeshv1.Content_Video:
		kind.Video.Caption = renamed(kind.Video.GetCaption(), names)
	case *sessionmeshv1.Content_Document:
		kind.Document.Caption = renamed(kind.Document.GetCaption(), names)
	case *sessionmeshv1.Content_Buttons:
		kind.Buttons.Body = renamed(kind.Buttons.GetBody(), names)
	case *sessionmeshv1.Content_List:
		kind.List.Body = renamed(kind.List.GetBody(), names)
	}
}

// named is a content in which those whom it mentions are named as the chat's members know them.
func (w Writer) named(request *sessionmeshv1.SendMessageRequest) *sessionmeshv1.Content {
	names := map[string]string{}
	for _, mention := range request.GetOptions().GetMentions() {
		if jid, err := address.Parse(mention); err == nil && w.person(jid).User != jid.User {
			names[jid.User] = w.person(jid).User
		}
	}
	if len(names) == 0 {
		return request.GetContent()
	}
	content := proto.CloneOf(request.GetContent())
	rename(content, names)
	return content
}

// nameAs notes how a text is to name somebody whom the network mentions by an id, and the mesh by an address.
func nameAs(names map[string]string, jid types.JID, mention string) {
	if number, is := strings.CutPrefix(mention, "phone:+"); is && number != jid.User {
		names[jid.User] = number
	}
}
