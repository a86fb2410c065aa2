package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// What is kept of single messages: answers of polls, secrets, and where files are. It is bounded in number and in age, the
// oldest goes first, and what the account sent apart from what others sent it, who decide how much that is.
const (
	maxKept = 2048
	keptFor = 90 * 24 * time.Hour
	// Bytes of one row: WhatsApp's polls have at most twelve short answers, but nobody holds others to that.
	maxKeptBytes = 16 << 10
	// How many that are too old go with one change, and with a login.
	expiredAtOnce  = 8
	expiredAtLogin = 256
)

// A keeping is one of the two queues. Its entries are rows: which others to let go, and since when they are kept.
type keeping string

const (
	keptSent     keeping = "sent"
	keptReceived keeping = "received"
)

// keptRow is the state of a queue: its entries are from First until before Next, the first one kept since Since.
type keptRow struct {
	First, Next uint64
	Since       int64
}

type keptEntry struct {
	Since int64
	Rows  []string
}

// bounded returns what must change together with changes that keep something of a message, so that it is let go some day.
// One message of the account is sent at a time, and one received: each queue has one user.
func (s *Store) bounded(ctx context.Context, of keeping, changes []Change) ([]Change, error) {
	now := time.Now()
	var rows []string
	for _, change := range changes {
		if isKept(change.Key) && change.Value != nil {
			rows = append(rows, change.Key)
		}
	}
	if len(rows) == 0 {
		return nil, nil
	}
	state, err := s.kept(ctx, of)
	if err != nil {
		return nil, err
	}
	gone, err := s.letGo(ctx, of, &state, maxKept-1, now, expiredAtOnce)
	if err != nil {
		return nil, err
	}
	if state.First == state.Next {
		state.Since = now.Unix()
	}
	entry := Change{of.entry(state.Next), encode(keptEntry{now.Unix(), rows})}
	state.Next++
	return append(gone, entry, Change{of.state(), encode(state)}), nil
}

// Expire lets go what has been kept for too long; before the device connects.
func (s *Store) Expire(ctx context.Context) error {
	for _, of := range []keeping{keptSent, keptReceived} {
		state, err := s.kept(ctx, of)
		if err != nil {
			return err
		}
		gone, err := s.letGo(ctx, of, &state, maxKept, time.Now(), expiredAtLogin)
		if err != nil {
			return err
		}
		if len(gone) > 0 {
			if err := s.note(ctx, append(gone, Change{of.state(), encode(state)})...); err != nil {
				return err
			}
		}
	}
	return s.expirePeople()
}

// letGo moves the queue's beginning behind what is too old, some of it, and behind what is too much.
func (s *Store) letGo(ctx context.Context, of keeping, state *keptRow, most uint64, now time.Time, expired int) ([]Change, error) {
	var gone []Change
	oldest := now.Add(-keptFor).Unix()
	for state.First < state.Next {
		tooMany, tooOld := state.Next-state.First > most, state.Since < oldest && expired > 0
		if !tooMany && !tooOld {
			break
		}
		expired--
		entry, err := s.entry(ctx, of, state.First)
		if err != nil {
			return nil, err
		}
		for _, key := range entry.Rows {
			gone = append(gone, Change{key, nil})
		}
		gone = append(gone, Change{of.entry(state.First), nil})
		state.First++
		next, err := s.entry(ctx, of, state.First)
		if err != nil {
			return nil, err
		}
		state.Since = next.Since
	}
	return gone, nil
}

func (s *Store) kept(ctx context.Context, of keeping) (state keptRow, err error) {
	value, err := s.look(ctx, of.state())
	if err != nil || value == nil {
		return state, err
	}
	return state, json.Unmarshal(value, &state)
}

func (s *Store) entry(ctx context.Context, of keeping, number uint64) (entry keptEntry, err error) {
	value, err := s.look(ctx, of.entry(number))
	if err != nil || value == nil {
		return entry, err
	}
	return entry, json.Unmarshal(value, &entry)
}

