package rows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/libsignal/signalerror"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
)

// DoDecryptionTxn decrypts with the ratchets locked. What it changed is seen at once, but is stored together with the
// message, which comes as an event: until Receive has settled that, nothing is encrypted.
func (s *Store) DoDecryptionTxn(ctx context.Context, decrypt func(context.Context) error) error {
	if s.Decrypted() { // the one before was of a kind that no event came of
		s.Receive(false, s.node.Write)
	}
	current := &scope{}
	if err := s.take(ctx, current); err != nil {
		return err
	}
	start := time.Now()
	if err := decrypt(context.WithValue(ctx, scopeKey{}, current)); err != nil {
		s.give(current)
		return left(ctx, err)
	}
	if !current.readable { // no event comes of it
		err := s.commit(current.changes...)
		s.give(current)
		if err == nil && !current.padded { // the library would ask for it again, and the same would come
			err = signalerror.ErrOldCounter
		}
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	s.apply(current.changes)
	s.inbound = &inbound{changes: current.changes, start: start, end: time.Now()}
	s.inbound.guard = time.AfterFunc(maxInbound, func() { s.cancel(ErrNotStored) })
	return nil
}

// PutBufferedEvent is told what a decryption brought. It is not stored: the message is, with the decryption's changes,
// and when it comes again the ratchet says that it was read.
func (s *Store) PutBufferedEvent(ctx context.Context, _ [32]byte, plaintext []byte, _ time.Time) error {
	if current := scopeOf(ctx); current != nil {
		current.padded, current.readable = readable(plaintext)
	}
	return nil
}

// readable says whether the library makes an event of it: as it unpads and parses.
func readable(plain []byte) (padded, parsed bool) {
	if len(plain) == 0 {
		return false, false
	}
	pad := int(plain[len(plain)-1])
	if pad > len(plain) || strings.TrimRight(string(plain[len(plain)-pad:]), string(plain[len(plain)-1:])) != "" {
		return false, false
	}
	return true, proto.Unmarshal(plain[:len(plain)-pad], &waE2E.Message{}) == nil
}

// Decrypting tells whoever has a message handled that it could not be decrypted: then the library does nothing for it.
type Decrypting struct{ Failed error }

// NoSenderKey says that it is a group's, of a member whose key is not known.
func (d *Decrypting) NoSenderKey() bool {
	return errors.Is(d.Failed, signalerror.ErrNoSenderKeyForUser)
}

type decryptingKey struct{}

// WithDecrypting is for the handling of one message.
func WithDecrypting(ctx context.Context, told *Decrypting) context.Context {
	return context.WithValue(ctx, decryptingKey{}, told)
}

// left leaves a message that cannot be decrypted to whoever has it handled. One that was read before, or of a connection
// that ends, is the library's.
func left(ctx context.Context, err error) error {
	told, _ := ctx.Value(decryptingKey{}).(*Decrypting)
	if told == nil || errors.Is(err, signalerror.ErrOldCounter) || errors.Is(err, context.Canceled) {
		return err
	}
	told.Failed = err
	return fmt.Errorf("%w: %w", err, context.Canceled)
}

// Receive ends what a decryption began. It hands the changes to send, which passes them to the node in one piece with
// what the message says, and returns whether both are stored: then the network may be told, and else it must not be.
// keepSecret: votes and answers to the message will be encrypted with its secret; others' are kept for a while.
func (s *Store) Receive(keepSecret bool, send func(changes []Change) <-chan bool) bool {
	s.state.Lock()
	received := s.inbound
	s.inbound = nil
	s.state.Unlock()
	var changes []Change
	if received != nil {
		received.guard.Stop()
		changes = received.changes
		defer func() { <-s.ratchet }()
	}
	if s.ctx.Err() != nil {
		return false
	}
	changes, more, err := s.keepSecrets(keepSecret, changes)
	if err == nil {
		var kept []Change
		kept, err = s.bounded(s.ctx, keptReceived, changes)
		more = append(more, kept...)
	}
	if err != nil {
		s.cancel(ErrNotStored) // the ratchet has moved on, and that is not stored
		return false
	}
	s.apply(more)
	changes, answer, err := s.hand(append(changes, more...), send)
	if err != nil {
		s.cancel(ErrNotStored)
		return false
	}
	return s.settle(changes, answer) == nil
}

// Decrypted says whether a decryption waits for Receive.
func (s *Store) Decrypted() bool {
	s.state.Lock()
	defer s.state.Unlock()
	return s.inbound != nil
}

// DecryptedBetween says when the decryption began and ended that waits for Receive; without one it says nothing.
func (s *Store) DecryptedBetween() (start, end time.Time) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.inbound == nil {
		return start, end
	}
	return s.inbound.start, s.inbound.end
}

// keepSecrets takes the secrets of messages out of changes, and returns what else must change for them: they are among the
// last ones, unless they are to be kept longer. Of these the first one stays.
func (s *Store) keepSecrets(longer bool, changes []Change) (others, more []Change, err error) {
	var secrets []Change
	for _, change := range changes {
		if !strings.HasPrefix(change.Key, secretPrefix) {
			others = append(others, change)
			continue
		}
		if longer {
			known, err := s.look(s.ctx, change.Key)
			if err != nil {
				return nil, nil, err
			}
			if known == nil {
				others = append(others, change)
			}
			continue
		}
		secrets = append(secrets, change)
	}
	more, err = s.recently(secrets)
	return others, more, err
}

// Of the library's buffer of decrypted messages nothing else is needed.

func (s *Store) GetBufferedEvent(context.Context, [32]byte) (*store.BufferedEvent, error) {
	return nil, nil
}
func (s *Store) ClearBufferedEventPlaintext(context.Context, [32]byte) error { return nil }
func (s *Store) DeleteOldBufferedHashes(context.Context) error               { return nil }
