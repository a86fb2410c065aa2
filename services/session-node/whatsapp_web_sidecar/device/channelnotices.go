package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// onChannel tells of what became of a channel; false: the event is about something else.
func (d *Device) onChannel(event any) bool {
	switch said := event.(type) {
	case *events.NewsletterJoin:
		channel := channelOf(&said.NewsletterMetadata)
		if channel.OwnRole < sessionmeshv1.ChannelRole_CHANNEL_ROLE_FOLLOWER {
			channel.OwnRole = sessionmeshv1.ChannelRole_CHANNEL_ROLE_FOLLOWER
		}
		d.notify(ofChannel(channel))
	case *events.NewsletterLeave:
		d.notify(ofChannel(&sessionmeshv1.Channel{
			Address: address.Of(said.ID), OwnRole: sessionmeshv1.ChannelRole_CHANNEL_ROLE_GUEST,
		}))
	case *events.NewsletterMuteChange:
		d.tellChannel(said.ID)
	case *events.NewsletterLiveUpdate:
		d.onLiveUpdate(said)
	default:
		return false
	}
	return true
}

func ofChannel(channel *sessionmeshv1.Channel) *internalv1.DeviceNotice {
	return &internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_Channel{Channel: channel}}
}

// tellChannel asks what a channel is now, and tells the node. Where too much is asked at the moment, nothing is told.
func (d *Device) tellChannel(jid types.JID) {
	if address.Of(jid) == "" || jid.Server != types.NewsletterServer {
		return
	}
	select {
	case d.calls <- struct{}{}:
	default:
		return
	}
	go d.contain(func() {
		defer func() { <-d.calls }()
		if d.loggedIn() == nil {
			return
		}
		ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
		defer cancel()
		channel, err := d.channel(ctx, jid)
		if errors.Is(err, errUnknownChannel) || codeOfMex(err) == 404 {
			channel, err = &sessionmeshv1.Channel{
				Address: address.Of(jid), State: sessionmeshv1.ChannelState_CHANNEL_STATE_DELETED,
				OwnRole: sessionmeshv1.ChannelRole_CHANNEL_ROLE_GUEST,
			}, nil
		}
		if err == nil {
			d.tell(ofChannel(channel))
		}
	})
}

func (d *Device) onLiveUpdate(said *events.NewsletterLiveUpdate) {
	changed := &internalv1.DevicePosts{Channel: address.Of(said.JID)}
	for _, one := range said.Messages {
		if one.MessageID == "" {
			continue
		}
		d.posts.remember(said.JID, one.MessageID, one.MessageServerID)
		changed.Posts = append(changed.Posts, d.postOf(said.JID, one))
		if len(changed.Posts) == postsAtOnce {
			break
		}
	}
	if changed.Channel != "" && len(changed.Posts) > 0 {
		d.mention(&internalv1.DeviceNotice{Notice: &internalv1.DeviceNotice_Posts{Posts: changed}})
	}
}

// seeChannels is shown every stanza before the library handles it: of channels it passes over some that say something. A post
// that was taken back it does not read, since it says nothing any more: here it gets what takes messages back elsewhere.
func (d *Device) seeChannels(node *waBinary.Node) {
	from, _ := node.Attrs["from"].(types.JID)
	switch {
	case node.Tag == "message" && from.Server == types.NewsletterServer:
		id, _ := node.Attrs["id"].(string)
		if node.Attrs["edit"] == string(types.EditAttributeAdminRevoke) || node.Attrs["edit"] == string(types.EditAttributeSenderRevoke) {
			sayTakenBack(node, from, id)
		}
	case node.Tag == "notification" && node.Attrs["type"] == "mex":
		for _, update := range node.GetChildren() {
			if body, is := update.Content.([]byte); is && update.Tag == "update" {
				if jid := channelChanged(body); !jid.IsEmpty() {
					d.tellChannel(jid)
				}
			}
		}
	}
}

func sayTakenBack(node *waBinary.Node, from types.JID, id string) {
	said, _ := proto.Marshal(&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: &waCommon.MessageKey{RemoteJID: proto.String(from.String()), ID: proto.String(id)},
	}})
	children := []waBinary.Node{{Tag: "plaintext", Content: said}}
	for _, child := range node.GetChildren() {
		if child.Tag != "plaintext" {
			children = append(children, child)
		}
	}
	node.Content = children
}

// channelChanged is the channel that a notification is about which the library does not read; empty: none.
func channelChanged(body []byte) types.JID {
	type of struct {
		ID types.JID `json:"id"`
	}
	var said struct {
		Data struct {
			Metadata *of `json:"xwa2_notify_newsletter_on_metadata_update"`
			Admin    *of `json:"xwa2_notify_newsletter_on_admin_metadata_update"`
			State    *of `json:"xwa2_notify_newsletter_on_state_change"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &said) != nil {
		return types.EmptyJID
	}
	for _, one := range []*of{said.Data.Metadata, said.Data.Admin, said.Data.State} {
		if one != nil {
			return one.ID
		}
	}
	return types.EmptyJID
}

// ofPost makes a message of a channel what it is: a post, or that one was edited or taken back, which comes with the post's id.
func ofPost(said *events.Message, message *internalv1.IncomingMessage) {
	message.Identity = nil
	post := &internalv1.ReferredMessage{NetworkMessageId: said.Info.ID, Chat: message.Chat, Sender: message.Sender}
	switch {
	case message.GetContent().GetRevoked() != nil:
		message.Target, message.NetworkMessageId = post, said.Info.ID+"-revoked"
	case said.NewsletterMeta != nil && !said.NewsletterMeta.EditTS.IsZero():
		message.Target, message.Edited = post, message.Content
		message.NetworkMessageId = fmt.Sprintf("%s-%d", said.Info.ID, said.NewsletterMeta.EditTS.UnixMilli())
		message.Content = &sessionmeshv1.Content{Kind: &sessionmeshv1.Content_Unknown{Unknown: &sessionmeshv1.UnknownContent{Kind: "edit"}}}
	}
}
