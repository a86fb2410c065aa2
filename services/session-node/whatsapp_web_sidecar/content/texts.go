package content

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

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

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
