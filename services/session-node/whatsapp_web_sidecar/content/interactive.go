package content

import (
	"encoding/json"
	"fmt"

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
