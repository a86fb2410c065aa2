package server

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

const (
	// As much as either side takes at once; more is a mistake.
	maxFrame = 64 << 20
	// What is written at once of what waits.
	maxWrite   = 256 << 10
	readBuffer = 64 << 10
	head       = 4
)

// newReader gives a function that returns the next request of a connection.
func newReader(connection io.Reader) func() (*internalv1.RunRequest, error) {
	buffered := bufio.NewReaderSize(connection, readBuffer)
	var frame []byte
	return func() (*internalv1.RunRequest, error) {
		var length [head]byte
		if _, err := io.ReadFull(buffered, length[:]); err != nil {
			return nil, err
		}
		size := int(binary.BigEndian.Uint32(length[:]))
		if size > maxFrame {
			return nil, fmt.Errorf("a request of %d bytes", size)
		}
		if cap(frame) < size || cap(frame) > readBuffer { // a large one's memory is not kept
			frame = make([]byte, size, max(size, head<<10))
		}
		frame = frame[:size]
		if _, err := io.ReadFull(buffered, frame); err != nil {
			return nil, err
		}
		request := &internalv1.RunRequest{}
		return request, proto.Unmarshal(frame, request)
	}
}

// write sends what is said until the connection ends, all that waits at once: most of what it costs is to wake the node.
func (r *run) write(connection io.Writer) error {
	var frames []byte
	for {
		var response *internalv1.RunResponse
		select {
		case response = <-r.out:
		case <-r.over.Done():
			return nil
		}
		frames = frames[:0]
		for more := true; more; {
			var err error
			if frames, err = appendFrame(frames, response); errors.Is(err, errLarge) {
				r.fail(response.GetConnection(), err)
			} else if err != nil {
				return err
			}
			more = false
			if len(frames) < maxWrite {
				select {
				case response = <-r.out:
					more = true
				default:
				}
			}
		}
		if _, err := connection.Write(frames); err != nil {
			return err
		}
		if cap(frames) > 2*maxWrite { // a large one's memory is not kept
			frames = nil
		}
	}
}

var errLarge = errors.New("more was said at once than the node takes")

// appendFrame adds a response, unless it is larger than the node takes: that would end the connections of all accounts. People and the network put texts into it that need not be any, and one that cannot be
// serialised would end the connections of all accounts: it is mended.
func appendFrame(frames []byte, response *internalv1.RunResponse) ([]byte, error) {
	at := len(frames)
	frames = append(frames, make([]byte, head)...)
	whole, err := proto.MarshalOptions{}.MarshalAppend(frames, response)
	if err != nil {
		mend(response.ProtoReflect())
		if whole, err = (proto.MarshalOptions{}).MarshalAppend(frames, response); err != nil {
			return nil, err
		}
	}
	if len(whole)-at-head > maxFrame {
		return whole[:at], errLarge
	}
	binary.BigEndian.PutUint32(whole[at:], uint32(len(whole)-at-head))
	return whole, nil
}

// mend makes texts of all that should be some. The same bytes become the same text.
func mend(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, entry protoreflect.Value) bool {
				if mended, changed := mended(field.MapValue(), entry); changed {
					value.Map().Set(key, mended)
				}
				return true
			})
		case field.IsList():
			for i := range value.List().Len() {
				if mended, changed := mended(field, value.List().Get(i)); changed {
					value.List().Set(i, mended)
				}
			}
		default:
			if mended, changed := mended(field, value); changed {
				message.Set(field, mended)
			}
		}
		return true
	})
}

func mended(field protoreflect.FieldDescriptor, value protoreflect.Value) (protoreflect.Value, bool) {
	switch field.Kind() {
	case protoreflect.MessageKind:
		mend(value.Message())
	case protoreflect.StringKind:
		text := strings.ToValidUTF8(value.String(), "\uFFFD")
		return protoreflect.ValueOfString(text), text != value.String()
	}
	return value, false
}
