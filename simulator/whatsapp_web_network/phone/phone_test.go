package phone_test

import (
	"errors"
	"fmt"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"

	"sessionmesh.dev/whatsapp-web-network/phone"
)

var (
	alice = types.NewJID("1", types.HiddenUserServer)
	bob   = types.NewJID("2", types.HiddenUserServer)
)

func met(t *testing.T, who *phone.Phone, whom types.JID, other *phone.Phone) {
	t.Helper()
	if err := who.Meet(whom, waBinary.Node{Tag: "user", Content: other.Bundle()}); err != nil {
		t.Fatal(err)
	}
}

func says(t *testing.T, who *phone.Phone, to types.JID, words string) (string, []byte) {
	t.Helper()
	kind, sealed, err := who.Encrypt(to, []byte(words))
	if err != nil {
		t.Fatal(err)
	}
	return kind, sealed
}

func TestNothingIsWrittenWithoutASession(t *testing.T) {
	if _, _, err := phone.New(keys.NewKeyPair()).Encrypt(bob, []byte("x")); !errors.Is(err, phone.ErrNoSession) {
		t.Fatal(err)
	}
}

// Both write first, and so each has two sessions: what is tried in vain with one of them must not damage it.
func TestTwoThatWroteFirstAtTheSameTimeUnderstandEachOther(t *testing.T) {
	a, b := phone.New(keys.NewKeyPair()), phone.New(keys.NewKeyPair())
	met(t, a, bob, b)
	met(t, b, alice, a)
	for i := range 20 {
		words := fmt.Sprint(i)
		fromA, sealedA := says(t, a, bob, words)
		fromB, sealedB := says(t, b, alice, words)
		got, err := b.Decrypt(alice, fromA, sealedA)
		if err != nil || string(got) != words {
			t.Fatal(i, err)
		}
		if got, err = a.Decrypt(bob, fromB, sealedB); err != nil || string(got) != words {
			t.Fatal(i, err)
		}
	}
}

func TestAGroupsMessageIsReadWithTheSendersKey(t *testing.T) {
	a, b := phone.New(keys.NewKeyPair()), phone.New(keys.NewKeyPair())
	sealed, key, err := a.EncryptForGroup("g", alice, []byte("to all"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.DecryptFromGroup("g", alice, sealed); err == nil {
		t.Fatal("it was read without the key")
	}
	if err := b.LearnSenderKey("g", alice, key); err != nil {
		t.Fatal(err)
	}
	got, err := b.DecryptFromGroup("g", alice, sealed)
	if err != nil || string(got) != "to all" {
		t.Fatal(err)
	}
}
