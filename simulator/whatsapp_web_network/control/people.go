package control

import (
	"context"
	"time"

	simnetv1 "sessionmesh.dev/gen/sessionmesh/simnet/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"sessionmesh.dev/whatsapp-web-network/network"
)

// ShowTyping has somebody write or record in a chat with an account.
func (s *Service) ShowTyping(
	_ context.Context, request *simulatorv1.ShowTypingRequest,
) (*simulatorv1.ShowTypingResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	if _, known := simnetv1.TypingState_name[int32(request.GetState())]; !known || request.GetState() == 0 {
		return nil, invalid("state", "is required")
	}
	if err := s.network.ShowTyping(account, request.GetSender(), request.GetGroup(), request.GetState()); err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.ShowTypingResponse{}, nil
}

// ShowPresence has somebody come online, or go.
func (s *Service) ShowPresence(
	_ context.Context, request *simulatorv1.ShowPresenceRequest,
) (*simulatorv1.ShowPresenceResponse, error) {
	seen := time.Time{}
	if request.GetLastSeenTime() != nil {
		if request.GetOnline() {
			return nil, invalid("last_seen_time", "is only for who is not online")
		}
		seen = request.GetLastSeenTime().AsTime()
	}
	if err := s.network.ShowPresence(request.GetPerson(), request.GetOnline(), seen); err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.ShowPresenceResponse{}, nil
}

// PlaceCall has somebody call an account.
func (s *Service) PlaceCall(
	_ context.Context, request *simulatorv1.PlaceCallRequest,
) (*simulatorv1.PlaceCallResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	id, err := s.network.Call(account, request.GetCaller(), request.GetGroup(), request.GetVideo())
	if err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.PlaceCallResponse{CallId: id}, nil
}

// EndCall ends a call that somebody placed.
func (s *Service) EndCall(
	_ context.Context, request *simulatorv1.EndCallRequest,
) (*simulatorv1.EndCallResponse, error) {
	account, err := s.account(request.GetPhone())
	if err != nil {
		return nil, err
	}
	if _, known := simnetv1.CallEnd_name[int32(request.GetEnd())]; !known || request.GetEnd() == 0 {
		return nil, invalid("end", "is required")
	}
	if s.network.EndCall(account, request.GetCallId(), request.GetEnd()) != nil {
		return nil, notFound("call", request.GetCallId(), "no such call rings")
	}
	return &simulatorv1.EndCallResponse{}, nil
}

// ChangeNetworkPerson changes what a person shows.
func (s *Service) ChangeNetworkPerson(
	_ context.Context, request *simulatorv1.ChangeNetworkPersonRequest,
) (*simulatorv1.ChangeNetworkPersonResponse, error) {
	if err := checkPhone("phone", request.GetPhone()); err != nil {
		return nil, err
	}
	const most = 2 << 20
	if len(request.GetPicture()) > most {
		return nil, invalid("picture", "must have at most 2 MiB")
	}
	s.network.Show(request.GetPhone()[1:], network.Showing{
		PushName: request.PushName, About: request.About, Picture: request.GetPicture(), HasPicture: request.Picture != nil,
		Business: request.Business,
	})
	return &simulatorv1.ChangeNetworkPersonResponse{}, nil
}

// ChangeNetworkContact would change the address book of an account's phone, which this network has not.
func (s *Service) ChangeNetworkContact(
	context.Context, *simulatorv1.ChangeNetworkContactRequest,
) (*simulatorv1.ChangeNetworkContactResponse, error) {
	return nil, unsupported("phones of this network have no address books")
}
