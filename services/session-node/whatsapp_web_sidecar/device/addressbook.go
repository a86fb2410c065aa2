package device

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/appstate/lthash"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waServerSync"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/cbcutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// contactVersion is that of the entries of the address book.
const contactVersion = 2

const (
	// keysTimeout is how long a phone may take, after a pairing, to share the keys of its settings.
	keysTimeout = 10 * time.Second
	keysPoll    = 50 * time.Millisecond
)

var errNoKeys = errors.New("the phone has not shared the keys of its settings")

// keysShared returns once the phone has shared the keys of its settings, which it does after a pairing.
func (d *Device) keysShared(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	for {
		keyID, err := d.store.GetLatestAppStateSyncKeyID(ctx)
		if err != nil || keyID != nil {
			return err
		}
		select {
		case <-time.After(keysPoll):
		case <-ctx.Done():
			return errNoKeys
		}
	}
}

// latestKey is the id of the key that changes are made with.
func (d *Device) latestKey(ctx context.Context) ([]byte, error) {
	keyID, err := d.store.GetLatestAppStateSyncKeyID(ctx)
	if err == nil && keyID == nil {
		err = errNoKeys
	}
	return keyID, err
}

// saveContact saves a person in the address book of the account's phone.
func (d *Device) saveContact(ctx context.Context, call *internalv1.SaveContactCall) error {
	person, err := d.personAt(call.GetPerson())
	if err != nil {
		return err
	}
	action := &waSyncAction.ContactAction{
		FullName: proto.String(call.GetFullName()), FirstName: proto.String(call.GetFirstName()), SaveOnPrimaryAddressbook: proto.Bool(true),
	}
	number, hidden := d.both(person, types.EmptyJID)
	if !hidden.IsEmpty() {
		action.LidJID = proto.String(hidden.String())
	}
	if !number.IsEmpty() {
		action.PnJID = proto.String(number.String())
	}
	return d.share(ctx, appstate.PatchInfo{
		Type: appstate.WAPatchCriticalUnblockLow,
		Mutations: []appstate.MutationInfo{{
			Index: contactIndex(person), Version: contactVersion, Value: &waSyncAction.SyncActionValue{ContactAction: action},
		}},
	})
}

// deleteContact takes a person out of the address book. The library can set entries of the settings that devices share, and
// remove none.
func (d *Device) deleteContact(ctx context.Context, call *internalv1.DeleteContactCall) error {
	person, err := d.personAt(call.GetPerson())
	if err != nil {
		return err
	}
	return d.takeOn(ctx, appstate.WAPatchCriticalUnblockLow, func() (*patchOf, error) { return d.removal(ctx, contactIndex(person)) })
}

func contactIndex(person types.JID) []string {
	return []string{appstate.IndexContact, person.ToNonAD().String()}
}

// patchOf is a patch, and the version that it changes.
type patchOf struct {
	version uint64
	body    []byte
}

// removal is a patch that removes an entry of the address book; nil: there is none.
func (d *Device) removal(ctx context.Context, index []string) (*patchOf, error) {
	const name = appstate.WAPatchCriticalUnblockLow
	keyID, err := d.latestKey(ctx)
	if err != nil {
		return nil, err
	}
	shared, err := d.store.GetAppStateSyncKey(ctx, keyID)
	if err != nil {
		return nil, err
	} else if shared == nil {
		return nil, errNoKeys
	}
	expanded := hkdfutil.SHA256(shared.Data, nil, []byte("WhatsApp Mutation Keys"), 160)
	indexKey, valueKey, valueMAC, snapshotMAC, patchMAC := expanded[:32], expanded[32:64], expanded[64:96], expanded[96:128], expanded[128:]
	named, err := json.Marshal(index)
	if err != nil {
		return nil, err
	}
	entry := mac(sha256.New, indexKey, named)
	before, err := d.store.GetAppStateMutationMAC(ctx, string(name), entry)
	if err != nil || before == nil {
		return nil, err
	}
	version, state, err := d.store.LogVersion(ctx, string(name))
	if err != nil {
		return nil, err
	}
	content, err := proto.Marshal(&waSyncAction.SyncActionData{
		Index: named, Value: &waSyncAction.SyncActionValue{Timestamp: proto.Int64(time.Now().UnixMilli())},
		Padding: []byte{}, Version: proto.Int32(contactVersion),
	})
	if err != nil {
		return nil, err
	}
	sealed, err := cbcutil.Encrypt(valueKey, nil, content)
	if err != nil {
		return nil, err
	}
	length := make([]byte, 8)
	binary.BigEndian.PutUint64(length, uint64(len(keyID)+1))
	const remove = 2 // the operation, as its MAC has it
	proof := mac(sha512.New, valueMAC, []byte{remove}, keyID, sealed, length)[:32]
	lthash.WAPatchIntegrity.SubtractThenAddInPlace(state[:], [][]byte{before}, nil)
	next := make([]byte, 8)
	binary.BigEndian.PutUint64(next, version+1)
	patch := &waServerSync.SyncdPatch{
		SnapshotMAC: mac(sha256.New, snapshotMAC, state[:], next, []byte(name)),
		KeyID:       &waServerSync.KeyId{ID: keyID},
		Mutations: []*waServerSync.SyncdMutation{{
			Operation: waServerSync.SyncdMutation_REMOVE.Enum(),
			Record: &waServerSync.SyncdRecord{
				Index: &waServerSync.SyncdIndex{Blob: entry}, Value: &waServerSync.SyncdValue{Blob: append(sealed, proof...)},
				KeyID: &waServerSync.KeyId{ID: keyID},
			},
		}},
	}
	patch.PatchMAC = mac(sha256.New, patchMAC, patch.GetSnapshotMAC(), proof, next, []byte(name))
	body, err := proto.Marshal(patch)
	return &patchOf{version, body}, err
}

// sendPatch gives the network a patch; false: the settings were changed meanwhile.
func (d *Device) sendPatch(ctx context.Context, name appstate.WAPatchName, patch *patchOf) (bool, error) {
	answer, err := d.client.DangerousInternals().SendIQ(ctx, whatsmeow.DangerousInfoQuery{
		Namespace: "w:sync:app:state", Type: "set", To: types.ServerJID,
		Content: []waBinary.Node{{Tag: "sync", Content: []waBinary.Node{{
			Tag: "collection", Attrs: waBinary.Attrs{
				"name": string(name), "version": patch.version, "return_snapshot": false,
			}, Content: []waBinary.Node{{Tag: "patch", Content: patch.body}},
		}}}},
	})
	if err != nil {
		return false, err
	}
	collection, _ := answer.GetOptionalChildByTag("sync", "collection")
	if collection.AttrGetter().OptionalString("type") != "error" {
		return true, nil
	}
	failure := collection.GetChildByTag("error")
	if failure.AttrGetter().OptionalInt("code") == 409 {
		return false, nil
	}
	return false, fmt.Errorf("%w: %s", whatsmeow.ErrAppStateUpdate, failure.AttrGetter().OptionalString("text"))
}

func mac(algorithm func() hash.Hash, key []byte, parts ...[]byte) []byte {
	sum := hmac.New(algorithm, key)
	for _, part := range parts {
		sum.Write(part)
	}
	return sum.Sum(nil)
}
