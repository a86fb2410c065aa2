package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
)

// edit has a message of the account say something else.
func (d *Device) edit(call *internalv1.EditMessageCall) error {
	chat, err := address.Parse(call.GetTarget().GetChat())
	if err != nil {
		return fmt.Errorf("the chat: %w", err)
	}
	said, err := d.written(call.GetNetworkMessageId(), chat, call.GetMessage())
	if err != nil {
		return err
	}
	return d.change(chat, call.GetNetworkMessageId(), d.client.BuildEdit(chat, call.GetTarget().GetNetworkMessageId(), said.Message))
}

// revoke takes a message back for everybody.
func (d *Device) revoke(call *internalv1.RevokeMessageCall) error {
	chat, key, err := d.named(call.GetTarget())
	if err != nil {
		return err
	}
	return d.change(chat, call.GetNetworkMessageId(), &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: key,
	}})
}

// pin pins a message for everybody in its chat.
func (d *Device) pin(call *internalv1.PinMessageCall) error {
	chat, key, err := d.named(call.GetTarget())
	if err != nil {
		return err
	}
	kind := waE2E.PinInChatMessage_UNPIN_FOR_ALL
	if call.GetSeconds() > 0 {
		kind = waE2E.PinInChatMessage_PIN_FOR_ALL
	}
	return d.change(chat, call.GetNetworkMessageId(), &waE2E.Message{
		PinInChatMessage: &waE2E.PinInChatMessage{
			Key: key, Type: kind.Enum(), SenderTimestampMS: proto.Int64(time.Now().UnixMilli()),
		},
		MessageContextInfo: &waE2E.MessageContextInfo{MessageAddOnDurationInSecs: proto.Uint32(call.GetSeconds())},
	})
}

// change sends what changes an earlier message, and returns when the network has it.
func (d *Device) change(chat types.JID, id string, message *waE2E.Message) error {
	chat, err := d.lookUp(chat)
	if err != nil {
		return err
	}
	sending, done := d.store.Sending(d.ctx)
	defer done()
	if err := d.keyForMembers(sending, chat); err != nil {
		return err
	}
	_, err = d.client.SendMessage(sending, chat, message, whatsmeow.SendRequestExtra{ID: id, Timeout: callTimeout})
	if errors.Is(err, whatsmeow.ErrServerReturnedError) {
		if chat.Server == types.NewsletterServer {
			id = changedPost(message)
		}
		return &changeRefused{err, d.nacks.of(id)}
	}
	return err
}

// changedPost is the post that a change is of, whose id such changes go by in channels.
func changedPost(change *waE2E.Message) types.MessageID {
	if edited := change.GetEditedMessage().GetMessage(); edited != nil {
		change = edited
	}
	return change.GetProtocolMessage().GetKey().GetID()
}

// changeRefused is the network's refusal of a change, with its number.
type changeRefused struct {
	error
	code uint32
}

// star stars a message on the account's devices.
func (d *Device) star(ctx context.Context, call *internalv1.StarMessageCall) error {
	chat, sender, own, err := d.parties(call.GetTarget())
	if err != nil {
		return err
	}
	if chat = d.phoneHas(chat); own {
		sender = chat // so that none is named
	}
	return d.share(ctx, appstate.BuildStar(chat, sender, call.GetTarget().GetNetworkMessageId(), own, call.GetStarred()))
}

// deleteForMe deletes a message on the account's devices.
func (d *Device) deleteForMe(ctx context.Context, call *internalv1.DeleteMessageForMeCall) error {
	chat, sender, own, err := d.parties(call.GetTarget())
	if err != nil {
		return err
	}
	chat = d.phoneHas(chat)
	named, fromMe := "0", "0"
	if own {
		fromMe = "1"
	} else if !address.IsPerson(chat) {
		named = sender.String()
	}
	action := &waSyncAction.DeleteMessageForMeAction{DeleteMedia: proto.Bool(call.GetWithMedia())}
	if call.GetTime() != nil {
		action.MessageTimestamp = proto.Int64(call.GetTime().GetSeconds())
	}
	return d.share(ctx, appstate.PatchInfo{
		Type: appstate.WAPatchRegularHigh,
		Mutations: []appstate.MutationInfo{{
			Index:   []string{appstate.IndexDeleteMessageForMe, chat.String(), call.GetTarget().GetNetworkMessageId(), fromMe, named},
			Version: 3,
			Value:   &waSyncAction.SyncActionValue{DeleteMessageForMeAction: action},
		}},
	})
}

// named is the chat of a message, and how the network names the message there.
func (d *Device) named(target *internalv1.ReferredMessage) (types.JID, *waCommon.MessageKey, error) {
	chat, sender, own, err := d.parties(target)
	if err != nil {
		return chat, nil, err
	}
	if own {
		sender = d.client.Store.GetJID().ToNonAD()
	}
	return chat, d.client.BuildMessageKey(chat, sender, target.GetNetworkMessageId()), nil
}

// parties are the chat of a message, who wrote it, as they are named there, and whether that is the account.
func (d *Device) parties(target *internalv1.ReferredMessage) (chat, sender types.JID, own bool, err error) {
	if chat, err = address.Parse(target.GetChat()); err != nil {
		return chat, sender, false, fmt.Errorf("the chat: %w", err)
	}
	if target.GetSender() == "" {
		return chat, sender, true, nil
	}
	if sender, err = address.Parse(target.GetSender()); err != nil {
		return chat, sender, false, fmt.Errorf("who wrote it: %w", err)
	}
	return chat, d.writerIn(chat, sender), false, nil
}

// refusalOf says whether the network has refused a call, and why.
func refusalOf(err error) internalv1.DeviceRefusal {
	var asked *whatsmeow.IQError
	var change *changeRefused
	var known *refused
	switch {
	case err == nil:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNSPECIFIED
	case errors.As(err, &known):
		return known.refusal
	case errors.Is(err, errUnknownChannel):
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT
	case errors.Is(err, whatsmeow.ErrNotInGroup):
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_A_MEMBER
	case codeOfMex(err) != 0:
		return refusalCode(uint32(codeOfMex(err)))
	case errors.Is(err, errUnknownRecipient):
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_PERSON
	case errors.Is(err, content.ErrUnsupported), errors.Is(err, content.ErrInvalid):
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_OTHER
	case errors.Is(err, whatsmeow.ErrGroupNotFound):
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT
	case errors.As(err, &change):
		return refusalCode(change.code)
	case errors.As(err, &asked):
		return refusalCode(uint32(asked.Code))
	}
	return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNSPECIFIED
}

// codeOfQuery is the network's number of the failure of a question; 0: it did not fail so.
func codeOfQuery(err error) int {
	var asked *whatsmeow.IQError
	if errors.As(err, &asked) {
		return asked.Code
	}
	return 0
}

// refusalCode says what the network's numbers of failures mean where something was to be done.
func refusalCode(code uint32) internalv1.DeviceRefusal {
	switch code {
	case 401, 403:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_AN_ADMIN
	case 404:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT
	case 410:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_INVITE_ENDED
	case 419:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_FULL
	case 421, 429:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_RATE_LIMITED
	case 463, 475:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_RESTRICTED
	}
	return internalv1.DeviceRefusal_DEVICE_REFUSAL_OTHER
}
