package device

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// wire is what a server writes on a WebSocket: pieces of messages, by their first bytes.
type wire struct{ bytes.Buffer }

func (*wire) Close() error { return nil }

const (
	binaryMessage = 0x82
	itsBeginning  = 0x02
	itsRest       = 0x80
	ping          = 0x89
)

func (w *wire) piece(first byte, payload []byte) {
	switch n := len(payload); {
	case n < 126:
		w.Write([]byte{first, byte(n)})
	case n < 1<<16:
		w.Write([]byte{first, 126, byte(n >> 8), byte(n)})
	default:
		w.Write([]byte{first, 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	w.Write(payload)
}

func frame(length int) []byte {
	return append([]byte{byte(length >> 16), byte(length >> 8), byte(length)}, make([]byte, length)...)
}

func TestAConnectionIsCutWhereAFrameIsBroken(t *testing.T) {
	for name, broken := range map[string]struct {
		write func(*wire)
		is    bool
	}{
		"a frame in a message": {func(w *wire) { w.piece(binaryMessage, frame(10)) }, false},
		"two":                  {func(w *wire) { w.piece(binaryMessage, append(frame(200), frame(0)...)) }, false},
		"a large one":          {func(w *wire) { w.piece(binaryMessage, frame(70_000)) }, false},
		"in pieces, with a ping between": {func(w *wire) {
			w.piece(itsBeginning, frame(10)[:5])
			w.piece(ping, []byte("there?"))
			w.piece(itsRest, frame(10)[5:])
		}, false},
		"a message without one":     {func(w *wire) { w.piece(binaryMessage, nil) }, false},
		"a text":                    {func(w *wire) { w.piece(0x81, []byte("hello")) }, false},
		"a frame over two messages": {func(w *wire) { w.piece(binaryMessage, frame(100)[:101]) }, true},
		"its size over two":         {func(w *wire) { w.piece(binaryMessage, []byte{0, 0}) }, true},
		"broken in its last piece":  {func(w *wire) { w.piece(itsBeginning, frame(10)[:5]); w.piece(itsRest, []byte{0}) }, true},
	} {
		for how, reading := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader,
		} {
			w := &wire{}
			w.piece(binaryMessage, frame(3))
			broken.write(w)
			w.piece(binaryMessage, frame(3))
			stream := &unbrokenStream{ReadWriteCloser: struct {
				io.Reader
				io.WriteCloser
			}{reading(w), w}}
			if _, err := io.ReadAll(stream); errors.Is(err, errBrokenFrame) != broken.is {
				t.Error(name, how, err)
			}
		}
	}
}
