package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// Of the messages that came last the secrets are kept: edits of them, and reactions to them in groups of announcements, are
// encrypted with these. An edit comes within a quarter of an hour, so a row for every message would cost more than the
// message: they are in blocks, and the newest block is in a row that comes with every login.
const (
	recentBlocks  = 128
	recentInBlock = 8
	secretBytes   = 32
)

// recentRow is the newest block, and its number.
type recentRow struct {
	Number  uint64
	Secrets []recentSecret
}

type recentSecret struct {
	ID, Writer string
	Secret     []byte
}

// A Secret of a message, by whoever wrote that.
type Secret struct {
	Writer types.JID
	Secret []byte
}

// recently returns what must change for secrets of messages to be among the last ones.
func (s *Store) recently(secrets []Change) ([]Change, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	row, err := s.newest(s.ctx)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, change := range secrets {
		writer, secret, _ := strings.Cut(string(change.Value), "\x00")
		if len(secret) != secretBytes { // no app makes others
			continue
		}
		if len(row.Secrets) >= recentInBlock {
			changes = append(changes, Change{blockKey(row.Number), encode(row.Secrets)})
			row = recentRow{Number: row.Number + 1}
		}
		row.Secrets = append(row.Secrets, recentSecret{strings.TrimPrefix(change.Key, secretPrefix), writer, []byte(secret)})
	}
	return append(changes, Change{recentKey, encode(row)}), nil
}

func (s *Store) newest(ctx context.Context) (row recentRow, err error) {
	value, err := s.look(ctx, recentKey)
	if err != nil || value == nil {
		return row, err
	}
	return row, json.Unmarshal(value, &row)
}

// Secrets are those of messages with an id: of a poll or an appointment, or of the last ones. Anybody may write a message
// with somebody else's id, so there may be several.
func (s *Store) Secrets(ctx context.Context, id types.MessageID) ([]Secret, error) {
	var found []Secret
	value, err := s.look(ctx, secretPrefix+id)
	if err != nil {
		return nil, err
	}
	if value != nil {
		writer, secret, _ := strings.Cut(string(value), "\x00")
		found = appendSecret(found, writer, []byte(secret))
	}
	newest, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	if found = among(found, newest.Secrets, id); len(found) > 0 {
		return found, nil
	}
	blocks, err := s.node.Read(s.ctx, nil, []string{recentPrefix})
	if err != nil {
		return nil, ErrNotStored
	}
	for _, block := range blocks {
		var secrets []recentSecret
		if json.Unmarshal(block, &secrets) == nil {
			found = among(found, secrets, id)
		}
	}
	return found, nil
}

func among(found []Secret, secrets []recentSecret, id types.MessageID) []Secret {
	for _, secret := range secrets {
		if secret.ID == id {
			found = appendSecret(found, secret.Writer, secret.Secret)
		}
	}
	return found
}

func appendSecret(found []Secret, writer string, secret []byte) []Secret {
	jid, err := types.ParseJID(writer)
	if err != nil {
		return found
	}
	return append(found, Secret{jid, secret})
}

func blockKey(number uint64) string { return fmt.Sprintf("%s%d", recentPrefix, number%recentBlocks) }
