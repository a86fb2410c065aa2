package content

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"go.mau.fi/whatsmeow/proto/waE2E"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// file is what a message says of its file.
type file struct {
	stored *internalv1.StoredFile
	media  *sessionmeshv1.Media
}

func fileOf(stored *internalv1.StoredFile, media *sessionmeshv1.Media) *file {
	return &file{stored, media}
}

// sayFile writes a file's message; without a stored file only what is said of it, as where it is quoted.
func sayFile(out *waE2E.Message, content *sessionmeshv1.Content, f *file, context *waE2E.ContextInfo) {
	stored, media := f.stored, f.media
	var url, path, mime *string
	var size *uint64
	var keyTime *int64
	if stored != nil {
		url, path, size = optional(stored.GetUrl()), optional(stored.GetDirectPath()), proto.Uint64(stored.GetSizeBytes())
		keyTime = proto.Int64(stored.GetTime().GetSeconds())
	}
	mime = optional(media.GetMimeType())
	seconds := proto.Uint32(uint32(max(media.GetDuration().AsDuration().Round(time.Second).Seconds(), 0)))
	width, height := proto.Uint32(uint32(max(media.GetWidth(), 0))), proto.Uint32(uint32(max(media.GetHeight(), 0)))
	preview := media.GetThumbnail().GetPreview()
	switch kind := content.GetKind().(type) {
	case *sessionmeshv1.Content_Image:
		image := &waE2E.ImageMessage{
			URL: url, DirectPath: path, Mimetype: mime, FileLength: size, MediaKeyTimestamp: keyTime, MediaKey: stored.GetMediaKey(),
			FileSHA256: stored.GetSha256(), FileEncSHA256: stored.GetEncryptedSha256(), Width: width, Height: height,
			JPEGThumbnail: preview, Caption: optional(kind.Image.GetCaption()), ContextInfo: context,
		}
		if !kind.Image.GetViewOnce() {
			out.ImageMessage = image
			return
		}
		image.ViewOnce, image.JPEGThumbnail = proto.Bool(true), nil
		out.ViewOnceMessageV2 = &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: image}}
	case *sessionmeshv1.Content_Video:
		video := &waE2E.VideoMessage{
			URL: url, DirectPath: path, Mimetype: mime, FileLength: size, MediaKeyTimestamp: keyTime, MediaKey: stored.GetMediaKey(),
			FileSHA256: stored.GetSha256(), FileEncSHA256: stored.GetEncryptedSha256(), Width: width, Height: height, Seconds: seconds,
			JPEGThumbnail: preview, Caption: optional(kind.Video.GetCaption()), ContextInfo: context,
		}
		if kind.Video.GetGifPlayback() {
			video.GifPlayback = proto.Bool(true)
		}
		switch {
		case kind.Video.GetVideoNote():
			out.PtvMessage = video
		case kind.Video.GetViewOnce():
			video.ViewOnce, video.JPEGThumbnail = proto.Bool(true), nil
			out.ViewOnceMessageV2 = &waE2E.FutureProofMessage{Message: &waE2E.Message{VideoMessage: video}}
		default:
			out.VideoMessage = video
		}
	case *sessionmeshv1.Content_Audio, *sessionmeshv1.Content_VoiceNote:
		if media.GetMimeType() == "audio/ogg" || media.GetMimeType() == "audio/opus" {
			mime = proto.String("audio/ogg; codecs=opus") // iPhones play no other
		}
		audio := &waE2E.AudioMessage{
			URL: url, DirectPath: path, Mimetype: mime, FileLength: size, MediaKeyTimestamp: keyTime, MediaKey: stored.GetMediaKey(),
			FileSHA256: stored.GetSha256(), FileEncSHA256: stored.GetEncryptedSha256(), Seconds: seconds, ContextInfo: context,
		}
		note := content.GetVoiceNote()
		if note == nil {
			out.AudioMessage = audio
			return
		}
		audio.PTT, audio.Waveform = proto.Bool(true), note.GetWaveform()
		if len(audio.Waveform) == 0 {
			audio.Waveform = media.GetWaveform()
		}
		if !note.GetViewOnce() {
			out.AudioMessage = audio
			return
		}
		audio.ViewOnce = proto.Bool(true)
		out.ViewOnceMessageV2Extension = &waE2E.FutureProofMessage{Message: &waE2E.Message{AudioMessage: audio}}
	case *sessionmeshv1.Content_Document:
		name := kind.Document.GetFileName()
		if name == "" {
			name = media.GetFileName()
		}
		document := &waE2E.DocumentMessage{
			URL: url, DirectPath: path, Mimetype: mime, FileLength: size, MediaKeyTimestamp: keyTime, MediaKey: stored.GetMediaKey(),
			FileSHA256: stored.GetSha256(), FileEncSHA256: stored.GetEncryptedSha256(), FileName: optional(name), Title: optional(name),
			JPEGThumbnail: preview, Caption: optional(kind.Document.GetCaption()), ContextInfo: context,
		}
		if document.Caption == nil {
			out.DocumentMessage = document
			return
		}
		out.DocumentWithCaptionMessage = &waE2E.FutureProofMessage{Message: &waE2E.Message{DocumentMessage: document}}
	case *sessionmeshv1.Content_Sticker:
		out.StickerMessage = &waE2E.StickerMessage{
			URL: url, DirectPath: path, Mimetype: mime, FileLength: size, MediaKeyTimestamp: keyTime, MediaKey: stored.GetMediaKey(),
			FileSHA256: stored.GetSha256(), FileEncSHA256: stored.GetEncryptedSha256(), Width: width, Height: height,
			IsAnimated: proto.Bool(kind.Sticker.GetAnimated() || media.GetAnimated()), ContextInfo: context,
		}
	}
}

