package device

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

const (
	// What one piece of history may be unpacked, and one chat of it.
	maxHistory     = 512 << 20
	maxHistoryPart = 8 << 20
	// What is fetched of a piece, and kept of notices of pieces that are still to be read: they come with every login.
	maxHistoryFile        = 256 << 20
	maxHistoryNotices     = 1024
	maxHistoryNoticeBytes = 4 << 20
	// How many of its messages may be on their way to be stored.
	historyWindow = 64
	// Which of a piece's parts are chats.
	conversationsField = protowire.Number(2)
)

// remembering lets one device at a time read its history: it is large.
var remembering sync.Mutex

// keepHistory keeps the notice of a piece of history, stored with the message that brought it, until the piece is read.
func (d *Device) keepHistory(id string, notice *waE2E.HistorySyncNotification) {
	encoded, err := proto.Marshal(notice)
	if err != nil {
		return
	}
	kept, err := d.store.History()
	if err != nil {
		return
	}
	bytes := len(encoded)
	for _, other := range kept {
		bytes += len(other)
	}
	if len(kept) >= maxHistoryNotices || bytes > maxHistoryNoticeBytes {
		d.log.write(levelWarning, "a piece of history is passed over: too many wait", "waiting", fmt.Sprint(len(kept)))
		return
	}
	_ = d.store.KeepHistory(id, encoded)
}

// readHistory reads what is kept, one piece after the other, in the background.
func (d *Device) readHistory() {
	d.mu.Lock()
	running := d.remembering
	d.remembering = true
	d.mu.Unlock()
	if running {
		return
	}
	go d.contain(func() {
		for d.ctx.Err() == nil {
			kept, err := d.store.History()
			if err != nil || len(kept) == 0 {
				d.mu.Lock()
				d.remembering = false
				d.mu.Unlock()
				return
			}
			for id, notice := range kept {
				if err := d.readPiece(notice); err != nil {
					if d.ctx.Err() != nil || errors.Is(err, rows.ErrNotStored) {
						return // after the next login
					}
					d.log.write(levelWarning, "a piece of history cannot be read", "problem", err.Error())
				}
				if d.store.HistoryRead(id) != nil {
					return
				}
			}
		}
	})
}

func (d *Device) readPiece(encoded []byte) error {
	remembering.Lock()
	defer remembering.Unlock()
	var notice waE2E.HistorySyncNotification
	if err := proto.Unmarshal(encoded, &notice); err != nil {
		return err
	}
	wanted := d.history || onDemand(&notice) // what the node asked for, too late for who waited
	window := make(chan (<-chan bool), historyWindow)
	if err := d.eachPartOf(&notice, maxHistoryFile, maxHistory, func(part *waHistorySync.HistorySync) error {
		return d.readPart(part, wanted, window)
	}); err != nil {
		return err
	}
	return drain(window, 0)
}

// eachPartOf fetches a piece of history and reads it part by part; it may have so many bytes, and unpacked so many.
func (d *Device) eachPartOf(
	notice *waE2E.HistorySyncNotification, file, unpacked int64, each func(*waHistorySync.HistorySync) error,
) error {
	packed := io.Reader(bytes.NewReader(notice.GetInitialHistBootstrapInlinePayload()))
	if notice.InitialHistBootstrapInlinePayload == nil {
		scratch, err := unnamedFile()
		if err != nil {
			return err
		}
		defer scratch.Close()
		bounded := &boundedFile{File: scratch, most: file}
		if err := d.client.DownloadToFile(toFile(d.ctx), whatsmeow.DownloadableMessage(notice), bounded); err != nil {
			return err
		}
		if _, err := scratch.Seek(0, io.SeekStart); err != nil {
			return err
		}
		packed = scratch
	}
	plain, err := zlib.NewReader(bufio.NewReader(packed))
	if err != nil {
		return err
	}
	return eachPart(bufio.NewReader(io.LimitReader(plain, unpacked)), each)
}

