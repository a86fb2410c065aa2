package rows

import (
	"context"
	"encoding/binary"

	"go.mau.fi/whatsmeow/util/keys"
)

// preKeys counts the account's one-time keys: the next id, and the last that the network has.
type preKeys struct{ next, uploaded uint32 }

func (s *Store) preKeys(ctx context.Context) (preKeys, error) {
	value, err := s.look(ctx, preKeysKey)
	if err != nil || len(value) != 8 {
		return preKeys{next: 1}, err
	}
	return preKeys{binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(value[4:])}, nil
}

func (p preKeys) change() Change {
	return Change{preKeysKey, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, p.next), p.uploaded)}
}

// left is how many of those that the network has are left: counted as they come and go, as they are hundreds.
func (s *Store) left(ctx context.Context) (uint32, error) {
	value, err := s.look(ctx, preKeysLeftKey)
	if err != nil || len(value) != 4 {
		return 0, err
	}
	return binary.BigEndian.Uint32(value), nil
}

func leftChange(left uint32) Change {
	return Change{preKeysLeftKey, binary.BigEndian.AppendUint32(nil, left)}
}

// GetOrGenPreKeys returns keys that the network does not have yet, stored.
func (s *Store) GetOrGenPreKeys(ctx context.Context, count uint32) ([]*keys.PreKey, error) {
	s.generating.Lock()
	defer s.generating.Unlock()
	counts, err := s.preKeys(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*keys.PreKey, 0, count)
	if waiting := int64(counts.next) - int64(counts.uploaded) - 1; waiting > 0 {
		names := make([]string, 0, min(waiting, int64(count)))
		for id := counts.uploaded + 1; id < counts.next && len(names) < int(count); id++ {
			names = append(names, preKeyKey(id))
		}
		stored, err := s.node.Read(s.ctx, names, nil)
		if err != nil {
			return nil, ErrNotStored
		}
		for id := counts.uploaded + 1; id < counts.next && len(found) < int(count); id++ {
			if key := preKey(id, stored[preKeyKey(id)]); key != nil {
				found = append(found, key)
			}
		}
	}
	var changes []Change
	for len(found) < int(count) {
		key := keys.NewPreKey(counts.next)
		counts.next++
		found = append(found, key)
		changes = append(changes, Change{preKeyKey(key.KeyID), key.Priv[:]})
	}
	if len(changes) > 0 {
		changes = append(changes, counts.change())
	}
	return found, s.commit(changes...)
}

// maxLooseKeys is how many keys are made for single persons before the network has them: anybody may have one made with a
// message that cannot be decrypted.
const maxLooseKeys = 256

// GenOnePreKey returns a key, which goes to one person with a retry receipt: a new one as long as there are few.
func (s *Store) GenOnePreKey(ctx context.Context) (*keys.PreKey, error) {
	s.generating.Lock()
	defer s.generating.Unlock()
	counts, err := s.preKeys(ctx)
	if err != nil {
		return nil, err
	}
	if last := counts.next - 1; last > counts.uploaded+maxLooseKeys {
		value, err := s.look(ctx, preKeyKey(last))
		if err != nil {
			return nil, err
		}
		if key := preKey(last, value); key != nil {
			return key, nil
		}
	}
	key := keys.NewPreKey(counts.next)
	counts.next++
	return key, s.commit(Change{preKeyKey(key.KeyID), key.Priv[:]}, counts.change())
}

func (s *Store) GetPreKey(ctx context.Context, id uint32) (*keys.PreKey, error) {
	value, err := s.look(ctx, preKeyKey(id))
	return preKey(id, value), err
}

func (s *Store) RemovePreKey(ctx context.Context, id uint32) error {
	changes := []Change{{preKeyKey(id), nil}}
	left, err := s.left(ctx)
	if err != nil {
		return err
	}
	if left > 0 {
		changes = append(changes, leftChange(left-1))
	}
	return s.note(ctx, changes...)
}

// MarkPreKeysAsUploaded is told that the network has all keys up to one.
func (s *Store) MarkPreKeysAsUploaded(ctx context.Context, upTo uint32) error {
	s.generating.Lock()
	defer s.generating.Unlock()
	counts, err := s.preKeys(ctx)
	if err != nil || upTo <= counts.uploaded {
		return err
	}
	left, err := s.left(ctx)
	if err != nil {
		return err
	}
	left += upTo - counts.uploaded
	counts.uploaded = upTo
	return s.note(ctx, counts.change(), leftChange(left))
}

func (s *Store) UploadedPreKeyCount(ctx context.Context) (int, error) {
	left, err := s.left(ctx)
	return int(left), err
}

func preKey(id uint32, private []byte) *keys.PreKey {
	if len(private) != 32 {
		return nil
	}
	return &keys.PreKey{KeyPair: *keys.NewKeyPairFromPrivateKey([32]byte(private)), KeyID: id}
}