// sent is what all messages with a file have in common.
type sent interface {
	GetMimetype() string
	GetFileLength() uint64
	GetFileSHA256() []byte
}

// readFile fills in a kind of content that is a file, still to be fetched.
func readFile(message *waE2E.Message, viewOnce bool) *sessionmeshv1.Content {
	if above := fileAbove(message); above != nil {
		message = above
	}
	switch {
	case message.GetImageMessage() != nil:
		image := message.GetImageMessage()
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Image{Image: &sessionmeshv1.ImageContent{
			Media: pending(image), Caption: image.GetCaption(), ViewOnce: viewOnce || image.GetViewOnce(),
			Width: counted(image.GetWidth()), Height: counted(image.GetHeight()),
		}}}
	case message.GetVideoMessage() != nil, message.GetPtvMessage() != nil:
		video, note := message.GetVideoMessage(), false
		if video == nil {
			video, note = message.GetPtvMessage(), true
		}
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Video{Video: &sessionmeshv1.VideoContent{
			Media: pending(video), Caption: video.GetCaption(), ViewOnce: viewOnce || video.GetViewOnce(),
			GifPlayback: video.GetGifPlayback(), VideoNote: note, Duration: length(video.GetSeconds()),
			Width: counted(video.GetWidth()), Height: counted(video.GetHeight()),
		}}}
	case message.GetAudioMessage() != nil:
		audio := message.GetAudioMessage()
		if !audio.GetPTT() {
			return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Audio{Audio: &sessionmeshv1.AudioContent{
				Media: pending(audio), Duration: length(audio.GetSeconds()),
			}}}
		}
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_VoiceNote{VoiceNote: &sessionmeshv1.VoiceNoteContent{
			Media: pending(audio), Waveform: audio.GetWaveform(), Duration: length(audio.GetSeconds()),
			ViewOnce: viewOnce || audio.GetViewOnce(),
		}}}
	case message.GetDocumentMessage() != nil:
		document := message.GetDocumentMessage()
		name := document.GetFileName()
		if name == "" {
			name = document.GetTitle()
		}
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Document{Document: &sessionmeshv1.DocumentContent{
			Media: pending(document), FileName: utf8(name), Caption: document.GetCaption(),
		}}}
	case message.GetStickerMessage() != nil:
		sticker := message.GetStickerMessage()
		return &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Sticker{Sticker: &sessionmeshv1.StickerContent{
			Media: pending(sticker), Animated: sticker.GetIsAnimated() || sticker.GetIsLottie(),
		}}}
	}
	return nil
}

func pending(f sent) *sessionmeshv1.MediaReference {
	return &sessionmeshv1.MediaReference{
		MimeType: utf8(f.GetMimetype()), SizeBytes: int64(min(f.GetFileLength(), 1<<62)), Sha256: f.GetFileSHA256(),
		State: sessionmeshv1.MediaState_MEDIA_STATE_PENDING,
	}
}

// counted is a number that others wrote, as the mesh has numbers.
func counted(n uint32) int32 { return int32(min(n, 1<<31-1)) }

func length(seconds uint32) *durationpb.Duration {
	if seconds == 0 {
		return nil
	}
	return durationpb.New(time.Duration(seconds) * time.Second)
}

// FileHolder is the part of a message that has the file, alone, as IncomingMessage.file keeps it; nil: it has none.
func FileHolder(message *waE2E.Message) *waE2E.Message {
	if above := fileAbove(message); above != nil {
		message = above
	}
	part := &waE2E.Message{}
	switch {
	case message.GetImageMessage() != nil:
		part.ImageMessage = proto.CloneOf(message.ImageMessage)
		part.ImageMessage.JPEGThumbnail, part.ImageMessage.ContextInfo = nil, nil
	case message.GetVideoMessage() != nil:
		part.VideoMessage = proto.CloneOf(message.VideoMessage)
		part.VideoMessage.JPEGThumbnail, part.VideoMessage.ContextInfo = nil, nil
	case message.GetPtvMessage() != nil:
		part.PtvMessage = proto.CloneOf(message.PtvMessage)
		part.PtvMessage.JPEGThumbnail, part.PtvMessage.ContextInfo = nil, nil
	case message.GetAudioMessage() != nil:
		part.AudioMessage = proto.CloneOf(message.AudioMessage)
		part.AudioMessage.ContextInfo = nil
	case message.GetDocumentMessage() != nil:
		part.DocumentMessage = proto.CloneOf(message.DocumentMessage)
		part.DocumentMessage.JPEGThumbnail, part.DocumentMessage.ContextInfo = nil, nil
	case message.GetStickerMessage() != nil:
		part.StickerMessage = proto.CloneOf(message.StickerMessage)
		part.StickerMessage.PngThumbnail, part.StickerMessage.ContextInfo = nil, nil
	default:
		return nil
	}
	return part
}
