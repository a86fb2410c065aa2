package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

const (
	// How many bytes of posts, or channels, are answered at once.
	maxAnswerBytes = 2 << 20
	// How many posts of an account are known by their numbers, which reactions name them by.
	maxKnownPosts = 4096
	// In how many of the latest posts, a hundred at a time, one is looked for that is not.
	pagesSearched = 10
	postsAtOnce   = 100
	// How many channels are known to be told of.
	maxLive = 256
)

var errUnknownPost = errors.New("there is no such post, or it is too old")

// posts are the numbers of posts that the device has seen, and until when it is told of changes. The zero value has none.
type posts struct {
	mu      sync.Mutex
	numbers map[string]types.MessageServerID // by channel and id
	order   []string
	live    map[types.JID]time.Time
}

func (p *posts) remember(channel types.JID, id types.MessageID, number types.MessageServerID) {
	if number == 0 || id == "" {
		return
	}
	key := channel.User + "/" + id
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.numbers[key]; known {
		return
	}
	if p.numbers == nil {
		p.numbers = map[string]types.MessageServerID{}
	}
	if len(p.order) >= maxKnownPosts {
		delete(p.numbers, p.order[0])
		p.order = p.order[1:]
	}
	p.numbers[key] = number
	p.order = append(p.order, key)
}

func (p *posts) number(channel types.JID, id types.MessageID) types.MessageServerID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.numbers[channel.User+"/"+id]
}

// listPosts gives posts, newest first, as many as fit into an answer, and has the network tell of changes for a while.
func (d *Device) listPosts(ctx context.Context, call *internalv1.ListPostsCall) ([]*internalv1.DevicePost, error) {
	jid, err := channelID(call.GetChannel())
	if err != nil {
		return nil, err
	}
	count := int(min(max(call.GetCount(), 1), postsAtOnce))
	found, err := d.page(ctx, jid, types.MessageServerID(min(call.GetBefore(), 1<<53)), count)
	if err != nil {
		return nil, err
	}
	d.live(ctx, jid)
	var listed []*internalv1.DevicePost
	size := 0
	for _, one := range found {
		post := &internalv1.DevicePost{Number: uint64(one.MessageServerID), Post: d.postOf(jid, one)}
		if size += proto.Size(post); size > maxAnswerBytes && len(listed) > 0 {
			break
		}
		listed = append(listed, post)
	}
	return listed, nil
}

// page is one page of a channel's posts, newest first.
func (d *Device) page(ctx context.Context, jid types.JID, before types.MessageServerID, count int) ([]*types.NewsletterMessage, error) {
	found, err := d.client.GetNewsletterMessages(ctx, jid, &whatsmeow.GetNewsletterMessagesParams{Count: count, Before: before})
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(one *types.NewsletterMessage) bool {
		return one.MessageServerID <= 0 || before != 0 && one.MessageServerID >= before
	})
	slices.SortFunc(found, func(a, b *types.NewsletterMessage) int { return b.MessageServerID - a.MessageServerID })
	for _, one := range found {
		d.posts.remember(jid, one.MessageID, one.MessageServerID)
	}
	return found, nil
}

// live has the network tell of changes of a channel's posts, if it does not do so already.
func (d *Device) live(ctx context.Context, jid types.JID) {
	p, now := &d.posts, time.Now()
	p.mu.Lock()
	told := now.Before(p.live[jid])
	if len(p.live) >= maxLive {
		clear(p.live)
	}
	p.mu.Unlock()
	if told {
		return
	}
	for_, err := d.client.NewsletterSubscribeLiveUpdates(ctx, jid)
	if err != nil {
		return // posts were listed all the same
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		p.live = map[types.JID]time.Time{}
	}
	p.live[jid] = now.Add(for_ / 2)
}

// postOf is a post in the mesh's form.
func (d *Device) postOf(jid types.JID, found *types.NewsletterMessage) *sessionmeshv1.ChannelPost {
	channel, views := address.Of(jid), int64(found.ViewsCount)
	post := &sessionmeshv1.ChannelPost{
		Ref:       &sessionmeshv1.MessageRef{NetworkMessageId: valid(found.MessageID), Chat: channel, Sender: channel},
		ViewCount: &views,
	}
	if !found.Timestamp.IsZero() {
		post.PostTime = timestamppb.New(found.Timestamp)
	}
	for emoji, count := range found.ReactionCounts {
		post.Reactions = append(post.Reactions, &sessionmeshv1.ChannelReactionCount{Emoji: valid(emoji), Count: int64(count)})
	}
	if found.Message == nil {
		return post
	}
	event := &events.Message{RawMessage: found.Message, Info: types.MessageInfo{
		ID: found.MessageID, ServerID: found.MessageServerID, Timestamp: found.Timestamp, MessageSource: types.MessageSource{Chat: jid, Sender: jid},
	}}
	if read := d.reader.Read(event.UnwrapRaw()); read != nil {
		post.Content = read.GetContent()
	}
	return post
}

