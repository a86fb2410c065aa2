package device

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// The network's numbers of what the library has no method for.
const (
	updateChannel = "7150902998257522"
	deleteChannel = "30062808666639665"
	// What who makes a channel has read, and at which stage.
	channelTerms, channelTermsStage = "20601218", "5"
)

var errUnknownChannel = errors.New("there is no such channel")

// doChannels does what is asked about channels; false: the call is about something else.
func (d *Device) doChannels(ctx context.Context, call *internalv1.DeviceCall, result *internalv1.DeviceCallResult) (bool, error) {
	var err error
	switch asked := call.GetCall().(type) {
	case *internalv1.DeviceCall_CreateChannel:
		result.Channel, err = d.createChannel(ctx, asked.CreateChannel)
	case *internalv1.DeviceCall_GetChannel:
		result.Channel, err = d.getChannel(ctx, asked.GetChannel)
	case *internalv1.DeviceCall_ListChannels:
		result.Channels, err = d.listChannels(ctx)
	case *internalv1.DeviceCall_ChangeChannel:
		result.Channel, err = d.changeChannel(ctx, asked.ChangeChannel)
	case *internalv1.DeviceCall_FollowChannel:
		result.Channel, err = d.followChannel(ctx, asked.FollowChannel)
	case *internalv1.DeviceCall_MuteChannel:
		err = d.muteChannel(ctx, asked.MuteChannel)
	case *internalv1.DeviceCall_ListPosts:
		result.Posts, err = d.listPosts(ctx, asked.ListPosts)
	default:
		return false, nil
	}
	return true, err
}

func (d *Device) createChannel(ctx context.Context, call *internalv1.CreateChannelCall) (*sessionmeshv1.Channel, error) {
	_ = d.client.AcceptTOSNotice(ctx, channelTerms, channelTermsStage) // else the network refuses, and says so
	made, err := d.client.CreateNewsletter(ctx, whatsmeow.CreateNewsletterParams{
		Name: call.GetName(), Description: call.GetDescription(), Picture: call.GetPicture(),
	})
	if err != nil {
		return nil, err
	}
	if made == nil {
		return nil, errors.New("the network does not say which channel it has made")
	}
	channel := channelOf(made)
	channel.OwnRole = sessionmeshv1.ChannelRole_CHANNEL_ROLE_OWNER
	return channel, nil
}

func (d *Device) getChannel(ctx context.Context, call *internalv1.GetChannelCall) (*sessionmeshv1.Channel, error) {
	if call.GetChannel() != "" {
		jid, err := channelID(call.GetChannel())
		if err != nil {
			return nil, err
		}
		return d.channel(ctx, jid)
	}
	found, err := d.client.GetNewsletterInfoWithInvite(ctx, call.GetInviteCode())
	if err != nil {
		return nil, err
	}
	if found == nil || found.ID.Server != types.NewsletterServer {
		return nil, errUnknownChannel
	}
	return d.channel(ctx, found.ID) // which also says what the account is to it
}

// channel is what a channel is now.
func (d *Device) channel(ctx context.Context, jid types.JID) (*sessionmeshv1.Channel, error) {
	found, err := d.client.GetNewsletterInfo(ctx, jid)
	if err != nil {
		return nil, err
	}
	if found == nil || address.Of(found.ID) == "" || strings.EqualFold(string(found.State.Type), "deleted") {
		return nil, errUnknownChannel
	}
	return channelOf(found), nil
}

func (d *Device) listChannels(ctx context.Context) ([]*sessionmeshv1.Channel, error) {
	found, err := d.client.GetSubscribedNewsletters(ctx)
	if err != nil {
		return nil, err
	}
	var channels []*sessionmeshv1.Channel
	size := 0
	for _, one := range found {
		if one == nil || address.Of(one.ID) == "" {
			continue
		}
		channel := channelOf(one)
		if channel.GetFollowerCount() == 0 {
			channel.FollowerCount = nil // lists do not say
		}
		if size += proto.Size(channel); size > maxAnswerBytes {
			d.log.write(levelWarning, "there are more channels than fit into an answer")
			break
		}
		channels = append(channels, channel)
	}
	return channels, nil
}

func (d *Device) changeChannel(ctx context.Context, call *internalv1.ChangeChannelCall) (*sessionmeshv1.Channel, error) {
	jid, err := channelID(call.GetChannel())
	if err != nil {
		return nil, err
	}
	if call.GetDelete() {
		_, err := d.client.DangerousInternals().SendMexIQ(ctx, deleteChannel, map[string]any{"newsletter_id": jid.String()})
		return nil, err
	}
	updates := map[string]any{"settings": nil}
	if call.Name != nil {
		updates["name"] = call.GetName()
	}
	if call.Description != nil {
		updates["description"] = call.GetDescription()
	}
	if call.Picture != nil {
		updates["picture"] = base64.StdEncoding.EncodeToString(call.GetPicture())
	}
	if call.Reactions != nil {
		updates["settings"] = map[string]any{"reaction_codes": map[string]any{"value": strings.ToUpper(string(reactionModes[call.GetReactions()]))}}
	}
	variables := map[string]any{"newsletter_id": jid.String(), "updates": updates}
	if _, err := d.client.DangerousInternals().SendMexIQ(ctx, updateChannel, variables); err != nil {
		return nil, err
	}
	return d.channel(ctx, jid)
}

