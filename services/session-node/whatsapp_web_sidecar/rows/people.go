package rows

import (
	"context"
	"encoding/json"
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
	for _, mapping := range mappings {
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
	units := make([]string, len(pns))
	for i, pn := range pns {
		units[i] = unitOf(peerKey(pn.User, "lid"))
	}
	if s.prefetch(s.ctx, units) != nil {
		return nil, ErrNotStored
	}
	found := map[types.JID]types.JID{}
	for _, pn := range pns {
		lid, err := s.GetLIDForPN(ctx, pn)
		if err != nil {
			return nil, err
		}
		if !lid.IsEmpty() {
			found[pn] = lid
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
func (s *Store) GetAllContacts(context.Context) (map[types.JID]types.ContactInfo, error) {
	return nil, nil
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
