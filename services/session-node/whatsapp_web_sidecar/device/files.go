package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

var (
	// ErrNotConnected is a connection that has ended.
	ErrNotConnected = errors.New("the connection has ended")
	// ErrFileGone is a file that neither the network nor the phone has.
	ErrFileGone = errors.New("the network has the file no more")
	// ErrFileRefused is a file that the network does not take.
	ErrFileRefused = errors.New("the network refuses the file")
	// ErrFileBroken is one that is not what the message says.
	ErrFileBroken = errors.New("the bytes are not the message's")
)

// How long the phone may take to store a file with the network again.
const phoneTimeout = 30 * time.Second

var mediaTypes = map[string]whatsmeow.MediaType{
	"image": whatsmeow.MediaImage, "sticker": whatsmeow.MediaImage, "video": whatsmeow.MediaVideo, "audio": whatsmeow.MediaAudio,
	"voice_note": whatsmeow.MediaAudio, "document": whatsmeow.MediaDocument,
}

// Upload encrypts a file and stores it with the network. The encrypted bytes lie in a file without a name meanwhile.
// For a post in a channel they are not encrypted.
func (d *Device) Upload(ctx context.Context, kind string, channel bool, file io.Reader) (stored *internalv1.StoredFile, err error) {
	err = ErrNotConnected
	d.contain(func() { stored, err = d.upload(ctx, kind, channel, file) })
	return stored, err
}

func (d *Device) upload(ctx context.Context, kind string, channel bool, file io.Reader) (*internalv1.StoredFile, error) {
	client := d.loggedIn()
	if client == nil {
		return nil, ErrNotConnected
	}
	media, known := mediaTypes[kind]
	if !known {
		media = whatsmeow.MediaDocument
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	scratch, err := unnamedFile()
	if err != nil {
		return nil, err
	}
	defer scratch.Close()
	var stored whatsmeow.UploadResponse
	if channel {
		stored, err = uploadPublic(ctx, client, file, scratch, media)
	} else {
		stored, err = client.UploadReader(ctx, file, scratch, media)
	}
	if err != nil {
		if ctx.Err() != nil || client != d.loggedIn() {
			return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrFileRefused, err)
	}
	return &internalv1.StoredFile{
		Url: stored.URL, DirectPath: stored.DirectPath, MediaKey: stored.MediaKey, EncryptedSha256: stored.FileEncSHA256,
		Sha256: stored.FileSHA256, SizeBytes: stored.FileLength, Handle: stored.Handle, Time: timestamppb.Now(),
	}, nil
}

// uploadPublic stores a file as it is, which is read twice.
func uploadPublic(
	ctx context.Context, client *whatsmeow.Client, file io.Reader, scratch *os.File, media whatsmeow.MediaType,
) (whatsmeow.UploadResponse, error) {
	if _, err := io.Copy(scratch, file); err != nil {
		return whatsmeow.UploadResponse{}, err
	}
	if _, err := scratch.Seek(0, io.SeekStart); err != nil {
		return whatsmeow.UploadResponse{}, err
	}
	return client.UploadNewsletterReader(ctx, scratch, media)
}

// Download writes a message's file to a file without a name, checked, and passes it on from its beginning.
func (d *Device) Download(ctx context.Context, ref []byte, pass func(io.Reader) error) (err error) {
	err = ErrNotConnected
	d.contain(func() { err = d.download(ctx, ref, pass) })
	return err
}

func (d *Device) download(ctx context.Context, ref []byte, pass func(io.Reader) error) error {
	client := d.loggedIn()
	if client == nil {
		return ErrNotConnected
	}
	part, info, err := parseFileRef(ref)
	if err != nil {
		return err
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	scratch, err := unnamedFile()
	if err != nil {
		return err
	}
	defer scratch.Close()
	bounded := &boundedFile{File: scratch, most: mostOf(part)}
	err = client.DownloadToFile(toFile(ctx), downloadable(part), bounded)
	if isGone(err) {
		if err = d.askPhone(ctx, client, part, info); err == nil {
			if err = reset(bounded); err == nil {
				err = client.DownloadToFile(toFile(ctx), downloadable(part), bounded)
			}
		}
	}
	if err != nil {
		return failureOf(ctx, err)
	}
	if _, err := scratch.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return pass(scratch)
}

func failureOf(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	case isGone(err), errors.Is(err, ErrFileGone), errors.Is(err, whatsmeow.ErrMediaNotAvailableOnPhone):
		return fmt.Errorf("%w: %w", ErrFileGone, err)
	case errors.Is(err, ErrFileBroken), errors.Is(err, whatsmeow.ErrInvalidMediaSHA256), errors.Is(err, whatsmeow.ErrInvalidMediaEncSHA256), errors.Is(err, whatsmeow.ErrInvalidMediaHMAC),
		errors.Is(err, whatsmeow.ErrTooShortFile), errors.Is(err, whatsmeow.ErrFileLengthMismatch), errors.Is(err, whatsmeow.ErrNoURLPresent):
		return fmt.Errorf("%w: %w", ErrFileBroken, err)
	}
	return fmt.Errorf("%w: %w", ErrNotConnected, err) // as good as that: it can be tried again
}

func isGone(err error) bool {
	var answer whatsmeow.DownloadHTTPError
	if !errors.As(err, &answer) || answer.Response == nil {
		return false
	}
	switch answer.StatusCode {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

// mediaRetry is what the phone answers to askPhone.
type mediaRetry = events.MediaRetry

// askPhone has the account's phone store the file again, and puts where into the message.
func (d *Device) askPhone(ctx context.Context, client *whatsmeow.Client, part *waE2E.Message, info *types.MessageInfo) error {
	answer := make(chan *mediaRetry, 1)
	d.mu.Lock()
	if d.retries == nil {
		d.retries = map[string]chan *mediaRetry{}
	}
	if d.retries[info.ID] != nil || len(d.retries) >= maxCalls {
		d.mu.Unlock()
		return errTooMany
	}
	d.retries[info.ID] = answer
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.retries, info.ID)
		d.mu.Unlock()
	}()
	key := downloadable(part).GetMediaKey()
	if err := client.SendMediaRetryReceipt(ctx, info, key); err != nil {
		return err
	}
	select {
	case said := <-answer:
		where, err := whatsmeow.DecryptMediaRetryNotification(said, key)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFileGone, err)
		}
		if where.GetResult() != waMmsRetry.MediaRetryNotification_SUCCESS {
			return ErrFileGone
		}
		setPath(part, where.GetDirectPath())
		return nil
	case <-time.After(phoneTimeout):
		return ErrFileGone
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Device) onMediaRetry(said *events.MediaRetry) {
	d.mu.Lock()
	answer := d.retries[said.MessageID]
	d.mu.Unlock()
	if answer != nil {
		select {
		case answer <- said:
		default:
		}
	}
}