// postNumber is the number of a post, known or looked for among the latest.
func (d *Device) postNumber(ctx context.Context, jid types.JID, id types.MessageID) (types.MessageServerID, error) {
	before := types.MessageServerID(0)
	for range pagesSearched {
		if number := d.posts.number(jid, id); number != 0 {
			return number, nil
		}
		found, err := d.page(ctx, jid, before, postsAtOnce)
		if err != nil {
			return 0, err
		}
		if len(found) == 0 {
			break
		}
		before = found[len(found)-1].MessageServerID
	}
	if number := d.posts.number(jid, id); number != 0 {
		return number, nil
	}
	return 0, errUnknownPost
}

// post sends a message to a channel, which nobody encrypts: a post, or a reaction to one.
func (d *Device) post(message *internalv1.SendDeviceMessage, to types.JID, steps *sendSteps) (whatsmeow.SendResponse, error) {
	var none whatsmeow.SendResponse
	id := message.GetNetworkMessageId()
	out, err := d.written(id, to, message.GetMessage())
	if err != nil {
		return none, err
	}
	if reaction := out.Message.GetReactionMessage(); reaction != nil {
		return d.react(to, id, reaction)
	}
	out.Message.MessageContextInfo = nil // secrets are of chats
	sending, done := d.store.Sending(d.ctx)
	defer done()
	extra := whatsmeow.SendRequestExtra{ID: id, Timeout: sendTimeout}
	if out.File != nil {
		if err := d.store.KeepFile(sending, id, out.File); err != nil {
			return none, err
		}
		extra.MediaHandle = out.File.GetHandle()
	}
	began := time.Now()
	sent, err := d.client.SendMessage(sending, to, out.Message, extra)
	steps.sent(began, sent.DebugTimings)
	if err == nil {
		d.posts.remember(to, id, sent.ServerID)
	}
	return sent, err
}

// react reacts to a post, and returns when the network has it.
func (d *Device) react(to types.JID, id types.MessageID, reaction *waE2E.ReactionMessage) (whatsmeow.SendResponse, error) {
	sent := whatsmeow.SendResponse{ID: id, Chat: to}
	ctx, cancel := context.WithTimeout(d.ctx, sendTimeout)
	defer cancel()
	number, err := d.postNumber(ctx, to, reaction.GetKey().GetID())
	if err != nil {
		return sent, err
	}
	internals := d.client.DangerousInternals()
	answer := internals.WaitResponse(id)
	if err := d.client.NewsletterSendReaction(ctx, to, number, reaction.GetText(), id); err != nil {
		internals.CancelResponse(id, answer)
		return sent, err
	}
	select {
	case node := <-answer:
		return sent, acknowledged(node, &sent)
	case <-ctx.Done():
		internals.CancelResponse(id, answer)
		return sent, whatsmeow.ErrMessageTimedOut
	}
}

func acknowledged(node *waBinary.Node, sent *whatsmeow.SendResponse) error {
	if node == nil || node.Tag != "ack" { // the end of the connection
		return whatsmeow.ErrNotConnected
	}
	attrs := node.AttrGetter()
	sent.Timestamp = attrs.OptionalUnixTime("t")
	if code := attrs.OptionalInt("error"); code != 0 {
		return fmt.Errorf("%w %d", whatsmeow.ErrServerReturnedError, code)
	}
	return nil
}

// markViewed tells the network that posts were seen, which it counts: those whose numbers are known.
func (d *Device) markViewed(ctx context.Context, to types.JID, ids []types.MessageID) error {
	var items []waBinary.Node
	for _, id := range ids {
		if number := d.posts.number(to, id); number != 0 {
			items = append(items, waBinary.Node{Tag: "item", Attrs: waBinary.Attrs{"server_id": number}})
		}
	}
	if len(items) == 0 {
		return nil
	}
	internals := d.client.DangerousInternals()
	return internals.SendNode(ctx, waBinary.Node{
		Tag: "receipt", Attrs: waBinary.Attrs{"to": to, "type": "view", "id": internals.GenerateRequestID()},
		Content: []waBinary.Node{{Tag: "list", Content: items}},
	})
}
