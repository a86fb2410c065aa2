package device

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// maxCalls is how many questions of one account may be open.
const maxCalls = 16

const callTimeout = 30 * time.Second

var errTooMany = errors.New("too many questions are open")

// Call does what the node asks for, and answers. It never waits.
func (d *Device) Call(call *internalv1.DeviceCall) {
	select {
	case d.calls <- struct{}{}:
	default:
		go d.answer(&internalv1.DeviceCallResult{Sequence: call.GetSequence()}, errTooMany)
		return
	}
	go d.contain(func() {
		defer func() { <-d.calls }()
		result := &internalv1.DeviceCallResult{Sequence: call.GetSequence()}
		d.answer(result, d.do(call, result))
	})
}

func (d *Device) answer(result *internalv1.DeviceCallResult, err error) {
	if err != nil {
		result.Error = valid(err.Error())
		if d.ctx.Err() == nil && d.client.IsConnected() { // else nobody has refused it
			result.Refusal = refusalOf(err)
		}
	}
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_CallResult{CallResult: result}})
}

func (d *Device) do(call *internalv1.DeviceCall, result *internalv1.DeviceCallResult) error {
	if d.loggedIn() == nil {
		return errors.New("not logged in")
	}
	ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
	defer cancel()
	switch asked := call.GetCall().(type) {
	case *internalv1.DeviceCall_CheckNumbers:
		return d.checkNumbers(ctx, asked.CheckNumbers.GetPhones(), result)
	case *internalv1.DeviceCall_SetBlocked:
		return d.setBlocked(ctx, asked.SetBlocked)
	case *internalv1.DeviceCall_ListBlocked:
		return d.listBlocked(ctx, result)
	case *internalv1.DeviceCall_LookUpPerson:
		return d.lookUpPerson(ctx, asked.LookUpPerson.GetPerson(), result)
	case *internalv1.DeviceCall_ResolvePeople:
		return d.resolvePeople(ctx, asked.ResolvePeople.GetPeople(), result)
	case *internalv1.DeviceCall_SaveContact:
		return d.saveContact(ctx, asked.SaveContact)
	case *internalv1.DeviceCall_DeleteContact:
		return d.deleteContact(ctx, asked.DeleteContact)
	case *internalv1.DeviceCall_GetPicture:
		return d.getPicture(ctx, asked.GetPicture, result)
	case *internalv1.DeviceCall_GetBusinessProfile:
		return d.getBusinessProfile(ctx, asked.GetBusinessProfile.GetPerson(), result)
	case *internalv1.DeviceCall_GetProfile:
		return d.getProfile(ctx, result)
	case *internalv1.DeviceCall_ChangeProfile:
		return d.changeProfile(ctx, asked.ChangeProfile)
	case *internalv1.DeviceCall_ChangeBusinessProfile:
		return d.changeBusinessProfile(ctx, asked.ChangeBusinessProfile)
	case *internalv1.DeviceCall_GetPrivacy:
		return d.getPrivacy(ctx, result)
	case *internalv1.DeviceCall_ChangePrivacy:
		return d.changePrivacy(ctx, asked.ChangePrivacy)
	case *internalv1.DeviceCall_ChangeChat:
		return d.changeChat(ctx, asked.ChangeChat)
	case *internalv1.DeviceCall_ChangeLabel:
		return d.changeLabel(ctx, asked.ChangeLabel)
	case *internalv1.DeviceCall_SetLabel:
		return d.setLabel(ctx, asked.SetLabel)
	case *internalv1.DeviceCall_FetchHistory:
		return d.fetchHistory(ctx, asked.FetchHistory, result)
	case *internalv1.DeviceCall_MarkRead:
		return d.markRead(ctx, asked.MarkRead)
	case *internalv1.DeviceCall_SetTyping:
		chat, err := address.Parse(asked.SetTyping.GetChat())
		if err != nil {
			return err
		}
		state, media := types.ChatPresencePaused, types.ChatPresenceMediaText
		if asked.SetTyping.GetTyping() {
			state = types.ChatPresenceComposing
		}
		if asked.SetTyping.GetRecording() {
			media = types.ChatPresenceMediaAudio
		}
		return d.client.SendChatPresence(ctx, d.phoneHas(chat), state, media)
	case *internalv1.DeviceCall_SetOnline:
		return d.showOnline(ctx, asked.SetOnline.GetOnline())
	case *internalv1.DeviceCall_WatchPresence:
		return d.watchPresence(ctx, asked.WatchPresence.GetPerson())
	case *internalv1.DeviceCall_RejectCall:
		return d.rejectCall(ctx, asked.RejectCall)
	case *internalv1.DeviceCall_EditMessage:
		return d.edit(asked.EditMessage)
	case *internalv1.DeviceCall_RevokeMessage:
		return d.revoke(asked.RevokeMessage)
	case *internalv1.DeviceCall_PinMessage:
		return d.pin(asked.PinMessage)
	case *internalv1.DeviceCall_StarMessage:
		return d.star(ctx, asked.StarMessage)
	case *internalv1.DeviceCall_DeleteMessageForMe:
		return d.deleteForMe(ctx, asked.DeleteMessageForMe)
	}
	if known, err := d.doWithGroups(ctx, call, result); known {
		return err
	}
	if known, err := d.doChannels(ctx, call, result); known {
		return err
	}
	return errors.New("this version does not know the question")
}

