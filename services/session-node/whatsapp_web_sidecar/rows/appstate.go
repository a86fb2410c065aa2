package rows

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow/store"
)

// What the account's devices share is followed, so that the next change of it can be checked; it is not kept.

func (s *Store) PutAppStateSyncKey(ctx context.Context, id []byte, key store.AppStateSyncKey) error {
	known, err := s.all(ctx, appKeyPrefix)
	if err != nil {
		return err
	}
	changed := Change{appKeyPrefix + hex.EncodeToString(id), encode(key)}
	if bytes.Equal(known[changed.Key], changed.Value) { // the library keeps it, too
		return nil
	}
	return s.note(ctx, changed)
}

func (s *Store) GetAppStateSyncKey(ctx context.Context, id []byte) (*store.AppStateSyncKey, error) {
	value, err := s.look(ctx, appKeyPrefix+hex.EncodeToString(id))
	if value == nil {
		return nil, err
	}
	var key store.AppStateSyncKey
	return &key, json.Unmarshal(value, &key)
}

func (s *Store) GetAllAppStateSyncKeys(ctx context.Context) ([]*store.AppStateSyncKey, error) {
	known, err := s.all(ctx, appKeyPrefix)
	if err != nil {
		return nil, err
	}
	found := make([]*store.AppStateSyncKey, 0, len(known))
	for _, value := range known {
		var key store.AppStateSyncKey
		if err := json.Unmarshal(value, &key); err != nil {
			return nil, err
		}
		found = append(found, &key)
	}
	slices.SortFunc(found, func(a, b *store.AppStateSyncKey) int { return int(b.Timestamp - a.Timestamp) })
	return found, nil
}

func (s *Store) GetLatestAppStateSyncKeyID(ctx context.Context) ([]byte, error) {
	known, err := s.all(ctx, appKeyPrefix)
	if err != nil {
		return nil, err
	}
	latest, newest := "", int64(-1)
	for name, value := range known {
		var key store.AppStateSyncKey
		if json.Unmarshal(value, &key) == nil && key.Timestamp > newest {
			latest, newest = name, key.Timestamp
		}
	}
	if latest == "" {
		return nil, nil
	}
	return hex.DecodeString(strings.TrimPrefix(latest, appKeyPrefix))
}

type appStateVersion struct {
	Version uint64
	Hash    []byte
}

func (s *Store) PutAppStateVersion(ctx context.Context, name string, version uint64, hash [128]byte) error {
	return s.reached(ctx, Change{appVersion + name, encode(appStateVersion{version, hash[:]})})
}

func (s *Store) GetAppStateVersion(ctx context.Context, name string) (uint64, [128]byte, error) {
	_, l, done, err := s.read(ctx)
	if err != nil {
		return 0, [128]byte{}, err
	}
	defer done()
	version, hash, err := s.LogVersion(ctx, name)
	l.anew = l.anew || version == 0 && len(l.version) == 0
	return version, hash, err
}

// LogVersion is how far a log is read, and what its entries add up to; 0: nothing of it is.
func (s *Store) LogVersion(ctx context.Context, name string) (uint64, [128]byte, error) {
	value, err := s.look(ctx, appVersion+name)
	var version appStateVersion
	if err != nil || value == nil || json.Unmarshal(value, &version) != nil || len(version.Hash) != 128 {
		return 0, [128]byte{}, err
	}
	return version.Version, [128]byte(version.Hash), nil
}

// DeleteAppStateVersion begins anew. The checksums of what is there go too: an old one would not fit what is set anew.
func (s *Store) DeleteAppStateVersion(ctx context.Context, name string) error {
	stored, err := s.node.Read(s.ctx, []string{appVersion + name}, []string{appMACPrefix + name + "/"})
	if err != nil {
		return ErrNotStored
	}
	var changes []Change
	for key := range stored {
		changes = append(changes, Change{key, nil})
	}
	return s.beginAnew(ctx, changes)
}

func macKey(name string, index []byte) string {
	return appMACPrefix + name + "/" + hex.EncodeToString(index)
}

func (s *Store) PutAppStateMutationMACs(ctx context.Context, name string, _ uint64, mutations []store.AppStateMutationMAC) error {
	changes := make([]Change, len(mutations))
	for i, mutation := range mutations {
		changes[i] = Change{macKey(name, mutation.IndexMAC), mutation.ValueMAC}
	}
	return s.withhold(ctx, changes)
}

func (s *Store) DeleteAppStateMutationMACs(ctx context.Context, name string, indexes [][]byte) error {
	changes := make([]Change, len(indexes))
	for i, index := range indexes {
		changes[i] = Change{macKey(name, index), nil}
	}
	return s.withhold(ctx, changes)
}

func (s *Store) GetAppStateMutationMAC(ctx context.Context, name string, index []byte) ([]byte, error) {
	return s.look(ctx, macKey(name, index))
}

func encode(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err) // of our own types, which have nothing that JSON lacks
	}
	return encoded
}
