package device

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// handle is told everything that the library says. What it returns false for is not acknowledged to the network.
func (d *Device) handle(event any) bool {
	if d.pairing != nil {
		d.pairing.handle(event)
		return true
	}
	switch said := event.(type) {
	case *events.Message:
		return d.onMessage(said)
	case *events.UndecryptableMessage:
		return d.onUndecryptable(said)
	case *events.FBMessage:
		return !d.store.Decrypted() || d.store.Receive(false, d.Write)
	case *events.Receipt:
		return d.onReceipt(said)
	case *events.MediaRetry:
		d.onMediaRetry(said)
	case *events.Connected:
		d.onConnected()
	case *events.PushNameSetting:
		d.announce()
	case *events.Disconnected:
		d.onDisconnected()
	case *events.GroupInfo:
		d.onGroup(said)
	case *events.JoinedGroup:
		d.onJoined(said)
	case *events.Picture:
		if said.JID.Server == types.GroupServer {
			d.onGroupPicture(said)
		} else {
			d.onPicture(said)
		}
	case *events.CallOffer:
		_, video := said.Data.GetOptionalChildByTag("video")
		d.onCall(said.BasicCallMeta, video)
	case *events.CallOfferNotice:
		d.onCall(said.BasicCallMeta, said.Media == "video")
	case *events.CallTerminate:
		d.onCallEnded(said.BasicCallMeta, callEnds[said.Reason])
	case *events.Contact:
		return d.onContact(said)
	case *events.UserAbout:
		d.onAbout(said)
	case *events.Blocklist:
		d.onBlocklist(said)
	case *events.ChatPresence:
		d.onTyping(said)
	case *events.Presence:
		d.onPresence(said)
	case *events.AppStateSyncError:
		d.onMisfit(said)
	case *events.NotifyAccountReachoutTimelock:
		d.onTimelock(said)
	default:
		if d.onChannel(event) {
			return true
		}
		if notice := d.chatNotice(event); notice != nil {
			return d.tell(notice)
		}
		if why, detail, retryAfter, ended := endOf(event); ended {
			d.end(why, detail, retryAfter)
		}
	}
	return true
}

// endOf says why the connection has ended, for the events that it ends with.
func endOf(event any) (why internalv1.DeviceEnd, detail string, retryAfter time.Duration, ended bool) {
	switch said := event.(type) {
	case *events.StreamError:
		return internalv1.DeviceEnd_DEVICE_END_LOST, "the network ended the stream with " + said.Code, 0, true
	case *events.ManualLoginReconnect:
		return internalv1.DeviceEnd_DEVICE_END_LOST, "the network wants a new login", 0, true
	case *events.StreamReplaced:
		return internalv1.DeviceEnd_DEVICE_END_REPLACED, "", 0, true
	case *events.LoggedOut:
		if said.Reason == events.ConnectFailureUnknownLogout {
			return internalv1.DeviceEnd_DEVICE_END_BANNED, said.Reason.String(), 0, true
		}
		return internalv1.DeviceEnd_DEVICE_END_LOGGED_OUT, said.Reason.String(), 0, true
	case *events.TemporaryBan:
		return internalv1.DeviceEnd_DEVICE_END_REFUSED, said.String(), said.Expire, true
	case *events.ClientOutdated:
		return internalv1.DeviceEnd_DEVICE_END_CLIENT_EXPIRED, "the network no longer takes this version of the client", 0, true
	case *events.ConnectFailure:
		return internalv1.DeviceEnd_DEVICE_END_REFUSED, fmt.Sprintf("%s %s", said.Reason, said.Message), 0, true
	}
	return 0, "", 0, false
}

// see is shown every stanza that comes, before anything else happens to it.
func (d *Device) see(node *waBinary.Node) {
	d.receipts.see(node)
	d.seeChannels(node)
	d.unhandled.see(node)
	d.nacks.see(node)
	if node.Tag == "failure" {
		d.refusal.Store(node)
	}
}

