package phone

import (
	"encoding/binary"
	"errors"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/util/optional"
	waBinary "go.mau.fi/whatsmeow/binary"
)

var errBundle = errors.New("a device's keys have no valid form")

// Bundle is what others need to write to this phone first: the children of a `user` node of keys.
func (p *Phone) Bundle() []waBinary.Node {
	registration := binary.BigEndian.AppendUint32(nil, p.registration)
	return []waBinary.Node{
		{Tag: "registration", Content: registration},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: p.identity.Pub[:]},
		{Tag: "skey", Content: []waBinary.Node{
			{Tag: "id", Content: binary.BigEndian.AppendUint32(nil, p.signed.KeyID)[1:]},
			{Tag: "value", Content: p.signed.Pub[:]},
			{Tag: "signature", Content: p.signed.Signature[:]},
		}},
	}
}

// parseBundle reads the keys of a device from a node whose children they are.
func parseBundle(deviceID uint16, node waBinary.Node) (*prekey.Bundle, error) {
	registration := bytesOf(node.GetChildByTag("registration"))
	if keys, ok := node.GetOptionalChildByTag("keys"); ok { // of a retry receipt
		node = keys
	}
	signed := node.GetChildByTag("skey")
	id, value, signature := bytesOf(signed.GetChildByTag("id")), bytesOf(signed.GetChildByTag("value")),
		bytesOf(signed.GetChildByTag("signature"))
	owner := bytesOf(node.GetChildByTag("identity"))
	if len(registration) != 4 || len(id) != 3 || len(value) != 32 || len(signature) != 64 || len(owner) != 32 {
		return nil, errBundle
	}
	oneTimeID, oneTime := optional.NewEmptyUint32(), ecc.ECPublicKeyable(nil)
	if key, ok := node.GetOptionalChildByTag("key"); ok {
		keyID, keyValue := bytesOf(key.GetChildByTag("id")), bytesOf(key.GetChildByTag("value"))
		if len(keyID) != 3 || len(keyValue) != 32 {
			return nil, errBundle
		}
		oneTimeID = optional.NewOptionalUint32(number(keyID))
		oneTime = ecc.NewDjbECPublicKey([32]byte(keyValue))
	}
	return prekey.NewBundle(
		binary.BigEndian.Uint32(registration), uint32(deviceID), oneTimeID, number(id), oneTime,
		ecc.NewDjbECPublicKey([32]byte(value)), [64]byte(signature),
		identity.NewKey(ecc.NewDjbECPublicKey([32]byte(owner))),
	), nil
}

func number(id []byte) uint32 { return binary.BigEndian.Uint32(append([]byte{0}, id...)) }

func bytesOf(node waBinary.Node) []byte {
	content, _ := node.Content.([]byte)
	return content
}