func (d *Device) checkNumbers(ctx context.Context, phones []string, result *internalv1.DeviceCallResult) error {
	found := map[string]*internalv1.DeviceNumber{}
	var asked []string
	for _, phone := range phones {
		asked = append(asked, spellings(phone)...)
	}
	answers, err := d.client.IsOnWhatsApp(ctx, asked)
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if answer.IsIn {
			number := "+" + strings.TrimPrefix(answer.Query, "+")
			found[number] = &internalv1.DeviceNumber{Registered: true, Identity: d.identityOf(answer.JID, answer.PhoneNumber, "")}
		}
	}
	for _, phone := range phones {
		number := &internalv1.DeviceNumber{}
		for _, spelling := range spellings(phone) {
			if found[spelling] != nil {
				number = proto.CloneOf(found[spelling])
				break
			}
		}
		number.Phone = phone
		result.Numbers = append(result.Numbers, number)
	}
	return nil
}

func (d *Device) markRead(ctx context.Context, call *internalv1.MarkReadCall) error {
	chat, err := address.Parse(call.GetChat())
	if err != nil {
		return fmt.Errorf("the chat: %w", err)
	}
	sender := types.EmptyJID
	if call.GetSender() != "" {
		if sender, err = address.Parse(call.GetSender()); err != nil {
			return fmt.Errorf("the sender: %w", err)
		}
	}
	if chat.Server == types.NewsletterServer {
		if err := d.markViewed(ctx, chat, call.GetNetworkMessageIds()); err != nil {
			return err
		}
	}
	kind := types.ReceiptTypeRead
	if call.GetPlayed() {
		kind = types.ReceiptTypePlayed
	}
	return d.client.MarkRead(ctx, call.GetNetworkMessageIds(), time.Now(), d.phoneHas(chat), d.writerIn(chat, sender), kind)
}

// Ping asks the network for a sign of life. It never waits.
func (d *Device) Ping() {
	d.mu.Lock()
	asked := d.pinging
	d.pinging = true
	d.mu.Unlock()
	if asked {
		return
	}
	go d.contain(func() {
		heard := false
		if client := d.loggedIn(); client != nil {
			heard, _ = client.DangerousInternals().SendKeepAlive(d.ctx)
		}
		d.mu.Lock()
		d.pinging = false
		d.mu.Unlock()
		if heard {
			d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Heard{Heard: &internalv1.NetworkHeard{}}})
		}
	})
}

// LogOut ends the pairing.
func (d *Device) LogOut() {
	go d.contain(func() {
		client := d.loggedIn()
		if client == nil {
			d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "not logged in", 0)
			return
		}
		ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
		defer cancel()
		if err := client.Logout(ctx); err != nil && d.ctx.Err() == nil {
			d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "the network did not log the device out: "+err.Error(), 0)
			return
		}
		d.end(internalv1.DeviceEnd_DEVICE_END_LOGGED_OUT, "", 0)
	})
}

// valid is a text as messages may have it.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