// onDisconnected ends a connection that the network closed. That it has refused the login for a while, with 500 or 503, the
// library says in no other way.
func (d *Device) onDisconnected() {
	if refusal := d.refusal.Load(); refusal != nil {
		attrs := refusal.AttrGetter()
		detail := fmt.Sprintf("the network refused the login with %s %s", attrs.OptionalString("reason"), attrs.OptionalString("message"))
		d.end(internalv1.DeviceEnd_DEVICE_END_REFUSED, valid(strings.TrimSpace(detail)), 0)
		return
	}
	d.end(internalv1.DeviceEnd_DEVICE_END_LOST, "the network closed the connection", 0)
}

func (d *Device) onConnected() {
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Connected{
		Connected: &internalv1.DeviceConnected{Identity: d.ownIdentity()},
	}})
	d.readHistory()
	go d.contain(d.readOpenLogs)
	d.awaitOthers()
	d.announce()
}

// announce tells the network the account's name, which it shows to people who do not know the number: without it they see
// none, and businesses' systems pass over what the account sends. It does not show as online for that, unless it does so already.
func (d *Device) announce() {
	go d.contain(func() {
		if client := d.loggedIn(); client != nil && client.Store.PushName != "" {
			_ = client.SendPresence(d.ctx, d.shownPresence())
		}
	})
}

func (d *Device) onTimelock(said *events.NotifyAccountReachoutTimelock) {
	restrictions := &internalv1.DeviceRestrictions{}
	if said.IsActive {
		restriction := &sessionmeshv1.Restriction{Kind: sessionmeshv1.RestrictionKind_RESTRICTION_KIND_NEW_CHATS, Detail: said.EnforcementType}
		if until := said.TimeEnforcementEnds.Time; !until.IsZero() {
			restriction.UntilTime = timestamppb.New(until)
		}
		restrictions.Restrictions = append(restrictions.Restrictions, restriction)
	}
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Restrictions{Restrictions: restrictions}})
}

var receiptKinds = map[types.ReceiptType]internalv1.DeviceReceipt{
	types.ReceiptTypeDelivered: internalv1.DeviceReceipt_DEVICE_RECEIPT_DELIVERED,
	types.ReceiptTypeInactive:  internalv1.DeviceReceipt_DEVICE_RECEIPT_DELIVERED,
	types.ReceiptTypeRead:      internalv1.DeviceReceipt_DEVICE_RECEIPT_READ,
	types.ReceiptTypePlayed:    internalv1.DeviceReceipt_DEVICE_RECEIPT_PLAYED,
}

// onReceipt passes a receipt on. The network is told of it when it is stored; the library, which would wait for that,
// goes on with what comes after it.
func (d *Device) onReceipt(said *events.Receipt) bool {
	if said.Type == types.ReceiptTypeReadSelf && len(said.MessageIDs) > 0 {
		d.report(d.chatRead(said.Chat, said.MessageIDs[0], 0))
		return true
	}
	kind, known := receiptKinds[said.Type]
	if !known || said.IsFromMe || len(said.MessageIDs) == 0 {
		return true
	}
	if said.IsGroup {
		return d.onMemberReceipt(said, kind)
	}
	receipt := &internalv1.MessageReceipt{
		NetworkMessageIds: said.MessageIDs[:min(len(said.MessageIDs), maxReceiptIDs)], Receipt: kind, Time: timestamppb.New(said.Timestamp), Chat: d.addressOf(said.Chat, said.SenderAlt),
	}
	receipt.Sequence = d.receipts.number(said.Type, said.MessageIDs[0])
	later := receipt.Sequence != 0
	d.members.tell(d)
	d.say(&internalv1.RunResponse{Response: &internalv1.RunResponse_Receipt{Receipt: receipt}})
	d.receipts.wait(d.ctx)
	return !later
}

// ReceiptsStored tells the network of the receipts up to one.
func (d *Device) ReceiptsStored(upTo uint64) {
	nodes := d.receipts.stored(upTo)
	client := d.loggedIn()
	if len(nodes) == 0 || client == nil {
		return
	}
	go func() {
		for _, node := range nodes {
			client.DangerousInternals().SendAck(d.ctx, node, 0)
		}
	}()
}
