package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sessionmesh.dev/whatsapp-web-network/network"
)

// CreateNetworkGroup makes a group of people and accounts.
func (s *Service) CreateNetworkGroup(
	_ context.Context, request *simulatorv1.CreateNetworkGroupRequest,
) (*simulatorv1.CreateNetworkGroupResponse, error) {
	members, err := numbers("members", request.GetMembers())
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, invalid("members", "is required")
	}
	admins, err := numbers("admins", request.GetAdmins())
	if err != nil {
		return nil, err
	}
	for i, admin := range admins {
		if !slices.Contains(members, admin) {
			return nil, invalid(fmt.Sprintf("admins[%d]", i), "must be one of the members")
		}
	}
	if len(admins) == 0 {
		admins = members[:1]
	}
	group := s.network.CreateGroup(request.GetSubject(), members, admins)
	return &simulatorv1.CreateNetworkGroupResponse{Group: groupView(group)}, nil
}

// ChangeNetworkGroupMembers changes who is in a group.
func (s *Service) ChangeNetworkGroupMembers(
	_ context.Context, request *simulatorv1.ChangeNetworkGroupMembersRequest,
) (*simulatorv1.ChangeNetworkGroupMembersResponse, error) {
	add, err := numbers("add", request.GetAdd())
	if err != nil {
		return nil, err
	}
	remove, err := numbers("remove", request.GetRemove())
	if err != nil {
		return nil, err
	}
	group, err := s.network.ChangeGroup(strings.TrimPrefix(request.GetGroup(), "group:"), add, remove)
	if err != nil {
		return nil, refusal(err)
	}
	return &simulatorv1.ChangeNetworkGroupMembersResponse{Group: groupView(group)}, nil
}

// ActInGroup has somebody do in a group what a client could.
func (s *Service) ActInGroup(
	_ context.Context, request *simulatorv1.ActInGroupRequest,
) (*simulatorv1.ActInGroupResponse, error) {
	if err := checkPhone("phone", request.GetPhone()); err != nil {
		return nil, err
	}
	if request.GetQuery() == nil {
		return nil, invalid("query", "is required")
	}
	return &simulatorv1.ActInGroupResponse{Answer: s.network.ActInGroup(request.GetPhone()[1:], request.GetQuery())}, nil
}

func groupView(group *network.Group) *simulatorv1.NetworkGroup {
	view := &simulatorv1.NetworkGroup{
		Address: "group:" + group.ID, Subject: group.Subject, CreateTime: timestamppb.New(group.Made),
	}
	for _, member := range group.Members {
		view.Members = append(view.Members, "+"+member)
		if group.Admins[member] {
			view.Admins = append(view.Admins, "+"+member)
		}
	}
	return view
}
