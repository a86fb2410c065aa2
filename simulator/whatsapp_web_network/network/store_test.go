package network_test

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"sync"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// memory is a linked device's store. Encrypting and decrypting lock each other out, which the library leaves to its store.
type memory struct {
	*store.NoopStore

	ratchet    sync.Mutex
	mu         sync.Mutex
	sessions   map[string][]byte
	senderKeys map[string][]byte
	preKeys    map[uint32]*keys.PreKey
	lastKey    uint32
	uploaded   uint32
	syncKeys   map[string]store.AppStateSyncKey
	lastSync   []byte
	lids       map[types.JID]types.JID
	versions   map[string]version
}

type version struct {
	number uint64
	hash   [128]byte
}

func newDevice() *store.Device {
	m := &memory{
		NoopStore: &store.NoopStore{}, sessions: map[string][]byte{}, senderKeys: map[string][]byte{},
		preKeys: map[uint32]*keys.PreKey{}, syncKeys: map[string]store.AppStateSyncKey{},
		lids: map[types.JID]types.JID{}, versions: map[string]version{},
	}
	device := &store.Device{
		NoiseKey: keys.NewKeyPair(), IdentityKey: keys.NewKeyPair(), RegistrationID: rand.Uint32(),
		AdvSecretKey: make([]byte, 32), Container: m, LIDs: m, PushName: "Test",
	}
	device.SignedPreKey = device.IdentityKey.CreateSignedPreKey(1)
	device.SetAllStores(m)
	device.Initialized = true
	return device
}

func (m *memory) PutDevice(context.Context, *store.Device) error    { return nil }
func (m *memory) DeleteDevice(context.Context, *store.Device) error { return nil }

func (m *memory) IsTrustedIdentity(context.Context, string, [32]byte) (bool, error) { return true, nil }

func (m *memory) GetSession(_ context.Context, address string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[address], nil
}

func (m *memory) HasSession(_ context.Context, address string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[address] != nil, nil
}

func (m *memory) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	if ctx.Value(sending{}) != nil {
		m.ratchet.Lock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string][]byte{}
	for _, address := range addresses {
		found[address] = m.sessions[address]
	}
	return found, nil
}

func (m *memory) PutSession(_ context.Context, address string, session []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[address] = session
	return nil
}

func (m *memory) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	m.mu.Lock()
	for address, session := range sessions {
		m.sessions[address] = session
	}
	m.mu.Unlock()
	if ctx.Value(sending{}) != nil {
		m.ratchet.Unlock()
	}
	return nil
}

func (m *memory) DeleteSession(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, address)
	return nil
}

// forget makes everything unreadable that is encrypted for the sessions the device has.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.sessions)
}

type sending struct{}

func (m *memory) DoDecryptionTxn(ctx context.Context, decrypt func(context.Context) error) error {
	m.ratchet.Lock()
	defer m.ratchet.Unlock()
	return decrypt(ctx)
}

func (m *memory) GetOrGenPreKeys(_ context.Context, count uint32) ([]*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	made := make([]*keys.PreKey, count)
	for i := range made {
		m.lastKey++
		made[i] = keys.NewPreKey(m.lastKey)
		m.preKeys[m.lastKey] = made[i]
	}
	return made, nil
}

func (m *memory) GenOnePreKey(ctx context.Context) (*keys.PreKey, error) {
	made, err := m.GetOrGenPreKeys(ctx, 1)
	return made[0], err
}

func (m *memory) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.preKeys[id], nil
}

func (m *memory) RemovePreKey(_ context.Context, id uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.preKeys, id)
	return nil
}

func (m *memory) MarkPreKeysAsUploaded(_ context.Context, upTo uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uploaded = upTo
	return nil
}

func (m *memory) UploadedPreKeyCount(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.uploaded), nil
}

func (m *memory) PutSenderKey(_ context.Context, group, user string, key []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.senderKeys[group+" "+user] = key
	return nil
}

func (m *memory) GetSenderKey(_ context.Context, group, user string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.senderKeys[group+" "+user], nil
}

func (m *memory) PutAppStateSyncKey(_ context.Context, id []byte, key store.AppStateSyncKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncKeys[hex.EncodeToString(id)], m.lastSync = key, id
	return nil
}

func (m *memory) GetAppStateSyncKey(_ context.Context, id []byte) (*store.AppStateSyncKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, ok := m.syncKeys[hex.EncodeToString(id)]
	if !ok {
		return nil, nil
	}
	return &key, nil
}

func (m *memory) GetLatestAppStateSyncKeyID(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastSync, nil
}

func (m *memory) PutAppStateVersion(_ context.Context, name string, number uint64, hash [128]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions[name] = version{number, hash}
	return nil
}

func (m *memory) GetAppStateVersion(_ context.Context, name string) (uint64, [128]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.versions[name].number, m.versions[name].hash, nil
}

func (m *memory) PutManyLIDMappings(_ context.Context, mappings []store.LIDMapping) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mapping := range mappings {
		lid, number := mapping.LID.ToNonAD(), mapping.PN.ToNonAD()
		m.lids[lid], m.lids[number] = number, lid
	}
	return nil
}

func (m *memory) PutLIDMapping(ctx context.Context, lid, number types.JID) error {
	return m.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: lid, PN: number}})
}

func (m *memory) GetPNForLID(_ context.Context, lid types.JID) (types.JID, error) {
	return m.other(lid), nil
}
func (m *memory) GetLIDForPN(_ context.Context, number types.JID) (types.JID, error) {
	return m.other(number), nil
}

func (m *memory) other(jid types.JID) types.JID {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.lids[jid.ToNonAD()]
	if !ok {
		return types.EmptyJID
	}
	found.Device = jid.Device
	return found
}

func (m *memory) GetManyLIDsForPNs(_ context.Context, numbers []types.JID) (map[types.JID]types.JID, error) {
	found := map[types.JID]types.JID{}
	for _, number := range numbers {
		if lid := m.other(number); !lid.IsEmpty() {
			found[number] = lid
		}
	}
	return found, nil
}
