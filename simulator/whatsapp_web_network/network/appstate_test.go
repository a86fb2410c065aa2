package network

import (
	"context"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/types"

	"sessionmesh.dev/whatsapp-web-network/ledger"
)

var friend = types.NewJID("491511", types.DefaultUserServer)

// made is a patch as a device makes it that has the phone's key, and has read so much.
func made(t *testing.T, state *sharedState, patch appstate.PatchInfo) []byte {
	t.Helper()
	body, err := state.reads.EncodePatch(context.Background(), state.keyID, state.versions[string(patch.Type)], patch)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func sharing() (*Network, *Account) {
	n := &Network{Ledger: ledger.New()}
	return n, &Account{Digits: "1", shared: newSharedState()}
}

func TestThePhoneReadsWhatADeviceChanged(t *testing.T) {
	n, account := sharing()
	for _, pinned := range []bool{true, false} {
		patch := appstate.BuildPin(friend, pinned)
		n.keepPatch(account, string(patch.Type), made(t, account.shared, patch))
		if err := account.shared.read(account, patch.Type); err != nil {
			t.Fatal(err)
		}
	}
	if version := account.shared.versions["regular_low"].Version; version != 2 {
		t.Fatal(version)
	}
}

func TestADamagedPatchIsNotRead(t *testing.T) {
	n, account := sharing()
	patch := appstate.BuildArchive(friend, true, time.Time{}, nil)
	body := made(t, account.shared, patch)
	body[len(body)-1] ^= 1
	n.keepPatch(account, string(patch.Type), body)
	if account.shared.read(account, patch.Type) == nil {
		t.Fatal("it was read")
	}
	if version := account.shared.versions["regular_low"].Version; version != 0 {
		t.Fatal(version)
	}
}

func TestAPatchUponAnOlderVersionIsRefusedWithWhatHasChanged(t *testing.T) {
	n, account := sharing()
	patch := appstate.BuildPin(friend, true)
	body := made(t, account.shared, patch)
	n.keepPatch(account, string(patch.Type), body)
	refused := n.addPatch(account, string(patch.Type), 0, Node{Tag: "patch", Content: body})
	if refused.Attrs["type"] != "error" || len(account.patches["regular_low"]) != 1 {
		t.Fatal(refused.Attrs)
	}
	if len(refused.GetChildByTag("patches").Content.([]Node)) != 1 {
		t.Fatal("what has changed is not there")
	}
}
