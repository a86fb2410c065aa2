package device

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
)

// unbroken cuts connections on which a frame of WhatsApp's does not end with the WebSocket's message that it began in: the
// library counts the bytes of its rest wrongly, and reads them past its end.
type unbroken struct{ next http.RoundTripper }

func (u unbroken) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := u.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	stream, is := response.Body.(io.ReadWriteCloser)
	if is && response.Header.Get("Sec-WebSocket-Extensions") == "" { // else what it carries is packed
		response.Body = &unbrokenStream{ReadWriteCloser: stream}
	}
	return response, nil
}

var errBrokenFrame = errors.New("the network broke a frame")

// unbrokenStream is what a server writes on a WebSocket.
type unbrokenStream struct {
	io.ReadWriteCloser
	head   []byte // of the message's piece, as far as it was read
	piece  uint64 // bytes that are left of it
	last   bool   // it is the last of its message
	binary bool   // its message has frames
	size   []byte // of the frame, as far as it was read
	frame  int    // bytes that are left of it
}

func (u *unbrokenStream) Read(into []byte) (int, error) {
	n, err := u.ReadWriteCloser.Read(into)
	if !u.follow(into[:n]) {
		_ = u.Close()
		return 0, errBrokenFrame
	}
	return n, err
}

// follow reads on; false: a frame did not end with its message.
func (u *unbrokenStream) follow(read []byte) bool {
	for len(read) > 0 {
		if u.piece == 0 {
			u.head, read = append(u.head, read[0]), read[1:]
			if !u.begin() || u.piece > 0 {
				continue
			}
		} else {
			n := min(uint64(len(read)), u.piece)
			if u.binary && u.isData() {
				u.count(read[:n])
			}
			u.piece, read = u.piece-n, read[n:]
			if u.piece > 0 {
				continue
			}
		}
		broken := u.last && u.binary && u.isData() && (u.frame > 0 || len(u.size) > 0)
		u.head = u.head[:0]
		if broken {
			return false
		}
	}
	return true
}

// begin reads the head of a piece; false: it is not all there.
func (u *unbrokenStream) begin() bool {
	const controls, shortest = 8, 126
	if len(u.head) < 2 {
		return false
	}
	opcode, length := u.head[0]&0xf, u.head[1]&0x7f
	switch wide := u.head[2:]; {
	case length < shortest:
		u.piece = uint64(length)
	case length == shortest && len(wide) == 2:
		u.piece = uint64(binary.BigEndian.Uint16(wide))
	case length > shortest && len(wide) == 8:
		u.piece = binary.BigEndian.Uint64(wide)
	default:
		return false
	}
	if opcode < controls {
		u.last = u.head[0]&0x80 != 0
		if opcode != 0 { // it does not go on with what was before
			u.binary = opcode == 2
		}
	}
	return true
}

// isData says whether the piece is of a message, and not between those of one.
func (u *unbrokenStream) isData() bool { return u.head[0]&0xf < 8 }

func (u *unbrokenStream) count(read []byte) {
	const sizeBytes = 3
	for len(read) > 0 {
		if u.frame > 0 {
			n := min(len(read), u.frame)
			u.frame, read = u.frame-n, read[n:]
			continue
		}
		u.size, read = append(u.size, read[0]), read[1:]
		if len(u.size) == sizeBytes {
			u.frame = int(u.size[0])<<16 | int(u.size[1])<<8 | int(u.size[2])
			u.size = u.size[:0]
		}
	}
}
