package network

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/ledger"
	"sessionmesh.dev/whatsapp-web-network/noise"
)

const (
	refsOffered    = 6
	pairingTimeout = 160 * time.Second
	finishTimeout  = 10 * time.Second
)

var (
	// ErrNobodyShows says that no client shows the text or code, or no longer.
	ErrNobodyShows = errors.New("nobody shows it, or no longer")
	// ErrBanned says that the account is banned.
	ErrBanned = errors.New("the account is banned")
	// ErrNoPhone says that neither the caller nor the client named the phone.
	ErrNoPhone = errors.New("the phone number is needed, as the client named none")
	// ErrOtherPhone says that a code was made for another phone.
	ErrOtherPhone = errors.New("the code was made for another phone number")
)

// attempt is a client that waits to be linked.
type attempt struct {
	client  *client
	refs    []string
	code    *codeAttempt
	passkey *passkeyAttempt
	paired  *device
}

// signature is what the phone and the device sign, before the identity of the device.
var accountSignature = []byte{6, 0}

func (n *Network) beginPairing(c *client) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := &attempt{client: c}
	c.pairing = a
	n.attempts[c] = a
	refs := make([]Node, refsOffered)
	for i := range refs {
		ref := n.newRef(a)
		refs[i] = Node{Tag: "ref", Content: []byte(ref)}
	}
	c.send(&Node{
		Tag: "iq", Attrs: Attrs{"from": types.ServerJID, "type": "set", "id": rand.Text()[:8]},
		Content: []Node{{Tag: "pair-device", Content: refs}},
	})
	time.AfterFunc(pairingTimeout, func() {
		n.mu.Lock()
		waiting := n.attempts[c] != nil
		n.mu.Unlock()
		if waiting {
			c.conn.Close()
		}
	})
}

func (n *Network) newRef(a *attempt) string {
	ref := "2@" + rand.Text()
	a.refs = append(a.refs, ref)
	n.byRef[ref] = a
	return ref
}

func (n *Network) forgetPairing(c *client) {
	a := n.attempts[c]
	if a == nil {
		return
	}
	delete(n.attempts, c)
	for _, ref := range a.refs {
		delete(n.byRef, ref)
	}
}

// AcceptQR is the phone with a number that scans a QR text. The account is not paired yet when the network asks for a
// passkey.
func (n *Network) AcceptQR(text, phoneNumber string) (*Account, error) {
	if at := strings.IndexByte(text, '#'); at >= 0 {
		text = text[at+1:]
	}
	parts := strings.Split(text, ",")
	if len(parts) < 4 {
		return nil, ErrNobodyShows
	}
	identity, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, ErrNobodyShows
	}
	secret, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return nil, ErrNobodyShows
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.byRef[parts[0]]
	if a == nil {
		return nil, ErrNobodyShows
	}
	if phoneNumber == "" {
		return nil, ErrNoPhone
	}
	account := n.people[digits(phoneNumber)]
	if account != nil && account.Banned {
		return nil, ErrBanned
	}
	account = n.list(digits(phoneNumber), "")
	for _, ref := range a.refs {
		delete(n.byRef, ref)
	}
	if n.settings.Passkeys[account.Digits] {
		n.askForPasskey(a, account)
		return account, nil
	}
	return account, n.finishPairing(a, account, identity, secret)
}

// finishPairing tells the client who it is, signed with the account's key.
func (n *Network) finishPairing(a *attempt, account *Account, identity, secret []byte) error {
	data := a.client.conn.Payload.GetDevicePairingData()
	if len(identity) != 32 || string(data.GetEIdent()) != string(identity) {
		return fmt.Errorf("%w: the identity is another", ErrNobodyShows)
	}
	account.lastDevice++
	id := account.lastDevice
	keys := n.keysOf(account)
	details, err := proto.Marshal(&waAdv.ADVDeviceIdentity{
		RawID: proto.Uint32(1), Timestamp: proto.Uint64(uint64(time.Now().Unix())), KeyIndex: proto.Uint32(uint32(id)),
	})
	if err != nil {
		return err
	}
	signature := noise.Sign(keys, append(append(append([]byte{}, accountSignature...), details...), identity...))
	if e := account.effects.Load(); e != nil && e.forged {
		signature[0] ^= 1
	}
	signed, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentity{
		Details: details, AccountSignatureKey: keys.Pub[:], AccountSignature: signature,
	})
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(signed)
	box, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentityHMAC{Details: signed, HMAC: mac.Sum(nil)})
	if err != nil {
		return err
	}
	jid, lid := account.jid(), account.lid()
	jid.Device, lid.Device = id, id
	a.paired = &device{
		account: account, jid: jid, lid: lid, key: a.client.conn.ClientKey, identity: identity,
		registration: data.GetERegid(), properties: propertiesOf(data.GetDeviceProps()),
	}
	a.client.send(&Node{
		Tag: "iq", Attrs: Attrs{"from": types.ServerJID, "type": "set", "id": rand.Text()[:8], "t": now()},
		Content: []Node{{Tag: "pair-success", Content: []Node{
			{Tag: "device-identity", Content: box},
			{Tag: "device", Attrs: Attrs{"jid": jid, "lid": lid}},
			{Tag: "platform", Attrs: Attrs{"name": "android"}},
		}}},
	})
	return nil
}

// propertiesOf is what a client says of itself; nothing where that cannot be read.
func propertiesOf(said []byte) *waCompanionReg.DeviceProps {
	properties := &waCompanionReg.DeviceProps{}
	if proto.Unmarshal(said, properties) != nil {
		return &waCompanionReg.DeviceProps{}
	}
	return properties
}

// confirmed makes the device the account's only one once it has signed what it was told.
func (n *Network) confirmed(a *attempt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a.paired == nil {
		return
	}
	device := a.paired
	a.paired = nil
	n.logOut(device.account)
	device.account.device = device
	n.Ledger.Append(ledger.Record{
		Kind: simulatorv1.LedgerKind_LEDGER_KIND_PAIRED, Account: device.account.Digits,
	})
	n.forgetPairing(a.client)
	a.client.end(&Node{Tag: "stream:error", Attrs: Attrs{"code": "515"}})
}

// handleUnpaired is what a client may say that is not linked yet.
func (c *client) handleUnpaired(node *Node) error {
	if node.Tag != "iq" || c.pairing == nil {
		return nil
	}
	if node.Attrs["type"] == "result" {
		if _, ok := node.GetOptionalChildByTag("pair-device-sign"); ok {
			c.network.confirmed(c.pairing)
		}
		return nil
	}
	children := node.GetChildren()
	if node.Attrs["type"] == "error" {
		return errEnd
	}
	if node.Attrs["xmlns"] != "md" || len(children) == 0 {
		c.result(node)
		return nil
	}
	switch child := children[0]; child.Tag {
	case "link_code_companion_reg":
		return c.linkCode(node, child)
	case "ref":
		c.network.mu.Lock()
		ref := c.network.newRef(c.pairing)
		c.network.mu.Unlock()
		c.result(node, Node{Tag: "ref", Content: []byte(ref)})
	case "passkey_request_options", "passkey_prologue", "companion_nonce", "encrypted_pairing_request":
		c.passkeyStep(node, child)
	default:
		c.result(node)
	}
	return nil
}
