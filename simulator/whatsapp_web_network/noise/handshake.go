package noise

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
	"google.golang.org/protobuf/proto"
)

const pattern = "Noise_XX_25519_AESGCM_SHA256\x00\x00\x00\x00"

var errHandshake = errors.New("the client's handshake cannot be read")

// transcript is the state of a handshake, as the Noise specification calls its parts.
type transcript struct {
	hash    []byte
	salt    []byte
	key     cipher.AEAD
	counter uint32
}

func newTranscript(header []byte) (*transcript, error) {
	key, err := gcm([]byte(pattern))
	if err != nil {
		return nil, err
	}
	t := &transcript{hash: []byte(pattern), salt: []byte(pattern), key: key}
	t.mixHash(header)
	return t, nil
}

func (t *transcript) mixHash(data []byte) {
	sum := sha256.Sum256(append(append([]byte{}, t.hash...), data...))
	t.hash = sum[:]
}

func (t *transcript) seal(plain []byte) []byte {
	sealed := t.key.Seal(nil, nonce(t.counter), plain, t.hash)
	t.counter++
	t.mixHash(sealed)
	return sealed
}

func (t *transcript) open(sealed []byte) ([]byte, error) {
	plain, err := t.key.Open(nil, nonce(t.counter), sealed, t.hash)
	t.counter++
	t.mixHash(sealed)
	return plain, err
}

func (t *transcript) expand(secret []byte) (first, second []byte, err error) {
	both, err := hkdf.Key(sha256.New, secret, t.salt, "", 64)
	if err != nil {
		return nil, nil, err
	}
	return both[:32], both[32:], nil
}

func (t *transcript) mixKey(private, public []byte) error {
	secret, err := curve25519.X25519(private, public)
	if err != nil {
		return err
	}
	salt, key, err := t.expand(secret)
	if err != nil {
		return err
	}
	t.salt, t.counter = salt, 0
	t.key, err = gcm(key)
	return err
}

// handshake is the server's part; forged: with certificates that nobody trusts.
func (c *Conn) handshake(identity *Identity, forged bool) error {
	t, err := newTranscript(c.header)
	if err != nil {
		return err
	}
	var hello waWa6.HandshakeMessage
	if err := c.readHandshake(&hello); err != nil {
		return err
	}
	theirs := hello.GetClientHello().GetEphemeral()
	t.mixHash(theirs)
	ours := keys.NewKeyPair()
	t.mixHash(ours.Pub[:])
	if err := t.mixKey(ours.Priv[:], theirs); err != nil {
		return err
	}
	static := t.seal(identity.static.Pub[:])
	if err := t.mixKey(identity.static.Priv[:], theirs); err != nil {
		return err
	}
	chain := identity.chain
	if forged {
		chain = identity.forged
	}
	answer, err := proto.Marshal(&waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: ours.Pub[:], Static: static, Payload: t.seal(chain),
	}})
	if err != nil {
		return err
	}
	if err := c.writeFrame(answer); err != nil {
		return err
	}
	return c.finish(t, ours)
}

func (c *Conn) finish(t *transcript, ours *keys.KeyPair) error {
	var finish waWa6.HandshakeMessage
	if err := c.readHandshake(&finish); err != nil {
		return err
	}
	static, err := t.open(finish.GetClientFinish().GetStatic())
	if err != nil || len(static) != 32 {
		return errHandshake
	}
	c.ClientKey = [32]byte(static)
	if err := t.mixKey(ours.Priv[:], static); err != nil {
		return err
	}
	payload, err := t.open(finish.GetClientFinish().GetPayload())
	if err != nil {
		return errHandshake
	}
	c.Payload = &waWa6.ClientPayload{}
	if err := proto.Unmarshal(payload, c.Payload); err != nil {
		return errHandshake
	}
	read, write, err := t.expand(nil)
	if err != nil {
		return err
	}
	if c.read, err = gcm(read); err != nil {
		return err
	}
	c.write, err = gcm(write)
	return err
}

func (c *Conn) readHandshake(into *waWa6.HandshakeMessage) error {
	frame, err := c.readFrame()
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(frame, into); err != nil {
		return errHandshake
	}
	return nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(counter uint32) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint32(b[8:], counter)
	return b
}
