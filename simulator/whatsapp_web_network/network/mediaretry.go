package network

import (
	"crypto/rand"
	"strings"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"

	"sessionmesh.dev/whatsapp-web-network/content"
)

// mostPhoneFiles is how many messages with files are remembered; then none but new ones.
const mostPhoneFiles = 10_000

// phoneFile is a file as the phone that sent it has it.
type phoneFile struct {
	kind   string
	sealed content.Sealed
}

// keepOnPhone notes which file a message has.
func (m *mediaStore) keepOnPhone(messageID, kind string, sealed content.Sealed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.phones) >= mostPhoneFiles {
		clear(m.phones)
	}
	m.phones[messageID] = phoneFile{strings.ToLower(kind), sealed}
}

// lose forgets all encrypted files but those on phones.
func (m *mediaStore) lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, data := range m.files {
		if !strings.HasPrefix(name, "plain ") {
			m.total -= len(data)
			delete(m.files, name)
		}
	}
}

// storeAgain stores the file of a message, and returns where it is now, and its key; false: the phone has none.
func (m *mediaStore) storeAgain(messageID string) (path string, key []byte, is bool) {
	m.mu.Lock()
	file, is := m.phones[messageID]
	m.mu.Unlock()
	if !is {
		return "", nil, false
	}
	name := "again-" + mediaName(file.sealed.SumEnc)
	m.put(name, file.sealed.Bytes)
	return m.path(file.kind, name), file.sealed.Key, true
}

// answerForFile is what the phone says to a device that asks for a file, which the network has no more: where it is now, or
// that the phone has it no more, either.
func (n *Network) answerForFile(asked *Node, id string) *Node {
	answer := &Node{Tag: "notification", Attrs: Attrs{"from": asked.Attrs["to"], "type": "mediaretry", "id": id, "t": now()}}
	about := asked.GetChildByTag("rmr")
	path, key, has := n.media.storeAgain(id)
	if has {
		if sealed, ok := sealAnswer(asked, id, path, key); ok {
			answer.Content = []Node{sealed, about}
			return answer
		}
	}
	answer.Content = []Node{{Tag: "error", Attrs: Attrs{"code": "2"}}, about}
	return answer
}

// sealAnswer opens a request with the file's key and seals its answer; false: it was not sealed with that.
func sealAnswer(asked *Node, id, path string, mediaKey []byte) (waBinary.Node, bool) {
	key := hkdfutil.SHA256(mediaKey, nil, []byte("WhatsApp Media Retry Notification"), 32)
	sealed, _ := asked.GetChildByTag("encrypt", "enc_p").Content.([]byte)
	nonce, _ := asked.GetChildByTag("encrypt", "enc_iv").Content.([]byte)
	plain, err := gcmutil.Decrypt(key, nonce, sealed, []byte(id))
	var request waMmsRetry.ServerErrorReceipt
	if err != nil || proto.Unmarshal(plain, &request) != nil || request.GetStanzaID() != id {
		return waBinary.Node{}, false
	}
	plain, _ = proto.Marshal(&waMmsRetry.MediaRetryNotification{
		StanzaID: &id, DirectPath: &path, Result: waMmsRetry.MediaRetryNotification_SUCCESS.Enum(),
	})
	nonce = make([]byte, 12)
	_, _ = rand.Read(nonce)
	sealed, err = gcmutil.Encrypt(key, nonce, plain, []byte(id))
	return waBinary.Node{Tag: "encrypt", Content: []Node{{Tag: "enc_p", Content: sealed}, {Tag: "enc_iv", Content: nonce}}}, err == nil
}
