package network

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// mostPast is how many messages a phone gives at once.
const mostPast = 50

// Past is what a phone still has of a chat: messages written a second apart, the last one a day ago.
type Past struct {
	Messages int
	// Silent: it does not answer whoever asks.
	Silent bool
	// After is how long it takes to answer.
	After time.Duration
	// Shuffled: it gives messages in no order.
	Shuffled bool

	last time.Time
}

// GivePast has an account's phone have this of a chat, in the place of what it had.
func (n *Network) GivePast(account *Account, chat types.JID, past Past) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if account.past == nil {
		account.past = map[types.JID]*Past{}
	}
	past.last = time.Now().Add(-24 * time.Hour)
	account.past[n.kept(chat)] = &past
}

// kept is a chat as phones keep it: people by their hidden ids.
func (n *Network) kept(chat types.JID) types.JID {
	if person := n.find(chat); person != nil {
		return person.lid()
	}
	return chat
}

// answerPast has an account's phone answer a question of its device for the past of a chat.
func (n *Network) answerPast(
	account *Account, id string, asked *waE2E.PeerDataOperationRequestMessage_HistorySyncOnDemandRequest,
) {
	jid, err := types.ParseJID(asked.GetChatJID())
	if err != nil {
		return
	}
	n.mu.Lock()
	chat, past := n.kept(jid), Past{}
	if known := account.past[chat]; known != nil {
		past = *known
	}
	n.mu.Unlock()
	if past.Silent {
		return
	}
	answer := past.before(chat, asked)
	after(past.After, func() {
		n.sendHistory(account, answer, &waE2E.HistorySyncNotification{
			SyncType: waE2E.HistorySyncType_ON_DEMAND.Enum(), ChunkOrder: proto.Uint32(0), Progress: proto.Uint32(100),
			PeerDataRequestSessionID: &id,
		})
	})
}

func (p Past) at(index int) time.Time {
	return p.last.Add(-time.Duration(p.Messages-1-index) * time.Second)
}

// before is what the phone has from before a message, newest first; it finds one that it does not know by its time.
func (p Past) before(chat types.JID, asked *waE2E.PeerDataOperationRequestMessage_HistorySyncOnDemandRequest) *waHistorySync.HistorySync {
	end, prefix := p.Messages, "3APAST"+chat.User+"-"
	var index int
	if strings.HasPrefix(asked.GetOldestMsgID(), prefix) {
		_, _ = fmt.Sscanf(strings.TrimPrefix(asked.GetOldestMsgID(), prefix), "%d", &index)
		end = min(end, index)
	} else {
		for end > 0 && p.at(end-1).Unix() >= asked.GetOldestMsgTimestampMS() {
			end--
		}
	}
	begin := max(0, end-int(min(asked.GetOnDemandMsgCount(), mostPast)))
	var messages []*waHistorySync.HistorySyncMsg
	for at := end - 1; at >= begin; at-- {
		key := &waCommon.MessageKey{
			RemoteJID: proto.String(chat.String()), FromMe: proto.Bool(at%2 == 1), ID: proto.String(fmt.Sprint(prefix, at)),
		}
		messages = append(messages, &waHistorySync.HistorySyncMsg{
			MsgOrderID: proto.Uint64(uint64(at)),
			Message: &waWeb.WebMessageInfo{
				Key: key, MessageTimestamp: proto.Uint64(uint64(p.at(at).Unix())),
				Message: &waE2E.Message{Conversation: proto.String(fmt.Sprint("past ", at))},
			},
		})
	}
	if p.Shuffled {
		rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	}
	left := waHistorySync.Conversation_COMPLETE_ON_DEMAND_SYNC_BUT_MORE_MSG_REMAIN_ON_PRIMARY
	if begin == 0 {
		left = waHistorySync.Conversation_COMPLETE_AND_NO_MORE_MESSAGE_REMAIN_ON_PRIMARY
	}
	return &waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_ON_DEMAND.Enum(),
		Conversations: []*waHistorySync.Conversation{{
			ID: proto.String(chat.String()), Messages: messages, EndOfHistoryTransferType: left.Enum(),
		}},
	}
}
