package network

import (
	"bytes"
	"compress/zlib"
	"crypto/rand"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"google.golang.org/protobuf/proto"

	"sessionmesh.dev/whatsapp-web-network/content"
)

const (
	historyChunk = 256
	buryEvery    = 20 * time.Millisecond
)

// welcome is what a phone sends a device once it is linked: keys of the shared settings, and its history.
func (n *Network) welcome(account *Account) {
	n.mu.Lock()
	share := account.sharedState().share()
	n.mu.Unlock()
	n.tellDevice(account, &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum(), AppStateSyncKeyShare: share,
	})
	n.mu.Lock()
	count := n.settings.HistoryMessages
	n.mu.Unlock()
	for order, from := 0, 0; from < count; order, from = order+1, from+historyChunk {
		to := min(from+historyChunk, count)
		kind := waHistorySync.HistorySync_INITIAL_BOOTSTRAP
		if order > 0 {
			kind = waHistorySync.HistorySync_RECENT
		}
		n.offerHistory(account, kind, uint32(order), uint32(100*to/count), from, to)
	}
}

// bury offers one piece of history after the other while a fault lasts.
func (n *Network) bury(fault *Fault) {
	for order := uint32(1); ; order++ {
		time.Sleep(buryEvery)
		n.mu.Lock()
		on := false
		var buried []*Account
		for _, each := range n.faults {
			on = on || each.ID == fault.ID
		}
		for _, account := range n.concerned(fault.Account) {
			if account.Connected() && len(account.device.queue) < 64 {
				buried = append(buried, account)
			}
		}
		n.mu.Unlock()
		if !on {
			return
		}
		for _, account := range buried {
			from := int(order) * historyChunk
			n.offerHistory(account, waHistorySync.HistorySync_RECENT, order, 50, from, from+historyChunk)
		}
	}
}

// offerHistory stores a piece of history with the network and tells the device where: messages from to to, of one friend.
func (n *Network) offerHistory(
	account *Account, kind waHistorySync.HistorySync_HistorySyncType, order, progress uint32, from, to int,
) {
	friend := "4915" + account.Digits[max(0, len(account.Digits)-8):]
	n.mu.Lock()
	person := n.person(friend)
	chat := person.lid().String()
	number := person.jid().String()
	n.mu.Unlock()
	var messages []*waHistorySync.HistorySyncMsg
	for i := from; i < to; i++ {
		messages = append(messages, &waHistorySync.HistorySyncMsg{
			MsgOrderID: proto.Uint64(uint64(i)),
			Message: &waWeb.WebMessageInfo{
				Key: &waCommon.MessageKey{
					RemoteJID: &chat, FromMe: proto.Bool(i%2 == 1), ID: proto.String(fmt.Sprintf("3AHISTORY%08d", i)),
				},
				Message:          &waE2E.Message{Conversation: proto.String(fmt.Sprintf("history %d", i))},
				MessageTimestamp: proto.Uint64(uint64(time.Now().Add(-time.Hour).Unix())),
				PushName:         proto.String("A friend"),
			},
		})
	}
	history := &waHistorySync.HistorySync{
		SyncType: kind.Enum(), ChunkOrder: &order, Progress: &progress,
		Conversations: []*waHistorySync.Conversation{{
			ID: &chat, Messages: messages, Name: proto.String("A friend"), PnJID: &number, LidJID: &chat,
			ConversationTimestamp: proto.Uint64(uint64(time.Now().Unix())),
			TcToken:               []byte("the friend's token"), TcTokenTimestamp: proto.Uint64(uint64(time.Now().Unix())),
		}},
		PhoneNumberToLidMappings: []*waHistorySync.PhoneNumberToLIDMapping{{PnJID: &number, LidJID: &chat}},
	}
	n.sendHistory(account, history, &waE2E.HistorySyncNotification{
		SyncType: waE2E.HistorySyncType(kind).Enum(), ChunkOrder: &order, Progress: &progress,
	})
}

// sendHistory stores history with the network, and has the phone tell its device where.
func (n *Network) sendHistory(account *Account, history *waHistorySync.HistorySync, notice *waE2E.HistorySyncNotification) {
	plain, _ := proto.Marshal(history)
	var packed bytes.Buffer
	writer := zlib.NewWriter(&packed)
	_, _ = writer.Write(plain)
	_ = writer.Close()
	sealed, err := content.Seal("History", packed.Bytes())
	if err != nil {
		return
	}
	path := n.media.store("md-msg-hist", sealed)
	notice.FileSHA256, notice.FileLength, notice.MediaKey = sealed.Sum, &sealed.Size, sealed.Key
	notice.FileEncSHA256, notice.DirectPath = sealed.SumEnc, &path
	n.tellDevice(account, &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(), HistorySyncNotification: notice,
	})
}

// tellDevice is a phone that speaks to its linked device, of which the ledger says nothing.
func (n *Network) tellDevice(account *Account, message *waE2E.ProtocolMessage) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if account.device == nil {
		return
	}
	id := "3A" + rand.Text()[:18]
	told := &waE2E.Message{ProtocolMessage: message}
	seal := func(count int) *Node {
		plain, _ := proto.Marshal(told)
		ends := n.phoneOf(account)
		envelope, sealed, err := ends.Encrypt(account.device.lid, plain)
		if err != nil {
			if n.meet(ends, account) != nil {
				return nil
			}
			if envelope, sealed, err = ends.Encrypt(account.device.lid, plain); err != nil {
				return nil
			}
		}
		return &Node{Tag: "message", Attrs: Attrs{
			"id": id, "t": now(), "type": "text", "category": "peer", "from": account.lid(),
			"peer_recipient_pn": account.jid(),
		}, Content: []Node{encNode(envelope, "", sealed, count)}}
	}
	if node := seal(0); node != nil {
		n.deliver(account, &pending{key: "message|" + id, node: node, again: seal})
	}
}
