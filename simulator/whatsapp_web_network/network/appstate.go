package network

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waServerSync"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/proto/waSyncdSnapshotRecovery"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
)

// appState keeps the settings that devices of an account share, as patches that the network cannot read.
func (n *Network) appState(account *Account, child Node) Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	var collections []Node
	for _, asked := range child.GetChildren() {
		name, _ := asked.Attrs["name"].(string)
		from, _ := strconv.Atoi(text(asked.Attrs["version"]))
		if patch, ok := asked.Content.([]Node); ok && len(patch) > 0 && patch[0].Tag == "patch" {
			collections = append(collections, n.addPatch(account, name, from, patch[0]))
			continue
		}
		collections = append(collections, patchesAfter(account, name, from))
	}
	return Node{Tag: "sync", Content: collections}
}

// patchesAfter is what has changed since a version.
func patchesAfter(account *Account, name string, from int) Node {
	patches := account.patches[name]
	collection := Node{Tag: "collection", Attrs: Attrs{"name": name, "version": strconv.Itoa(len(patches))}}
	var list []Node
	for _, patch := range patches[min(max(from, 0), len(patches)):] {
		if account.effects.Load() != nil && account.effects.Load().brokenAppState {
			patch = missigned(patch)
		}
		list = append(list, Node{Tag: "patch", Content: patch})
	}
	if len(list) > 0 {
		collection.Content = []Node{{Tag: "patches", Content: list}}
	}
	return collection
}

// missigned is a patch whose signatures are another's.
func missigned(patch []byte) []byte {
	var decoded waServerSync.SyncdPatch
	if proto.Unmarshal(patch, &decoded) != nil {
		return patch
	}
	for _, signature := range [][]byte{decoded.GetSnapshotMAC(), decoded.GetPatchMAC()} {
		for i := range signature {
			signature[i] ^= 0xff
		}
	}
	encoded, _ := proto.Marshal(&decoded)
	return encoded
}

// addPatch takes a device's patch. One upon an older version is refused, with what has changed since.
func (n *Network) addPatch(account *Account, name string, from int, patch Node) Node {
	if from != len(account.patches[name]) {
		refused := patchesAfter(account, name, from)
		refused.Attrs["type"] = "error"
		changed, _ := refused.Content.([]Node)
		refused.Content = append([]Node{{Tag: "error", Attrs: Attrs{"code": "409", "text": "conflict"}}}, changed...)
		return refused
	}
	body, _ := patch.Content.([]byte)
	n.keepPatch(account, name, body)
	return Node{Tag: "collection", Attrs: Attrs{"name": name, "version": strconv.Itoa(len(account.patches[name]))}}
}

func (n *Network) keepPatch(account *Account, name string, body []byte) {
	if account.patches == nil {
		account.patches = map[string][][]byte{}
	}
	version := uint64(len(account.patches[name]) + 1)
	account.patches[name] = append(account.patches[name], versioned(body, version))
	state := account.sharedState()
	_ = state.read(account, appstate.WAPatchName(name)) // what the phone cannot read it knows nothing of
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_APP_STATE_CHANGED, Account: account.Digits, Counter: version, ID: name, Peer: state.about,
	})
}

// sharedState is an account's phone, as far as it reads and changes what its devices have in common: it has the key, and checks
// what the others make of it.
type sharedState struct {
	store.NoopStore
	keyID    []byte
	key      store.AppStateSyncKey
	versions map[string]appstate.HashState
	macs     map[string][]byte
	// What is in each log, by the log and the entry's index.
	entries map[string]map[string]*waSyncdSnapshotRecovery.SyncdPlainTextRecord
	reads   *appstate.Processor
	// Which chat the last change was about, by the id that it named it by.
	about string
}

