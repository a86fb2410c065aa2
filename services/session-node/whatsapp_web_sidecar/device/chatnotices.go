package device

import (
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waSyncAction"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// forEver is when what is muted for ever is muted no more: the last second of the year 9999.
const forEver = 253_402_300_799_000_000

// chatNotice is what the account's phone did with a chat or a label, as the node is told it; nil: it did something else.
func (d *Device) chatNotice(event any) *internalv1.DeviceNotice {
	switch said := event.(type) {
	case *events.Archive:
		set := &internalv1.DeviceChatSet{Archived: proto.Bool(said.Action.GetArchived())}
		if said.Action.GetArchived() {
			set.Pinned = proto.Bool(false)
		}
		return d.chatSet(said.JID, set)
	case *events.Mute:
		until := int64(0)
		if said.Action.GetMuted() {
			until = momentOf(said.Action.GetMuteEndTimestamp())
		}
		return d.chatSet(said.JID, &internalv1.DeviceChatSet{MuteUntilUs: proto.Int64(until)})
	case *events.Pin:
		return d.chatSet(said.JID, &internalv1.DeviceChatSet{Pinned: proto.Bool(said.Action.GetPinned())})
	case *events.MarkChatAsRead:
		if said.Action.GetRead() {
			return d.chatRead(said.JID, "", reaches(said.Action.GetMessageRange(), said.Timestamp))
		}
		return d.chatSet(said.JID, &internalv1.DeviceChatSet{MarkedUnread: proto.Bool(true)})
	case *events.ClearChat:
		return d.chatEmptied(said.JID, false, reaches(said.Action.GetMessageRange(), said.Timestamp))
	case *events.DeleteChat:
		return d.chatEmptied(said.JID, true, reaches(said.Action.GetMessageRange(), said.Timestamp))
	case *events.LabelEdit:
		return &internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_Label{Label: &internalv1.DeviceLabel{
			Id: valid(said.LabelID), Name: said.Action.GetName(), Color: said.Action.Color, Deleted: said.Action.GetDeleted(),
		}}}
	case *events.LabelAssociationChat:
		return d.labelled(said.JID, said.LabelID, "", said.Action.GetLabeled())
	case *events.LabelAssociationMessage:
		return d.labelled(said.JID, said.LabelID, said.MessageID, said.Action.GetLabeled())
	}
	return nil
}

// report tells the node something of a stanza that is handled, or of what the library reads beside stanzas: then it returns once
// that is stored. What comes with a message is not waited for: the message is stored after it.
func (d *Device) report(notice *internalv1.DeviceNotice) {
	if d.store.Decrypted() {
		d.mention(notice)
		return
	}
	d.notices.mu.Lock()
	handling := d.notices.handling != nil
	d.notices.mu.Unlock()
	if handling {
		d.notify(notice)
		return
	}
	d.tell(notice)
}

func (d *Device) chatSet(chat types.JID, set *internalv1.DeviceChatSet) *internalv1.DeviceNotice {
	set.Chat = d.addressOf(chat, types.EmptyJID)
	return &internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_ChatSet{ChatSet: set}}
}

func (d *Device) chatRead(chat types.JID, id string, until int64) *internalv1.DeviceNotice {
	read := &internalv1.DeviceChatRead{Chat: d.addressOf(chat, types.EmptyJID), NetworkMessageId: valid(id), UntilUs: until}
	return &internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_ChatRead{ChatRead: read}}
}

func (d *Device) chatEmptied(chat types.JID, deleted bool, until int64) *internalv1.DeviceNotice {
	emptied := &internalv1.DeviceChatEmptied{Chat: d.addressOf(chat, types.EmptyJID), Deleted: deleted, UntilUs: until}
	return &internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_ChatEmptied{ChatEmptied: emptied}}
}

func (d *Device) labelled(chat types.JID, label, id string, on bool) *internalv1.DeviceNotice {
	labelled := &internalv1.DeviceLabelled{
		LabelId: valid(label), Chat: d.addressOf(chat, types.EmptyJID), NetworkMessageId: valid(id), Labelled: on,
	}
	return &internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_Labelled{Labelled: labelled}}
}

// chatOfHistory tells what the phone's history says of a chat besides its messages, where it says something.
func (d *Device) chatOfHistory(chat types.JID, conversation *waHistorySync.Conversation) {
	set := &internalv1.DeviceChatSet{Chat: d.addressOf(chat, types.EmptyJID)}
	if conversation.GetArchived() {
		set.Archived = proto.Bool(true)
	}
	if conversation.GetPinned() > 0 {
		set.Pinned = proto.Bool(true)
	}
	if conversation.GetMarkedAsUnread() {
		set.MarkedUnread = proto.Bool(true)
	}
	if end := conversation.GetMuteEndTime(); end > 0 {
		set.MuteUntilUs = proto.Int64(momentOf(int64(end)))
	}
	if seconds := conversation.GetEphemeralExpiration(); seconds > 0 {
		set.DisappearAfterSeconds = proto.Uint32(seconds)
	}
	if name := conversation.GetName(); name != "" {
		set.Name = proto.String(valid(name))
	}
	if proto.Size(set) > proto.Size(&internalv1.DeviceChatSet{Chat: set.Chat}) {
		d.report(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_ChatSet{ChatSet: set}})
	}
}

// reaches is until when messages were sent that a change of a chat is about, in microseconds since the epoch: it may be told long
// after it was made, and once more, where everything is read anew.
func reaches(messages *waSyncAction.SyncActionMessageRange, made time.Time) int64 {
	if last := messages.GetLastMessageTimestamp(); last > 0 {
		return momentOf(last)
	}
	return max(made.UnixMicro(), 0)
}

// momentOf is a time in microseconds since the epoch; the network counts milliseconds, or seconds.
func momentOf(told int64) int64 {
	switch {
	case told < 0 || told > forEver/1000:
		return forEver
	case told < 1<<36:
		return told * 1_000_000
	}
	return told * 1000
}
