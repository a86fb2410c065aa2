package rows

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// maxAwaited bounds the messages of an account that are awaited: anybody may send what cannot be decrypted.
const maxAwaited = 64

// Awaited is a message that could not be decrypted: its writer's app was asked to send it again, and the account's phone to
// say what it says.
type Awaited struct {
	Info  types.MessageInfo
	Since time.Time
}

// Await keeps that a message is awaited, since it was first; and returns, when that is stored, whether it was not before.
func (s *Store) Await(ctx context.Context, info types.MessageInfo) (bool, error) {
	awaited, err := s.Awaited(ctx)
	if err != nil || len(awaited) >= maxAwaited {
		return false, err
	}
	if _, known := awaited[info.ID]; known {
		return false, nil
	}
	kept := types.MessageInfo{MessageSource: info.MessageSource, ID: info.ID, PushName: info.PushName, Timestamp: info.Timestamp}
	if !nameable(awaitedPrefix + info.ID) {
		return false, nil
	}
	return true, s.commit(Change{awaitedPrefix + info.ID, encode(Awaited{kept, time.Now()})})
}

// Awaited are the messages that are awaited, by their ids.
func (s *Store) Awaited(ctx context.Context) (map[types.MessageID]Awaited, error) {
	rows, err := s.all(ctx, loginPrefix)
	if err != nil {
		return nil, err
	}
	found := map[types.MessageID]Awaited{}
	for key, value := range rows {
		var awaited Awaited
		if id, is := strings.CutPrefix(key, awaitedPrefix); is && json.Unmarshal(value, &awaited) == nil {
			found[id] = awaited
		}
	}
	return found, nil
}

// Came says that a message is awaited no more.
func (s *Store) Came(ctx context.Context, id types.MessageID) error {
	if known, err := s.look(ctx, awaitedPrefix+id); err != nil || known == nil {
		return err
	}
	return s.note(ctx, Change{awaitedPrefix + id, nil})
}

// GiveUp hands that a message is awaited no more to send, which passes it to the node in one piece with what it says instead,
// and returns whether both are stored.
func (s *Store) GiveUp(id types.MessageID, send func(changes []Change) <-chan bool) bool {
	changes := []Change{{awaitedPrefix + id, nil}}
	s.apply(changes)
	return s.settle(changes, send(changes)) == nil
}
