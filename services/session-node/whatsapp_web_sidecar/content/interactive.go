package content

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// nativeFlow is what stands beside a message with buttons: without it phones show nothing.
var nativeFlow = []waBinary.Node{{Tag: "biz", Content: []waBinary.Node{{
	Tag: "interactive", Attrs: waBinary.Attrs{"type": "native_flow", "v": "1"},
	Content: []waBinary.Node{{Tag: "native_flow", Attrs: waBinary.Attrs{"v": "9", "name": "mixed"}}},
}}}}

type flowButton = waE2E.InteractiveMessage_NativeFlowMessage_NativeFlowButton

func button(name string, parameters map[string]any) *flowButton {
	encoded, err := json.Marshal(parameters)
	if err != nil {
		panic(err) // of texts and lists of them
	}
	return &flowButton{Name: proto.String(name), ButtonParamsJSON: proto.String(string(encoded))}
}

func flow(context *waE2E.ContextInfo, header, body, footer string, buttons ...*flowButton) *waE2E.InteractiveMessage {
	out := &waE2E.InteractiveMessage{
		Body: &waE2E.InteractiveMessage_Body{Text: proto.String(body)}, ContextInfo: context,
		InteractiveMessage: &waE2E.InteractiveMessage_NativeFlowMessage_{NativeFlowMessage: &waE2E.InteractiveMessage_NativeFlowMessage{
			Buttons: buttons, MessageVersion: proto.Int32(1),
		}},
	}
	if header != "" {
		out.Header = &waE2E.InteractiveMessage_Header{Title: proto.String(header), HasMediaAttachment: proto.Bool(false)}
	}
	if footer != "" {
		out.Footer = &waE2E.InteractiveMessage_Footer{Text: proto.String(footer)}
	}
	return out
}

func buttons(content *sessionmeshv1.ButtonsContent, f *file, context *waE2E.ContextInfo) (*waE2E.InteractiveMessage, error) {
	var shown []*flowButton
	for _, b := range content.GetButtons() {
		switch action := b.GetAction().(type) {
		case *sessionmeshv1.Button_ReplyId:
			shown = append(shown, button("quick_reply", map[string]any{"display_text": b.GetTitle(), "id": action.ReplyId}))
		case *sessionmeshv1.Button_Url:
			shown = append(shown, button("cta_url", map[string]any{"display_text": b.GetTitle(), "url": action.Url, "merchant_url": action.Url}))
		case *sessionmeshv1.Button_Phone:
			shown = append(shown, button("cta_call", map[string]any{"display_text": b.GetTitle(), "phone_number": action.Phone}))
		case *sessionmeshv1.Button_CopyText:
			shown = append(shown, button("cta_copy", map[string]any{"display_text": b.GetTitle(), "copy_code": action.CopyText}))
		default:
			return nil, fmt.Errorf("%w: a button does nothing", ErrInvalid)
		}
	}
	out := flow(context, content.GetHeader().GetText(), content.GetBody(), content.GetFooter(), shown...)
	return out, headerFile(out, content.GetHeader(), f)
}

// headerFile puts the file above the text.
func headerFile(out *waE2E.InteractiveMessage, header *sessionmeshv1.InteractiveHeader, f *file) error {
	message := &waE2E.Message{}
	switch header.GetKind().(type) {
	case *sessionmeshv1.InteractiveHeader_Image:
		sayFile(message, &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Image{Image: &sessionmeshv1.ImageContent{}}}, f, nil)
		out.Header = &waE2E.InteractiveMessage_Header{Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: message.ImageMessage}}
	case *sessionmeshv1.InteractiveHeader_Video:
		sayFile(message, &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Video{Video: &sessionmeshv1.VideoContent{}}}, f, nil)
		out.Header = &waE2E.InteractiveMessage_Header{Media: &waE2E.InteractiveMessage_Header_VideoMessage{VideoMessage: message.VideoMessage}}
	case *sessionmeshv1.InteractiveHeader_Document:
		sayFile(message, &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Document{Document: &sessionmeshv1.DocumentContent{}}}, f, nil)
		out.Header = &waE2E.InteractiveMessage_Header{Media: &waE2E.InteractiveMessage_Header_DocumentMessage{DocumentMessage: message.DocumentMessage}}
	default:
		return nil
	}
	if f.stored == nil {
		return fmt.Errorf("%w: the file above it is not stored", ErrInvalid)
	}
	out.Header.HasMediaAttachment = proto.Bool(true)
	return nil
}

// flowList is how a list stands in its button's parameters.
type flowList struct {
	Title    string        `json:"title"`
	Sections []flowSection `json:"sections"`
}

type flowSection struct {
	Title string    `json:"title"`
	Rows  []flowRow `json:"rows"`
}

type flowRow struct {
	Header      string `json:"header"`
	Title       string `json:"title"`
	Description string `json:"description"`
	ID          string `json:"id"`
}

func list(content *sessionmeshv1.ListContent, context *waE2E.ContextInfo) *waE2E.InteractiveMessage {
	sections := []flowSection{}
	for _, section := range content.GetSections() {
		rows := []flowRow{}
		for _, row := range section.GetRows() {
			rows = append(rows, flowRow{Title: row.GetTitle(), Description: row.GetDescription(), ID: row.GetReplyId()})
		}
		sections = append(sections, flowSection{section.GetTitle(), rows})
	}
	shown := button("single_select", map[string]any{"title": content.GetButtonTitle(), "sections": sections})
	return flow(context, content.GetHeader(), content.GetBody(), content.GetFooter(), shown)
}

// choose answers buttons or a list.
func (w Writer) choose(out *waE2E.Message, target *internalv1.ReferredMessage, choice *sessionmeshv1.ChoiceContent) error {
	context, err := w.context(&internalv1.DeviceMessage{ReplyTo: target})
	if err != nil || context == nil {
		return fmt.Errorf("%w: the message that it was chosen from is not known", ErrInvalid)
	}
	if target.GetContent().GetList() != nil {
		out.ListResponseMessage = &waE2E.ListResponseMessage{
			Title: proto.String(choice.GetTitle()), Description: optional(choice.GetDescription()), ContextInfo: context,
			ListType:          waE2E.ListResponseMessage_SINGLE_SELECT.Enum(),
			SingleSelectReply: &waE2E.ListResponseMessage_SingleSelectReply{SelectedRowID: proto.String(choice.GetReplyId())},
		}
		return nil
	}
	out.TemplateButtonReplyMessage = &waE2E.TemplateButtonReplyMessage{
		SelectedID: proto.String(choice.GetReplyId()), SelectedDisplayText: proto.String(choice.GetTitle()), ContextInfo: context,
	}
	return nil
}

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
