package device

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

const (
	// How many messages a phone is asked for at once, as apps do.
	pastAtOnce = 50
	// What an answer may have, packed and unpacked.
	maxPastFile = 16 << 20
	maxPast     = 32 << 20
	// How many questions are known to which the phone may still answer.
	pastQuestions = 64
	// How many answers wait to be read.
	pastAnswers = 4
)

// past is what the phone is asked for of its chats, one question after the other. The zero value asks for nothing.
type past struct {
	turn sync.Mutex // held by whoever asks

	mu      sync.Mutex
	asked   map[string]string // what was asked with a message, by its id
	order   []string
	waiting string // what is asked now
	answers chan *waE2E.HistorySyncNotification
}

// ask notes a question, and gives the channel of its answers.
func (p *past) ask(id, what string) <-chan *waE2E.HistorySyncNotification {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = map[string]string{}
	}
	p.asked[id] = what
	if p.order = append(p.order, id); len(p.order) > pastQuestions {
		delete(p.asked, p.order[0])
		p.order = slices.Delete(p.order, 0, 1)
	}
	p.waiting, p.answers = what, make(chan *waE2E.HistorySyncNotification, pastAnswers)
	return p.answers
}

// done ends the question.
func (p *past) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting, p.answers = "", nil
}

// answer hands an answer to whoever waits for it; false: nobody does. An answer to the same question, asked before, is as good.
func (p *past) answer(notice *waE2E.HistorySyncNotification) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !onDemand(notice) || p.answers == nil || p.asked[notice.GetPeerDataRequestSessionID()] != p.waiting {
		return false
	}
	select {
	case p.answers <- notice:
		return true
	default:
		return false
	}
}

func onDemand(notice *waE2E.HistorySyncNotification) bool {
	return notice.GetSyncType() == waE2E.HistorySyncType_ON_DEMAND
}

// fetchHistory asks the account's phone for what it has of a chat.
func (d *Device) fetchHistory(ctx context.Context, call *internalv1.FetchHistoryCall, result *internalv1.DeviceCallResult) error {
	chat, _, own, err := d.parties(call.GetBefore())
	if err != nil {
		return err
	}
	if chat, err = d.lookUp(chat); err != nil {
		return err
	}
	d.past.turn.Lock()
	defer d.past.turn.Unlock()
	at := time.Now()
	if call.GetTime() != nil {
		at = call.GetTime().AsTime()
	}
	before := types.MessageInfo{
		ID: call.GetBefore().GetNetworkMessageId(), Timestamp: at, MessageSource: types.MessageSource{Chat: chat, IsFromMe: own},
	}
	wait := callTimeout
	if call.GetWait() != nil {
		wait = min(wait, call.GetWait().AsDuration())
	}
	most := int(min(max(call.GetMost(), 1), pastAtOnce))
	id := d.client.GenerateMessageID()
	what := fmt.Sprint(chat, " ", before.ID)
	if before.ID == "" {
		what = fmt.Sprint(chat, " ", call.GetTime().GetSeconds())
	}
	answers := d.past.ask(id, what)
	defer d.past.done()
	if err := d.sendToPhone(id, d.client.BuildHistorySyncRequest(&before, most)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case notice := <-answers:
		result.History, err = d.readPast(notice, call.GetBefore().GetChat(), before, most)
		return err
	case <-ctx.Done():
		if d.ctx.Err() != nil {
			return d.ctx.Err()
		}
		result.History = &internalv1.DeviceHistory{Silent: true}
		return nil
	}
}

// sendToPhone sends the account's own phone a question: in no scope, as the library ends no encryption for phones that had one,
// and the next question would have the ratchet's same position.
func (d *Device) sendToPhone(id types.MessageID, question *waE2E.Message) error {
	own := d.client.Store.GetJID().ToNonAD()
	_, err := d.client.SendMessage(d.ctx, own, question, whatsmeow.SendRequestExtra{ID: id, Peer: true, Timeout: callTimeout})
	return err
}

// readPast is what a phone's answer says of a chat: the newest of what was sent before a message, whatever their order.
func (d *Device) readPast(
	notice *waE2E.HistorySyncNotification, chat string, before types.MessageInfo, most int,
) (*internalv1.DeviceHistory, error) {
	found := &internalv1.DeviceHistory{}
	var given []*waHistorySync.HistorySyncMsg
	in, more, said := before.Chat, false, false
	err := d.eachPartOf(notice, maxPastFile, maxPast, func(part *waHistorySync.HistorySync) error {
		for _, conversation := range part.GetConversations() {
			jid, err := types.ParseJID(conversation.GetID())
			if err != nil || jid.IsEmpty() || jid != before.Chat && d.addressOf(jid, types.EmptyJID) != chat {
				continue
			}
			in = jid
			if kind := conversation.EndOfHistoryTransferType; kind != nil {
				said, more = true, *kind != waHistorySync.Conversation_COMPLETE_AND_NO_MORE_MESSAGE_REMAIN_ON_PRIMARY
			}
			for _, item := range conversation.GetMessages() {
				if isBefore(item.GetMessage(), before) && len(given) < 10*pastAtOnce {
					given = append(given, item)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(given, func(a, b *waHistorySync.HistorySyncMsg) int {
		return int(int64(b.GetMessage().GetMessageTimestamp()) - int64(a.GetMessage().GetMessageTimestamp()))
	})
	found.Exhausted = len(given) == 0 || len(given) < most && !said || said && !more && len(given) <= most
	size := 0
	for at, item := range given {
		message := d.remember(in, item)
		size += proto.Size(message)
		if at >= most || at > 0 && size > maxAnswerBytes {
			found.Exhausted = false
			break
		}
		if message != nil {
			message.Chat = chat
			found.Messages = append(found.Messages, message)
		}
		key := item.GetMessage().GetKey()
		found.Oldest = &internalv1.ReferredMessage{NetworkMessageId: valid(key.GetID()), Chat: chat, Sender: d.writer(in, item.GetMessage())}
		found.OldestTime = timestamppb.New(time.Unix(int64(item.GetMessage().GetMessageTimestamp()), 0))
	}
	return found, nil
}

// isBefore says whether a message can be one from before another: networks tell seconds.
func isBefore(message *waWeb.WebMessageInfo, before types.MessageInfo) bool {
	id, at := message.GetKey().GetID(), message.GetMessageTimestamp()
	return id != "" && id != before.ID && at <= uint64(max(before.Timestamp.Unix(), 0))
}

// writer is the address of who wrote a message; empty: the account, or nobody knows.
func (d *Device) writer(chat types.JID, message *waWeb.WebMessageInfo) string {
	if message.GetKey().GetFromMe() {
		return ""
	}
	if address.IsPerson(chat) {
		return d.addressOf(chat, types.EmptyJID)
	}
	for _, named := range []string{message.GetKey().GetParticipant(), message.GetParticipant()} {
		if jid, err := types.ParseJID(named); err == nil && !jid.IsEmpty() {
			return d.addressOf(jid, types.EmptyJID)
		}
	}
	return ""
}
