package content

import (
	"encoding/json"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// readInteractive reads buttons, lists and answers to them; nil for what is neither.
func readInteractive(message *waE2E.Message) *sessionmeshv1.Content {
	switch {
	case interactive(message) != nil:
		return readFlow(interactive(message))
	case template(message) != nil:
		return readTemplate(template(message))
	case message.GetButtonsMessage() != nil:
		content := &sessionmeshv1.ButtonsContent{
			Body: utf8(message.ButtonsMessage.GetContentText()), Footer: utf8(message.ButtonsMessage.GetFooterText()),
		}
		if header := message.ButtonsMessage.GetText(); header != "" {
			content.Header = &sessionmeshv1.InteractiveHeader{Kind: &sessionmeshv1.InteractiveHeader_Text{Text: header}}
		}
		for _, b := range message.ButtonsMessage.GetButtons() {
			content.Buttons = append(content.Buttons, &sessionmeshv1.Button{
				Title: b.GetButtonText().GetDisplayText(), Action: &sessionmeshv1.Button_ReplyId{ReplyId: b.GetButtonID()},
			})
		}
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Buttons{Buttons: content}}
	case message.GetListMessage() != nil && message.ListMessage.GetProductListInfo() == nil:
		content := &sessionmeshv1.ListContent{
			Header: message.ListMessage.GetTitle(), Body: message.ListMessage.GetDescription(),
			Footer: message.ListMessage.GetFooterText(), ButtonTitle: message.ListMessage.GetButtonText(),
		}
		for _, section := range message.ListMessage.GetSections() {
			read := &sessionmeshv1.ListSection{Title: section.GetTitle()}
			for _, row := range section.GetRows() {
				read.Rows = append(read.Rows, &sessionmeshv1.ListRow{ReplyId: row.GetRowID(), Title: row.GetTitle(), Description: row.GetDescription()})
			}
			content.Sections = append(content.Sections, read)
		}
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_List{List: content}}
	case message.GetButtonsResponseMessage() != nil:
		answer := message.GetButtonsResponseMessage()
		return choice(answer.GetSelectedButtonID(), answer.GetSelectedDisplayText(), "")
	case message.GetTemplateButtonReplyMessage() != nil:
		answer := message.GetTemplateButtonReplyMessage()
		return choice(answer.GetSelectedID(), answer.GetSelectedDisplayText(), "")
	case message.GetListResponseMessage() != nil:
		answer := message.GetListResponseMessage()
		return choice(answer.GetSingleSelectReply().GetSelectedRowID(), answer.GetTitle(), answer.GetDescription())
	case message.GetInteractiveResponseMessage().GetNativeFlowResponseMessage() != nil:
		return readAnswer(message.GetInteractiveResponseMessage())
	}
	return nil
}

func choice(id, title, description string) *sessionmeshv1.Content {
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Choice{Choice: &sessionmeshv1.ChoiceContent{
		ReplyId: utf8(id), Title: utf8(title), Description: utf8(description),
	}}}
}

func readFlow(message *waE2E.InteractiveMessage) *sessionmeshv1.Content {
	var shown []*sessionmeshv1.Button
	for _, b := range message.GetNativeFlowMessage().GetButtons() {
		if b.GetName() == "single_select" {
			var list flowList
			if json.Unmarshal([]byte(b.GetButtonParamsJSON()), &list) == nil {
				return readList(message, list)
			}
		}
		if b.GetName() == "send_location" {
			return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_LocationRequest{
				LocationRequest: &sessionmeshv1.LocationRequestContent{Body: message.GetBody().GetText()},
			}}
		}
		var said struct {
			Title string `json:"display_text"`
			ID    string `json:"id"`
			URL   string `json:"url"`
			Phone string `json:"phone_number"`
			Copy  string `json:"copy_code"`
		}
		if json.Unmarshal([]byte(b.GetButtonParamsJSON()), &said) != nil {
			continue
		}
		read := &sessionmeshv1.Button{Title: said.Title}
		switch b.GetName() {
		case "quick_reply":
			read.Action = &sessionmeshv1.Button_ReplyId{ReplyId: said.ID}
		case "cta_url":
			read.Action = &sessionmeshv1.Button_Url{Url: said.URL}
		case "cta_call":
			read.Action = &sessionmeshv1.Button_Phone{Phone: said.Phone}
		case "cta_copy":
			read.Action = &sessionmeshv1.Button_CopyText{CopyText: said.Copy}
		default:
			continue
		}
		shown = append(shown, read)
	}
	return shownWith(message.GetHeader().GetTitle(), message.GetBody().GetText(), message.GetFooter().GetText(), shown)
}

// shownWith is a text with its buttons, or alone where it has none that are known; nil: nothing is said.
func shownWith(title, body, footer string, shown []*sessionmeshv1.Button) *sessionmeshv1.Content {
	if len(shown) == 0 {
		said := paragraphs(title, body, footer)
		if said == "" {
			return nil
		}
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Text{Text: &sessionmeshv1.TextContent{Body: said}}}
	}
	content := &sessionmeshv1.ButtonsContent{Body: body, Footer: footer, Buttons: shown}
	if title != "" {
		content.Header = &sessionmeshv1.InteractiveHeader{Kind: &sessionmeshv1.InteractiveHeader_Text{Text: title}}
	}
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Buttons{Buttons: content}}
}

