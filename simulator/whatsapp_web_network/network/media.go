package network

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	"sessionmesh.dev/whatsapp-web-network/content"
)

const (
	maxBlob  = 100 << 20
	maxBlobs = 512 << 20
)

// mediaStore keeps encrypted files by the name that their path ends with; the oldest go first.
type mediaStore struct {
	mu    sync.Mutex
	files map[string][]byte
	order []string
	total int
	// What phones have: the files of the messages that they sent, by the messages' ids.
	phones map[string]phoneFile
}

func newMediaStore() *mediaStore {
	return &mediaStore{files: map[string][]byte{}, phones: map[string]phoneFile{}}
}

func (m *mediaStore) put(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.files[name]; known {
		return
	}
	m.files[name] = data
	m.order = append(m.order, name)
	m.total += len(data)
	for m.total > maxBlobs && len(m.order) > 1 {
		m.total -= len(m.files[m.order[0]])
		delete(m.files, m.order[0])
		m.order = m.order[1:]
	}
}

func (m *mediaStore) size() (count, total int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.files), m.total
}

func (m *mediaStore) serve(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch r.Method {
	case http.MethodPost:
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBlob))
		if err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		m.put(name, data)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"url": "https://" + r.Host + r.URL.Path, "direct_path": r.URL.Path + "?ccb=1", "handle": name,
		})
	case http.MethodGet:
		m.mu.Lock()
		data, ok := m.files[name]
		m.mu.Unlock()
		if !ok {
			http.Error(w, "gone", http.StatusGone)
			return
		}
		_, _ = w.Write(data)
	}
}

// path is where a file with a name is.
func (m *mediaStore) path(kind, encryptedSum string) string {
	return "/mms/" + kind + "/" + encryptedSum + "?ccb=1"
}

func mediaName(encryptedSum []byte) string { return base64.URLEncoding.EncodeToString(encryptedSum) }

// store keeps an encrypted file and returns its path.
func (m *mediaStore) store(kind string, sealed content.Sealed) string {
	name := mediaName(sealed.SumEnc)
	m.put(name, sealed.Bytes)
	return m.path(kind, name)
}

// plain is a file that was put in; nil: it never was.
func (m *mediaStore) plain(ref string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files["plain "+ref]
}

// share encrypts a file that was put in for a message; one that never was has a path that leads nowhere.
func (m *mediaStore) share(messageID, ref, kind string) (content.Sealed, string) {
	m.mu.Lock()
	plain, ok := m.files["plain "+ref]
	m.mu.Unlock()
	sealed, err := content.Seal(kind, plain)
	if err != nil || !ok {
		return sealed, m.path(strings.ToLower(kind), "nothing")
	}
	m.keepOnPhone(messageID, kind, sealed)
	return sealed, m.store(strings.ToLower(kind), sealed)
}

// sharePublic stores a file that was put in as it is, for a post in a channel.
func (m *mediaStore) sharePublic(ref, kind string) (content.Sealed, string) {
	m.mu.Lock()
	plain := m.files["plain "+ref]
	m.mu.Unlock()
	sum := sha256.Sum256(plain)
	name := mediaName(sum[:])
	m.put(name, plain)
	return content.Sealed{Sum: sum[:], Size: uint64(len(plain))}, "/newsletter/newsletter-" + strings.ToLower(kind) + "/" + name + "?ccb=1"
}

// PutFile keeps a file that messages can be made to carry, by its SHA-256.
func (n *Network) PutFile(data []byte) (ref string, sum [sha256.Size]byte) {
	sum = sha256.Sum256(data)
	ref = hex.EncodeToString(sum[:])
	n.media.put("plain "+ref, data)
	return ref, sum
}

// Files is how many there are, and how many bytes.
func (n *Network) Files() (count, total int) { return n.media.size() }
