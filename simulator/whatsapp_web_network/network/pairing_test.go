package network_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/network"
)

func TestPairingByCode(t *testing.T) {
	n := start(t)
	c := client(t, n, newDevice())
	c.connect()
	next[*events.QR](c, nil)
	letters, err := c.PairPhone(context.Background(), alice, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.AcceptCode(letters, bob); !errors.Is(err, network.ErrOtherPhone) {
		t.Fatal(err)
	}
	if _, err := n.AcceptCode(letters, alice); err != nil {
		t.Fatal(err)
	}
	next[*events.Connected](c, nil)
}

func TestWrongLettersPairNobody(t *testing.T) {
	n := start(t)
	c := client(t, n, newDevice())
	c.connect()
	next[*events.QR](c, nil)
	if _, err := c.PairPhone(context.Background(), alice, true, whatsmeow.PairClientChrome, "Chrome (Linux)"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AcceptCode("1111-1111", alice); !errors.Is(err, network.ErrNobodyShows) {
		t.Fatal(err)
	}
	if n.Account(alice).Paired() {
		t.Fatal("it is paired")
	}
}

func TestAQRTextIsAcceptedOnce(t *testing.T) {
	n := start(t)
	c := client(t, n, newDevice())
	c.connect()
	code := next[*events.QR](c, nil).Codes[0]
	if _, err := n.AcceptQR(code, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AcceptQR(code, bob); !errors.Is(err, network.ErrNobodyShows) {
		t.Fatal(err)
	}
}

func TestPairingWithAPasskey(t *testing.T) {
	n := start(t)
	n.Change(func(s *network.Settings) { s.Passkeys = map[string]bool{alice[1:]: true} })
	c := client(t, n, newDevice())
	c.connect()
	if _, err := n.AcceptQR(next[*events.QR](c, nil).Codes[0], alice); err != nil {
		t.Fatal(err)
	}
	asked := next[*events.PairPasskeyRequest](c, nil)
	if n.Account(alice).Paired() {
		t.Fatal("it was paired without its passkey")
	}
	wrong := signedBy(t, []byte("another challenge"))
	if err := c.SendPasskeyResponse(context.Background(), wrong); err == nil {
		t.Fatal("a signature over another challenge was taken")
	}
	if err := c.SendPasskeyResponse(context.Background(), signedBy(t, asked.PublicKey.Challenge)); err != nil {
		t.Fatal(err)
	}
	if next[*events.PairPasskeyConfirmation](c, nil).Code == "" {
		t.Fatal("there is nothing to compare")
	}
	if err := c.SendPasskeyConfirmation(context.Background()); err != nil {
		t.Fatal(err)
	}
	next[*events.Connected](c, nil)
}

func signedBy(t *testing.T, challenge []byte) *types.WebAuthnResponse {
	t.Helper()
	encoded, _ := json.Marshal(types.WebAuthnPublicKey{Challenge: challenge})
	var text struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(encoded, &text); err != nil {
		t.Fatal(err)
	}
	client, _ := json.Marshal(map[string]string{"type": "webauthn.get", "challenge": text.Challenge})
	return &types.WebAuthnResponse{ID: "id", RawID: []byte("id"), Type: "public-key", Response: types.WebAuthnResponseData{
		ClientDataJSON: client, AuthenticatorData: []byte("data"), Signature: []byte("signature"),
	}}
}

func TestASecondPairingEndsTheFirst(t *testing.T) {
	n := start(t)
	first := paired(t, n, alice)
	second := paired(t, n, alice)
	next[*events.LoggedOut](first, nil)
	write(t, n, alice, bob, "hello")
	next(second, saying("hello"))
}

func TestHistoryComesWithANewPairing(t *testing.T) {
	n := start(t)
	n.Change(func(s *network.Settings) { s.HistoryMessages = 300 })
	c := paired(t, n, alice)
	got := 0
	for got < 300 {
		for _, chat := range next[*events.HistorySync](c, nil).Data.GetConversations() {
			got += len(chat.GetMessages())
		}
	}
	if got != 300 {
		t.Fatal(got)
	}
}

func TestAOneTimeKeyIsGivenOnce(t *testing.T) {
	n := start(t)
	a := paired(t, n, alice)
	b, c := paired(t, n, bob), paired(t, n, carol)
	b.mustSay(alice, "from bob")
	c.mustSay(alice, "from carol")
	next(a, saying("from bob"))
	next(a, saying("from carol"))
	if bad := count(n, simulatorv1.LedgerKind_LEDGER_KIND_UNREADABLE); bad != 0 {
		t.Fatal("unreadable:", bad)
	}
}
