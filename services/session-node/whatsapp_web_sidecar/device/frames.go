package device

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"

	"go.mau.fi/whatsmeow/binary/token"
)

const (
	// As much as the network sends in one frame, unpacked.
	maxFrame = 32 << 20
	// How deep stanzas and names lie in one another: WhatsApp's are not ten deep.
	maxDepth = 64
	// How many names, attributes and contents a stanza has: what WhatsApp says of a thousand people has some ten thousand.
	maxValues = 1 << 20
	packed    = 2 // a bit of a frame's first byte
)

var (
	errEmptyFrame = errors.New("it is empty")
	errLargeFrame = errors.New("it is too large once it is unpacked")
	errNoStanza   = errors.New("it is no stanza")
)

// readable is a frame, unpacked, that the library can make a stanza of: it would take what is none, or lies too deep, with
// a panic or with all memory.
func readable(frame []byte) ([]byte, error) {
	if len(frame) == 0 {
		return nil, errEmptyFrame
	}
	if frame[0]&packed != 0 {
		unpacking, err := zlib.NewReader(bytes.NewReader(frame[1:]))
		if err != nil {
			return nil, err
		}
		unpacked := bytes.NewBuffer([]byte{frame[0] &^ packed})
		if n, err := io.Copy(unpacked, io.LimitReader(unpacking, maxFrame)); err != nil {
			return nil, err
		} else if n == maxFrame {
			return nil, errLargeFrame
		}
		frame = unpacked.Bytes()
	}
	stanza := stanzaReader{rest: frame[1:], left: maxValues}
	if !stanza.node(maxDepth) {
		return nil, errNoStanza
	}
	return frame, nil
}

// stanzaReader reads a stanza and keeps nothing of it.
type stanzaReader struct {
	rest []byte
	// How many values it may still have.
	left int
}

// What a value is.
type valueKind int

const (
	badValue valueKind = iota
	noValue
	textValue
	otherValue
)

// node reads a list of a name, attributes, and perhaps content.
func (s *stanzaReader) node(depth int) bool {
	tag, is := s.number(1)
	if !is {
		return false
	}
	size, is := s.size(tag)
	if !is || size == 0 || s.value(depth) != textValue {
		return false
	}
	for range (size - 1) / 2 {
		if s.value(depth) != textValue || s.value(depth) == badValue {
			return false
		}
	}
	return size%2 == 1 || s.value(depth) != badValue
}

func (s *stanzaReader) value(depth int) valueKind {
	tag, is := s.number(1)
	if !is || depth == 0 || s.left == 0 {
		return badValue
	}
	s.left--
	depth--
	switch tag {
	case token.ListEmpty:
		return noValue
	case token.List8, token.List16:
		size, _ := s.size(tag)
		for range size {
			if !s.node(depth) {
				return badValue
			}
		}
		return otherValue
	case token.Binary8:
		return s.text(1)
	case token.Binary20:
		return s.text(3)
	case token.Binary32:
		return s.text(4)
	case token.Dictionary0, token.Dictionary1, token.Dictionary2, token.Dictionary3:
		return s.skip(1, textValue)
	case token.JIDPair:
		if user := s.value(depth); user != textValue && user != noValue {
			return badValue
		}
		return s.jid(0, depth)
	case token.ADJID:
		return s.jid(2, depth)
	case token.FBJID, token.InteropJID:
		if s.value(depth) != textValue {
			return badValue
		}
		return s.jid(map[int]int{token.FBJID: 2, token.InteropJID: 4}[tag], depth)
	case token.Nibble8, token.Hex8:
		size, _ := s.number(1)
		if size == 1<<7 { // the last half of none
			return badValue
		}
		return s.skip(size&(1<<7-1), textValue)
	}
	return textValue
}

// jid reads the end of somebody's name: numbers of so many bytes, and a text.
func (s *stanzaReader) jid(numbers, depth int) valueKind {
	if s.skip(numbers, otherValue) == badValue || s.value(depth) != textValue {
		return badValue
	}
	return otherValue
}

func (s *stanzaReader) size(tag int) (int, bool) {
	switch tag {
	case token.List8:
		return s.number(1)
	case token.List16:
		return s.number(2)
	}
	return 0, false
}

func (s *stanzaReader) text(length int) valueKind {
	size, is := s.number(length)
	if length == 3 {
		size &= 1<<20 - 1
	}
	if !is {
		return badValue
	}
	return s.skip(size, textValue)
}

func (s *stanzaReader) number(length int) (int, bool) {
	if len(s.rest) < length {
		s.rest = nil
		return 0, false
	}
	number := 0
	for _, digit := range s.rest[:length] {
		number = number<<8 | int(digit)
	}
	s.rest = s.rest[length:]
	return number, true
}

func (s *stanzaReader) skip(length int, kind valueKind) valueKind {
	if length > len(s.rest) {
		return badValue
	}
	s.rest = s.rest[length:]
	return kind
}
