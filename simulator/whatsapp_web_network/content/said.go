package content

import (
	"crypto/sha256"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

const digestLength = 8

// Inner is what an account's own device was told, without the envelope that says whom it was for.
func Inner(message *waE2E.Message) *waE2E.Message {
	if sent := message.GetDeviceSentMessage().GetMessage(); sent != nil {
		return sent
	}
	return message
}

// Digest is the same for messages that say the same: without what is drawn anew for every one.
func Digest(message *waE2E.Message) []byte {
	said := proto.CloneOf(Inner(message))
	said.MessageContextInfo = nil
	said.SenderKeyDistributionMessage = nil
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(said)
	if err != nil {
		return nil
	}
	return DigestOf(encoded)
}

// DigestOf is the digest of bytes.
func DigestOf(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:digestLength]
}

// Answerable tells whether a message shows something of its own: not a reaction, a correction or a key.
func Answerable(message *waE2E.Message) bool {
	said := Inner(message)
	return said.GetReactionMessage() == nil && said.GetProtocolMessage() == nil && said.GetEditedMessage() == nil &&
		said.GetPollUpdateMessage() == nil && said.GetPinInChatMessage() == nil && !onlyKey(said)
}

// Changes names the earlier message that a message changes, and how: the number of the field of ChangeMessage.
func Changes(message *waE2E.Message) (id string, how uint32) {
	said := Inner(message)
	if edited := said.GetEditedMessage().GetMessage(); edited != nil {
		said = edited
	}
	if pin := said.GetPinInChatMessage(); pin != nil {
		return pin.GetKey().GetID(), 7
	}
	switch protocol := said.GetProtocolMessage(); {
	case protocol == nil || protocol.Type == nil:
		return "", 0
	case protocol.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT:
		return protocol.GetKey().GetID(), 5
	case protocol.GetType() == waE2E.ProtocolMessage_REVOKE:
		return protocol.GetKey().GetID(), 6
	}
	return "", 0
}

// Played tells whether a message is something that is listened to or watched.
func Played(message *waE2E.Message) bool {
	said := Inner(message)
	return said.GetAudioMessage().GetPTT() || said.GetPtvMessage() != nil
}

// Type and MediaType are what the network is told of a message that it cannot read.
func Type(message *waE2E.Message) (kind, media string) {
	said := Inner(message)
	switch {
	case said.GetReactionMessage() != nil:
		return "reaction", ""
	case said.GetPollCreationMessageV3() != nil:
		return "poll", ""
	case said.GetImageMessage() != nil:
		return "media", "image"
	case said.GetStickerMessage() != nil:
		return "media", "sticker"
	case said.GetVideoMessage() != nil:
		return "media", "video"
	case said.GetPtvMessage() != nil:
		return "media", "ptv"
	case said.GetAudioMessage().GetPTT():
		return "media", "ptt"
	case said.GetAudioMessage() != nil:
		return "media", "audio"
	case said.GetDocumentMessage() != nil:
		return "media", "document"
	case said.GetLocationMessage() != nil:
		return "media", "location"
	case said.GetContactMessage() != nil:
		return "media", "vcard"
	case said.GetContactsArrayMessage() != nil:
		return "media", "contact_array"
	}
	return "text", ""
}

func onlyKey(message *waE2E.Message) bool {
	if message.GetSenderKeyDistributionMessage() == nil {
		return false
	}
	rest := proto.CloneOf(message)
	rest.SenderKeyDistributionMessage, rest.MessageContextInfo = nil, nil
	return proto.Size(rest) == 0
}
