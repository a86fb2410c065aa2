package network

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// ErrNoChannel says that there is no such channel, ErrNoPost that there is no such post in it.
var (
	ErrNoChannel = errors.New("there is no such channel")
	ErrNoPost    = errors.New("there is no such post")
)

// Channel is what one posts in and many read; numbers are digits. Who runs it is among its followers.
type Channel struct {
	ID, Name, Description, Picture, Invite, Reactions string
	Made                                              time.Time
	Verified, Deleted                                 bool
	// A number; empty: nobody who is an account.
	Owner  string
	Admins map[string]bool
	// Whether they have muted it.
	Followers map[string]bool
	// How many follow it who are no accounts.
	Others int

	posts []*post
	byID  map[string]*post
	// Until when accounts are told of changes.
	watching map[string]time.Time
}

func (ch *Channel) jid() types.JID { return types.NewJID(ch.ID, types.NewsletterServer) }

// Address is how the mesh names it.
func (ch *Channel) Address() string { return "channel:" + ch.ID }

// Posts is how many there are.
func (ch *Channel) Posts() int { return len(ch.posts) }

func (ch *Channel) role(number string) string {
	switch _, follows := ch.Followers[number]; {
	case !follows:
		return "GUEST"
	case number == ch.Owner:
		return "OWNER"
	case ch.Admins[number]:
		return "ADMIN"
	}
	return "SUBSCRIBER"
}

func (ch *Channel) runBy(number string) bool {
	role := ch.role(number)
	return role == "OWNER" || role == "ADMIN"
}

// NewChannel makes a channel.
func (n *Network) NewChannel(name, description, owner string) *Channel {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.newChannel(name, description, owner)
}

func (n *Network) newChannel(name, description, owner string) *Channel {
	random := make([]byte, 8)
	_, _ = rand.Read(random)
	channel := &Channel{
		ID:   "1203634" + strconv.FormatUint(binary.BigEndian.Uint64(random)%9e10+1e10, 10),
		Name: name, Description: description, Invite: "0029Va" + rand.Text()[:16], Reactions: "ALL", Made: time.Now(), Owner: owner,
		Admins: map[string]bool{}, Followers: map[string]bool{}, byID: map[string]*post{}, watching: map[string]time.Time{},
	}
	if owner != "" {
		channel.Followers[owner] = false
	}
	if n.channels == nil {
		n.channels = map[string]*Channel{}
	}
	n.channels[channel.ID] = channel
	return channel
}

// ChangeChannel calls a function with a channel under the network's lock, and tells its followers what it is like then.
func (n *Network) ChangeChannel(address string, change func(*Channel)) (*Channel, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	channel := n.channelAt(n.jidAt(address))
	if channel == nil {
		return nil, ErrNoChannel
	}
	before := len(channel.Followers)
	change(channel)
	if len(channel.Followers) == before {
		n.tellChannel(channel, "")
	}
	if channel.Deleted {
		clear(channel.Followers)
	}
	return channel, nil
}

// FollowOnPhone has an account follow a channel on its phone, or follow it no more.
func (n *Network) FollowOnPhone(channel *Channel, account *Account, follow bool) {
	if !follow {
		delete(channel.Followers, account.Digits)
		delete(channel.Admins, account.Digits)
		n.tellMex(account, "NotificationNewsletterLeave", "xwa2_notify_newsletter_on_leave", map[string]any{"id": channel.jid(), "role": "GUEST"})
		return
	}
	channel.Followers[account.Digits] = channel.Followers[account.Digits]
	n.tellMex(account, "NotificationNewsletterJoin", "xwa2_notify_newsletter_on_join", channel.metadata(account.Digits))
}

// tellChannel tells the followers, but who has done it, that a channel has changed.
func (n *Network) tellChannel(channel *Channel, by string) {
	op, key, said := "NotificationNewsletterUpdate", "xwa2_notify_newsletter_on_metadata_update", channel.metadata("")
	if channel.Deleted {
		op, key = "NotificationNewsletterStateChange", "xwa2_notify_newsletter_on_state_change"
		said = map[string]any{"id": channel.jid(), "is_requestor": false, "state": map[string]any{"type": "DELETED"}}
	}
	for number := range channel.Followers {
		if account := n.people[number]; account != nil && number != by {
			n.tellMex(account, op, key, said)
		}
	}
}

func (n *Network) tellMex(account *Account, op, key string, said map[string]any) {
	body, _ := json.Marshal(map[string]any{"data": map[string]any{key: said}})
	id := rand.Text()[:16]
	n.deliver(account, &pending{key: "notification|" + id, node: &Node{
		Tag: "notification", Attrs: Attrs{"from": types.ServerJID, "type": "mex", "id": id, "t": now()},
		Content: []Node{{Tag: "update", Attrs: Attrs{"op_name": op}, Content: body}},
	}})
}

func (n *Network) channelAt(jid types.JID) *Channel {
	if jid.Server != types.NewsletterServer || n.channels[jid.User] == nil || n.channels[jid.User].Deleted {
		return nil
	}
	return n.channels[jid.User]
}

// metadata is a channel as the network tells one account of it; "": nobody in particular.
func (ch *Channel) metadata(number string) map[string]any {
	state, verification := "ACTIVE", "UNVERIFIED"
	if ch.Deleted {
		state = "DELETED"
	}
	if ch.Verified {
		verification = "VERIFIED"
	}
	micros := strconv.FormatInt(ch.Made.UnixMicro(), 10)
	thread := map[string]any{
		"creation_time": strconv.FormatInt(ch.Made.Unix(), 10), "invite": ch.Invite,
		"name":              map[string]any{"text": ch.Name, "id": "1", "update_time": micros},
		"description":       map[string]any{"text": ch.Description, "id": "2", "update_time": micros},
		"subscribers_count": strconv.Itoa(len(ch.Followers) + ch.Others), "verification": verification, "picture": nil,
		"preview":  map[string]any{"id": ch.Picture, "type": "PREVIEW", "direct_path": ""},
		"settings": map[string]any{"reaction_codes": map[string]any{"value": ch.Reactions}},
	}
	if ch.Picture != "" {
		thread["picture"] = map[string]any{"id": ch.Picture, "type": "IMAGE", "direct_path": ""}
	}
	said := map[string]any{"id": ch.jid(), "state": map[string]any{"type": state}, "thread_metadata": thread}
	if number != "" {
		mute := "OFF"
		if ch.Followers[number] {
			mute = "ON"
		}
		said["viewer_metadata"] = map[string]any{"role": ch.role(number), "mute": mute}
	}
	return said
}
