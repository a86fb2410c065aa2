package device

import (
	"context"
	"errors"
	"io"
	"net/http"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
)

const (
	// What a stanza of people's may have, in bytes: the node stores a quarter of it at most, and read it may take a hundred
	// times as much.
	maxStanza = 1 << 20
	// What the library reads into memory of a file: settings (app state).
	maxInMemory = 32 << 20
)

// passOver acknowledges what people sent, and is too large to be read; false: it is not.
func (d *Device) passOver(ctx context.Context, client *whatsmeow.Client, node *waBinary.Node) bool {
	switch node.Tag {
	case "message", "receipt", "call", "presence", "chatstate":
	default:
		return false
	}
	size := sizeOf(node)
	if size <= maxStanza {
		return false
	}
	d.log.write(levelWarning, "what is too large is passed over", "stanza", node.Tag)
	if node.Tag != "presence" && node.Tag != "chatstate" {
		client.DangerousInternals().SendAck(ctx, node, whatsmeow.NackInvalidProtobuf)
	}
	return true
}

// sizeOf is about how many bytes a stanza has.
func sizeOf(node *waBinary.Node) int {
	size := len(node.Tag)
	for name, value := range node.Attrs {
		size += len(name)
		if text, is := value.(string); is {
			size += len(text)
		}
	}
	switch content := node.Content.(type) {
	case []byte:
		size += len(content)
	case string:
		size += len(content)
	case []waBinary.Node:
		for i := range content {
			size += sizeOf(&content[i])
		}
	}
	return size
}

// filing marks downloads that go to a file, which is bounded.
type filing struct{}

func toFile(ctx context.Context) context.Context { return context.WithValue(ctx, filing{}, true) }

var errLargeAnswer = errors.New("it is too large to be kept in memory")

// inMemory bounds what is read of answers that do not go to a file: the library keeps them whole, and whoever stored them
// may have stored anything.
type inMemory struct{ next http.RoundTripper }

func (m inMemory) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := m.next.RoundTrip(request)
	if err == nil && request.Context().Value(filing{}) == nil {
		response.Body = &boundedBody{response.Body, maxInMemory}
	}
	return response, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if b.left -= n; b.left < 0 {
		return 0, errLargeAnswer
	}
	return n, err
}