func newSharedState() *sharedState {
	s := &sharedState{keyID: make([]byte, 6), versions: map[string]appstate.HashState{}, macs: map[string][]byte{},
		entries: map[string]map[string]*waSyncdSnapshotRecovery.SyncdPlainTextRecord{}}
	s.key = store.AppStateSyncKey{Data: make([]byte, 32), Timestamp: time.Now().UnixMilli()}
	_, _ = rand.Read(s.keyID[2:])
	_, _ = rand.Read(s.key.Data)
	s.reads = appstate.NewProcessor(&store.Device{AppStateKeys: s, AppState: s}, waLog.Noop)
	return s
}

// share is how the phone gives its key to a device.
func (s *sharedState) share() *waE2E.AppStateSyncKeyShare {
	return &waE2E.AppStateSyncKeyShare{Keys: []*waE2E.AppStateSyncKey{{
		KeyID: &waE2E.AppStateSyncKeyId{KeyID: s.keyID},
		KeyData: &waE2E.AppStateSyncKeyData{
			KeyData: s.key.Data, Timestamp: proto.Int64(s.key.Timestamp),
			Fingerprint: &waE2E.AppStateSyncKeyFingerprint{
				RawID: proto.Uint32(1), CurrentIndex: proto.Uint32(0), DeviceIndexes: []uint32{0, 1},
			},
		},
	}}}
}

func (s *sharedState) GetAppStateSyncKey(_ context.Context, id []byte) (*store.AppStateSyncKey, error) {
	if string(id) != string(s.keyID) {
		return nil, nil
	}
	return &s.key, nil
}

func (s *sharedState) PutAppStateVersion(_ context.Context, name string, version uint64, hash [128]byte) error {
	s.versions[name] = appstate.HashState{Version: version, Hash: hash}
	return nil
}

func (s *sharedState) PutAppStateMutationMACs(
	_ context.Context, name string, _ uint64, mutations []store.AppStateMutationMAC,
) error {
	for _, mutation := range mutations {
		s.macs[name+string(mutation.IndexMAC)] = mutation.ValueMAC
	}
	return nil
}

func (s *sharedState) DeleteAppStateMutationMACs(_ context.Context, name string, indexes [][]byte) error {
	for _, index := range indexes {
		delete(s.macs, name+string(index))
	}
	return nil
}

func (s *sharedState) GetAppStateMutationMAC(_ context.Context, name string, index []byte) ([]byte, error) {
	return s.macs[name+string(index)], nil
}

// read brings the phone up to date. It fails where a device's patch is not what its checksums say.
func (s *sharedState) read(account *Account, name appstate.WAPatchName) error {
	list := &appstate.PatchList{Name: name}
	before := s.versions[string(name)]
	for _, body := range account.patches[string(name)][before.Version:] {
		patch := &waServerSync.SyncdPatch{}
		if err := proto.Unmarshal(body, patch); err != nil {
			return err
		}
		list.Patches = append(list.Patches, patch)
	}
	changes, after, err := s.reads.DecodePatches(context.Background(), list, before, true)
	if err == nil {
		s.versions[string(name)] = after
		s.note(string(name), changes)
	}
	return err
}

func (s *sharedState) note(name string, changes []appstate.Mutation) {
	if s.entries[name] == nil {
		s.entries[name] = map[string]*waSyncdSnapshotRecovery.SyncdPlainTextRecord{}
	}
	s.about = ""
	for _, change := range changes {
		for _, part := range change.Index {
			if strings.Contains(part, "@") {
				s.about = part
				break
			}
		}
		index, _ := json.Marshal(change.Index)
		if change.Operation == waServerSync.SyncdMutation_REMOVE {
			delete(s.entries[name], string(index))
			continue
		}
		s.entries[name][string(index)] = &waSyncdSnapshotRecovery.SyncdPlainTextRecord{
			Value: &waSyncAction.SyncActionData{Index: index, Value: change.Action, Version: proto.Int32(change.Version)},
			KeyID: change.KeyID, Mac: change.ValueMAC,
		}
	}
}

