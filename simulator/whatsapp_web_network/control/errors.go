package control

import (
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"sessionmesh.dev/whatsapp-web-network/content"
	"sessionmesh.dev/whatsapp-web-network/network"
)

var phonePattern = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

func checkPhone(field, phone string) error {
	if !phonePattern.MatchString(phone) {
		return invalid(field, "must be a phone number in E.164")
	}
	return nil
}

// numbers are phones without their plus.
func numbers(field string, phones []string) ([]string, error) {
	out := make([]string, len(phones))
	for i, phone := range phones {
		if err := checkPhone(fmt.Sprintf("%s[%d]", field, i), phone); err != nil {
			return nil, err
		}
		out[i] = phone[1:]
	}
	return out, nil
}

// refusal is what the network says as the API says it.
func refusal(err error) error {
	switch {
	case errors.Is(err, network.ErrNobodyShows):
		return notFound("pairing", "", err.Error())
	case errors.Is(err, network.ErrNoGroup):
		return notFound("network group", "", err.Error())
	case errors.Is(err, network.ErrNoChannel):
		return notFound("network channel", "", err.Error())
	case errors.Is(err, network.ErrNoPost):
		return notFound("network post", "", err.Error())
	case errors.Is(err, network.ErrNobody):
		return notFound("person", "", err.Error())
	case errors.Is(err, network.ErrNoPhone), errors.Is(err, network.ErrOtherPhone), errors.Is(err, network.ErrBanned):
		return invalid("phone", err.Error())
	case errors.Is(err, network.ErrNotPaired):
		return failed(codes.FailedPrecondition, "NOT_PAIRED", err.Error())
	case errors.Is(err, content.ErrKind):
		return unsupported(err.Error())
	}
	return invalid("content", err.Error())
}

func unsupported(message string) error {
	return failed(codes.FailedPrecondition, "UNSUPPORTED_BY_NETWORK", message)
}

func notFound(kind, name, message string) error {
	info := &errdetails.ErrorInfo{Reason: "RESOURCE_NOT_FOUND", Domain: "sessionmesh"}
	return detailed(codes.NotFound, message, info, &errdetails.ResourceInfo{ResourceType: kind, ResourceName: name})
}

func failed(code codes.Code, reason, message string) error {
	return detailed(code, message, &errdetails.ErrorInfo{Reason: reason, Domain: "sessionmesh"})
}

func invalid(field, message string) error {
	info := &errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: "sessionmesh"}
	return detailed(codes.InvalidArgument, field+": "+message, info, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: message}},
	})
}

func detailed(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	plain := status.New(code, message)
	full, err := plain.WithDetails(details...)
	if err != nil {
		return plain.Err()
	}
	return full.Err()
}
