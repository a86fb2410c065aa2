package device

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

// onTyping tells of somebody who writes or records.
func (d *Device) onTyping(said *events.ChatPresence) {
	if said.IsFromMe {
		return
	}
	typing := &internalv1.DeviceTyping{
		Sender: d.addressOf(said.Sender, said.SenderAlt), Identity: d.identityOf(said.Sender, said.SenderAlt, ""),
		State: sessionmeshv1.TypingState_TYPING_STATE_PAUSED,
	}
	if typing.Chat = typing.Sender; said.IsGroup {
		typing.Chat = d.addressOf(said.Chat, types.EmptyJID)
	}
	if said.State == types.ChatPresenceComposing {
		typing.State = sessionmeshv1.TypingState_TYPING_STATE_TYPING
		if said.Media == types.ChatPresenceMediaAudio {
			typing.State = sessionmeshv1.TypingState_TYPING_STATE_RECORDING
		}
	}
	d.mention(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_Typing{Typing: typing}})
}

// onPresence tells of somebody who is online, or no longer.
func (d *Device) onPresence(said *events.Presence) {
	presence := &internalv1.DevicePresence{
		Person: d.addressOf(said.From, types.EmptyJID), Identity: d.identityOf(said.From, types.EmptyJID, ""), Online: !said.Unavailable,
	}
	if !said.LastSeen.IsZero() {
		presence.LastSeenTime = timestamppb.New(said.LastSeen)
	}
	d.mention(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_Presence{Presence: presence}})
}

// onCall tells of somebody who calls.
func (d *Device) onCall(call types.BasicCallMeta, video bool) {
	offered := &internalv1.DeviceCallOffered{
		CallId: call.CallID, Caller: d.addressOf(call.CallCreator, call.CallCreatorAlt), Video: video,
		Identity: d.identityOf(call.CallCreator, call.CallCreatorAlt, ""), Group: d.groupCalled(call), Time: callTime(call),
	}
	d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_CallOffered{CallOffered: offered}})
}

// onCallEnded tells of a call that has ended.
func (d *Device) onCallEnded(call types.BasicCallMeta, cause sessionmeshv1.CallEndCause) {
	ended := &internalv1.DeviceCallEnded{
		CallId: call.CallID, Caller: d.addressOf(call.CallCreator, call.CallCreatorAlt), Cause: cause,
		Identity: d.identityOf(call.CallCreator, call.CallCreatorAlt, ""), Group: d.groupCalled(call), Time: callTime(call),
	}
	d.notify(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_CallEnded{CallEnded: ended}})
}

func (d *Device) groupCalled(call types.BasicCallMeta) string {
	if call.GroupJID.IsEmpty() {
		return ""
	}
	return d.addressOf(call.GroupJID, types.EmptyJID)
}

func callTime(call types.BasicCallMeta) *timestamppb.Timestamp {
	if call.Timestamp.IsZero() {
		return timestamppb.New(time.Now())
	}
	return timestamppb.New(call.Timestamp)
}

// callEnds are the network's words for why a call has ended; without one the caller gave up.
var callEnds = map[string]sessionmeshv1.CallEndCause{
	"":                   sessionmeshv1.CallEndCause_CALL_END_CAUSE_MISSED,
	"timeout":            sessionmeshv1.CallEndCause_CALL_END_CAUSE_TIMED_OUT,
	"accepted_elsewhere": sessionmeshv1.CallEndCause_CALL_END_CAUSE_ACCEPTED_ELSEWHERE,
	"rejected_elsewhere": sessionmeshv1.CallEndCause_CALL_END_CAUSE_REJECTED_ELSEWHERE,
	"busy":               sessionmeshv1.CallEndCause_CALL_END_CAUSE_BUSY,
	"failed":             sessionmeshv1.CallEndCause_CALL_END_CAUSE_FAILED,
}
