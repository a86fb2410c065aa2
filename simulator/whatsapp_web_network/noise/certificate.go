// Package noise is the server's side of the encrypted connection that WhatsApp Web clients open: a handshake by the pattern
// Noise XX with certificates of our own, then frames with one binary node each.
package noise

import (
	"crypto/rand"
	"errors"
	"os"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/proto/waCert"
	"go.mau.fi/whatsmeow/util/keys"
	"google.golang.org/protobuf/proto"
)

// Identity is who the network is for its clients.
type Identity struct {
	root   *keys.KeyPair
	static *keys.KeyPair
	chain  []byte
	forged []byte
}

// NewIdentity makes an identity whose certificates are signed with root.
func NewIdentity(root *keys.KeyPair) (*Identity, error) {
	intermediate, static, stranger := keys.NewKeyPair(), keys.NewKeyPair(), keys.NewKeyPair()
	chain, err := certificates(root, intermediate, static)
	if err != nil {
		return nil, err
	}
	forged, err := certificates(stranger, intermediate, static)
	if err != nil {
		return nil, err
	}
	return &Identity{root: root, static: static, chain: chain, forged: forged}, nil
}

// RootKey is what clients must trust; 32 bytes.
func (i *Identity) RootKey() []byte { return i.root.Pub[:] }

// LoadRoot reads the key that certificates are signed with from a file of 32 bytes, and makes the file when there is none:
// clients that were told the public key keep trusting the next process. An empty path makes a new key.
func LoadRoot(path string) (*keys.KeyPair, error) {
	if path == "" {
		return keys.NewKeyPair(), nil
	}
	private, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		private = make([]byte, 32)
		if _, err := rand.Read(private); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, private, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if len(private) != 32 {
		return nil, errors.New("the root key must have 32 bytes: " + path)
	}
	return keys.NewKeyPairFromPrivateKey([32]byte(private)), nil
}

// Sign signs data as Signal's keys do.
func Sign(by *keys.KeyPair, data []byte) []byte {
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*by.Priv), data)
	return signature[:]
}

func certificates(root, intermediate, leaf *keys.KeyPair) ([]byte, error) {
	middle, err := certificate(1, 0, intermediate, root)
	if err != nil {
		return nil, err
	}
	last, err := certificate(2, 1, leaf, intermediate)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&waCert.CertChain{Intermediate: middle, Leaf: last})
}

func certificate(serial, issuer uint32, of, by *keys.KeyPair) (*waCert.CertChain_NoiseCertificate, error) {
	details, err := proto.Marshal(&waCert.CertChain_NoiseCertificate_Details{
		Serial:       &serial,
		IssuerSerial: &issuer,
		Key:          of.Pub[:],
		NotBefore:    proto.Uint64(uint64(time.Now().Add(-time.Hour).Unix())),
		NotAfter:     proto.Uint64(uint64(time.Now().AddDate(1, 0, 0).Unix())),
	})
	if err != nil {
		return nil, err
	}
	return &waCert.CertChain_NoiseCertificate{Details: details, Signature: Sign(by, details)}, nil
}
