package server_test

import (
	"bytes"
	"crypto/sha256"
	"maps"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

var lastFile atomic.Uint64

// of is what the sidecar says of one file.
func of(number uint64) func(*internalv1.RunResponse) (*internalv1.RunResponse, bool) {
	return func(r *internalv1.RunResponse) (*internalv1.RunResponse, bool) {
		return r, r.GetNext().GetFile() == number || r.GetPiece().GetFile() == number || r.GetFileDone().GetFile() == number
	}
}

func (l *link) begin(kind string) uint64 {
	number := lastFile.Add(1)
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Upload{Upload: &internalv1.UploadFile{File: number, Kind: kind}}})
	return number
}

func (l *link) upload(kind string, file []byte) *internalv1.StoredFile {
	l.t.Helper()
	return l.stow(kind, file).GetStored()
}

// stow stores a file in pieces, each once it is wanted.
func (l *link) stow(kind string, file []byte) *internalv1.FileDone {
	l.t.Helper()
	number := l.begin(kind)
	for {
		said := until(l, of(number))
		if done := said.GetFileDone(); done.GetFailure() != 0 {
			l.t.Fatal(done)
		} else if done != nil {
			return done
		}
		piece := file[:min(len(file), 100_000)]
		file = file[len(piece):]
		l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Piece{Piece: &internalv1.FilePiece{File: number, Data: piece}}})
	}
}

func (l *link) download(reference []byte) []byte {
	l.t.Helper()
	file, done := l.fetch(reference)
	if done.GetFailure() != 0 {
		l.t.Fatal(done)
	}
	return file
}

// fetch gives what came of a file, and how that ended.
func (l *link) fetch(reference []byte) ([]byte, *internalv1.FileDone) {
	l.t.Helper()
	number := lastFile.Add(1)
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Download{
		Download: &internalv1.DownloadFile{File: number, Reference: reference},
	}})
	var got []byte
	for {
		said := until(l, of(number))
		if said.GetPiece() == nil {
			return got, said.GetFileDone()
		}
		got = append(got, said.GetPiece().GetData()...)
		l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Next{Next: &internalv1.NextPiece{File: number}}})
	}
}

func TestAFileThatIsGivenUpLeavesTheOthers(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	number := l.begin("document")
	if said := until(l, of(number)); said.GetNext() == nil {
		t.Fatal(said)
	}
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_GiveUp{GiveUp: &internalv1.GiveUpFile{File: number}}})
	if done := until(l, of(number)).GetFileDone(); done.GetFailure() != internalv1.FileFailure_FILE_FAILURE_NOT_CONNECTED {
		t.Fatal(done)
	}
	if stored := l.upload("document", []byte("another")); stored.GetSizeBytes() != 7 {
		t.Fatal(stored)
	}
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
	_ = s.connection.Close() // the node dies
	maps.DeleteFunc(berts, func(key string, _ []byte) bool { return strings.HasPrefix(key, "prekey/") })
	next := startNode(t, n)
	device := next.open(berts)
	next.open(taken)
	references := map[string][]byte{}
	for len(references) < len(sent) {
		got := until(device, incoming)
		if kind := sent[got.GetNetworkMessageId()]; kind != "" && len(got.GetFile()) > 0 { // else what cannot be read
			references[kind] = got.GetFile()
		}
	}
	for kind, reference := range references {
		if file := device.download(reference); !bytes.Equal(file, []byte("the file of "+kind)) {
			t.Fatalf("%s: %q", kind, file)
		}
	}
}

// came is a document that Bert wrote with.
func (l *link) came(n *network, ref string, file []byte) *internalv1.IncomingMessage {
	l.t.Helper()
	sum := sha256.Sum256(file)
	n.say(account, bert, &simnetv1.Content{Kind: &simnetv1.Content_Blob{Blob: &simnetv1.Blob{
		Ref: ref, Sha256: sum[:], Size: uint64(len(file)), Mime: "text/plain", FileName: "a.txt", ShownAs: "document",
	}}})
	return until(l, incoming)
}

func TestAFileThatTheNetworkHasNoMoreIsAskedOfThePhone(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	file := bytes.Repeat([]byte("a file "), 100_000)
	came := l.came(n, n.put(file), file)
	if _, err := n.InjectFault(t.Context(), &simulatorv1.InjectFaultRequest{Kind: simulatorv1.FaultKind_FAULT_KIND_LOSE_FILES}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what the phone said is of one download, and the reference stays as it was
		if got := l.download(came.GetFile()); !bytes.Equal(got, file) {
			t.Fatalf("%d bytes", len(got))
		}
	}
	l.receipt(l.send("phone:"+bert, text("and the account goes on")))
}

func TestAFileThatThePhoneHasNoMoreIsGone(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	came := l.came(n, "nobody has it", []byte("gone"))
	if _, done := l.fetch(came.GetFile()); done.GetFailure() != internalv1.FileFailure_FILE_FAILURE_GONE {
		t.Fatal(done)
	}
	l.receipt(l.send("phone:"+bert, text("and the account goes on")))
}
