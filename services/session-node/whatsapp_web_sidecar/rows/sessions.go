package rows

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// --- sessions

// GetManySessions begins an encryption: it takes the ratchets' lock.
func (s *Store) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	current := scopeOf(ctx)
	if current == nil {
		return nil, ErrNotStored
	}
	if err := s.take(ctx, current); err != nil {
		return nil, err
	}
	of := map[string][]string{} // the addresses of each unit
	for _, address := range addresses {
		unit := unitOf(sessionKey(address))
		of[unit] = append(of[unit], address)
	}
	found := make(map[string][]byte, len(addresses))
	if s.together(s.ctx, slices.Collect(maps.Keys(of)), func(u *unit) {
		for _, address := range of[u.name] {
			found[address] = u.rows[sessionKey(address)]
		}
	}) != nil {
		return nil, ErrNotStored
	}
	for _, change := range current.changes { // such as sessions that have just moved to a hidden id
		for _, address := range of[unitOf(change.Key)] {
			if sessionKey(address) == change.Key {
				found[address] = change.Value
			}
		}
	}
	return found, nil
}

// PutManySessions ends an encryption, before the message leaves: within what is reserved only memory changes, else it
// returns when the sessions are stored.
func (s *Store) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	current := scopeOf(ctx)
	if current == nil || !current.held {
		return ErrNotStored
	}
	defer s.give(current)
	changes := make([]Change, 0, len(sessions))
	for address, session := range sessions {
		changes = append(changes, Change{sessionKey(address), session})
	}
	if s.ctx.Err() != nil {
		return ErrNotStored
	}
	if len(current.changes) == 0 && s.within(changes) {
		s.remember(changes)
		return nil
	}
	current.add(changes...)
	changes, current.changes = current.changes, nil
	more, err := s.bounded(s.ctx, keptSent, changes)
	if err != nil {
		return err
	}
	return s.commit(append(changes, more...)...)
}

// GetSession reads one session. In no scope it begins an encryption outside SendMessage, of the answer to a retry
// receipt or of a message to the account's phone, which PutSession ends.
func (s *Store) GetSession(ctx context.Context, address string) ([]byte, error) {
	current := scopeOf(ctx)
	if current == nil {
		if err := s.acquire(ctx); err != nil {
			return nil, err
		}
		s.state.Lock()
		var guard *time.Timer
		guard = time.AfterFunc(maxLoose, func() { s.endLoose(guard) })
		s.loose = guard
		s.state.Unlock()
	} else if err := s.take(ctx, current); err != nil {
		return nil, err
	}
	return s.look(ctx, sessionKey(address))
}

// PutSession writes one session: in a decryption for Receive, else it returns when it is stored.
func (s *Store) PutSession(ctx context.Context, address string, session []byte) error {
	key := sessionKey(address)
	stored, err := s.look(ctx, key)
	if err != nil {
		return err
	}
	if stored != nil {
		session = repair(stored, session)
	}
	sessions, err := s.sessionsOf(ctx, address)
	if err != nil {
		return err
	}
	change := Change{key, fitSession(session, sessions)}
	current := scopeOf(ctx)
	if current == nil {
		s.state.Lock()
		guard := s.loose
		s.state.Unlock()
		if guard == nil { // it took too long: others have used the session meanwhile
			return ErrNotStored
		}
		defer s.endLoose(guard)
		return s.commit(change)
	}
	current.add(change)
	return nil
}

// sessionsOf counts the sessions with the devices of an address's person.
func (s *Store) sessionsOf(ctx context.Context, address string) (int, error) {
	prefix := unitOf(sessionKey(address))
	known, err := s.all(ctx, prefix)
	sessions := 0
	for key := range known {
		if strings.HasPrefix(key[len(prefix):], "session/") {
			sessions++
		}
	}
	return sessions, err
}

func (s *Store) endLoose(guard *time.Timer) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.loose != nil && s.loose == guard {
		s.loose = nil
		guard.Stop()
		<-s.ratchet
	}
}

func (s *Store) HasSession(ctx context.Context, address string) (bool, error) {
	session, err := s.look(ctx, sessionKey(address))
	return session != nil, err
}

func (s *Store) DeleteSession(ctx context.Context, address string) error {
	key := sessionKey(address)
	if session, err := s.look(ctx, key); err != nil || session == nil {
		return err
	}
	return s.note(ctx, Change{key, nil})
}

func (s *Store) DeleteAllSessions(ctx context.Context, user string) error {
	return s.deleteOf(ctx, user, "session/")
}

