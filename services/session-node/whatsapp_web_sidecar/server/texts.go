package server

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// send writes a response. People and the network put texts into it that need not be any, and one that cannot be
// serialised would end the stream, and with it the connections of all accounts: it is mended.
func send(stream grpc.ServerStream, response proto.Message) error {
	var encoded grpc.PreparedMsg
	if encoded.Encode(stream, response) != nil {
		mend(response.ProtoReflect())
		if err := encoded.Encode(stream, response); err != nil {
			return err
		}
	}
	return stream.SendMsg(&encoded)
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
