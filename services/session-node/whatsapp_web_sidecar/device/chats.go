package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// changeChat changes something of a chat on all of the account's devices.
func (d *Device) changeChat(ctx context.Context, call *internalv1.ChangeChatCall) error {
	chat, err := address.Parse(call.GetLast().GetChat())
	if err != nil {
		return fmt.Errorf("the chat: %w", err)
	}
	if timer, ok := call.GetChange().(*internalv1.ChangeChatCall_DisappearAfterSeconds); ok {
		return d.change(chat, d.client.GenerateMessageID(), &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type:                      waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(),
			EphemeralExpiration:       proto.Uint32(timer.DisappearAfterSeconds),
			EphemeralSettingTimestamp: proto.Int64(time.Now().Unix()),
		}})
	}
	key, at, err := d.lastOf(call)
	if err != nil {
		return err
	}
	chat = d.phoneHas(chat)
	switch change := call.GetChange().(type) {
	case *internalv1.ChangeChatCall_Archived:
		return d.share(ctx, appstate.BuildArchive(chat, change.Archived, at, key))
	case *internalv1.ChangeChatCall_MuteUntilUs:
		return d.share(ctx, muting(chat, change.MuteUntilUs))
	case *internalv1.ChangeChatCall_Pinned:
		return d.share(ctx, appstate.BuildPin(chat, change.Pinned))
	case *internalv1.ChangeChatCall_MarkedUnread:
		return d.share(ctx, appstate.BuildMarkChatAsRead(chat, !change.MarkedUnread, at, key))
	case *internalv1.ChangeChatCall_Clear:
		return d.share(ctx, clearing(chat, at, key))
	case *internalv1.ChangeChatCall_Delete:
		return d.share(ctx, appstate.BuildDeleteChat(chat, at, key, false))
	}
	return errors.New("this version does not know the change")
}

// lastOf is the last message of a chat as the network names it, and when it was sent; nil: there is none.
func (d *Device) lastOf(call *internalv1.ChangeChatCall) (*waCommon.MessageKey, time.Time, error) {
	if call.GetLast().GetNetworkMessageId() == "" {
		return nil, time.Time{}, nil
	}
	chat, sender, own, err := d.parties(call.GetLast())
	if err != nil {
		return nil, time.Time{}, err
	}
	if own {
		sender = d.client.Store.GetJID().ToNonAD()
	}
	key := d.client.BuildMessageKey(d.phoneHas(chat), sender, call.GetLast().GetNetworkMessageId())
	if call.GetLastTime() == nil {
		return key, time.Time{}, nil
	}
	return key, call.GetLastTime().AsTime(), nil
}

func muting(chat types.JID, until int64) appstate.PatchInfo {
	if until <= 0 {
		return appstate.BuildMuteAbs(chat, until < 0, nil)
	}
	return appstate.BuildMuteAbs(chat, true, proto.Int64(until/1000))
}

// clearing is what the library has no words for.
func clearing(chat types.JID, at time.Time, key *waCommon.MessageKey) appstate.PatchInfo {
	if at.IsZero() {
		at = time.Now()
	}
	reaches := &waSyncAction.SyncActionMessageRange{LastMessageTimestamp: proto.Int64(at.Unix())}
	if key != nil {
		reaches.Messages = []*waSyncAction.SyncActionMessage{{Key: key, Timestamp: proto.Int64(at.Unix())}}
	}
	return appstate.PatchInfo{
		Type: appstate.WAPatchRegularHigh,
		Mutations: []appstate.MutationInfo{{
			Index: []string{appstate.IndexClearChat, chat.String(), "1", "0"}, Version: 6,
			Value: &waSyncAction.SyncActionValue{ClearChatAction: &waSyncAction.ClearChatAction{MessageRange: reaches}},
		}},
	}
}

// changeLabel makes a label, changes it or deletes it.
func (d *Device) changeLabel(ctx context.Context, label *internalv1.DeviceLabel) error {
	return d.share(ctx, appstate.BuildLabelEdit(label.GetId(), label.GetName(), label.GetColor(), label.GetDeleted()))
}

// setLabel puts a label on a chat or a message, or takes it off.
func (d *Device) setLabel(ctx context.Context, call *internalv1.DeviceLabelled) error {
	chat, err := address.Parse(call.GetChat())
	if err != nil {
		return fmt.Errorf("the chat: %w", err)
	}
	chat = d.phoneHas(chat)
	if id := call.GetNetworkMessageId(); id != "" {
		return d.share(ctx, appstate.BuildLabelMessage(chat, call.GetLabelId(), id, call.GetLabelled()))
	}
	return d.share(ctx, appstate.BuildLabelChat(chat, call.GetLabelId(), call.GetLabelled()))
}
