// Package address turns the mesh's addresses into the library's ids, and back.
package address

import (
	"errors"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// ErrUnknown is an address that the network has no form of.
var ErrUnknown = errors.New("the network has no such address")

// Parse returns the id of a person, a group, a channel or the status.
func Parse(address string) (types.JID, error) {
	if address == "status" {
		return types.StatusBroadcastJID, nil
	}
	kind, id, _ := strings.Cut(address, ":")
	switch kind {
	case "phone":
		if id = strings.TrimPrefix(id, "+"); digits(id) {
			return types.NewJID(id, types.DefaultUserServer), nil
		}
	case "user":
		if digits(id) {
			return types.NewJID(id, types.DefaultUserServer), nil
		}
	case "hidden":
		if digits(id) {
			return types.NewJID(id, types.HiddenUserServer), nil
		}
	case "group":
		if id != "" {
			return types.NewJID(id, types.GroupServer), nil
		}
	case "channel":
		if id != "" {
			return types.NewJID(id, types.NewsletterServer), nil
		}
	}
	return types.EmptyJID, ErrUnknown
}

// Of returns the address of an id, without its device; empty for what the mesh has no address of.
func Of(jid types.JID) string {
	switch jid.Server {
	case types.DefaultUserServer, types.LegacyUserServer, types.HostedServer:
		if digits(jid.User) && jid.User[0] != '0' && len(jid.User) >= 7 && len(jid.User) <= 15 {
			return "phone:+" + jid.User
		}
		return named("user", jid.User)
	case types.HiddenUserServer, types.HostedLIDServer, types.BotServer:
		return named("hidden", jid.User)
	case types.GroupServer:
		return named("group", jid.User)
	case types.NewsletterServer:
		return named("channel", jid.User)
	case types.BroadcastServer:
		if jid.User == types.StatusBroadcastJID.User {
			return "status"
		}
		return named("group", jid.User)
	}
	return ""
}

// OfText is Of for an id as messages have it; empty for none.
func OfText(text string) string {
	jid, err := types.ParseJID(text)
	if err != nil || text == "" {
		return ""
	}
	return Of(jid)
}

// IsPerson says whether an id is a person's.
func IsPerson(jid types.JID) bool {
	switch jid.Server {
	case types.DefaultUserServer, types.HiddenUserServer, types.LegacyUserServer, types.HostedServer, types.HostedLIDServer, types.BotServer:
		return true
	}
	return false
}

func named(kind, id string) string {
	if id == "" || len(id) > 160 {
		return ""
	}
	for _, c := range []byte(id) {
		if c != '.' && c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ""
		}
	}
	return kind + ":" + id
}

func digits(text string) bool {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return text != ""
}
