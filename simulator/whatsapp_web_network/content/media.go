package content

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

// Sealed is a file as the network stores it, and what its message says of it.
type Sealed struct {
	Key    []byte // 32 bytes
	Bytes  []byte // encrypted, with 10 bytes of authentication
	Sum    []byte // SHA-256 of the file
	SumEnc []byte // SHA-256 of Bytes
	Size   uint64 // of the file
}

const macLength = 10

// Seal encrypts a file; kind is `Image`, `Video`, `Audio`, `Document` or `History`.
func Seal(kind string, file []byte) (Sealed, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	expanded, err := hkdf.Key(sha256.New, key, nil, "WhatsApp "+kind+" Keys", 112)
	if err != nil {
		return Sealed{}, err
	}
	iv, cipherKey, macKey := expanded[:16], expanded[16:48], expanded[48:80]
	block, err := aes.NewCipher(cipherKey)
	if err != nil {
		return Sealed{}, err
	}
	count := aes.BlockSize - len(file)%aes.BlockSize
	out := append(bytes.Clone(file), bytes.Repeat([]byte{byte(count)}, count)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	mac := hmac.New(sha256.New, macKey)
	mac.Write(iv)
	mac.Write(out)
	out = append(out, mac.Sum(nil)[:macLength]...)
	sum, sumEnc := sha256.Sum256(file), sha256.Sum256(out)
	return Sealed{Key: key, Bytes: out, Sum: sum[:], SumEnc: sumEnc[:], Size: uint64(len(file))}, nil
}
