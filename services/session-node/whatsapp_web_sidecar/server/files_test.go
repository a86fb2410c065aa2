package server_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

func (l *link) upload(kind string, file []byte) *internalv1.UploadFileResponse {
	l.t.Helper()
	upload, err := l.files.UploadFile(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	header := &internalv1.UploadFileHeader{Connection: l.number, Kind: kind}
	_ = upload.Send(&internalv1.UploadFileRequest{Piece: &internalv1.UploadFileRequest_Header{Header: header}})
	_ = upload.Send(&internalv1.UploadFileRequest{Piece: &internalv1.UploadFileRequest_Data{Data: file}})
	stored, err := upload.CloseAndRecv()
	if err != nil {
		l.t.Fatal(err)
	}
	return stored
}

// Every kind of file, as DeviceMessage has it.
var files = map[string]*sessionmeshv1.Content{
	"image":      {Kind: &sessionmeshv1.Content_Image{Image: &sessionmeshv1.ImageContent{Caption: "a picture"}}},
	"video":      {Kind: &sessionmeshv1.Content_Video{Video: &sessionmeshv1.VideoContent{}}},
	"audio":      {Kind: &sessionmeshv1.Content_Audio{Audio: &sessionmeshv1.AudioContent{}}},
	"voice_note": {Kind: &sessionmeshv1.Content_VoiceNote{VoiceNote: &sessionmeshv1.VoiceNoteContent{}}},
	"document":   {Kind: &sessionmeshv1.Content_Document{Document: &sessionmeshv1.DocumentContent{FileName: "a.txt", Caption: "a document"}}},
	"sticker":    {Kind: &sessionmeshv1.Content_Sticker{Sticker: &sessionmeshv1.StickerContent{}}},
}

// As above, with files: the next owner has them not in the node's messages, but in the rows of the device.
func TestTheNextOwnerSendsFilesAgainThatSomebodyCouldNotRead(t *testing.T) {
	n, s, rows := world(t)
	before := s.open(s.paired(n, bert)) // the network has its keys with its first login
	before.close()
	berts := before.stored()
	l := s.open(rows)
	sent := map[string]string{}
	for kind, content := range files {
		message := saying(content)
		message.File, message.Media = l.upload(kind, []byte("the file of "+kind)), &sessionmeshv1.Media{MimeType: "text/plain"}
		id := l.send("phone:"+bert, message)
		l.acked(id)
		sent[id] = kind
		message.File = nil // it is not kept with the message once that is sent
		stored, _ := proto.Marshal(message)
		sentMessages.Store(id, &internalv1.SendDeviceMessage{Recipient: "phone:" + bert, Message: stored})
	}
	taken := l.stored()
	s.cancel() // the node dies
	maps.DeleteFunc(berts, func(key string, _ []byte) bool { return strings.HasPrefix(key, "prekey/") })
	next := startNode(t, n)
	device := next.open(berts)
	next.open(taken)
	for len(sent) > 0 {
		got := until(device, incoming)
		kind := sent[got.GetNetworkMessageId()]
		if kind == "" || len(got.GetFile()) == 0 { // a placeholder of what cannot be read
			continue
		}
		if file := device.download(got.GetFile()); !bytes.Equal(file, []byte("the file of "+kind)) {
			t.Fatalf("%s: %q", kind, file)
		}
		delete(sent, got.GetNetworkMessageId())
	}
}
