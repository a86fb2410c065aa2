package device

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
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

// showOnline shows the account as online, or not, until the connection ends.
func (d *Device) showOnline(ctx context.Context, online bool) error {
	d.online.Store(online)
	if d.client.Store.PushName == "" { // the library insists on a name, the network does not
		return d.client.DangerousInternals().SendNode(ctx, waBinary.Node{
			Tag: "presence", Attrs: waBinary.Attrs{"type": string(d.shownPresence())},
		})
	}
	return d.client.SendPresence(ctx, d.shownPresence())
}

func (d *Device) shownPresence() types.Presence {
	if d.online.Load() {
		return types.PresenceAvailable
	}
	return types.PresenceUnavailable
}

// watchPresence has the network tell of a person's presence.
func (d *Device) watchPresence(ctx context.Context, person string) error {
	jid, err := address.Parse(person)
	if err != nil {
		return err
	}
	if jid, err = d.lookUp(jid); err != nil {
		return err
	}
	return d.client.SubscribePresence(ctx, jid)
}

// rejectCall rejects a call. The network names callers by their hidden ids where it knows these.
func (d *Device) rejectCall(ctx context.Context, call *internalv1.RejectCallCall) error {
	caller, err := address.Parse(call.GetCaller())
	if err != nil {
		return err
	}
	if _, hidden := d.both(caller, types.EmptyJID); !hidden.IsEmpty() {
		caller = hidden
	}
	return d.client.RejectCall(ctx, caller, call.GetCallId())
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
