package content

import (
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
)

// file is a message with a file.
func file(b *simnetv1.Blob, context *waE2E.ContextInfo, s Surroundings) (*waE2E.Message, error) {
	kind := map[string]string{
		"": "Image", "image": "Image", "sticker": "Image", "video": "Video", "video_note": "Video", "audio": "Audio",
		"voice_note": "Audio", "document": "Document",
	}[b.GetShownAs()]
	if kind == "" {
		return nil, ErrKind
	}
	sealed, path := s.File(b.GetRef(), kind)
	url := "https://mmg.whatsapp.net" + path
	seconds := proto.Uint32(b.GetDurationMs() / 1000)
	viewOnce := proto.Bool(b.GetViewOnce())
	switch b.GetShownAs() {
	case "", "image":
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			URL: &url, DirectPath: &path, MediaKey: sealed.Key, FileEncSHA256: sealed.SumEnc, FileSHA256: sealed.Sum,
			FileLength: &sealed.Size, Mimetype: &b.Mime, Caption: &b.Caption, Width: &b.Width, Height: &b.Height,
			JPEGThumbnail: b.Thumbnail, ViewOnce: viewOnce, ContextInfo: context,
		}}, nil
	case "video", "video_note":
		video := &waE2E.VideoMessage{
			URL: &url, DirectPath: &path, MediaKey: sealed.Key, FileEncSHA256: sealed.SumEnc, FileSHA256: sealed.Sum,
			FileLength: &sealed.Size, Mimetype: &b.Mime, Caption: &b.Caption, Width: &b.Width, Height: &b.Height,
			Seconds: seconds, JPEGThumbnail: b.Thumbnail, ViewOnce: viewOnce, GifPlayback: &b.GifPlayback,
			ContextInfo: context,
		}
		if b.GetShownAs() == "video_note" {
			return &waE2E.Message{PtvMessage: video}, nil
		}
		return &waE2E.Message{VideoMessage: video}, nil
	case "audio", "voice_note":
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{
			URL: &url, DirectPath: &path, MediaKey: sealed.Key, FileEncSHA256: sealed.SumEnc, FileSHA256: sealed.Sum,
			FileLength: &sealed.Size, Mimetype: &b.Mime, Seconds: seconds, PTT: proto.Bool(b.GetShownAs() == "voice_note"),
			Waveform: b.Waveform, ViewOnce: viewOnce, ContextInfo: context,
		}}, nil
	case "document":
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
			URL: &url, DirectPath: &path, MediaKey: sealed.Key, FileEncSHA256: sealed.SumEnc, FileSHA256: sealed.Sum,
			FileLength: &sealed.Size, Mimetype: &b.Mime, FileName: &b.FileName, Caption: &b.Caption,
			JPEGThumbnail: b.Thumbnail, ContextInfo: context,
		}}, nil
	}
	return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
		URL: &url, DirectPath: &path, MediaKey: sealed.Key, FileEncSHA256: sealed.SumEnc, FileSHA256: sealed.Sum,
		FileLength: &sealed.Size, Mimetype: &b.Mime, Width: &b.Width, Height: &b.Height, IsAnimated: &b.Animated,
		ContextInfo: context,
	}}, nil
}
