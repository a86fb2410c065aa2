package rows

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"go.mau.fi/util/random"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// deviceRow is who the device is, and its keys.
type deviceRow struct {
	AccountID          string
	JID, LID           string
	RegistrationID     uint32
	Noise, Identity    []byte
	SignedPreKey       []byte
	SignedPreKeyID     uint32
	SignedPreKeySign   []byte
	ADVSecret, Account []byte
	Platform           string
	BusinessName       string
	PushName           string
	LIDMigration       int64
	CompanionNonce     string
}

// NewDevice is a device that nobody has accepted yet.
func (s *Store) NewDevice() *store.Device {
	d := s.emptyDevice()
	d.NoiseKey, d.IdentityKey = keys.NewKeyPair(), keys.NewKeyPair()
	d.RegistrationID = rand.Uint32()
	d.AdvSecretKey = random.Bytes(32)
	d.SignedPreKey = d.IdentityKey.CreateSignedPreKey(1)
	return d
}

// LoadDevice is the device that the rows are of. Its error is ErrUnusable or ErrNotStored.
func (s *Store) LoadDevice(ctx context.Context) (*store.Device, error) {
	value, err := s.look(ctx, deviceKey)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("%w: there is no device", ErrUnusable)
	}
	var row deviceRow
	if err := json.Unmarshal(value, &row); err != nil {
		return nil, fmt.Errorf("%w: the device cannot be read", ErrUnusable)
	}
	if row.AccountID != s.accountID {
		return nil, fmt.Errorf("%w: they are of another account, %s", ErrUnusable, row.AccountID)
	}
	d := s.emptyDevice()
	if len(row.Noise) != 32 || len(row.Identity) != 32 || len(row.SignedPreKey) != 32 || len(row.SignedPreKeySign) != 64 {
		return nil, fmt.Errorf("%w: a key is missing", ErrUnusable)
	}
	jid, err := types.ParseJID(row.JID)
	if err != nil || jid.User == "" {
		return nil, fmt.Errorf("%w: the device has no id", ErrUnusable)
	}
	d.ID = &jid
	if row.LID != "" {
		if d.LID, err = types.ParseJID(row.LID); err != nil {
			return nil, fmt.Errorf("%w: its hidden id cannot be read", ErrUnusable)
		}
	}
	d.RegistrationID = row.RegistrationID
	d.NoiseKey = keys.NewKeyPairFromPrivateKey([32]byte(row.Noise))
	d.IdentityKey = keys.NewKeyPairFromPrivateKey([32]byte(row.Identity))
	signature := [64]byte(row.SignedPreKeySign)
	d.SignedPreKey = &keys.PreKey{
		KeyPair: *keys.NewKeyPairFromPrivateKey([32]byte(row.SignedPreKey)), KeyID: row.SignedPreKeyID, Signature: &signature,
	}
	d.AdvSecretKey = row.ADVSecret
	d.Platform, d.BusinessName, d.PushName = row.Platform, row.BusinessName, row.PushName
	d.LIDMigrationTimestamp, d.CompanionMetaNonce = row.LIDMigration, row.CompanionNonce
	d.Account = &waAdv.ADVSignedDeviceIdentity{}
	if err := proto.Unmarshal(row.Account, d.Account); err != nil {
		return nil, fmt.Errorf("%w: its signature cannot be read", ErrUnusable)
	}
	return d, nil
}

func (s *Store) emptyDevice() *store.Device {
	d := &store.Device{Container: s, LIDs: s, Initialized: true}
	d.SetAllStores(s)
	s.device = d
	return d
}

// PutDevice stores who the device is; it returns when that is stored.
func (s *Store) PutDevice(_ context.Context, d *store.Device) error {
	account, err := proto.Marshal(d.Account)
	if err != nil {
		return err
	}
	return s.commit(Change{deviceKey, encode(deviceRow{
		AccountID: s.accountID, JID: d.GetJID().String(), LID: d.LID.String(), RegistrationID: d.RegistrationID,
		Noise: d.NoiseKey.Priv[:], Identity: d.IdentityKey.Priv[:], SignedPreKey: d.SignedPreKey.Priv[:],
		SignedPreKeyID: d.SignedPreKey.KeyID, SignedPreKeySign: d.SignedPreKey.Signature[:], ADVSecret: d.AdvSecretKey,
		Account: account, Platform: d.Platform, BusinessName: d.BusinessName, PushName: d.PushName,
		LIDMigration: d.LIDMigrationTimestamp, CompanionNonce: d.CompanionMetaNonce,
	})})
}

// DeleteDevice does nothing: the node deletes all rows once it knows that the pairing has ended.
func (s *Store) DeleteDevice(context.Context, *store.Device) error { return nil }

// completePairing hands over the rows of a new device. The library stores the identity of the account's phone last,
// right before it tells the network that the pairing is final.
func (s *Store) completePairing() error {
	s.state.Lock()
	complete, rows := s.pairing, s.held
	s.state.Unlock()
	if complete == nil || s.device.ID == nil {
		return nil
	}
	if !complete(encoded(rows)) {
		return ErrNotStored
	}
	return nil
}

// KeepHistory keeps the notice of a piece of history until it is read, with the message that brought it.
func (s *Store) KeepHistory(id string, notice []byte) error {
	return s.note(context.Background(), Change{historyPrefix + id, notice})
}

// HistoryRead lets a notice go; it returns when that is stored.
func (s *Store) HistoryRead(id string) error { return s.commit(Change{historyPrefix + id, nil}) }

// History returns the notices of what is still to be read, by their ids.
func (s *Store) History() (map[string][]byte, error) {
	login, err := s.all(context.Background(), loginPrefix)
	found := map[string][]byte{}
	for key, value := range login {
		if id, is := strings.CutPrefix(key, historyPrefix); is {
			found[id] = value
		}
	}
	return found, err
}
