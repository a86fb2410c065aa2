package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
)

const dora = "+491510000004"

// group is one of some people, whom the first of them leads.
func (n *network) group(people ...string) string {
	n.t.Helper()
	created, err := n.CreateNetworkGroup(n.t.Context(), &simulatorv1.CreateNetworkGroupRequest{Subject: "Us", Members: people})
	if err != nil {
		n.t.Fatal(err)
	}
	return created.GetGroup().GetAddress()
}

func (n *network) change(group string, add, remove []string) {
	n.t.Helper()
	_, err := n.ChangeNetworkGroupMembers(n.t.Context(), &simulatorv1.ChangeNetworkGroupMembersRequest{Group: group, Add: add, Remove: remove})
	if err != nil {
		n.t.Fatal(err)
	}
}

// records are the ledger's of one kind.
func (n *network) records(kind simulatorv1.LedgerKind) []*simulatorv1.LedgerRecord {
	n.t.Helper()
	stream, err := n.ExportLedger(n.t.Context(), &simulatorv1.ExportLedgerRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	var found []*simulatorv1.LedgerRecord
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			n.t.Fatal(err)
		}
		for _, record := range response.GetRecords() {
			if record.GetKind() == kind {
				found = append(found, record)
			}
		}
	}
}

// entered waits until the account has heard that it is in a new group.
func (l *link) entered() *internalv1.DeviceGroupEntered {
	l.t.Helper()
	return notice(l, func(n *internalv1.DeviceNotice) (*internalv1.DeviceGroupEntered, bool) {
		return n.GetGroupEntered(), n.GetGroupEntered() != nil
	})
}

// readers are who confirmed a message.
func (n *network) readers(id string) []string {
	n.t.Helper()
	var readers []string
	for _, record := range n.records(simulatorv1.LedgerKind_LEDGER_KIND_RECEIPT) {
		if record.GetId() == id && !slices.Contains(readers, record.GetPeer()) && record.GetPeer() != account {
			readers = append(readers, record.GetPeer())
		}
	}
	slices.Sort(readers)
	return readers
}

var asked uint64 // sequences of calls

func (l *link) call(call *internalv1.DeviceCall) *internalv1.DeviceCallResult {
	l.t.Helper()
	idsMu.Lock()
	asked++
	call.Sequence = asked
	idsMu.Unlock()
	l.ask(&internalv1.RunRequest{Request: &internalv1.RunRequest_Call{Call: call}})
	return until(l, func(r *internalv1.RunResponse) (*internalv1.DeviceCallResult, bool) {
		return r.GetCallResult(), r.GetCallResult().GetSequence() == call.GetSequence() && r.GetCallResult() != nil
	})
}

func (l *link) mustCall(call *internalv1.DeviceCall) *internalv1.DeviceCallResult {
	l.t.Helper()
	result := l.call(call)
	if result.GetError() != "" {
		l.t.Fatal(result)
	}
	return result
}

func (l *link) changeMembers(group string, action sessionmeshv1.GroupMemberAction, people ...string) *internalv1.DeviceCallResult {
	l.t.Helper()
	return l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_ChangeMembers{
		ChangeMembers: &internalv1.ChangeMembersCall{Group: group, Action: action, People: people},
	}})
}

func (l *link) found(token string) *internalv1.DeviceCallResult {
	l.t.Helper()
	return l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_CreateGroup{CreateGroup: &internalv1.CreateGroupCall{
		Token: token, Name: "Us", Members: []string{"phone:" + bert},
	}}})
}

// notice waits for one of a kind, and says that it is stored.
func notice[T any](l *link, wanted func(*internalv1.DeviceNotice) (T, bool)) T {
	l.t.Helper()
	var sequence uint64
	found := until(l, func(r *internalv1.RunResponse) (T, bool) {
		sequence = r.GetNotice().GetSequence()
		return wanted(r.GetNotice())
	})
	l.noted(sequence)
	return found
}

func (l *link) said(group, words string) string {
	l.t.Helper()
	id := l.send(group, text(words))
	l.acked(id)
	return id
}

// reached waits until these have a message.
func (n *network) reached(l *link, id string, people ...string) {
	n.t.Helper()
	for told := 0; told < len(people); {
		told += len(l.receipt(id).GetMembers())
	}
	if got := n.readers(id); !slices.Equal(got, people) {
		n.t.Fatal(got)
	}
}

func TestWhoIsRemovedFromAGroupReadsNothingOfWhatIsWrittenAfterwards(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	group := n.group(account, bert, carla)
	n.reached(l, l.said(group, "to both"), bert, carla)
	l.changeMembers(group, sessionmeshv1.GroupMemberAction_GROUP_MEMBER_ACTION_REMOVE, "phone:"+carla)
	n.reached(l, l.said(group, "to one"), bert)
	n.reached(l, l.said(group, "to one again"), bert)
	if read := n.records(simulatorv1.LedgerKind_LEDGER_KIND_READ_BY_FORMER_MEMBER); len(read) > 0 {
		t.Fatal(read)
	}
}

func TestWhoLeftAGroupWhileTheAccountWasAwayReadsNothingOfWhatIsWrittenAfterwards(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	group := n.group(account, bert, carla)
	l.entered()
	n.reached(l, l.said(group, "to both"), bert, carla)
	l.close()
	n.change(group, []string{dora}, []string{carla})
	next := s.open(l.stored())
	n.reached(next, next.said(group, "to the others"), bert, dora)
	if read := n.records(simulatorv1.LedgerKind_LEDGER_KIND_READ_BY_FORMER_MEMBER); len(read) > 0 {
		t.Fatal(read)
	}
}