func (k keeping) state() string { return loginPrefix + "kept/" + string(k) }

func (k keeping) entry(number uint64) string { return fmt.Sprintf("kept/%s/%d", k, number) }

func isKept(key string) bool {
	return strings.HasPrefix(key, pollPrefix) || strings.HasPrefix(key, secretPrefix) || strings.HasPrefix(key, filePrefix)
}

// keep notes a row of a message, unless it is too large, or kept already: then it is let go when it would have been.
func (s *Store) keep(ctx context.Context, key string, value []byte) error {
	if len(value) > maxKeptBytes {
		return nil
	}
	if known, err := s.look(ctx, key); err != nil || known != nil {
		return err
	}
	return s.note(ctx, Change{key, value})
}

// --- secrets of messages

// PutMessageSecret keeps what votes, answers and edits of a message are encrypted with, by the message's id alone, as its
// chat and its sender have two names each. None is kept of what the account sends, which its device makes again, and of
// what was not encrypted.
func (s *Store) PutMessageSecret(ctx context.Context, _, sender types.JID, id types.MessageID, secret []byte) error {
	if scopeOf(ctx) != nil || !s.Decrypted() || len(secret) > maxKeptBytes {
		return nil
	}
	return s.note(ctx, Change{secretPrefix + id, []byte(sender.ToNonAD().String() + "\x00" + string(secret))})
}

// PutMessageSecrets keeps none: they are of the history, whose votes are counted already.
func (s *Store) PutMessageSecrets(context.Context, []store.MessageSecretInsert) error { return nil }

type secretKey struct{}

// WithSecret has the library take this for the secret of the message that it asks for: the account's own are not kept.
func WithSecret(ctx context.Context, secret []byte) context.Context {
	return context.WithValue(ctx, secretKey{}, secret)
}

func (s *Store) GetMessageSecret(ctx context.Context, _, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	if own, ok := ctx.Value(secretKey{}).([]byte); ok {
		return own, sender, nil
	}
	found, err := s.Secrets(ctx, id)
	if len(found) == 0 {
		return nil, sender, err
	}
	return found[0].Secret, found[0].Writer, nil
}

// --- answers of polls

// KeepPoll keeps the answers of a poll, which votes name by their hashes, with the message that is being received.
func (s *Store) KeepPoll(id types.MessageID, answers []string) error {
	return s.keep(context.Background(), pollPrefix+id, encode(answers))
}

// KeepOwnPoll keeps those of a poll that is being sent, stored before it leaves.
func (s *Store) KeepOwnPoll(sending context.Context, id types.MessageID, answers []string) error {
	return s.keep(sending, pollPrefix+id, encode(answers))
}

// Poll returns the answers of a poll.
func (s *Store) Poll(id types.MessageID) (answers []string, known bool) {
	value, err := s.look(context.Background(), pollPrefix+id)
	if err != nil || value == nil || json.Unmarshal(value, &answers) != nil {
		return nil, false
	}
	return answers, true
}

// --- files of messages

// KeepFile keeps where the network has the file of a message that is being sent, stored before it leaves: somebody who
// cannot read the message may ask for it when another sidecar has the account.
func (s *Store) KeepFile(sending context.Context, id types.MessageID, file *internalv1.StoredFile) error {
	encoded, err := proto.Marshal(file)
	if err != nil {
		return err
	}
	return s.note(sending, Change{filePrefix + id, encoded})
}

// File returns where the network has the file of a message that was sent; nil where that is not kept.
func (s *Store) File(ctx context.Context, id types.MessageID) (*internalv1.StoredFile, error) {
	value, err := s.look(ctx, filePrefix+id)
	if err != nil || value == nil {
		return nil, err
	}
	file := &internalv1.StoredFile{}
	return file, proto.Unmarshal(value, file)
}
