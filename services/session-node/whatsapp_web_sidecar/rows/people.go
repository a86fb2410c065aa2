package rows

import (
	"context"
	"encoding/json"
	"strings"
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
		if len(changes) >= maxChanges {
			if err := s.note(ctx, changes...); err != nil {
				return err
			}
			changes = nil
		}
	}
	return s.note(ctx, changes...)
}

// maxChanges bounds one write of many mappings.
const maxChanges = 512

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

// --- secrets of messages

// PutMessageSecret keeps what votes on a poll and answers to an appointment are encrypted with. By the message's id
// alone, as its chat and its sender have two names each; the first one stays.
func (s *Store) PutMessageSecret(ctx context.Context, _, sender types.JID, id types.MessageID, secret []byte) error {
	key := secretPrefix + id
	if known, err := s.look(ctx, key); err != nil || known != nil {
		return err
	}
	return s.note(ctx, Change{key, []byte(sender.ToNonAD().String() + "\x00" + string(secret))})
}

// PutMessageSecrets keeps none: they are of the history, whose votes are counted already.
func (s *Store) PutMessageSecrets(context.Context, []store.MessageSecretInsert) error { return nil }

func (s *Store) GetMessageSecret(ctx context.Context, _, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	value, err := s.look(ctx, secretPrefix+id)
	if value == nil {
		return nil, sender, err
	}
	writer, secret, _ := strings.Cut(string(value), "\x00")
	jid, err := types.ParseJID(writer)
	return []byte(secret), jid, err
}

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

// KeepPoll keeps the answers of a poll, which votes name by their hashes, with the message that is being received.
func (s *Store) KeepPoll(id types.MessageID, answers []string) error {
	return s.note(context.Background(), Change{pollPrefix + id, encode(answers)})
}

// KeepOwnPoll keeps those of a poll that is being sent, stored before it leaves.
func (s *Store) KeepOwnPoll(sending context.Context, id types.MessageID, answers []string) error {
	return s.note(sending, Change{pollPrefix + id, encode(answers)})
}

// Poll returns the answers of a poll.
func (s *Store) Poll(id types.MessageID) (answers []string, known bool) {
	value, err := s.look(context.Background(), pollPrefix+id)
	if err != nil || value == nil || json.Unmarshal(value, &answers) != nil {
		return nil, false
	}
	return answers, true
}
