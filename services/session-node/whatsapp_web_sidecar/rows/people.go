package rows

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// --- hidden ids

func (s *Store) PutLIDMapping(ctx context.Context, lid, pn types.JID) error {
	return s.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: lid, PN: pn}})
}

func (s *Store) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	var changes []Change
	for i, mapping := range mappings {
		if i%mappingsAtOnce == 0 {
			if err := s.readMappings(mappings[i:min(i+mappingsAtOnce, len(mappings))]); err != nil {
				return err
			}
		}
		if mapping.LID.Server != types.HiddenUserServer || mapping.PN.Server != types.DefaultUserServer {
			continue
		}
		byNumber, byHidden := peerKey(mapping.PN.User, "lid"), peerKey(hiddenUser(mapping.LID), "pn")
		known, err := s.look(ctx, byNumber)
		if err != nil {
			return err
		}
		if string(known) == mapping.LID.User {
			continue
		}
		if _, err := s.look(ctx, byHidden); err != nil {
			return err
		}
		changes = append(changes, Change{byNumber, []byte(mapping.LID.User)}, Change{byHidden, []byte(mapping.PN.User)})
	}
	return s.note(ctx, changes...)
}

// mappingsAtOnce is of how many people one question reads what is known: those of a large group come together.
const mappingsAtOnce = unitsAtOnce / 2

// readMappings reads what is known of people at once, where it is not in memory.
func (s *Store) readMappings(mappings []store.LIDMapping) error {
	var units []string
	for _, mapping := range mappings {
		if !mapping.LID.IsEmpty() && !mapping.PN.IsEmpty() {
			units = append(units, unitOf(peerKey(mapping.PN.User, "lid")), unitOf(peerKey(hiddenUser(mapping.LID), "pn")))
		}
	}
	if s.together(s.ctx, units, func(*unit) {}) != nil {
		return ErrNotStored
	}
	return nil
}

// GetManyPNsForLIDs returns the numbers of those whose are known.
func (s *Store) GetManyPNsForLIDs(lids []types.JID) (map[types.JID]types.JID, error) {
	of := map[string][]types.JID{}
	for _, lid := range lids {
		unit := unitOf(peerKey(hiddenUser(lid), "pn"))
		of[unit] = append(of[unit], lid)
	}
	found := map[types.JID]types.JID{}
	if s.together(s.ctx, slices.Collect(maps.Keys(of)), func(u *unit) {
		for _, lid := range of[u.name] {
			if user := u.rows[peerKey(hiddenUser(lid), "pn")]; user != nil {
				found[lid] = types.JID{User: string(user), Server: types.DefaultUserServer}
			}
		}
	}) != nil {
		return nil, ErrNotStored
	}
	return found, nil
}

// KeepOtherNumber keeps that a number is another way to write that of whom a hidden id is, who is not found by it.
func (s *Store) KeepOtherNumber(ctx context.Context, number, lid types.JID) error {
	if lid.Server != types.HiddenUserServer {
		return nil
	}
	key := peerKey(number.User, "lid")
	if _, err := s.look(ctx, key); err != nil {
		return err
	}
	return s.note(ctx, Change{key, []byte(lid.User)})
}

func (s *Store) GetPNForLID(ctx context.Context, lid types.JID) (types.JID, error) {
	user, err := s.look(ctx, peerKey(hiddenUser(lid), "pn"))
	if user == nil {
		return types.EmptyJID, err
	}
	return types.JID{User: string(user), Server: types.DefaultUserServer, Device: lid.Device}, nil
}

func (s *Store) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	user, err := s.look(ctx, peerKey(pn.User, "lid"))
	if user == nil {
		return types.EmptyJID, err
	}
	return types.JID{User: string(user), Server: types.HiddenUserServer, Device: pn.Device}, nil
}

func (s *Store) GetManyLIDsForPNs(ctx context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	of := map[string][]types.JID{} // those of each unit: somebody's devices
	for _, pn := range pns {
		unit := unitOf(peerKey(pn.User, "lid"))
		of[unit] = append(of[unit], pn)
	}
	found := map[types.JID]types.JID{}
	if s.together(s.ctx, slices.Collect(maps.Keys(of)), func(u *unit) {
		for _, pn := range of[u.name] {
			if user := u.rows[peerKey(pn.User, "lid")]; user != nil {
				found[pn] = types.JID{User: string(user), Server: types.HiddenUserServer, Device: pn.Device}
			}
		}
	}) != nil {
		return nil, ErrNotStored
	}
	if current := scopeOf(ctx); current != nil { // what this message has asked the network for
		for _, change := range current.changes {
			for _, pn := range of[unitOf(change.Key)] {
				if change.Key == peerKey(pn.User, "lid") && change.Value != nil {
					found[pn] = types.JID{User: string(change.Value), Server: types.HiddenUserServer, Device: pn.Device}
				}
			}
		}
	}
	return found, nil
}

// hiddenUser is a hidden id as sessions' addresses have it: what is known of somebody by it lies together.
func hiddenUser(lid types.JID) string {
	return types.NewJID(lid.User, types.HiddenUserServer).SignalAddressUser()
}

func tokenKey(user types.JID) string {
	if user.Server == types.HiddenUserServer {
		return peerKey(hiddenUser(user), "token")
	}
	return peerKey(user.User, "token")
}