// eachPart reads a piece of history part by part: one chat, or something else that it has many of.
func eachPart(reader *bufio.Reader, each func(*waHistorySync.HistorySync) error) error {
	for {
		tag, err := binary.ReadUvarint(reader)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		number, kind := protowire.DecodeTag(tag)
		encoded := protowire.AppendVarint(nil, tag)
		switch kind {
		case protowire.VarintType:
			value, err := binary.ReadUvarint(reader)
			if err != nil {
				return err
			}
			encoded = protowire.AppendVarint(encoded, value)
		case protowire.BytesType:
			size, err := binary.ReadUvarint(reader)
			if err != nil {
				return err
			}
			if size > maxHistoryPart {
				if number != conversationsField {
					return fmt.Errorf("a part of %d bytes", size)
				}
				if _, err := io.CopyN(io.Discard, reader, int64(min(size, maxHistory))); err != nil {
					return err
				}
				continue
			}
			value := make([]byte, size)
			if _, err := io.ReadFull(reader, value); err != nil {
				return err
			}
			encoded = protowire.AppendBytes(encoded, value)
		default:
			return fmt.Errorf("a field of kind %d", kind)
		}
		part := &waHistorySync.HistorySync{}
		if (proto.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true}).Unmarshal(encoded, part) != nil {
			continue
		}
		if err := each(part); err != nil {
			return err
		}
	}
}

// readPart keeps what the library needs, and hands on the messages of a chat where the node wants them. Without the tokens
// of those whom the account knows, WhatsApp takes what it sends them for a first message to strangers.
func (d *Device) readPart(part *waHistorySync.HistorySync, wanted bool, window chan (<-chan bool)) error {
	internals := d.client.DangerousInternals()
	if mappings := part.GetPhoneNumberToLidMappings(); len(mappings) > 0 {
		internals.StoreHistoricalPNLIDMappings(d.ctx, mappings)
	}
	if salt := part.GetNctSalt(); len(salt) > 0 {
		_ = d.store.PutNCTSalt(d.ctx, salt)
	}
	if part.GlobalSettings != nil {
		internals.StoreGlobalSettings(d.ctx, part.GlobalSettings)
	}
	if part.CompanionMetaNonce != nil {
		internals.StoreCompanionMetaNonce(d.ctx, part.GetCompanionMetaNonce())
	}
	for _, conversation := range part.GetConversations() {
		chat, err := types.ParseJID(conversation.GetID())
		if err != nil || chat.IsEmpty() {
			continue
		}
		if err := d.keepToken(chat, conversation); err != nil {
			return err
		}
		d.chatOfHistory(chat, conversation)
		if !wanted {
			continue
		}
		for _, item := range conversation.GetMessages() {
			message := d.remember(chat, item)
			if message == nil {
				continue
			}
			if err := drain(window, historyWindow-1); err != nil {
				return err
			}
			window <- d.hand(message, nil)
		}
	}
	return nil
}

// keepToken keeps the token that somebody has given the account, by their hidden id where that is known.
func (d *Device) keepToken(chat types.JID, conversation *waHistorySync.Conversation) error {
	if len(conversation.GetTcToken()) == 0 || !address.IsPerson(chat) {
		return nil
	}
	if number, hidden := d.both(chat, types.EmptyJID); !hidden.IsEmpty() {
		chat = hidden
	} else if !number.IsEmpty() {
		chat = number
	}
	return d.store.PutPrivacyTokens(d.ctx, store.PrivacyToken{
		User: chat, Token: conversation.GetTcToken(), Timestamp: time.Unix(int64(conversation.GetTcTokenTimestamp()), 0),
		SenderTimestamp: time.Unix(int64(conversation.GetTcTokenSenderTimestamp()), 0),
	})
}

// remember is a message of the history as the node wants it; nil for none.
func (d *Device) remember(chat types.JID, item *waHistorySync.HistorySyncMsg) *internalv1.IncomingMessage {
	if item.GetMessage().GetMessage() == nil {
		return nil
	}
	said, err := d.client.ParseWebMessage(chat, item.GetMessage())
	if err != nil || said.Message == nil {
		return nil
	}
	if said.Message.GetPollUpdateMessage() != nil || said.Message.GetProtocolMessage() != nil || said.Message.GetReactionMessage() != nil ||
		said.Message.GetSecretEncryptedMessage() != nil || said.Message.GetEncReactionMessage() != nil {
		return nil // about another message, which has what became of it
	}
	message := d.read(said)
	if message != nil {
		message.History = true
	}
	return message
}

// drain waits until no more than so many messages are on their way.
func drain(window chan (<-chan bool), left int) error {
	for len(window) > left {
		if !<-<-window {
			return rows.ErrNotStored
		}
	}
	return nil
}
