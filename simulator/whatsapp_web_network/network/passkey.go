package network

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
	"google.golang.org/protobuf/proto"
)

const (
	relyingParty   = "whatsapp.com"
	passkeyTimeout = 60_000 // milliseconds, for the authenticator
	passkeyInfo    = "Pairing Information Encryption Key"
)

// passkeyAttempt is a linking that goes on once the account's passkey has signed a challenge.
type passkeyAttempt struct {
	account    *Account
	challenge  []byte
	commitment []byte
	companion  []byte // its CompanionEphemeralIdentity
	ephemeral  *keys.KeyPair
	nonce      []byte
	compared   bool
}

func (n *Network) askForPasskey(a *attempt, account *Account) {
	challenge := make([]byte, 32)
	_, _ = rand.Read(challenge)
	a.passkey = &passkeyAttempt{account: account, challenge: challenge}
	a.client.send(&Node{
		Tag:     "notification",
		Attrs:   Attrs{"from": types.ServerJID, "type": "passkey_prologue_request", "id": rand.Text()[:8], "t": now()},
		Content: []Node{a.passkey.options()},
	})
}

// options is what the passkey is to sign, as WebAuthn's PublicKeyCredentialRequestOptions.
func (p *passkeyAttempt) options() Node {
	text, _ := json.Marshal(map[string]any{
		"challenge": base64.RawURLEncoding.EncodeToString(p.challenge), "timeout": passkeyTimeout, "rpId": relyingParty,
		"allowCredentials": []any{}, "userVerification": "required", "extensions": map[string]any{},
	})
	return Node{Tag: "passkey_request_options", Content: text}
}

func (c *client) passkeyStep(node *Node, child Node) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	passkey := c.pairing.passkey
	content, _ := child.Content.([]byte)
	ok := passkey != nil
	switch {
	case !ok:
	case child.Tag == "passkey_request_options":
		c.result(node, passkey.options())
		return
	case child.Tag == "passkey_prologue":
		ok = passkey.begin(child)
	case child.Tag == "companion_nonce":
		sum := sha256.Sum256(append(append([]byte{}, passkey.companion...), content...))
		ok = passkey.ephemeral != nil && bytes.Equal(sum[:], passkey.commitment)
		passkey.compared = ok
	case child.Tag == "encrypted_pairing_request":
		ok = passkey.compared && n.finishPasskey(c.pairing, passkey, content) == nil
		c.pairing.passkey = nil
	}
	if !ok {
		c.fail(node, "400", "bad-request")
		return
	}
	c.result(node)
	if child.Tag == "passkey_prologue" {
		c.send(passkey.continuation())
	}
}

// begin checks what the passkey signed, and takes the client's part of the comparison.
func (p *passkeyAttempt) begin(prologue Node) bool {
	assertion, _ := prologue.GetChildByTag("webauthn_assertion").Content.([]byte)
	payload, _ := prologue.GetChildByTag("prologue_payload").Content.([]byte)
	var signed types.WebAuthnResponse
	if json.Unmarshal(assertion, &signed) != nil || len(signed.Response.Signature) == 0 {
		return false
	}
	var client struct {
		Type      string `json:"type"`
		Challenge string `json:"challenge"`
	}
	if json.Unmarshal(signed.Response.ClientDataJSON, &client) != nil || client.Type != "webauthn.get" ||
		client.Challenge != base64.RawURLEncoding.EncodeToString(p.challenge) {
		return false
	}
	var begun waCompanionReg.ProloguePayload
	if proto.Unmarshal(payload, &begun) != nil {
		return false
	}
	p.companion, p.commitment = begun.GetCompanionEphemeralIdentity(), begun.GetCommitment().GetHash()
	p.ephemeral, p.nonce = keys.NewKeyPair(), make([]byte, 32)
	_, _ = rand.Read(p.nonce)
	return len(p.companion) > 0
}

func (p *passkeyAttempt) continuation() *Node {
	identity, _ := proto.Marshal(&waCompanionReg.PrimaryEphemeralIdentity{PublicKey: p.ephemeral.Pub[:], Nonce: p.nonce})
	return &Node{
		Tag:     "notification",
		Attrs:   Attrs{"from": types.ServerJID, "type": "crsc_continuation", "id": rand.Text()[:8], "t": now()},
		Content: []Node{{Tag: "primary_ephemeral_identity", Content: identity}},
	}
}

// finishPasskey opens what the client sealed for the phone, once its user had compared the codes.
func (n *Network) finishPasskey(a *attempt, p *passkeyAttempt, wrapped []byte) error {
	var companion waCompanionReg.CompanionEphemeralIdentity
	var sealed waCompanionReg.EncryptedPairingRequest
	var request waCompanionReg.PairingRequest
	if err := proto.Unmarshal(p.companion, &companion); err != nil {
		return err
	}
	if err := proto.Unmarshal(wrapped, &sealed); err != nil {
		return err
	}
	shared, err := curve25519.X25519(p.ephemeral.Priv[:], companion.GetPublicKey())
	if err != nil {
		return err
	}
	salt := fmt.Sprintf("Companion Pairing %d with ref %s", companion.GetDeviceType(), companion.GetRef())
	key, err := hkdf.Key(sha256.New, shared, []byte(salt), passkeyInfo, 32)
	if err != nil {
		return err
	}
	aead, err := newGCM(key)
	if err != nil || len(sealed.GetIV()) != aead.NonceSize() {
		return ErrNobodyShows
	}
	plain, err := aead.Open(nil, sealed.GetIV(), sealed.GetEncryptedPayload(), nil)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(plain, &request); err != nil {
		return err
	}
	return n.finishPairing(a, p.account, request.GetCompanionIdentityKey(), request.GetAdvSecret())
}