// --- how long the messages of a chat last

// KeepTimer keeps how long the messages of a chat last, in seconds; 0: for good.
func (s *Store) KeepTimer(ctx context.Context, chat types.JID, seconds uint32) error {
	key, err := s.timerKey(ctx, chat)
	if err != nil || key == "" {
		return err
	}
	kept, err := s.look(ctx, key)
	value := []byte(strconv.Itoa(int(seconds)))
	if err != nil || seconds == 0 && kept == nil || string(kept) == string(value) {
		return err
	}
	if seconds == 0 {
		value = nil
	}
	return s.note(ctx, Change{key, value})
}

// Timer returns it.
func (s *Store) Timer(ctx context.Context, chat types.JID) (uint32, error) {
	key, err := s.timerKey(ctx, chat)
	if err != nil || key == "" {
		return 0, err
	}
	kept, err := s.look(ctx, key)
	if err != nil || kept == nil {
		return 0, err
	}
	seconds, err := strconv.ParseUint(string(kept), 10, 32)
	return uint32(seconds), err
}

// timerKey is beside what else is known of a person, by hidden id where they have one.
func (s *Store) timerKey(ctx context.Context, chat types.JID) (string, error) {
	switch chat.Server {
	case types.GroupServer:
		return timerPrefix + chat.User, nil
	case types.HiddenUserServer:
		return peerKey(hiddenUser(chat), "timer"), nil
	case types.DefaultUserServer:
		hidden, err := s.GetLIDForPN(ctx, chat)
		if err != nil || hidden.IsEmpty() {
			return peerKey(chat.User, "timer"), err
		}
		return peerKey(hiddenUser(hidden), "timer"), nil
	}
	return "", nil
}

// --- tokens

func (s *Store) PutPrivacyTokens(ctx context.Context, tokens ...store.PrivacyToken) error {
	var changes []Change
	for _, token := range tokens {
		key := tokenKey(token.User)
		if _, err := s.look(ctx, key); err != nil {
			return err
		}
		changes = append(changes, Change{key, encode(token)})
	}
	return s.note(ctx, changes...)
}

func (s *Store) GetPrivacyToken(ctx context.Context, user types.JID) (*store.PrivacyToken, error) {
	value, err := s.look(ctx, tokenKey(user))
	if value == nil {
		return nil, err
	}
	var token store.PrivacyToken
	return &token, json.Unmarshal(value, &token)
}

// DeleteExpiredPrivacyTokens deletes none: there is one of each person at most, and a newer one takes its place.
func (s *Store) DeleteExpiredPrivacyTokens(context.Context, time.Time) (int64, error) { return 0, nil }

func (s *Store) PutNCTSalt(ctx context.Context, salt []byte) error {
	return s.note(ctx, Change{nctSaltKey, salt})
}

func (s *Store) GetNCTSalt(ctx context.Context) ([]byte, error) { return s.look(ctx, nctSaltKey) }

func (s *Store) DeleteNCTSalt(ctx context.Context) error { return s.note(ctx, Change{nctSaltKey, nil}) }

// --- what is not kept: names come with messages, and nobody asks for the settings of chats

func (s *Store) PutPushName(context.Context, types.JID, string) (bool, string, error) {
	return false, "", nil
}

func (s *Store) PutBusinessName(context.Context, types.JID, string) (bool, string, error) {
	return false, "", nil
}
func (s *Store) PutContactName(context.Context, types.JID, string, string) error         { return nil }
func (s *Store) PutAllContactNames(context.Context, []store.ContactEntry) error          { return nil }
func (s *Store) PutManyRedactedPhones(context.Context, []store.RedactedPhoneEntry) error { return nil }
func (s *Store) GetContact(context.Context, types.JID) (types.ContactInfo, error) {
	return types.ContactInfo{}, nil
}

// GetAllContacts is what the library asks for where a status post goes to contacts: those that its sender named.
func (s *Store) GetAllContacts(ctx context.Context) (map[types.JID]types.ContactInfo, error) {
	named, _ := ctx.Value(audienceKey{}).([]types.JID)
	contacts := make(map[types.JID]types.ContactInfo, len(named))
	for _, jid := range named {
		contacts[jid] = types.ContactInfo{Found: true, FullName: jid.User}
	}
	return contacts, nil
}

type audienceKey struct{}

// WithAudience has a status post that is sent with the context go to these people.
func WithAudience(ctx context.Context, people []types.JID) context.Context {
	return context.WithValue(ctx, audienceKey{}, people)
}

func (s *Store) PutMutedUntil(context.Context, types.JID, time.Time) error { return nil }
func (s *Store) PutPinned(context.Context, types.JID, bool) error          { return nil }
func (s *Store) PutArchived(context.Context, types.JID, bool) error        { return nil }
func (s *Store) GetOutgoingEvent(context.Context, types.JID, types.JID, types.MessageID) (string, []byte, error) {
	return "", nil, nil
}
func (s *Store) AddOutgoingEvent(context.Context, types.JID, types.MessageID, string, []byte) error {
	return nil
}
func (s *Store) DeleteOldOutgoingEvents(context.Context) error { return nil }
func (s *Store) GetChatSettings(context.Context, types.JID) (types.LocalChatSettings, error) {
	return types.LocalChatSettings{}, nil
}
