package server_test

import (
	"testing"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
)

// WhatsApp's list of channels has 0 for each.
func TestHowManyFollowAChannelIsNotKnownFromTheList(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	made := l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_CreateChannel{CreateChannel: &internalv1.CreateChannelCall{Name: "News"}}})
	listed := l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_ListChannels{ListChannels: &internalv1.ListChannelsCall{}}}).GetChannels()
	if len(listed) != 1 || listed[0].FollowerCount != nil {
		t.Fatal(listed)
	}
	found := l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_GetChannel{GetChannel: &internalv1.GetChannelCall{
		Channel: made.GetChannel().GetAddress(),
	}}}).GetChannel()
	if found.GetFollowerCount() != 1 {
		t.Fatal(found)
	}
}
