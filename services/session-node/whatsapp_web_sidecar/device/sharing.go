package device

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types/events"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// What the account's devices have in common is in logs of patches, with checksums over all that came before: a device that has
// read one wrongly once can read no later one, and changes nothing any more. Then it reads all of the log anew, and where that
// does not fit either, the account's phone is asked for what it has.

const (
	// How soon a log is read anew once more, and the phone asked for it.
	readAnewAgain = time.Minute
	askPhoneAgain = time.Hour
)

// misfits are the logs that could not be read on.
type misfits struct {
	mu    sync.Mutex
	anew  map[appstate.WAPatchName]*readingAnew
	asked map[appstate.WAPatchName]time.Time
}

// readingAnew is a log that is read from its beginning, or was.
type readingAnew struct {
	began time.Time
	ended chan struct{}
	err   error
}

// onMisfit is told of a log that cannot be read on. The library holds its lock over all of them meanwhile.
func (d *Device) onMisfit(said *events.AppStateSyncError) {
	m := &d.misfits
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if said.FullSync {
		if last, asked := m.asked[said.Name]; asked && now.Sub(last) < askPhoneAgain {
			return
		}
		if m.asked == nil {
			m.asked = map[appstate.WAPatchName]time.Time{}
		}
		m.asked[said.Name] = now
		go d.contain(func() { d.askForLog(said.Name) })
		return
	}
	if last := m.anew[said.Name]; last != nil && now.Sub(last.began) < readAnewAgain {
		return
	}
	if m.anew == nil {
		m.anew = map[appstate.WAPatchName]*readingAnew{}
	}
	reading := &readingAnew{began: now, ended: make(chan struct{})}
	m.anew[said.Name] = reading
	go d.contain(func() {
		d.log.write(levelWarning, "what the account's devices have in common does not fit, and is read anew", "of", string(said.Name))
		tell, err := d.readLog(d.ctx, said.Name, true)
		reading.err = err
		close(reading.ended)
		tell()
	})
}

// readLog begins to read a log, and reads it on, or anew. What it says tell has the node told of; nothing after an error.
func (d *Device) readLog(ctx context.Context, name appstate.WAPatchName, anew bool) (tell func(), err error) {
	reading, err := d.store.ReadLog(string(name))
	if err != nil {
		return func() {}, err
	}
	return d.readOn(ctx, reading, anew)
}

// readOn is readLog for a reading that has begun.
func (d *Device) readOn(ctx context.Context, reading *rows.Reading, anew bool) (tell func(), err error) {
	d.catching.Lock() // also until a failure is noted: what is read anew because of it comes after it
	defer d.catching.Unlock()
	internals := d.client.DangerousInternals()
	version, _, err := d.store.LogVersion(ctx, reading.Name)
	var said []any
	if err == nil {
		said, err = internals.FetchAppState(reading.Context(ctx), appstate.WAPatchName(reading.Name), anew || version == 0, false)
	}
	if err != nil {
		_ = reading.End(false)
		return func() {}, err
	}
	return func() {
		told := true
		for _, event := range said {
			told = told && !internals.DispatchEvent(event)
		}
		_ = reading.End(told)
	}, nil
}

// readAll reads on what other devices have changed, and tells the node of it.
func (d *Device) readAll(readings []*rows.Reading) {
	for _, reading := range readings {
		tell, err := d.readOn(d.ctx, reading, false)
		if err != nil && d.ctx.Err() == nil {
			d.log.write(levelWarning, "what the account's devices have in common cannot be read", "of", reading.Name, "problem", err.Error())
		}
		tell()
	}
}

// begin begins to read logs; false: it cannot be stored.
func (d *Device) begin(names []string) (readings []*rows.Reading, begun bool) {
	for _, name := range names {
		reading, err := d.store.ReadLog(name)
		if err != nil {
			return nil, false
		}
		readings = append(readings, reading)
	}
	return readings, true
}

// readOpenLogs reads those on that were not read to their end: by a connection before this one, or for want of keys.
func (d *Device) readOpenLogs() {
	names, err := d.store.OpenLogs(d.ctx)
	if err != nil {
		return
	}
	if readings, begun := d.begin(names); begun {
		d.readAll(readings)
	}
}

