package network

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
)

const codeRounds = 2 << 16

// codeAttempt is a client that shows eight letters for a phone to be typed into it.
type codeAttempt struct {
	account   string // digits
	ref       string
	wrapped   []byte // salt, iv and the client's key, encrypted with the letters
	companion []byte
	ephemeral *keys.KeyPair
	done      chan error
}

func (c *client) linkCode(node *Node, child Node) error {
	n := c.network
	jid, _ := child.Attrs["jid"].(types.JID)
	switch child.Attrs["stage"] {
	case "companion_hello":
		wrapped, _ := child.GetChildByTag("link_code_pairing_wrapped_companion_ephemeral_pub").Content.([]byte)
		if len(wrapped) != 80 || !isPhone(jid.User) {
			c.fail(node, "400", "bad-request")
			return nil
		}
		n.mu.Lock()
		account := n.people[jid.User]
		banned := account != nil && account.Banned
		if !banned {
			c.pairing.code = &codeAttempt{account: jid.User, ref: rand.Text(), wrapped: wrapped}
		}
		n.mu.Unlock()
		if banned {
			c.fail(node, "403", "forbidden")
			return nil
		}
		c.result(node, Node{Tag: "link_code_companion_reg", Content: []Node{
			{Tag: "link_code_pairing_ref", Content: []byte(c.pairing.code.ref)},
		}})
	case "companion_finish":
		c.result(node)
		bundle, _ := child.GetChildByTag("link_code_pairing_wrapped_key_bundle").Content.([]byte)
		n.mu.Lock()
		defer n.mu.Unlock()
		code := c.pairing.code
		if code == nil || code.ephemeral == nil {
			return nil
		}
		err := n.finishCode(c.pairing, code, bundle)
		c.pairing.code = nil
		code.done <- err
	default:
		c.fail(node, "400", "bad-request")
	}
	return nil
}

// AcceptCode is the phone that the letters are typed into. The phone may be left out where one client only shows a code.
func (n *Network) AcceptCode(letters, phoneNumber string) (*Account, error) {
	n.mu.Lock()
	a, err := n.showing(digits(phoneNumber))
	if err != nil {
		n.mu.Unlock()
		return nil, err
	}
	code := a.code
	account := n.list(code.account, "")
	identity := n.keysOf(account).Pub[:]
	code.ephemeral = keys.NewKeyPair()
	code.done = make(chan error, 1)
	n.mu.Unlock()

	letters = strings.ReplaceAll(strings.ToUpper(letters), "-", "")
	if code.companion, err = withLetters(letters, code.wrapped[:32], code.wrapped[32:48], code.wrapped[48:]); err != nil {
		return nil, err
	}
	wrapped := make([]byte, 48, 80)
	_, _ = rand.Read(wrapped)
	sealed, err := withLetters(letters, wrapped[:32], wrapped[32:48], code.ephemeral.Pub[:])
	if err != nil {
		return nil, err
	}
	a.client.send(&Node{
		Tag:   "notification",
		Attrs: Attrs{"from": types.ServerJID, "type": "link_code_companion_reg", "id": rand.Text()[:8], "t": now()},
		Content: []Node{{Tag: "link_code_companion_reg", Attrs: Attrs{"stage": "primary_hello"}, Content: []Node{
			{Tag: "link_code_pairing_wrapped_primary_ephemeral_pub", Content: append(wrapped, sealed...)},
			{Tag: "primary_identity_pub", Content: identity},
			{Tag: "link_code_pairing_ref", Content: []byte(code.ref)},
		}}},
	})
	select {
	case err = <-code.done:
	case <-time.After(finishTimeout):
		err = ErrNobodyShows
	}
	return account, err
}

func (n *Network) showing(number string) (*attempt, error) {
	var found *attempt
	shown := 0
	for _, a := range n.attempts {
		if a.code == nil || a.code.ephemeral != nil {
			continue
		}
		shown++
		if found == nil || a.code.account == number {
			found = a
		}
	}
	switch {
	case found == nil || (number == "" && shown > 1):
		return nil, ErrNobodyShows
	case number != "" && found.code.account != number:
		return nil, ErrOtherPhone
	}
	if account := n.people[found.code.account]; account != nil && account.Banned {
		return nil, ErrBanned
	}
	return found, nil
}

// finishCode opens what only a client that showed the letters can have sealed.
func (n *Network) finishCode(a *attempt, code *codeAttempt, bundle []byte) error {
	if len(bundle) < 44+16 {
		return ErrNobodyShows
	}
	shared, err := curve25519.X25519(code.ephemeral.Priv[:], code.companion)
	if err != nil {
		return ErrNobodyShows
	}
	key, err := hkdf.Key(sha256.New, shared, bundle[:32], "link_code_pairing_key_bundle_encryption_key", 32)
	if err != nil {
		return err
	}
	aead, err := newGCM(key)
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, bundle[32:44], bundle[44:], nil)
	if err != nil || len(plain) != 96 {
		return ErrNobodyShows // other letters
	}
	account := n.person(code.account)
	identity := plain[:32]
	both, err := curve25519.X25519(n.keysOf(account).Priv[:], identity)
	if err != nil {
		return err
	}
	secret, err := hkdf.Key(sha256.New, append(append(shared, both...), plain[64:]...), nil, "adv_secret", 32)
	if err != nil {
		return err
	}
	return n.finishPairing(a, account, identity, secret)
}

// withLetters encrypts or decrypts with a key made of the letters.
func withLetters(letters string, salt, iv, data []byte) ([]byte, error) {
	key, err := pbkdf2.Key(sha256.New, letters, salt, codeRounds, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(data))
	cipher.NewCTR(block, iv).XORKeyStream(out, data)
	return out, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
