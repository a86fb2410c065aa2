package device

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/address"
)

// people are those whom addresses name.
type people struct {
	ids []types.JID
	// The addresses, by their ids: the network answers with either one.
	asked map[types.JID]string
	// Whom the network does not know.
	failures []*internalv1.DeviceMemberFailure
}

func (p *people) fail(named string, refusal internalv1.DeviceRefusal, detail string) {
	p.failures = append(p.failures, &internalv1.DeviceMemberFailure{Person: named, Refusal: refusal, Detail: detail})
}

// peopleAt asks the network for those whom the account does not know, all at once.
func (d *Device) peopleAt(ctx context.Context, addresses []string) (*people, error) {
	found := &people{asked: map[types.JID]string{}}
	named := map[types.JID]string{}
	var unknown []types.JID
	for _, one := range addresses {
		jid, err := d.recipient(one)
		if errors.Is(err, address.ErrUnknown) || err == nil && !address.IsPerson(jid) {
			found.fail(one, internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_PERSON, "the network has no such address")
			continue
		}
		if err != nil {
			return nil, err
		}
		if named[jid] != "" {
			continue
		}
		named[jid] = one
		if _, hidden := d.both(jid, types.EmptyJID); hidden.IsEmpty() {
			unknown = append(unknown, jid)
			continue
		}
		d.add(found, jid, one)
	}
	if len(unknown) == 0 {
		return found, nil
	}
	registered, err := d.registered(ctx, unknown)
	if err != nil {
		return nil, err
	}
	for _, jid := range unknown {
		if number, is := registered[jid]; is {
			d.add(found, number, named[jid])
		} else {
			found.fail(named[jid], internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_PERSON, "nobody on the network has this number")
		}
	}
	return found, nil
}

func (d *Device) add(to *people, jid types.JID, named string) {
	to.ids = append(to.ids, jid)
	number, hidden := d.both(jid, types.EmptyJID)
	for _, id := range []types.JID{jid, number, hidden} {
		to.asked[id] = named
	}
}

// registered are the numbers that the network has people under, who are on it.
func (d *Device) registered(ctx context.Context, numbers []types.JID) (map[types.JID]types.JID, error) {
	var asked []string
	for _, number := range numbers {
		asked = append(asked, spellings("+"+number.User)...)
	}
	answers, err := d.client.IsOnWhatsApp(ctx, asked)
	if err != nil {
		return nil, err
	}
	on := map[string]types.JID{}
	for _, answer := range answers {
		if !answer.IsIn {
			continue
		}
		number := answer.PhoneNumber
		if number.IsEmpty() && answer.JID.Server == types.DefaultUserServer {
			number = answer.JID
		}
		spelled := strings.TrimPrefix(answer.Query, "+")
		if number.IsEmpty() {
			number = types.NewJID(spelled, types.DefaultUserServer)
		}
		on[spelled] = number.ToNonAD()
		if answer.JID.Server == types.HiddenUserServer {
			_ = d.store.KeepOtherNumber(ctx, types.NewJID(spelled, types.DefaultUserServer), answer.JID)
		}
	}
	registered := map[types.JID]types.JID{}
	for _, number := range numbers {
		for _, spelling := range spellings("+" + number.User) {
			if known, is := on[spelling[1:]]; is {
				registered[number] = known
				break
			}
		}
	}
	return registered, nil
}

// as are the ids by which a group has its members.
func (d *Device) as(group types.JID, ids []types.JID) []types.JID {
	member := d.memberOf(group)
	if member == nil {
		return ids
	}
	out := make([]types.JID, len(ids))
	for i, id := range ids {
		out[i] = member(id)
	}
	return out
}

var memberActions = map[sessionmeshv1.GroupMemberAction]whatsmeow.ParticipantChange{
	sessionmeshv1.GroupMemberAction_GROUP_MEMBER_ACTION_ADD:     whatsmeow.ParticipantChangeAdd,
	sessionmeshv1.GroupMemberAction_GROUP_MEMBER_ACTION_REMOVE:  whatsmeow.ParticipantChangeRemove,
	sessionmeshv1.GroupMemberAction_GROUP_MEMBER_ACTION_PROMOTE: whatsmeow.ParticipantChangePromote,
	sessionmeshv1.GroupMemberAction_GROUP_MEMBER_ACTION_DEMOTE:  whatsmeow.ParticipantChangeDemote,
}

// changeMembers adds people to a group, removes them, or changes what they may do there.
func (d *Device) changeMembers(ctx context.Context, call *internalv1.ChangeMembersCall, result *internalv1.DeviceCallResult) error {
	group, err := groupAt(call.GetGroup())
	if err != nil {
		return err
	}
	action, known := memberActions[call.GetAction()]
	if !known {
		return fmt.Errorf("nothing is called %s", call.GetAction())
	}
	who, err := d.peopleAt(ctx, call.GetPeople())
	if err != nil {
		return err
	}
	if len(who.ids) > 0 {
		done, err := d.client.UpdateGroupParticipants(ctx, group, d.as(group, who.ids), action)
		d.forgetMembers(group)
		if err != nil {
			return d.ofGroup(ctx, group, err)
		}
		d.failed(group, who, done, action)
	}
	result.MemberFailures = who.failures
	return nil
}

// failed notes for whom the network did not do something, and why.
func (d *Device) failed(group types.JID, who *people, done []types.GroupParticipant, action whatsmeow.ParticipantChange) {
	for _, one := range done {
		named := ""
		for _, id := range []types.JID{one.JID, one.PhoneNumber, one.LID} {
			if named == "" {
				named = who.asked[id.ToNonAD()]
			}
		}
		refusal := refusalOfMember(one.Error, action)
		if named == "" || refusal == internalv1.DeviceRefusal_DEVICE_REFUSAL_UNSPECIFIED {
			continue
		}
		failure := &internalv1.DeviceMemberFailure{
			Person: named, Refusal: refusal, Detail: fmt.Sprintf("the network refuses it with %d", one.Error),
		}
		if invite := one.AddRequest; invite != nil && invite.Code != "" {
			failure.Invitation = &internalv1.DeviceInvitation{
				Group: address.Of(group), Code: valid(invite.Code), Inviter: d.addressOf(d.client.Store.GetJID(), d.client.Store.GetLID()),
			}
			if !invite.Expiration.IsZero() {
				failure.Invitation.ExpireTime = timestamppb.New(invite.Expiration)
			}
		}
		who.failures = append(who.failures, failure)
	}
}

// refusalOfMember says what the network's number means that it gives for one person; who is as was asked for is no failure.
func refusalOfMember(code int, action whatsmeow.ParticipantChange) internalv1.DeviceRefusal {
	adding := action == whatsmeow.ParticipantChangeAdd
	switch {
	case code == 0 || code == 200:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNSPECIFIED
	case code == 409 && adding, code == 404 && action == whatsmeow.ParticipantChangeRemove:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNSPECIFIED
	case code == 404 && !adding:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_A_MEMBER
	case code == 404:
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_PERSON
	case adding && (code == 401 || code == 403 || code == 408 || code == 417): // blocked, their privacy, left before
		return internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_ALLOWED_BY_PERSON
	}
	return refusalCode(uint32(code))
}
