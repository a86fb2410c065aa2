package control

import (
	"context"
	"fmt"
	"time"

	simulatorv1 "sessionmesh.dev/gen/sessionmesh/simulator/v1"

	"google.golang.org/protobuf/types/known/durationpb"

	"sessionmesh.dev/whatsapp-web-network/network"
)

// SetBehaviour sets how people behave towards one account, or towards all that have no behaviour of their own.
func (s *Service) SetBehaviour(
	_ context.Context, request *simulatorv1.SetBehaviourRequest,
) (*simulatorv1.SetBehaviourResponse, error) {
	var account *network.Account
	if request.GetPhone() != "" {
		var err error
		if account, err = s.account(request.GetPhone()); err != nil {
			return nil, err
		}
	}
	asked := request.GetBehaviour()
	if len(asked.GetRestrictions()) > 0 {
		return nil, unsupported("this network tells nobody of restrictions")
	}
	behaviour := network.DefaultBehaviour()
	if asked == nil && account != nil {
		s.network.SetBehaviour(account, nil)
		return &simulatorv1.SetBehaviourResponse{}, nil
	}
	var err error
	if asked.GetDeliveredAfter() != nil {
		if behaviour.DeliveredAfter, err = duration("behaviour.delivered_after", asked.GetDeliveredAfter()); err != nil {
			return nil, err
		}
	}
	if asked.GetReadAfter() != nil {
		wait, err := duration("behaviour.read_after", asked.GetReadAfter())
		if err != nil {
			return nil, err
		}
		behaviour.ReadAfter = &wait
	}
	behaviour.AutoReply = asked.GetAutoReply()
	behaviour.MessagesPerMinute = int(asked.GetMessagesPerMinute())
	for i, refusal := range asked.GetRefusals() {
		if refusal.GetReason() == 0 {
			return nil, invalid(fmt.Sprintf("behaviour.refusals[%d].reason", i), "is required")
		}
		behaviour.Refusals = append(behaviour.Refusals, network.Refusal{
			Recipient: refusal.GetRecipient(), Reason: refusal.GetReason(), Code: refusal.GetCode(),
		})
	}
	s.network.SetBehaviour(account, behaviour)
	return &simulatorv1.SetBehaviourResponse{}, nil
}

// SetNetwork says who is on the network and how pairing goes there.
func (s *Service) SetNetwork(
	_ context.Context, request *simulatorv1.SetNetworkRequest,
) (*simulatorv1.SetNetworkResponse, error) {
	if request.GetAcceptAfter() != nil {
		return nil, unsupported("nobody can accept a pairing here who was not shown its QR text or code")
	}
	settings := network.Settings{Usernames: map[string]string{}, HistoryMessages: int(request.GetHistoryMessages())}
	for _, set := range []struct {
		field  string
		phones []string
		into   *map[string]bool
	}{
		{"unregistered_phones", request.GetUnregisteredPhones(), &settings.Unregistered},
		{"hidden_phones", request.GetHiddenPhones(), &settings.Hidden},
		{"passkey_phones", request.GetPasskeyPhones(), &settings.Passkeys},
		{"unaddable_phones", request.GetUnaddablePhones(), &settings.Unaddable},
	} {
		list, err := numbers(set.field, set.phones)
		if err != nil {
			return nil, err
		}
		*set.into = map[string]bool{}
		for _, number := range list {
			(*set.into)[number] = true
		}
	}
	for phone, name := range request.GetUsernames() {
		if err := checkPhone("usernames["+phone+"]", phone); err != nil {
			return nil, err
		}
		settings.Usernames[phone[1:]] = name
	}
	s.network.Change(func(current *network.Settings) { *current = settings })
	return &simulatorv1.SetNetworkResponse{}, nil
}

// InjectFault makes something go wrong.
func (s *Service) InjectFault(
	_ context.Context, request *simulatorv1.InjectFaultRequest,
) (*simulatorv1.InjectFaultResponse, error) {
	fault := &network.Fault{Kind: request.GetKind(), BytesPerSecond: request.GetBytesPerSecond(), Stanza: request.GetStanza()}
	if _, known := simulatorv1.FaultKind_name[int32(fault.Kind)]; !known || fault.Kind == 0 {
		return nil, invalid("kind", "is required")
	}
	var err error
	if request.GetPhone() != "" {
		if fault.Account, err = s.account(request.GetPhone()); err != nil {
			return nil, err
		}
	}
	if request.GetDelay() != nil {
		if fault.Delay, err = duration("delay", request.GetDelay()); err != nil {
			return nil, err
		}
	}
	switch fault.Kind {
	case simulatorv1.FaultKind_FAULT_KIND_DELAY_ACKS, simulatorv1.FaultKind_FAULT_KIND_SLOW,
		simulatorv1.FaultKind_FAULT_KIND_LATE_ANSWERS:
		if fault.Delay <= 0 {
			return nil, invalid("delay", "must be above 0")
		}
	case simulatorv1.FaultKind_FAULT_KIND_BANDWIDTH:
		if fault.BytesPerSecond == 0 {
			return nil, invalid("bytes_per_second", "must be above 0")
		}
	case simulatorv1.FaultKind_FAULT_KIND_STANZA:
		if size := len(fault.Stanza); size == 0 || size > 1<<20 {
			return nil, invalid("stanza", "must have 1 byte to 1 MiB")
		}
	}
	lasts := time.Duration(0)
	if request.GetDuration() != nil {
		if lasts, err = duration("duration", request.GetDuration()); err != nil {
			return nil, err
		}
	}
	return &simulatorv1.InjectFaultResponse{FaultId: s.network.Inject(fault, lasts)}, nil
}

// ClearFaults ends lasting faults, and bans.
func (s *Service) ClearFaults(
	_ context.Context, request *simulatorv1.ClearFaultsRequest,
) (*simulatorv1.ClearFaultsResponse, error) {
	if request.GetFaultId() != "" {
		if s.network.Clear(request.GetFaultId()) {
			return &simulatorv1.ClearFaultsResponse{Cleared: 1}, nil
		}
		return &simulatorv1.ClearFaultsResponse{}, nil
	}
	var account *network.Account
	if request.GetPhone() != "" {
		var err error
		if account, err = s.account(request.GetPhone()); err != nil {
			return nil, err
		}
	}
	return &simulatorv1.ClearFaultsResponse{Cleared: int32(s.network.ClearAll(account))}, nil
}

func duration(field string, value *durationpb.Duration) (time.Duration, error) {
	if value.CheckValid() != nil || value.AsDuration() < 0 {
		return 0, invalid(field, "must be 0 or more")
	}
	return value.AsDuration(), nil
}
