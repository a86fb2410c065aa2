package rows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/libsignal/signalerror"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

func TestADeviceIsReadAsItWasStored(t *testing.T) {
	anna := paired(t, "acc_1")
	read, err := New("acc_1", anna.table).LoadDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if *read.ID != anna.jid || read.LID != anna.jid || *read.IdentityKey.Priv != *anna.device.IdentityKey.Priv ||
		*read.NoiseKey.Priv != *anna.device.NoiseKey.Priv || *read.SignedPreKey.Signature != *anna.device.SignedPreKey.Signature ||
		read.RegistrationID != anna.device.RegistrationID || string(read.AdvSecretKey) != string(anna.device.AdvSecretKey) {
		t.Fatal("it is another one")
	}
}

func paired(t *testing.T, accountID string) *party {
	t.Helper()
	anna := newParty(t, "1001")
	anna.accountID = accountID
	if err := anna.PutDevice(t.Context(), anna.device); err != nil {
		t.Fatal(err)
	}
	return anna
}

func TestRowsThatCannotBeUsed(t *testing.T) {
	for name, spoil := range map[string]func(map[string][]byte){
		"missing":           func(rows map[string][]byte) { delete(rows, deviceKey) },
		"truncated":         func(rows map[string][]byte) { rows[deviceKey] = rows[deviceKey][:40] },
		"empty":             func(rows map[string][]byte) { rows[deviceKey] = []byte("{}") },
		"another account's": func(rows map[string][]byte) { rows[deviceKey] = paired(t, "acc_2").table.stored()[deviceKey] },
		"without a key": func(rows map[string][]byte) {
			rows[deviceKey] = []byte(strings.Replace(string(rows[deviceKey]), `"Noise":"`, `"Noise":"AAAA","Was":"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			anna := paired(t, "acc_1")
			spoil(anna.table.rows)
			if _, err := New("acc_1", anna.table).LoadDevice(t.Context()); !errors.Is(err, ErrUnusable) {
				t.Fatal(err)
			}
		})
	}
}

func TestARowIsReadOnceAndOfAPersonAllAtOnce(t *testing.T) {
	anna, bert := acquainted(t)
	next := anna.taken(t)
	next.Prefill(nil)
	for range 3 {
		exchange(t, next, bert, "hello", nil)
		if _, err := next.GetPNForLID(t.Context(), bert.jid); err != nil {
			t.Fatal(err)
		}
		if known, err := next.GetPrivacyToken(t.Context(), bert.jid); err != nil || known != nil {
			t.Fatal(known, err)
		}
	}
	if next.table.reads != 1 {
		t.Fatalf("%d reads", next.table.reads)
	}
}

func TestMemoryIsBoundedWhateverManyPeopleWrite(t *testing.T) {
	anna := newParty(t, "1001")
	for i := range 4000 {
		pn, lid := types.NewJID(fmt.Sprint(4915100000000+i), types.DefaultUserServer), types.NewJID(fmt.Sprint(900000+i), types.HiddenUserServer)
		if err := anna.PutLIDMapping(t.Context(), lid, pn); err != nil {
			t.Fatal(err)
		}
	}
	if err := anna.commit(Change{"login/last", []byte{1}}); err != nil { // all before it are settled
		t.Fatal(err)
	}
	anna.mu.Lock()
	size := anna.size
	anna.mu.Unlock()
	if size > maxCached {
		t.Fatalf("%d bytes are kept", size)
	}
	lid, err := anna.GetLIDForPN(t.Context(), types.NewJID("4915100000000", types.DefaultUserServer))
	if err != nil || lid.User != "900000" {
		t.Fatal(lid, err)
	}
}

func TestPreKeysAreGivenOnceAndStayInTheTable(t *testing.T) {
	anna := newParty(t, "1001")
	keys, err := anna.GetOrGenPreKeys(t.Context(), 50)
	if err != nil || len(keys) != 50 {
		t.Fatal(len(keys), err)
	}
	again, err := anna.GetOrGenPreKeys(t.Context(), 60)
	if err != nil || len(again) != 60 || again[0].KeyID != keys[0].KeyID || *again[49].Priv != *keys[49].Priv {
		t.Fatal("those that the network does not have yet come first", err)
	}
	if err := anna.MarkPreKeysAsUploaded(t.Context(), again[59].KeyID); err != nil {
		t.Fatal(err)
	}
	if err := anna.RemovePreKey(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if err := anna.commit(Change{"login/last", []byte{1}}); err != nil { // all before it are settled
		t.Fatal(err)
	}
	if left, err := anna.UploadedPreKeyCount(t.Context()); err != nil || left != 59 {
		t.Fatal(left, err)
	}
	if key, err := anna.GetPreKey(t.Context(), 7); err != nil || key != nil {
		t.Fatal("it was used", err)
	}
	if key, err := anna.GetPreKey(t.Context(), 8); err != nil || *key.Priv != *again[7].Priv {
		t.Fatal(err)
	}
	next, err := anna.taken(t).GetOrGenPreKeys(t.Context(), 1)
	if err != nil || next[0].KeyID != 61 {
		t.Fatal("an id is used twice", next, err)
	}
}

func TestAPersonsSessionsMoveToTheirHiddenId(t *testing.T) {
	anna, bert := acquainted(t)
	pn := types.NewJID("4915100000001", types.DefaultUserServer)
	lid := bert.jid
	moved := types.JID{User: lid.User, Server: types.HiddenUserServer}
	session, err := anna.look(t.Context(), sessionKey(lid.SignalAddress().String()))
	if err != nil || session == nil {
		t.Fatal(err)
	}
	if err := anna.commit(Change{sessionKey(pn.User + ":1"), session}, Change{sessionKey(lid.SignalAddress().String()), nil}); err != nil {
		t.Fatal(err)
	}
	if err := anna.MigratePNToLID(t.Context(), pn, moved); err != nil {
		t.Fatal(err)
	}
	if known, err := anna.HasSession(t.Context(), pn.User+":1"); err != nil || known {
		t.Fatal("it is still there", err)
	}
	exchange(t, anna, bert, "hello", nil)
}

func TestWhatIsDeletedOfAPersonIsSoUnderAllTheirIds(t *testing.T) {
	number, lid := types.NewJID("4915100000001", types.DefaultUserServer), types.NewJID("900001", types.HiddenUserServer)
	for _, named := range []string{number.User, lid.User} {
		anna := newParty(t, "1001")
		if err := anna.PutLIDMapping(t.Context(), lid, number); err != nil {
			t.Fatal(err)
		}
		addresses := []string{number.SignalAddressUser() + ":0", lid.SignalAddressUser() + ":0", lid.SignalAddressUser() + ":7"}
		for _, address := range addresses {
			if err := anna.PutIdentity(t.Context(), address, [32]byte{1}); err != nil {
				t.Fatal(err)
			}
			if err := anna.commit(Change{sessionKey(address), []byte("session")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(anna.DeleteAllIdentities(t.Context(), named), anna.DeleteAllSessions(t.Context(), named)); err != nil {
			t.Fatal(err)
		}
		for _, address := range addresses {
			trusted, err := anna.IsTrustedIdentity(t.Context(), address, [32]byte{2})
			there, failed := anna.HasSession(t.Context(), address)
			if !trusted || there || err != nil || failed != nil {
				t.Error(named, address, trusted, there, err, failed)
			}
		}
	}
}

func TestANewDeviceIsHandedOverWholeAndOnce(t *testing.T) {
	var handed [][]Change
	s := NewPairing("acc_1", func(changes []Change) bool {
		handed = append(handed, changes)
		return true
	})
	d := s.NewDevice()
	if _, err := s.GetOrGenPreKeys(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	jid := types.JID{User: "4915100000001", Server: types.DefaultUserServer, Device: 3}
	d.ID, d.LID = &jid, types.JID{User: "900001", Server: types.HiddenUserServer, Device: 3}
	if err := s.PutDevice(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := s.PutLIDMapping(t.Context(), d.LID, jid); err != nil {
		t.Fatal(err)
	}
	if len(handed) != 0 {
		t.Fatal("handed over before it is whole")
	}
	if err := s.PutIdentity(t.Context(), "900001:0", [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	if len(handed) != 1 || len(handed[0]) != 8 { // the device, keys and their count, two ids, and the phone's identity
		t.Fatalf("%v", handed)
	}
}

func TestADeviceThatIsNotStoredIsNotPaired(t *testing.T) {
	s := NewPairing("acc_1", func([]Change) bool { return false })
	d := s.NewDevice()
	jid := types.JID{User: "4915100000001", Server: types.DefaultUserServer, Device: 3}
	d.ID = &jid
	if err := s.PutIdentity(t.Context(), "900001:0", [32]byte{1}); err == nil {
		t.Fatal("the network is told that the pairing is final")
	}
}

func TestHistoryIsKeptUntilItIsRead(t *testing.T) {
	anna := newParty(t, "1001")
	if err := anna.KeepHistory("AB", []byte("notice")); err != nil {
		t.Fatal(err)
	}
	if err := anna.commit(Change{"login/last", []byte{1}}); err != nil {
		t.Fatal(err)
	}
	next := anna.taken(t)
	if kept, err := next.History(); err != nil || string(kept["AB"]) != "notice" {
		t.Fatal(kept, err)
	}
	if err := next.HistoryRead("AB"); err != nil {
		t.Fatal(err)
	}
	if kept, _ := next.History(); len(kept) != 0 {
		t.Fatal(kept)
	}
}

func TestOnlySecretsThatAnswersNeedAreKept(t *testing.T) {
	for _, needed := range []bool{true, false} {
		anna, bert := acquainted(t)
		message, err := bert.send(anna, "a poll, perhaps", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := anna.open(bert, message); err != nil {
			t.Fatal(err)
		}
		if err := anna.PutMessageSecret(t.Context(), bert.jid, bert.jid, "POLL", []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if !anna.Receive(needed, anna.table.Write) {
			t.Fatal("not stored")
		}
		if _, kept := anna.table.stored()["secret/POLL"]; kept != needed {
			t.Fatalf("needed: %v, kept: %v", needed, kept)
		}
	}
}

// Somebody who skips thousands of messages must not make a session larger than a row may be.
func TestASessionStaysStorableWhateverIsSkipped(t *testing.T) {
	anna, bert := acquainted(t)
	for round := range 5 {
		var last wire
		for range 1_200 {
			var err error
			if last, err = bert.send(anna, "skipped", nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := anna.receive(bert, last); err != nil || got != "skipped" {
			t.Fatal(round, got, err)
		}
		exchange(t, anna, bert, "go on", nil)
	}
	for key, value := range anna.table.stored() {
		if len(value) > maxRatchet+1 {
			t.Fatalf("%s has %d bytes", key, len(value))
		}
	}
}

// Sessions of one person's devices are read together, and one may link as many devices as they like.
func TestTheSessionsOfOnePersonStayFitToBeReadTogether(t *testing.T) {
	anna, bert := acquainted(t)
	var last wire
	for range 1800 {
		var err error
		if last, err = bert.send(anna, "skipped", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := anna.receive(bert, last); err != nil {
		t.Fatal(err)
	}
	address := bert.jid.SignalAddress().String()
	large, err := anna.look(t.Context(), sessionKey(address))
	if err != nil || len(fitSession(large, 1)) != len(large) {
		t.Fatal(len(large), err)
	}
	user, _ := splitAddress(address)
	const devices = 250
	for device := 1; device < devices; device++ {
		if err := anna.commit(Change{peerKey(user, fmt.Sprintf("session/%d", 1000+device)), []byte("another")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := anna.GetSession(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if err := anna.PutSession(t.Context(), address, large); err != nil {
		t.Fatal(err)
	}
	if now, err := anna.look(t.Context(), sessionKey(address)); err != nil || len(now) > maxPerson/devices || len(now) == 0 {
		t.Fatal(len(now), err)
	}
	exchange(t, bert, anna, "goes on", nil)
}

func TestManySettingsAtOnceAreWrittenInPieces(t *testing.T) {
	anna := newParty(t, "1001")
	const pieces = 5
	var settings []store.AppStateMutationMAC
	for i := range pieces * maxChanges {
		settings = append(settings, store.AppStateMutationMAC{IndexMAC: []byte(fmt.Sprint(i)), ValueMAC: []byte("mac")})
	}
	_, ctx := readingLog(t, anna)
	before := anna.table.count()
	if err := anna.PutAppStateMutationMACs(ctx, "regular", 1, settings); err != nil {
		t.Fatal(err)
	}
	if err := anna.commit(Change{"last", []byte("row")}); err != nil { // those before are stored
		t.Fatal(err)
	}
	if writes := anna.table.count() - before; writes != 1+pieces+1 { // the first one: nothing of the log is stored
		t.Fatal(writes)
	}
	if stored := len(anna.table.stored()); stored < pieces*maxChanges {
		t.Fatal(stored)
	}
}

// slow answers what is read when it is told to.
type slow struct {
	*table
	asked, answer chan struct{}
}

func (s slow) Read(ctx context.Context, keys, prefixes []string) (map[string][]byte, error) {
	found, err := s.table.Read(ctx, keys, prefixes)
	s.asked <- struct{}{}
	<-s.answer
	return found, err
}

func TestWhatWasReadBeforeAChangeDoesNotTakeItsPlace(t *testing.T) {
	node := slow{newTable(t), make(chan struct{}), make(chan struct{})}
	c := newCache(node)
	got := make(chan []byte, 1)
	go func() {
		value, _ := c.get(t.Context(), "peer/1/token")
		got <- value
	}()
	<-node.asked
	change := Change{"peer/1/token", []byte("newer")}
	c.apply([]Change{change})
	c.unpin([]Change{change}) // it is stored
	c.remember([]Change{{"peer/2/token", make([]byte, maxCached)}, {"peer/3/token", make([]byte, maxCached)}})
	c.unpin(nil)
	node.answer <- struct{}{}
	if value := <-got; string(value) != "newer" {
		t.Fatalf("%q", value)
	}
}

func TestWhatCannotBeARowDoesNotHoldUpTheMessageThatBringsIt(t *testing.T) {
	anna, bert := acquainted(t)
	for what, id := range map[string]string{
		"too long": strings.Repeat("3EB0", 200), "with a zero": "3EB0\x00", "no text": "3EB0\xff",
	} {
		message, err := bert.send(anna, what, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := anna.open(bert, message); err != nil {
			t.Fatal(err)
		}
		if err := anna.KeepPoll(id, []string{"yes", "no"}); err != nil {
			t.Fatal(err)
		}
		if err := anna.PutMessageSecret(t.Context(), bert.jid, bert.jid, id, []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if err := anna.KeepPoll("large", []string{strings.Repeat("a", 2<<20)}); err != nil {
			t.Fatal(err)
		}
		if !anna.Receive(true, func(changes []Change) <-chan bool {
			for _, change := range changes {
				if strings.HasPrefix(change.Key, pollPrefix) || strings.HasPrefix(change.Key, secretPrefix) {
					t.Errorf("%s: %d bytes of %q are handed over", what, len(change.Value), change.Key)
				}
			}
			return anna.table.Write(changes)
		}) {
			t.Fatal(what)
		}
	}
	exchange(t, bert, anna, "goes on", nil)
}

func TestNobodyIsAskedForARowThatCannotBe(t *testing.T) {
	anna, _ := acquainted(t)
	before := anna.table.reads
	for _, user := range []string{strings.Repeat("1", 1000), "1\x002", "1\xff"} {
		if number, err := anna.GetPNForLID(t.Context(), types.NewJID(user, types.HiddenUserServer)); err != nil || !number.IsEmpty() {
			t.Fatal(number, err)
		}
		if _, known := anna.Poll(user); known {
			t.Fatal("a poll is known")
		}
	}
	if anna.table.reads != before {
		t.Fatal("the node was asked")
	}
}

func TestKeysForSinglePersonsAreFewUntilTheyAreUsed(t *testing.T) {
	anna := newParty(t, "1001")
	one := func() uint32 {
		key, err := anna.GenOnePreKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return key.KeyID
	}
	last := uint32(0)
	for range 2 * maxLooseKeys {
		last = one()
	}
	keys := 0
	for key := range anna.table.stored() {
		if strings.HasPrefix(key, preKeyPrefix) {
			keys++
		}
	}
	if keys > maxLooseKeys+2 {
		t.Fatal(keys)
	}
	if err := anna.RemovePreKey(t.Context(), last); err != nil { // it was used
		t.Fatal(err)
	}
	if err := anna.commit(Change{"last", []byte("row")}); err != nil {
		t.Fatal(err)
	}
	if next := one(); next != last+1 {
		t.Fatal(last, next)
	}
}

func TestWhatCannotBeDecryptedIsLeftToWhoeverHasItHandled(t *testing.T) {
	anna := newParty(t, "1001")
	broken := errors.New("it cannot be decrypted")
	for _, failure := range []error{broken, signalerror.ErrOldCounter} {
		told := &Decrypting{}
		err := anna.DoDecryptionTxn(WithDecrypting(t.Context(), told), func(context.Context) error { return failure })
		left := failure == broken
		if !errors.Is(err, failure) || errors.Is(err, context.Canceled) != left || (told.Failed != nil) != left {
			t.Fatal(err, told.Failed)
		}
		if err := anna.DoDecryptionTxn(t.Context(), func(context.Context) error { return failure }); errors.Is(err, context.Canceled) {
			t.Fatal("nobody has it handled")
		}
	}
}

func TestNobodyIsAskedAgainForWhatIsBadlyPadded(t *testing.T) {
	anna := newParty(t, "1001")
	err := anna.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
		return anna.PutBufferedEvent(ctx, [32]byte{}, []byte{9, 9, 9}, time.Now())
	})
	if !errors.Is(err, signalerror.ErrOldCounter) {
		t.Fatal("the sender would be asked again, and the phone: ", err)
	}
}

// A message to a large group writes to people whose rows were let go since they were read.
func TestOfSomebodyWhoIsWrittenToAllIsKnownAfterwards(t *testing.T) {
	anna := newParty(t, "1001")
	hidden := types.NewJID("900000", types.HiddenUserServer)
	if err := anna.PutLIDMapping(t.Context(), hidden, types.NewJID("4915100000000", types.DefaultUserServer)); err != nil {
		t.Fatal(err)
	}
	address := hidden.SignalAddress().String()
	was, is := [32]byte{1}, [32]byte{2}
	if err := anna.commit(Change{identityKey(address), was[:]}); err != nil {
		t.Fatal(err)
	}
	next := anna.taken(t)
	stored := make(chan struct{})
	next.table.queue <- func() { <-stored }
	if err := next.note(t.Context(), Change{identityKey(address), is[:]}); err != nil { // nothing of them was read here
		t.Fatal(err)
	}
	if number, err := next.GetPNForLID(t.Context(), hidden); err != nil || number.User != "4915100000000" {
		t.Fatal(number, err)
	}
	if trusted, err := next.IsTrustedIdentity(t.Context(), address, is); err != nil || !trusted {
		t.Fatal("what was stored before is taken for what was written since", err)
	}
	close(stored)
}