// answerDevice is what the phone says to its device that asks it for something; nothing to what it knows nothing of.
func (n *Network) answerDevice(account *Account, id string, asked *waE2E.PeerDataOperationRequestMessage) {
	if past := asked.GetHistorySyncOnDemandRequest(); past != nil {
		n.answerPast(account, id, past)
		return
	}
	if asked.GetPeerDataOperationRequestType() != waE2E.PeerDataOperationRequestType_COMPANION_SYNCD_SNAPSHOT_FATAL_RECOVERY {
		return
	}
	n.mu.Lock()
	name := asked.GetSyncdCollectionFatalRecoveryRequest().GetCollectionName()
	snapshot, err := account.sharedState().snapshot(account, appstate.WAPatchName(name))
	n.mu.Unlock()
	if err != nil {
		return // the phone cannot read it either
	}
	n.tellDevice(account, &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE.Enum(),
		PeerDataOperationRequestResponseMessage: &waE2E.PeerDataOperationRequestResponseMessage{
			PeerDataOperationRequestType: asked.PeerDataOperationRequestType, StanzaID: &id,
			PeerDataOperationResult: []*waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{{
				SyncdSnapshotFatalRecoveryResponse: &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult_SyncDSnapshotFatalRecoveryResponse{
					CollectionSnapshot: snapshot, IsCompressed: proto.Bool(false),
				},
			}},
		},
	})
}

// snapshot is all that the phone has of one log.
func (s *sharedState) snapshot(account *Account, name appstate.WAPatchName) ([]byte, error) {
	if err := s.read(account, name); err != nil {
		return nil, err
	}
	state := s.versions[string(name)]
	all := &waSyncdSnapshotRecovery.SyncdSnapshotRecovery{
		Version:        &waSyncdSnapshotRecovery.SyncdVersion{Version: &state.Version},
		CollectionName: proto.String(string(name)), CollectionLthash: state.Hash[:],
	}
	for _, entry := range s.entries[string(name)] {
		all.MutationRecords = append(all.MutationRecords, entry)
	}
	return proto.Marshal(all)
}

// OnPhone has the account's phone change what its devices have in common; they are told that there is something new.
func (n *Network) OnPhone(account *Account, patch appstate.PatchInfo) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	state, name := account.sharedState(), string(patch.Type)
	if err := state.read(account, patch.Type); err != nil {
		return err
	}
	body, err := state.reads.EncodePatch(context.Background(), state.keyID, state.versions[name], patch)
	if err != nil {
		return err
	}
	n.keepPatch(account, name, body)
	id := rand.Text()[:16]
	n.deliver(account, &pending{key: "notification|" + id, node: &Node{
		Tag: "notification", Attrs: Attrs{"from": types.ServerJID, "type": "server_sync", "id": id, "t": now()},
		Content: []Node{{Tag: "collection", Attrs: Attrs{"name": name, "version": strconv.Itoa(len(account.patches[name]))}}},
	}})
	return nil
}

// SetTimer has the other person of a chat of two have its messages disappear after so many seconds; 0: never.
func (n *Network) SetTimer(account *Account, chat types.JID, seconds uint32) error {
	n.mu.Lock()
	person := n.find(chat)
	n.mu.Unlock()
	if person == nil {
		return ErrNobody
	}
	return n.write(account, person, types.EmptyJID, "", &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), EphemeralExpiration: &seconds,
		EphemeralSettingTimestamp: proto.Int64(time.Now().Unix()),
	}}, "")
}

// ReadOnPhone has the account's phone read a chat up to a message, of which its devices get a receipt.
func (n *Network) ReadOnPhone(account *Account, chat types.JID, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := rand.Text()[:16]
	n.deliver(account, &pending{key: "notification|" + key, node: &Node{
		Tag: "receipt", Attrs: Attrs{"id": id, "type": "read-self", "from": account.jid(), "recipient": chat, "t": now()},
	}})
}

func (a *Account) sharedState() *sharedState {
	if a.shared == nil {
		a.shared = newSharedState()
	}
	return a.shared
}
