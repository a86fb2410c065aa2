package rows

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"
)

const (
	// How long a message may take from its decryption to its event, and a loose encryption from reading a session to
	// writing it. Neither waits for the network or for rows to be stored.
	maxInbound = 30 * time.Second
	maxLoose   = 10 * time.Second
	// How many row changes that nothing waits for may be on their way; a flood of them waits.
	maxBehind = 256
)

// maxChanges bounds one write that nothing waits for: the phone may tell of hundreds of thousands of settings at once, and
// the node writes for all accounts.
const maxChanges = 512

// Store is the state of one device. It implements what the library wants of its stores.
//
// The library locks encrypting against encrypting, and decrypting against decrypting, but not the one against the
// other, and both read a session, change it and write it. So the store has a lock, ratchet. An encryption holds it from
// reading its sessions until they are stored, a decryption until its message is stored with them.
type Store struct {
	*cache
	node      Node
	accountID string
	device    *store.Device
	ratchet   chan struct{}
	behind    chan struct{}

	// Over the ids of one-time keys.
	generating sync.Mutex
	// Over the queues of people.
	usage sync.Mutex
	// Over the groups that the account makes.
	making sync.Mutex
	logs   logs

	ctx    context.Context
	cancel context.CancelCauseFunc

	state   sync.Mutex
	inbound *inbound
	loose   *time.Timer
	pairing func(changes []Change) bool
	held    []Change
}

// inbound is a message that is decrypted, and not stored.
type inbound struct {
	changes    []Change
	guard      *time.Timer
	start, end time.Time // of its decryption
}

