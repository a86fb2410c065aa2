package device

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// onMessage hands a message to the node, with what reading it changed in the account's state, and returns whether both
// are stored.
func (d *Device) onMessage(said *events.Message) bool {
	_ = d.store.Came(d.ctx, said.Info.ID)
	if said.Info.IsGroup && !said.Info.IsFromMe {
		if said.Info.Sender.Server == types.DefaultUserServer {
			d.numbered.Store(said.Info.Chat, true)
		} else {
			d.numbered.Delete(said.Info.Chat)
		}
	}
	if said.UnavailableRequestID != "" { // from the phone, within a message of its own, which has the changes
		message := d.read(said)
		return message == nil || <-d.hand(message, nil)
	}
	notice := said.Message.GetProtocolMessage().GetHistorySyncNotification()
	if notice != nil && said.Info.IsFromMe {
		if d.past.answer(notice) {
			notice = nil // who asked reads it
		} else {
			d.keepHistory(said.Info.ID, notice)
		}
	}
	shared, recovered := said.Message.GetProtocolMessage().GetAppStateSyncKeyShare(), recoveredLog(said)
	if shared != nil && said.Info.IsFromMe && d.keepKeys(shared) != nil {
		return false
	}
	if answers := content.AnswersOf(said.Message); len(answers) > 0 {
		_ = d.store.KeepPoll(said.Info.ID, answers)
	}
	d.keepTimer(said)
	told := d.tellTimer(said)
	message := d.read(said)
	if message == nil && !d.store.Decrypted() {
		return true
	}
	if message != nil {
		message.Steps = d.receiveSteps()
	}
	d.line.wait(true)
	defer d.line.wait(false)
	stored := d.store.Receive(content.Secretive(said.Message), func(changes []rows.Change) <-chan bool {
		switch {
		case !told: // it comes again
			unstored := make(chan bool, 1)
			unstored <- false
			return unstored
		case message == nil:
			return d.Write(changes)
		}
		return d.hand(message, changes)
	})
	if !stored {
		return false
	}
	if notice != nil {
		d.readHistory()
	}
	if shared != nil && said.Info.IsFromMe {
		go d.contain(d.readOpenLogs)
	}
	if recovered != nil {
		go d.contain(func() { d.recoverLog(recovered) })
	}
	return true
}

// longestTimer is the longest that apps offer.
const longestTimer = 90 * 24 * 60 * 60

// keepTimer keeps how long the messages of a chat last, where a message there says so: those of the account are to last as
// long, or phones warn of them.
func (d *Device) keepTimer(said *events.Message) {
	if seconds, is := content.Timer(said.Message); is && seconds <= longestTimer {
		_ = d.store.KeepTimer(d.ctx, said.Info.Chat, seconds)
	}
}

// tellTimer tells the node what somebody, or the account's phone, has set for the messages of a chat of two; false: that is not
// stored. Groups tell it by notifications.
func (d *Device) tellTimer(said *events.Message) bool {
	seconds, is := content.TimerSet(said.Message)
	if !is || said.Info.IsGroup || !address.IsPerson(said.Info.Chat) {
		return true
	}
	chat := d.chatOf(said.Info)
	if chat == "" {
		return true
	}
	d.line.wait(true)
	defer d.line.wait(false)
	return d.tell(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_ChatSet{ChatSet: &internalv1.DeviceChatSet{
		Chat: chat, DisappearAfterSeconds: proto.Uint32(min(seconds, longestTimer)),
	}}})
}

// read is a message as the node wants it, but for the changes; nil when it says nothing to anybody, or cannot be named.
func (d *Device) read(said *events.Message) *internalv1.IncomingMessage {
	d.unsealChange(said)
	vote := said.Message.GetPollUpdateMessage()
	message := d.reader.Read(said)
	if message == nil {
		return nil
	}
	if vote != nil {
		d.readVote(said, message)
	}
	info := said.Info
	if message.Chat = d.chatOf(info); message.Chat == "" {
		d.log.write(levelWarning, "a message of a chat without an address is passed over", "chat", info.Chat.String())
		return nil
	}
	message.NetworkMessageId = info.ID
	message.File = fileRefOf(message.File, info)
	message.Sender = d.addressOf(info.Sender, info.SenderAlt)
	message.FromAccount = info.IsFromMe
	message.Time = timestamppb.New(info.Timestamp)
	if info.Chat.Server == types.NewsletterServer {
		d.posts.remember(info.Chat, info.ID, info.ServerID)
		ofPost(said, message)
		return message
	}
	if info.IsFromMe {
		message.Sender = d.addressOf(d.client.Store.GetJID(), d.client.Store.GetLID())
		if !info.IsGroup {
			message.Identity = d.identityOf(info.Chat, info.RecipientAlt, "")
		}
	} else {
		message.Identity = d.identityOf(info.Sender, info.SenderAlt, strings.ToValidUTF8(info.PushName, "\uFFFD"))
	}
	return message
}

// chatOf is the address of a message's chat. What comes by a list of its sender's is the sender's own chat.
func (d *Device) chatOf(info types.MessageInfo) string {
	switch {
	case info.Chat.Server == types.BroadcastServer && info.Chat != types.StatusBroadcastJID:
		return d.addressOf(info.Sender, info.SenderAlt)
	case info.IsFromMe:
		return d.addressOf(info.Chat, info.RecipientAlt)
	case info.IsGroup:
		return d.addressOf(info.Chat, types.EmptyJID)
	}
	return d.addressOf(info.Chat, info.SenderAlt)
}

// readVote puts the answers that a vote chose in the place of their hashes.
func (d *Device) readVote(said *events.Message, message *internalv1.IncomingMessage) {
	update := said.Message.GetPollUpdateMessage()
	vote := &waE2E.PollVoteMessage{}
	err := d.unseal(said.Info, sealedVote, update.GetPollCreationMessageKey(), update.GetVote(), vote)
	poll := update.GetPollCreationMessageKey().GetID()
	answers, known := d.store.Poll(poll)
	if err != nil || !known {
		raw, _ := proto.Marshal(said.Message)
		message.Content = &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Unknown{
			Unknown: &sessionmeshv1.UnknownContent{Kind: "pollUpdate", Raw: raw},
		}}
		return
	}
	message.Content = content.Voted(answers, vote.GetSelectedOptions())
}

// hand gives a message to the node; the answer says whether it is stored.
func (d *Device) hand(message *internalv1.IncomingMessage, changes []rows.Change) <-chan bool {
	message.Changes = changesOf(changes)
	settled := d.settle(func(sequence uint64) *internalv1.RunResponse {
		message.Sequence = sequence
		return &internalv1.RunResponse{Response: &internalv1.RunResponse_Incoming{Incoming: message}}
	})
	answer := make(chan bool, 1)
	go func() {
		select {
		case stored := <-settled:
			answer <- stored
		case <-d.ctx.Done():
			answer <- false
		case <-time.After(settleTimeout):
			answer <- false
		}
	}()
	return answer
}

// onUndecryptable tells of a message that the library itself has given up, such as a bot's. Others were kept before the
// network was told of them.
func (d *Device) onUndecryptable(said *events.UndecryptableMessage) bool {
	return said.IsUnavailable || d.await(said)
}
