package control

import (
	"context"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/network"
)

const (
	longestName        = 100
	longestDescription = 2048
	mostPosts          = 10_000
)

// CreateNetworkChannel makes a channel that somebody runs who is no account.
func (s *Service) CreateNetworkChannel(
	_ context.Context, request *simulatorv1.CreateNetworkChannelRequest,
) (*simulatorv1.CreateNetworkChannelResponse, error) {
	if err := checkName(request.GetName()); err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(request.GetDescription()) > longestDescription {
		return nil, invalid("description", "must have at most 2,048 characters")
	}
	if request.GetFollowers() < 0 {
		return nil, invalid("followers", "must be at least 0")
	}
	channel := s.network.NewChannel(request.GetName(), request.GetDescription(), "")
	s.network.Change(func(*network.Settings) {
		channel.Verified, channel.Others = request.GetVerified(), int(request.GetFollowers())
	})
	return &simulatorv1.CreateNetworkChannelResponse{Channel: s.channelView(channel)}, nil
}

// ChangeNetworkChannel changes a channel, as its owner, the network or an account's phone does.
func (s *Service) ChangeNetworkChannel(
	_ context.Context, request *simulatorv1.ChangeNetworkChannelRequest,
) (*simulatorv1.ChangeNetworkChannelResponse, error) {
	var change func(*network.Channel)
	switch asked := request.GetChange().(type) {
	case *simulatorv1.ChangeNetworkChannelRequest_Name:
		if err := checkName(asked.Name); err != nil {
			return nil, err
		}
		change = func(channel *network.Channel) { channel.Name = asked.Name }
	case *simulatorv1.ChangeNetworkChannelRequest_Deleted:
		change = func(channel *network.Channel) { channel.Deleted = true }
	case *simulatorv1.ChangeNetworkChannelRequest_FollowedBy:
		account, err := s.account(asked.FollowedBy)
		if err != nil {
			return nil, err
		}
		change = func(channel *network.Channel) { s.network.FollowOnPhone(channel, account, true) }
	case *simulatorv1.ChangeNetworkChannelRequest_LeftBy:
		account, err := s.account(asked.LeftBy)
		if err != nil {
			return nil, err
		}
		change = func(channel *network.Channel) { s.network.FollowOnPhone(channel, account, false) }
	case *simulatorv1.ChangeNetworkChannelRequest_Admin:
		account, err := s.account(asked.Admin)
		if err != nil {
			return nil, err
		}
		change = func(channel *network.Channel) {
			channel.Admins[account.Digits] = true
			s.network.FollowOnPhone(channel, account, true)
		}
	default:
		return nil, invalid("change", "is required")
	}
	channel, err := s.network.ChangeChannel(request.GetChannel(), change)
	if err != nil {
		return nil, notFound("network channel", request.GetChannel(), err.Error())
	}
	return &simulatorv1.ChangeNetworkChannelResponse{Channel: s.channelView(channel)}, nil
}

// PostInNetworkChannel posts in a channel, as its owner.
func (s *Service) PostInNetworkChannel(
	_ context.Context, request *simulatorv1.PostInNetworkChannelRequest,
) (*simulatorv1.PostInNetworkChannelResponse, error) {
	said := &simnetv1.Content{}
	switch kind := request.GetContent().(type) {
	case *simulatorv1.PostInNetworkChannelRequest_Text:
		said.Kind = &simnetv1.Content_Text{Text: kind.Text}
	case *simulatorv1.PostInNetworkChannelRequest_Encoded:
		if proto.Unmarshal(kind.Encoded, said) != nil {
			return nil, invalid("encoded", "must be a sessionmesh.simnet.v1.Content")
		}
	default:
		return nil, invalid("content", "text or encoded is required")
	}
	if request.GetCount() < 0 || request.GetCount() > mostPosts {
		return nil, invalid("count", "must be 0 to 10,000")
	}
	id, err := s.network.Post(request.GetChannel(), said, request.GetEdits(), int(request.GetCount()))
	if err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.PostInNetworkChannelResponse{NetworkMessageId: id}, nil
}

// ReactInNetworkChannel has followers see a post, and react to it.
func (s *Service) ReactInNetworkChannel(
	_ context.Context, request *simulatorv1.ReactInNetworkChannelRequest,
) (*simulatorv1.ReactInNetworkChannelResponse, error) {
	if request.GetCount() < 0 {
		return nil, invalid("count", "must be at least 0")
	}
	if request.GetViews() < 0 {
		return nil, invalid("views", "must be at least 0")
	}
	err := s.network.React(
		request.GetChannel(), request.GetNetworkMessageId(), request.GetEmoji(), int(request.GetCount()), int(request.GetViews()),
	)
	if err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.ReactInNetworkChannelResponse{}, nil
}

func (s *Service) channelView(channel *network.Channel) (view *simulatorv1.NetworkChannel) {
	s.network.Change(func(*network.Settings) {
		view = &simulatorv1.NetworkChannel{
			Address: channel.Address(), Name: channel.Name, Description: channel.Description, InviteCode: channel.Invite,
			Deleted: channel.Deleted, Posts: int64(channel.Posts()),
		}
		for number := range channel.Followers {
			view.Followers = append(view.Followers, "+"+number)
		}
	})
	return view
}

func checkName(name string) error {
	if name == "" {
		return invalid("name", "is required")
	}
	if utf8.RuneCountInString(name) > longestName {
		return invalid("name", "must have at most 100 characters")
	}
	return nil
}