func paragraphs(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), "\n\n")
}

// interactive is what a business's message with buttons is in, templates too.
func interactive(message *waE2E.Message) *waE2E.InteractiveMessage {
	if inner := message.GetTemplateMessage().GetInteractiveMessageTemplate(); inner != nil {
		return inner
	}
	return message.GetInteractiveMessage()
}

// template is the older form of the same.
func template(message *waE2E.Message) *waE2E.TemplateMessage_HydratedFourRowTemplate {
	if filled := message.GetTemplateMessage().GetHydratedTemplate(); filled != nil {
		return filled
	}
	return message.GetTemplateMessage().GetHydratedFourRowTemplate()
}

func readTemplate(message *waE2E.TemplateMessage_HydratedFourRowTemplate) *sessionmeshv1.Content {
	var shown []*sessionmeshv1.Button
	for _, b := range message.GetHydratedButtons() {
		switch {
		case b.GetQuickReplyButton() != nil:
			shown = append(shown, &sessionmeshv1.Button{
				Title: b.GetQuickReplyButton().GetDisplayText(), Action: &sessionmeshv1.Button_ReplyId{ReplyId: b.GetQuickReplyButton().GetID()},
			})
		case b.GetUrlButton() != nil:
			shown = append(shown, &sessionmeshv1.Button{
				Title: b.GetUrlButton().GetDisplayText(), Action: &sessionmeshv1.Button_Url{Url: b.GetUrlButton().GetURL()},
			})
		case b.GetCallButton() != nil:
			shown = append(shown, &sessionmeshv1.Button{
				Title: b.GetCallButton().GetDisplayText(), Action: &sessionmeshv1.Button_Phone{Phone: b.GetCallButton().GetPhoneNumber()},
			})
		}
	}
	return shownWith(message.GetHydratedTitleText(), message.GetHydratedContentText(), message.GetHydratedFooterText(), shown)
}

// fileAbove is a message of the file above a text with buttons, which has the text as its caption; nil: there is none. The
// file is what can be got no other way, so the buttons give way to it.
func fileAbove(message *waE2E.Message) *waE2E.Message {
	var above interface {
		GetImageMessage() *waE2E.ImageMessage
		GetVideoMessage() *waE2E.VideoMessage
		GetDocumentMessage() *waE2E.DocumentMessage
	}
	var caption string
	switch said := message.GetButtonsMessage(); {
	case interactive(message) != nil:
		inner := interactive(message)
		above, caption = inner.GetHeader(), paragraphs(inner.GetHeader().GetTitle(), inner.GetBody().GetText(), inner.GetFooter().GetText())
	case template(message) != nil:
		above, caption = template(message), paragraphs(template(message).GetHydratedContentText(), template(message).GetHydratedFooterText())
	case said != nil:
		above, caption = said, paragraphs(said.GetContentText(), said.GetFooterText())
	default:
		return nil
	}
	switch {
	case above.GetImageMessage() != nil:
		image := proto.CloneOf(above.GetImageMessage())
		image.Caption = optional(caption)
		return &waE2E.Message{ImageMessage: image}
	case above.GetVideoMessage() != nil:
		video := proto.CloneOf(above.GetVideoMessage())
		video.Caption = optional(caption)
		return &waE2E.Message{VideoMessage: video}
	case above.GetDocumentMessage() != nil:
		document := proto.CloneOf(above.GetDocumentMessage())
		document.Caption = optional(caption)
		return &waE2E.Message{DocumentMessage: document}
	}
	return nil
}

func readList(message *waE2E.InteractiveMessage, list flowList) *sessionmeshv1.Content {
	content := &sessionmeshv1.ListContent{
		Header: message.GetHeader().GetTitle(), Body: message.GetBody().GetText(), Footer: message.GetFooter().GetText(),
		ButtonTitle: list.Title,
	}
	for _, section := range list.Sections {
		read := &sessionmeshv1.ListSection{Title: section.Title}
		for _, row := range section.Rows {
			read.Rows = append(read.Rows, &sessionmeshv1.ListRow{ReplyId: row.ID, Title: row.Title, Description: row.Description})
		}
		content.Sections = append(content.Sections, read)
	}
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_List{List: content}}
}

func readAnswer(message *waE2E.InteractiveResponseMessage) *sessionmeshv1.Content {
	answer := message.GetNativeFlowResponseMessage()
	var chosen struct {
		ID string `json:"id"`
	}
	if json.Unmarshal([]byte(answer.GetParamsJSON()), &chosen) == nil && chosen.ID != "" {
		return choice(chosen.ID, message.GetBody().GetText(), "")
	}
	form := answer.GetName()
	if form == "address_message" {
		form = "address"
	}
	return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_FormReply{FormReply: &sessionmeshv1.FormReplyContent{
		Form: utf8(form), Body: message.GetBody().GetText(), ResponseJson: utf8(answer.GetParamsJSON()),
	}}}
}
