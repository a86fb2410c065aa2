package device

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// What is encrypted with the secret of the message that it is about, as the protocol names it.
const (
	sealedVote        = "Poll Vote"
	sealedEdit        = "Message Edit"
	sealedAppointment = "Event Edit"
	sealedReaction    = "Enc Reaction"
	sealedComment     = "Enc Comment"
)

const sealNonceBytes = 12

var errSealed = errors.New("no secret that is kept opens it")

// unsealChange puts an edit, a reaction or a comment that is encrypted with its message's secret in the place of what it came
// in. What no secret opens says nothing: its message is not kept any more, or came before the pairing.
func (d *Device) unsealChange(said *events.Message) {
	message := said.Message
	if change := message.GetSecretEncryptedMessage(); change != nil {
		use := ""
		switch change.GetSecretEncType() {
		case waE2E.SecretEncryptedMessage_MESSAGE_EDIT:
			use = sealedEdit
		case waE2E.SecretEncryptedMessage_EVENT_EDIT:
			use = sealedAppointment
		default:
			return
		}
		opened := &waE2E.Message{}
		edited := &waE2E.Message{}
		if d.unseal(said.Info, use, change.GetTargetMessageKey(), change, opened) == nil {
			if edited = opened.GetProtocolMessage().GetEditedMessage(); edited == nil {
				edited = opened
			}
		}
		said.Message = &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: change.GetTargetMessageKey(), EditedMessage: edited,
		}}
		return
	}
	if change := message.GetEncReactionMessage(); change != nil {
		reaction := &waE2E.ReactionMessage{}
		said.Message = nil
		if d.unseal(said.Info, sealedReaction, change.GetTargetMessageKey(), change, reaction) == nil {
			reaction.Key = change.GetTargetMessageKey()
			said.Message = &waE2E.Message{ReactionMessage: reaction}
		}
		return
	}
	if change := message.GetEncCommentMessage(); change != nil {
		comment := &waE2E.Message{}
		if d.unseal(said.Info, sealedComment, change.GetTargetMessageKey(), change, comment) == nil {
			said.Message = &waE2E.Message{CommentMessage: &waE2E.CommentMessage{Message: comment, TargetMessageKey: change.GetTargetMessageKey()}}
		}
	}
}

// unseal decrypts what somebody wrote about a message with that one's secret. Both writers' ids are in the key, and each may
// be a number or a hidden id, whatever the message says: apps differ.
func (d *Device) unseal(
	info types.MessageInfo, use string, about *waCommon.MessageKey, what interface {
		GetEncIV() []byte
		GetEncPayload() []byte
	}, into proto.Message,
) error {
	id := about.GetID()
	if id == "" || len(what.GetEncIV()) != sealNonceBytes {
		return errSealed
	}
	secrets, err := d.store.Secrets(d.ctx, id)
	if err != nil {
		return err
	}
	secrets = append(secrets, rows.Secret{Writer: d.client.Store.GetJID(), Secret: d.secretOf(id)})
	for _, secret := range secrets {
		for _, writer := range d.idsOf(secret.Writer, types.EmptyJID) {
			for _, by := range d.idsOf(info.Sender, info.SenderAlt) {
				key := hkdfutil.SHA256(secret.Secret, nil, []byte(id+writer+by+use), 32)
				var bound []byte
				if use == sealedVote {
					bound = []byte(id + "\x00" + by)
				}
				if plain, err := gcmutil.Decrypt(key, what.GetEncIV(), what.GetEncPayload(), bound); err == nil {
					return proto.Unmarshal(plain, into)
				}
			}
		}
	}
	return errSealed
}

// idsOf are a person's ids, hidden and by number, as far as they are known.
func (d *Device) idsOf(jid, other types.JID) []string {
	if own, hidden := d.client.Store.GetJID(), d.client.Store.GetLID(); jid.User == own.User || jid.User == hidden.User {
		jid, other = own, hidden
	}
	number, hidden := d.both(jid, other)
	var ids []string
	for _, id := range []types.JID{hidden, number} {
		if !id.IsEmpty() {
			ids = append(ids, id.String())
		}
	}
	return ids
}