func (d *Device) followChannel(ctx context.Context, call *internalv1.FollowChannelCall) (*sessionmeshv1.Channel, error) {
	jid, err := channelID(call.GetChannel())
	if err != nil {
		return nil, err
	}
	if !call.GetFollow() {
		return nil, d.client.UnfollowNewsletter(ctx, jid)
	}
	if err := d.client.FollowNewsletter(ctx, jid); err != nil {
		return nil, err
	}
	return d.channel(ctx, jid)
}

func (d *Device) muteChannel(ctx context.Context, call *internalv1.MuteChannelCall) error {
	jid, err := channelID(call.GetChannel())
	if err != nil {
		return err
	}
	err = d.client.NewsletterToggleMute(ctx, jid, call.GetMuted())
	if code := codeOfMex(err); code == 401 || code == 403 {
		return fmt.Errorf("%w: %w", whatsmeow.ErrNotInGroup, err)
	}
	return err
}

func channelID(channel string) (types.JID, error) {
	jid, err := address.Parse(channel)
	if err != nil || jid.Server != types.NewsletterServer {
		return jid, errUnknownChannel
	}
	return jid, nil
}

// codeOfMex is the network's number of the failure of a question that is asked in JSON; 0: it did not fail so.
func codeOfMex(err error) int {
	var refused types.GraphQLError
	if errors.As(err, &refused) {
		return refused.Extensions.ErrorCode
	}
	return 0
}

var (
	channelStates = map[types.NewsletterState]sessionmeshv1.ChannelState{
		types.NewsletterStateActive:       sessionmeshv1.ChannelState_CHANNEL_STATE_ACTIVE,
		types.NewsletterStateSuspended:    sessionmeshv1.ChannelState_CHANNEL_STATE_SUSPENDED,
		types.NewsletterStateGeoSuspended: sessionmeshv1.ChannelState_CHANNEL_STATE_SUSPENDED,
	}
	channelRoles = map[types.NewsletterRole]sessionmeshv1.ChannelRole{
		types.NewsletterRoleGuest:      sessionmeshv1.ChannelRole_CHANNEL_ROLE_GUEST,
		types.NewsletterRoleSubscriber: sessionmeshv1.ChannelRole_CHANNEL_ROLE_FOLLOWER,
		types.NewsletterRoleAdmin:      sessionmeshv1.ChannelRole_CHANNEL_ROLE_ADMIN,
		types.NewsletterRoleOwner:      sessionmeshv1.ChannelRole_CHANNEL_ROLE_OWNER,
	}
	reactionModes = map[sessionmeshv1.ChannelReactions]types.NewsletterReactionsMode{
		sessionmeshv1.ChannelReactions_CHANNEL_REACTIONS_UNSPECIFIED: types.NewsletterReactionsModeAll,
		sessionmeshv1.ChannelReactions_CHANNEL_REACTIONS_ALL:         types.NewsletterReactionsModeAll,
		sessionmeshv1.ChannelReactions_CHANNEL_REACTIONS_BASIC:       types.NewsletterReactionsModeBasic,
		sessionmeshv1.ChannelReactions_CHANNEL_REACTIONS_NONE:        types.NewsletterReactionsModeNone,
	}
)

// channelOf is a channel in the mesh's form.
func channelOf(found *types.NewsletterMetadata) *sessionmeshv1.Channel {
	thread := found.ThreadMeta
	followers := int64(thread.SubscriberCount)
	channel := &sessionmeshv1.Channel{
		Address: address.Of(found.ID), Name: valid(thread.Name.Text), Description: valid(thread.Description.Text),
		State: channelStates[found.State.Type], Verified: thread.VerificationState == types.NewsletterVerificationStateVerified,
		FollowerCount: &followers, InviteCode: valid(thread.InviteCode), PictureId: valid(thread.Preview.ID),
		Reactions: sessionmeshv1.ChannelReactions_CHANNEL_REACTIONS_ALL,
	}
	if thread.Picture != nil && thread.Picture.ID != "" {
		channel.PictureId = valid(thread.Picture.ID)
	}
	for reactions, mode := range reactionModes {
		if reactions != 0 && strings.EqualFold(string(mode), string(thread.Settings.ReactionCodes.Value)) {
			channel.Reactions = reactions
		}
	}
	if made := thread.CreationTime.Time; !made.IsZero() {
		channel.CreateTime = timestamppb.New(made)
	}
	if viewer := found.ViewerMeta; viewer != nil {
		channel.OwnRole, channel.Muted = channelRoles[viewer.Role], viewer.Mute == types.NewsletterMuteOn
	}
	return channel
}
