package rows

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"go.mau.fi/whatsmeow/appstate"
)

// What the account's devices have in common is in logs, of which the library stores how far it is before it says what it has
// read: a crash between would lose that. So what it stores of a log is withheld until the node has stored all that was said, and a
// row says meanwhile that there is something to read: the next login reads on from what is stored.

// ErrReadElsewhere is told the library, which would read logs by itself, and whoever reads one of which another reading has failed.
var ErrReadElsewhere = errors.New("the device has its logs read")

type readingKey struct{}

// logs are those that are read, or were.
type logs struct {
	mu sync.Mutex
	of map[string]*log
}

type log struct {
	// How many readings have not ended, and how many have failed; some of it was not told, and nobody has read it since.
	open, failed int
	behind       bool
	// What its entries are is stored as it comes, as there is too much of it, or nothing to be consistent with: its version is not
	// stored before it is read to its end, and if it never is, the log is read from its beginning.
	anew bool
	// What is withheld, seen by who reads on: its version, and its entries' checksums.
	version, entries []Change
}

func (l *logs) log(name string) *log {
	if l.of == nil {
		l.of = map[string]*log{}
	}
	if l.of[name] == nil {
		l.of[name] = &log{}
	}
	return l.of[name]
}

// A Reading is of one log. It ends with End.
type Reading struct {
	Name   string
	store  *Store
	failed int
}

// ReadLog begins to read a log; it returns once a row says so.
func (s *Store) ReadLog(name string) (*Reading, error) {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	l := s.logs.log(name)
	l.open++
	return &Reading{Name: name, store: s}, s.commit(Change{openPrefix + name, []byte{1}})
}

// Context is for the library that reads the log from now on: one at a time does.
func (r *Reading) Context(ctx context.Context) context.Context {
	r.store.logs.mu.Lock()
	defer r.store.logs.mu.Unlock()
	r.failed = r.store.logs.log(r.Name).failed
	return context.WithValue(ctx, readingKey{}, r)
}

// End stores how far the log is read once nobody reads it. If not all of it was told it is read again, from what is stored.
func (r *Reading) End(told bool) error {
	s := r.store
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	l := s.logs.log(r.Name)
	l.open--
	if !told {
		l.failed++
		l.behind = true
		s.rewind(l)
	} else if l.failed == r.failed {
		l.behind = false
	}
	if l.open > 0 || l.behind {
		return nil
	}
	read := append(l.entries, l.version...)
	l.entries, l.version, l.anew = nil, nil, false
	defer s.unpin(read)
	return s.commit(append(read, Change{openPrefix + r.Name, nil})...)
}

// OpenLogs are those that are to be read on.
func (s *Store) OpenLogs(ctx context.Context) (names []string, err error) {
	login, err := s.all(ctx, loginPrefix)
	for key := range login {
		if name, is := strings.CutPrefix(key, openPrefix); is {
			names = append(names, name)
		}
	}
	return names, err
}

// LeaveOpen keeps, with the message that is being received, that those logs are to be read of which nothing was.
func (s *Store) LeaveOpen(ctx context.Context) error {
	for _, name := range appstate.AllPatchNames {
		version, _, err := s.LogVersion(ctx, string(name))
		if err == nil && version == 0 {
			err = s.note(ctx, Change{openPrefix + string(name), []byte{1}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// read is the log that whoever has the context reads, with the lock, which done gives back.
func (s *Store) read(ctx context.Context) (reading *Reading, l *log, done func(), err error) {
	reading, _ = ctx.Value(readingKey{}).(*Reading)
	if reading == nil {
		return nil, nil, nil, ErrReadElsewhere
	}
	s.logs.mu.Lock()
	if l = s.logs.log(reading.Name); l.failed != reading.failed {
		s.logs.mu.Unlock()
		return nil, nil, nil, ErrReadElsewhere
	}
	return reading, l, s.logs.mu.Unlock, nil
}

// beginAnew has a log begin with nothing of it stored.
func (s *Store) beginAnew(ctx context.Context, gone []Change) error {
	_, l, done, err := s.read(ctx)
	if err != nil {
		return err
	}
	defer done()
	s.rewind(l)
	l.anew = true
	for piece := range slices.Chunk(gone, maxChanges) {
		if err := s.commit(piece...); err != nil {
			return err
		}
	}
	return nil
}

// reached withholds how far a log is read.
func (s *Store) reached(ctx context.Context, version Change) error {
	_, l, done, err := s.read(ctx)
	if err != nil {
		return err
	}
	defer done()
	s.apply([]Change{version})
	s.unpin(l.version)
	l.version = []Change{version}
	return nil
}

// withhold keeps what a log's entries are until it is told; of too many, that the log is read from its beginning if it never is.
func (s *Store) withhold(ctx context.Context, changes []Change) error {
	reading, l, done, err := s.read(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !l.anew && len(l.entries)+len(changes) <= maxChanges {
		s.apply(changes)
		l.entries = append(l.entries, changes...)
		return nil
	}
	if !l.anew {
		if err := s.commit(Change{appVersion + reading.Name, nil}); err != nil {
			return err
		}
		if err := s.write(l.entries); err != nil {
			return err
		}
		s.apply(l.version) // which is seen, and not stored
		s.unpin(l.version)
		s.unpin(l.entries)
		l.entries, l.anew = nil, true
	}
	return s.write(changes)
}

// rewind lets go what is withheld: what is stored is seen again.
func (s *Store) rewind(l *log) {
	s.takeBack(append(l.entries, l.version...))
	l.entries, l.version = nil, nil
}