// within is a context that ends with the connection, too.
func (d *Device) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// fileRefOf is what IncomingMessage.file says of a message's file: the message, with its ids as a key. nil: it has none.
func fileRefOf(part []byte, info types.MessageInfo) []byte {
	if part == nil {
		return nil
	}
	ref := &internalv1.ReferredMessage{NetworkMessageId: info.ID, Chat: info.Chat.String(), Sender: info.Sender.String()}
	if info.IsFromMe {
		ref.Sender = ""
	}
	header, err := proto.Marshal(ref)
	if err != nil {
		return nil
	}
	return append([]byte{byte(len(header) >> 8), byte(len(header))}, append(header, part...)...)
}

func parseFileRef(raw []byte) (*waE2E.Message, *types.MessageInfo, error) {
	if len(raw) < 2 || len(raw) < 2+int(raw[0])<<8+int(raw[1]) {
		return nil, nil, fmt.Errorf("%w: the reference cannot be read", ErrFileBroken)
	}
	header := 2 + int(raw[0])<<8 + int(raw[1])
	var ref internalv1.ReferredMessage
	part := &waE2E.Message{}
	if proto.Unmarshal(raw[2:header], &ref) != nil || proto.Unmarshal(raw[header:], part) != nil || downloadable(part) == nil {
		return nil, nil, fmt.Errorf("%w: the reference cannot be read", ErrFileBroken)
	}
	chat, err := types.ParseJID(ref.GetChat())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the reference cannot be read", ErrFileBroken)
	}
	sender, _ := types.ParseJID(ref.GetSender())
	return part, &types.MessageInfo{ID: ref.GetNetworkMessageId(), MessageSource: types.MessageSource{
		Chat: chat, Sender: sender, IsFromMe: ref.GetSender() == "", IsGroup: chat.Server == types.GroupServer,
	}}, nil
}

func downloadable(part *waE2E.Message) whatsmeow.DownloadableMessage {
	switch {
	case part.GetImageMessage() != nil:
		return part.ImageMessage
	case part.GetVideoMessage() != nil:
		return part.VideoMessage
	case part.GetPtvMessage() != nil:
		return part.PtvMessage
	case part.GetAudioMessage() != nil:
		return part.AudioMessage
	case part.GetDocumentMessage() != nil:
		return part.DocumentMessage
	case part.GetStickerMessage() != nil:
		return part.StickerMessage
	}
	return nil
}

func setPath(part *waE2E.Message, path string) {
	switch {
	case part.ImageMessage != nil:
		part.ImageMessage.DirectPath = &path
	case part.VideoMessage != nil:
		part.VideoMessage.DirectPath = &path
	case part.PtvMessage != nil:
		part.PtvMessage.DirectPath = &path
	case part.AudioMessage != nil:
		part.AudioMessage.DirectPath = &path
	case part.DocumentMessage != nil:
		part.DocumentMessage.DirectPath = &path
	case part.StickerMessage != nil:
		part.StickerMessage.DirectPath = &path
	}
}

// unnamedFile is gone with the process, however that ends.
func unnamedFile() (*os.File, error) {
	file, err := os.CreateTemp("", "whatsapp-web-*")
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

// boundedFile takes no more than a message says that its file has: whoever wrote it says so to whom decides whether the
// file is fetched, and may have stored a much larger one.
type boundedFile struct {
	*os.File
	most, at int64
}

const (
	// What encryption adds to a file: padding, and a MAC.
	sealBytes = 16 + 10
	// The network takes no larger files.
	largestFile = 2 << 30
)

func mostOf(part *waE2E.Message) int64 {
	if said, is := downloadable(part).(interface{ GetFileLength() uint64 }); is && said.GetFileLength() > 0 && said.GetFileLength() < largestFile {
		return int64(said.GetFileLength()) + sealBytes
	}
	return largestFile + sealBytes
}

func (b *boundedFile) Write(piece []byte) (int, error) {
	if b.at+int64(len(piece)) > b.most {
		return 0, fmt.Errorf("%w: there are more than it says", ErrFileBroken)
	}
	n, err := b.File.Write(piece)
	b.at += int64(n)
	return n, err
}

// ReadFrom is Write's: the one of os.File knows no bound.
func (b *boundedFile) ReadFrom(from io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{b}, from)
}

func (b *boundedFile) Seek(offset int64, whence int) (int64, error) {
	at, err := b.File.Seek(offset, whence)
	b.at = at
	return at, err
}

func reset(file *boundedFile) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return file.Truncate(0)
}