// MigratePNToLID moves what is known of a person by their number to their hidden id.
func (s *Store) MigratePNToLID(ctx context.Context, pn, lid types.JID) error {
	from, to := peerPrefix+pn.SignalAddressUser()+"/", peerPrefix+lid.SignalAddressUser()+"/"
	if any, err := s.movable(ctx, from); err != nil || !any {
		return err
	}
	current := scopeOf(ctx)
	if current == nil {
		current = &scope{}
		defer s.give(current)
	}
	if err := s.take(ctx, current); err != nil {
		return err
	}
	known, err := s.all(ctx, from)
	if err != nil {
		return err
	}
	there, err := s.all(ctx, to)
	if err != nil {
		return err
	}
	var changes []Change
	for key, value := range known {
		if !moves(key, from) {
			continue
		}
		if _, newer := there[to+key[len(from):]]; !newer {
			changes = append(changes, Change{to + key[len(from):], value})
		}
		changes = append(changes, Change{key, nil})
	}
	return s.note(ctx, changes...)
}

func (s *Store) movable(ctx context.Context, from string) (bool, error) {
	known, err := s.all(ctx, from)
	for key := range known {
		if moves(key, from) {
			return true, err
		}
	}
	return false, err
}

func moves(key, prefix string) bool {
	return strings.HasPrefix(key[len(prefix):], "session/") || strings.HasPrefix(key[len(prefix):], "identity/")
}

// deleteOf deletes what is known of a person's devices, whichever of their ids is named: the library has the number, or the
// hidden id as the network writes it.
func (s *Store) deleteOf(ctx context.Context, user, what string) error {
	users, err := s.idsOf(ctx, user)
	if err != nil {
		return err
	}
	var changes []Change
	for _, id := range users {
		prefix := peerPrefix + id + "/"
		known, err := s.all(ctx, prefix)
		if err != nil {
			return err
		}
		for key := range known {
			if strings.HasPrefix(key[len(prefix):], what) {
				changes = append(changes, Change{key, nil})
			}
		}
	}
	return s.note(ctx, changes...)
}

// idsOf are the names under which something may be known of a person, of whom one is given without its server.
func (s *Store) idsOf(ctx context.Context, user string) ([]string, error) {
	hidden := types.NewJID(user, types.HiddenUserServer)
	ids := []string{user, hiddenUser(hidden)}
	number, err := s.GetPNForLID(ctx, hidden)
	if err != nil {
		return nil, err
	}
	if !number.IsEmpty() {
		ids = append(ids, number.User)
	}
	other, err := s.GetLIDForPN(ctx, types.NewJID(user, types.DefaultUserServer))
	if err != nil {
		return nil, err
	}
	if !other.IsEmpty() {
		ids = append(ids, hiddenUser(other))
	}
	return ids, nil
}

// --- identities

func (s *Store) PutIdentity(ctx context.Context, address string, identity [32]byte) error {
	key := identityKey(address)
	known, err := s.look(ctx, key)
	if err != nil {
		return err
	}
	if string(known) != string(identity[:]) {
		if err := s.note(ctx, Change{key, identity[:]}); err != nil {
			return err
		}
	}
	return s.completePairing()
}

func (s *Store) IsTrustedIdentity(ctx context.Context, address string, identity [32]byte) (bool, error) {
	known, err := s.look(ctx, identityKey(address))
	return err == nil && (known == nil || string(known) == string(identity[:])), err
}

func (s *Store) DeleteIdentity(ctx context.Context, address string) error {
	return s.note(ctx, Change{identityKey(address), nil})
}

func (s *Store) DeleteAllIdentities(ctx context.Context, user string) error {
	return s.deleteOf(ctx, user, "identity/")
}

// --- sender keys

func (s *Store) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	return s.look(ctx, senderKeyKey(group, user))
}

// PutSenderKey writes what a decryption made of another member's key, or what an encryption made of the account's own,
// before the message leaves.
func (s *Store) PutSenderKey(ctx context.Context, group, user string, key []byte) error {
	change := Change{senderKeyKey(group, user), fitSenderKey(key)}
	if _, _, own := sendingChain(change.Key, key); !own {
		return s.note(ctx, change)
	}
	if s.ctx.Err() != nil {
		return ErrNotStored
	}
	if current := scopeOf(ctx); current != nil {
		current.drop(change.Key) // that there was to be another one
	}
	if s.within([]Change{change}) {
		s.remember([]Change{change})
		return nil
	}
	return s.commit(change)
}