// onLogsChanged reads the logs that a notification says have changed. The network is told once rows say that they are to be read.
func (d *Device) onLogsChanged(node *waBinary.Node, acknowledge func(...*bool)) {
	var names []string
	for _, collection := range node.GetChildrenByTag("collection") {
		name := collection.AttrGetter().OptionalString("name")
		if slices.Contains(appstate.AllPatchNames[:], appstate.WAPatchName(name)) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if readings, begun := d.begin(names); begun {
		acknowledge()
		d.readAll(readings)
	}
}

// keepKeys keeps the keys of logs that the phone shares, and that there are logs to read, with the message that it shares them by.
func (d *Device) keepKeys(shared *waE2E.AppStateSyncKeyShare) error {
	for _, key := range shared.GetKeys() {
		fingerprint, err := proto.Marshal(key.GetKeyData().GetFingerprint())
		if err != nil {
			return err
		}
		if err := d.store.PutAppStateSyncKey(d.ctx, key.GetKeyID().GetKeyID(), store.AppStateSyncKey{
			Data: key.GetKeyData().GetKeyData(), Fingerprint: fingerprint, Timestamp: key.GetKeyData().GetTimestamp(),
		}); err != nil {
			return err
		}
	}
	return d.store.LeaveOpen(d.ctx)
}

// recoveredLog is the answer of the account's phone that was asked for a log; nil: it is another message.
func recoveredLog(said *events.Message) *waE2E.PeerDataOperationRequestResponseMessage {
	answer := said.Message.GetProtocolMessage().GetPeerDataOperationRequestResponseMessage()
	if !said.Info.IsFromMe || said.Info.Sender.Device != 0 ||
		answer.GetPeerDataOperationRequestType() != waE2E.PeerDataOperationRequestType_COMPANION_SYNCD_SNAPSHOT_FATAL_RECOVERY {
		return nil
	}
	return answer
}

// recoverLog takes a log as the phone has it, which was asked for it.
func (d *Device) recoverLog(answer *waE2E.PeerDataOperationRequestResponseMessage) {
	for _, result := range answer.GetPeerDataOperationResult() {
		given, err := appstate.ParseRecovery(result.GetSyncdSnapshotFatalRecoveryResponse())
		if err != nil || !slices.Contains(appstate.AllPatchNames[:], appstate.WAPatchName(given.GetCollectionName())) {
			d.log.write(levelWarning, "what the phone gave of what its devices have in common cannot be read")
			continue
		}
		reading, err := d.store.ReadLog(given.GetCollectionName())
		if err != nil {
			return
		}
		d.catching.Lock()
		told := d.client.DangerousInternals().HandleAppStateRecovery(reading.Context(d.ctx), answer.GetStanzaID(),
			[]*waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{result})
		version, _, err := d.store.LogVersion(d.ctx, given.GetCollectionName())
		_ = reading.End(told && err == nil && version > 0)
		d.catching.Unlock()
	}
}

func (d *Device) askForLog(name appstate.WAPatchName) {
	d.log.write(levelWarning, "what the account's devices have in common does not fit, and the phone is asked for it", "of", string(name))
	if _, err := d.client.SendPeerMessage(d.ctx, whatsmeow.BuildAppStateRecoveryRequest(name)); err != nil && d.ctx.Err() == nil {
		d.log.write(levelWarning, "the phone cannot be asked", "problem", err.Error())
	}
}

// mended waits until a log that did not fit has been read anew, and says whether it could be.
func (d *Device) mended(ctx context.Context, name appstate.WAPatchName) bool {
	d.misfits.mu.Lock()
	reading := d.misfits.anew[name]
	d.misfits.mu.Unlock()
	if reading == nil {
		return false
	}
	select {
	case <-reading.ended:
		return reading.err == nil
	case <-ctx.Done():
		return false
	}
}

// misfit says whether something failed because a log is not what its checksums say.
func misfit(err error) bool {
	for _, kind := range []error{
		appstate.ErrMismatchingLTHash, appstate.ErrMismatchingPatchMAC, appstate.ErrMismatchingContentMAC, appstate.ErrMismatchingIndexMAC,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// catchUp reads what other devices have changed.
func (d *Device) catchUp(ctx context.Context, name appstate.WAPatchName) error {
	tell, err := d.readLog(ctx, name, false)
	go d.contain(tell)
	if misfit(err) && d.mended(ctx, name) {
		return nil
	}
	return err
}

// share changes what the account's devices have in common.
func (d *Device) share(ctx context.Context, patch appstate.PatchInfo) error {
	return d.takeOn(ctx, patch.Type, func() (*patchOf, error) {
		keyID, err := d.latestKey(ctx)
		if err != nil {
			return nil, err
		}
		version, hash, err := d.store.LogVersion(ctx, string(patch.Type))
		if err != nil {
			return nil, err
		}
		body, err := appstate.NewProcessor(d.client.Store, d.log).EncodePatch(
			ctx, keyID, appstate.HashState{Version: version, Hash: hash}, patch)
		return &patchOf{version, body}, err
	})
}

// takeOn has the network take a patch of a log, one change after another: each is made upon the one before. Where another device was
// faster it is made once more, upon what that changed. No patch: there is nothing to change.
func (d *Device) takeOn(ctx context.Context, name appstate.WAPatchName, made func() (*patchOf, error)) error {
	if err := d.keysShared(ctx); err != nil {
		return err
	}
	d.sharing.Lock()
	defer d.sharing.Unlock()
	for range 3 {
		patch, err := made()
		if err != nil || patch == nil {
			return err
		}
		taken, err := d.sendPatch(ctx, name, patch)
		if err != nil {
			return err
		}
		if err := d.catchUp(ctx, name); taken || err != nil {
			return err
		}
	}
	return whatsmeow.ErrAppStateUpdate
}