func TestWhoIsAddedToAGroupReadsWhatIsWrittenAfterwards(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	group := n.group(account, bert)
	n.reached(l, l.said(group, "to one"), bert)
	l.changeMembers(group, sessionmeshv1.GroupMemberAction_GROUP_MEMBER_ACTION_ADD, "phone:"+carla)
	n.reached(l, l.said(group, "to both"), bert, carla)
	n.change(group, []string{dora}, nil) // by somebody else
	notice(l, func(n *internalv1.DeviceNotice) (bool, bool) {
		change := n.GetMembersChanged()
		return true, len(change.GetMembers()) == 1 && change.GetMembers()[0].GetAddress() == "phone:"+dora
	})
	n.reached(l, l.said(group, "to all"), bert, carla, dora)
}

func TestAGroupKeepsItsKeyWhileItsMembersAreTheSame(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	group := n.group(account, bert, carla)
	l.said(group, "one")
	writes := 0
	l.with(func() { writes = l.writes })
	for range 3 {
		l.said(group, "more")
	}
	l.with(func() {
		if l.writes > writes+2 { // such as sessions that are not new any more
			t.Fatal(l.writes - writes)
		}
	})
}

func TestWhatOthersDoInAGroupIsToldUntilItIsStored(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	group := n.group(bert, account, carla)
	entered := l.entered()
	if told := entered.GetGroup(); told.GetAddress() != group || told.GetName() != "Us" || len(told.GetMembers()) != 3 || !told.GetMembersTold() ||
		told.GetOwnRole() != sessionmeshv1.GroupRole_GROUP_ROLE_MEMBER || entered.GetActor().GetAddress() != "phone:"+bert || entered.GetTime() == nil {
		t.Fatal(entered)
	}
	n.change(group, nil, []string{carla})
	removed := func(n *internalv1.DeviceNotice) (*internalv1.DeviceMembersChanged, bool) {
		return n.GetMembersChanged(), n.GetMembersChanged() != nil
	}
	until(l, func(r *internalv1.RunResponse) (*internalv1.DeviceMembersChanged, bool) {
		return removed(r.GetNotice())
	}) // not stored
	l.close()
	next := s.open(l.stored())
	change := notice(next, removed)
	if change.GetGroup() != group || change.GetChange() != sessionmeshv1.GroupMemberChange_GROUP_MEMBER_CHANGE_REMOVED ||
		change.GetMembers()[0].GetIdentity().GetPhone() != carla || change.GetActor().GetAddress() != "phone:"+bert {
		t.Fatal(change)
	}
}

func TestACreationThatIsRepeatedMakesNoSecondGroup(t *testing.T) {
	_, s, rows := world(t)
	l := s.open(rows)
	made := l.found("T1").GetGroups()[0].GetAddress()
	if again := l.found("T1").GetGroups()[0].GetAddress(); again != made {
		t.Fatal(again, made)
	}
	other := l.found("T2").GetGroups()[0].GetAddress()
	l.close()
	taken := l.stored() // by the next owner of an account whose owner died before it heard what was made
	var kept []map[string]any
	if err := json.Unmarshal(taken["made"], &kept); err != nil || len(kept) != 2 {
		t.Fatal(string(taken["made"]), err)
	}
	kept[1]["Group"] = ""
	taken["made"], _ = json.Marshal(kept)
	next := s.open(taken)
	if again := next.found("T2").GetGroups()[0]; again.GetAddress() != other || len(again.GetMembers()) != 2 {
		t.Fatal(again, other)
	}
	if groups := next.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_ListGroups{ListGroups: &internalv1.ListGroupsCall{}}}).GetGroups(); len(groups) != 2 {
		t.Fatal(groups)
	}
}

func TestARefusalSaysWhetherTheAccountIsAMemberAtAll(t *testing.T) {
	n, s, rows := world(t)
	l := s.open(rows)
	for group, want := range map[string]internalv1.DeviceRefusal{
		n.group(bert, account):     internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_AN_ADMIN,
		n.group(bert, carla):       internalv1.DeviceRefusal_DEVICE_REFUSAL_NOT_A_MEMBER,
		"group:120363000000000001": internalv1.DeviceRefusal_DEVICE_REFUSAL_UNKNOWN_CHAT,
	} {
		result := l.call(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_ChangeGroup{ChangeGroup: &internalv1.ChangeGroupCall{
			Group: group, Change: &internalv1.DeviceGroupChange{Locked: ptr(true)},
		}}})
		if result.GetRefusal() != want {
			t.Error(group, want, result)
		}
	}
}

func (l *link) look(group string) *internalv1.DeviceGroup {
	l.t.Helper()
	return l.mustCall(&internalv1.DeviceCall{Call: &internalv1.DeviceCall_GetGroup{GetGroup: &internalv1.GetGroupCall{Group: group}}}).GetGroups()[0]
}

func TestWhoIsInALargeGroupIsReadInFewQuestions(t *testing.T) {
	n, s, rows := world(t)
	people := []string{account}
	for i := range 1000 {
		people = append(people, fmt.Sprintf("+4915200%06d", i))
	}
	if _, err := n.SetNetwork(t.Context(), &simulatorv1.SetNetworkRequest{HiddenPhones: people[500:]}); err != nil {
		t.Fatal(err)
	}
	l := s.open(rows)
	group := n.group(people...)
	l.entered()
	before := 0
	l.with(func() { before = l.reads })
	if told := l.look(group); len(told.GetMembers()) != 1001 || told.GetMembers()[1].GetPerson().GetAddress() != "phone:"+people[1] ||
		told.GetMembers()[1000].GetPerson().GetAddress() != "hidden:9"+people[1000][1:] {
		t.Fatal(told)
	}
	l.with(func() {
		if l.reads-before > 100 {
			t.Fatal(l.reads - before)
		}
	})
}

func ptr[T any](value T) *T { return &value }
