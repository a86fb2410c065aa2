package control

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/network"
)

// ActOnPhone has somebody do something with chats and labels on an account's phone.
func (s *Service) ActOnPhone(
	_ context.Context, request *simulatorv1.ActOnPhoneRequest,
) (*simulatorv1.ActOnPhoneResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	chat := s.network.AddressAt(request.GetChat())
	if _, label := request.GetAct().(*simulatorv1.ActOnPhoneRequest_Label); !label && chat.IsEmpty() {
		return nil, invalid("chat", "must be a person or a group")
	}
	var reached time.Time // none: now
	if until := request.GetUntilUs(); until > 0 {
		reached = time.UnixMicro(int64(until))
	}
	var patch appstate.PatchInfo
	switch act := request.GetAct().(type) {
	case *simulatorv1.ActOnPhoneRequest_Archive:
		patch = appstate.BuildArchive(chat, act.Archive, time.Time{}, nil)
	case *simulatorv1.ActOnPhoneRequest_MuteUntilUs:
		patch = appstate.BuildMuteAbs(chat, act.MuteUntilUs > 0, nil)
		if act.MuteUntilUs > 0 {
			patch = appstate.BuildMuteAbs(chat, true, proto.Int64(int64(act.MuteUntilUs/1000)))
		}
	case *simulatorv1.ActOnPhoneRequest_Pin:
		patch = appstate.BuildPin(chat, act.Pin)
	case *simulatorv1.ActOnPhoneRequest_MarkUnread:
		patch = appstate.BuildMarkChatAsRead(chat, !act.MarkUnread, time.Time{}, nil)
	case *simulatorv1.ActOnPhoneRequest_Clear:
		patch = clearing(chat, reached)
	case *simulatorv1.ActOnPhoneRequest_Delete:
		patch = appstate.BuildDeleteChat(chat, reached, nil, false)
	case *simulatorv1.ActOnPhoneRequest_Label:
		label := act.Label
		patch = appstate.BuildLabelEdit(label.GetId(), label.GetName(), label.GetColor(), label.GetDeleted())
	case *simulatorv1.ActOnPhoneRequest_Labelling:
		on := act.Labelling
		patch = appstate.BuildLabelChat(chat, on.GetLabelId(), on.GetLabelled())
		if id := on.GetNetworkMessageId(); id != "" {
			patch = appstate.BuildLabelMessage(chat, on.GetLabelId(), id, on.GetLabelled())
		}
	case *simulatorv1.ActOnPhoneRequest_Read:
		if act.Read == "" {
			patch = appstate.BuildMarkChatAsRead(chat, true, reached, nil)
			break
		}
		s.network.ReadOnPhone(account, chat, act.Read)
		return &simulatorv1.ActOnPhoneResponse{}, nil
	case *simulatorv1.ActOnPhoneRequest_DisappearAfterSeconds:
		if err := s.network.SetTimer(account, chat, act.DisappearAfterSeconds); err != nil {
			return nil, refusal(err)
		}
		return &simulatorv1.ActOnPhoneResponse{}, nil
	case nil:
		return nil, invalid("act", "is required")
	default:
		return nil, unsupported("phones of this network do not do that")
	}
	if err := s.network.OnPhone(account, patch); err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.ActOnPhoneResponse{}, nil
}

const (
	maxPast      = 1_000_000
	maxPastAfter = time.Minute
)

// GivePhoneHistory gives an account's phone a chat with a past, for which its device may ask.
func (s *Service) GivePhoneHistory(
	_ context.Context, request *simulatorv1.GivePhoneHistoryRequest,
) (*simulatorv1.GivePhoneHistoryResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	chat := s.network.AddressAt(request.GetChat())
	after := request.GetAnswerAfter().AsDuration()
	switch {
	case chat.IsEmpty():
		return nil, invalid("chat", "must be a person or a group")
	case request.GetMessages() < 0 || request.GetMessages() > maxPast:
		return nil, invalid("messages", "must be between 0 and 1,000,000")
	case after < 0 || after > maxPastAfter:
		return nil, invalid("answer_after", "must be between 0 and 60 s")
	}
	s.network.GivePast(account, chat, network.Past{
		Messages: int(request.GetMessages()), Silent: request.GetSilent(), After: after, Shuffled: request.GetShuffled(),
	})
	return &simulatorv1.GivePhoneHistoryResponse{}, nil
}

func clearing(chat types.JID, reached time.Time) appstate.PatchInfo {
	if reached.IsZero() {
		reached = time.Now()
	}
	reaches := &waSyncAction.SyncActionMessageRange{LastMessageTimestamp: proto.Int64(reached.Unix())}
	return appstate.PatchInfo{
		Type: appstate.WAPatchRegularHigh,
		Mutations: []appstate.MutationInfo{{
			Index: []string{appstate.IndexClearChat, chat.String(), "1", "0"}, Version: 6,
			Value: &waSyncAction.SyncActionValue{ClearChatAction: &waSyncAction.ClearChatAction{MessageRange: reaches}},
		}},
	}
}