// New is the store of a device whose rows a node has.
func New(accountID string, node Node) *Store {
	s := &Store{cache: newCache(node), node: node, accountID: accountID, ratchet: make(chan struct{}, 1), behind: make(chan struct{}, maxBehind)}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// NewPairing is the store of a device that is being paired: all its rows are handed over at once, with the last thing
// that the library stores before it tells the network that the pairing is final. complete returns whether they are stored.
func NewPairing(accountID string, complete func(changes []Change) bool) *Store {
	s := New(accountID, nowhere{})
	s.pairing = complete
	return s
}

// Close fails whoever waits, and everything that comes after.
func (s *Store) Close() { s.cancel(ErrNotStored) }

// Failed is done when something will never be stored, or at Close.
func (s *Store) Failed() <-chan struct{} { return s.ctx.Done() }

// Prefill puts the rows that came with a login. Only before the store is used.
func (s *Store) Prefill(rows map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fill(loginPrefix, rows)
}

// A scope is what one encryption or one decryption changes: visible to itself, and to others once it is done.
type scope struct {
	changes  []Change
	held     bool
	padded   bool
	readable bool
}

type scopeKey struct{}

func scopeOf(ctx context.Context) *scope {
	s, _ := ctx.Value(scopeKey{}).(*scope)
	return s
}

func (s *scope) add(changes ...Change) {
	for _, change := range changes {
		for i := range s.changes {
			if s.changes[i].Key == change.Key {
				s.changes = append(s.changes[:i], s.changes[i+1:]...)
				break
			}
		}
		s.changes = append(s.changes, change)
	}
}

// drop takes back what a scope was to change of a row.
func (s *scope) drop(key string) {
	s.changes = slices.DeleteFunc(s.changes, func(change Change) bool { return change.Key == key })
}

// Sending gives the context for one SendMessage of the library, and what to call after it.
func (s *Store) Sending(ctx context.Context) (context.Context, func()) {
	sending := &scope{}
	return context.WithValue(ctx, scopeKey{}, sending), func() { s.give(sending) }
}

func (s *Store) acquire(ctx context.Context) error {
	if s.ctx.Err() != nil {
		return ErrNotStored
	}
	select {
	case s.ratchet <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return ErrNotStored
	}
}

// take is acquire for a scope, once.
func (s *Store) take(ctx context.Context, held *scope) error {
	if held.held {
		return nil
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	held.held = true
	return nil
}

func (s *Store) give(held *scope) {
	if held.held {
		held.held = false
		<-s.ratchet
	}
}

// look returns a row as whoever has the context sees it.
func (s *Store) look(ctx context.Context, key string) ([]byte, error) {
	if !nameable(key) {
		return nil, nil
	}
	if current := scopeOf(ctx); current != nil {
		for _, change := range current.changes {
			if change.Key == key {
				return change.Value, nil
			}
		}
	}
	if !isCached(key) {
		stored, err := s.node.Read(s.ctx, []string{key}, nil)
		if err != nil {
			return nil, ErrNotStored
		}
		return stored[key], nil
	}
	value, err := s.get(s.ctx, key)
	if err != nil {
		return nil, ErrNotStored
	}
	return value, nil
}

// all returns the rows of a unit that is read by its names' beginning.
func (s *Store) all(ctx context.Context, prefix string) (map[string][]byte, error) {
	found := map[string][]byte{}
	if err := s.with(s.ctx, prefix, func(u *unit) {
		for key, value := range u.rows {
			found[key] = value
		}
	}); err != nil {
		return nil, ErrNotStored
	}
	if current := scopeOf(ctx); current != nil {
		for _, change := range current.changes {
			if unitOf(change.Key) != prefix {
				continue
			}
			if delete(found, change.Key); change.Value != nil {
				found[change.Key] = change.Value
			}
		}
	}
	return found, nil
}

// note changes rows that nothing which leaves depends on: with the scope, with the message that is being received, or
// by themselves, without waiting.
func (s *Store) note(ctx context.Context, changes ...Change) error {
	if changes = storable(changes); len(changes) == 0 {
		return nil
	}
	if current := scopeOf(ctx); current != nil {
		current.add(changes...)
		return nil
	}
	s.state.Lock()
	if s.pairing != nil {
		s.held = append(s.held, changes...)
		s.apply(changes)
		s.state.Unlock()
		return nil
	}
	if s.inbound != nil {
		s.inbound.changes = append(s.inbound.changes, changes...)
		s.apply(changes)
		s.state.Unlock()
		return nil
	}
	s.state.Unlock()
	return s.write(changes)
}

// write hands changes over, in pieces, without waiting.
func (s *Store) write(changes []Change) error {
	for piece := range slices.Chunk(changes, maxChanges) {
		select {
		case s.behind <- struct{}{}:
		case <-s.ctx.Done():
			return ErrNotStored
		}
		s.apply(piece)
		all, answer, err := s.hand(piece, s.node.Write)
		if err != nil {
			s.cancel(ErrNotStored)
			<-s.behind
			return err
		}
		go func() {
			_ = s.settle(all, answer)
			<-s.behind
		}()
	}
	return nil
}

// commit changes rows and returns when they are stored: before anything that they are about leaves.
func (s *Store) commit(changes ...Change) error {
	if len(changes) == 0 {
		return nil
	}
	if s.ctx.Err() != nil {
		return ErrNotStored
	}
	s.state.Lock()
	if s.pairing != nil {
		s.held = append(s.held, changes...)
		s.apply(changes)
		s.state.Unlock()
		return nil
	}
	s.state.Unlock()
	s.apply(changes)
	all, answer, err := s.hand(changes, s.node.Write)
	if err != nil {
		s.cancel(ErrNotStored) // what is in memory will never be stored
		return err
	}
	return s.settle(all, answer)
}

// settle waits until changes that were applied are stored.
func (s *Store) settle(changes []Change, answer <-chan bool) error {
	select {
	case stored := <-answer:
		if !stored {
			s.cancel(ErrNotStored) // what is in memory is not what is stored: nothing may be sent with it
			return ErrNotStored
		}
		s.reserve(changes)
		s.unpin(changes)
		return nil
	case <-s.ctx.Done():
		return ErrNotStored
	}
}

// encoded is the stored form of changes, each row once.
func encoded(changes []Change) []Change {
	out := make([]Change, 0, len(changes))
	at := make(map[string]int, len(changes))
	for _, change := range changes {
		if change.Value != nil && isRatchet(change.Key) {
			change.Value = encodeRatchet(change.Key, change.Value)
		}
		if i, twice := at[change.Key]; twice {
			out[i] = change
			continue
		}
		at[change.Key] = len(out)
		out = append(out, change)
	}
	return out
}

// nowhere is where the rows of a device that is being paired are.
type nowhere struct{}

func (nowhere) Read(context.Context, []string, []string) (map[string][]byte, error) { return nil, nil }

func (nowhere) Write([]Change) <-chan bool {
	refused := make(chan bool, 1)
	refused <- false
	return refused
}

var (
	_ store.AllStores       = (*Store)(nil)
	_ store.DeviceContainer = (*Store)(nil)
)
