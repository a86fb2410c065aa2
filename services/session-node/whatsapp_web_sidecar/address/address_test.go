package address

import (
	"testing"

	"go.mau.fi/whatsmeow/types"
)

func TestAddressesOfTheMeshAndIdsOfTheLibrary(t *testing.T) {
	for address, jid := range map[string]types.JID{
		"phone:+4915112345678":      types.NewJID("4915112345678", types.DefaultUserServer),
		"hidden:12345678901234":     types.NewJID("12345678901234", types.HiddenUserServer),
		"group:120363012345678901":  types.NewJID("120363012345678901", types.GroupServer),
		"channel:12036301234567890": types.NewJID("12036301234567890", types.NewsletterServer),
		"status":                    types.StatusBroadcastJID,
	} {
		if parsed, err := Parse(address); err != nil || parsed != jid {
			t.Errorf("%s is %v (%v), want %v", address, parsed, err, jid)
		}
		if back := Of(jid); back != address {
			t.Errorf("%v is %s, want %s", jid, back, address)
		}
	}
}

func TestADeviceHasTheAddressOfItsPerson(t *testing.T) {
	if got := Of(types.JID{User: "4915112345678", Device: 12, Server: types.DefaultUserServer}); got != "phone:+4915112345678" {
		t.Error(got)
	}
}

func TestAUserIdIsANumber(t *testing.T) {
	if jid, err := Parse("user:4915112345678"); err != nil || jid.Server != types.DefaultUserServer {
		t.Error(jid, err)
	}
}

func TestWhatTheNetworkHasNoFormOf(t *testing.T) {
	for _, address := range []string{"", "username:somebody", "phone:", "phone:+x", "user:a b", "nothing:1", "group:"} {
		if jid, err := Parse(address); err == nil {
			t.Errorf("%q is %v", address, jid)
		}
	}
	for _, jid := range []types.JID{{}, types.NewJID("a/b", types.GroupServer), types.NewJID("1", "elsewhere")} {
		if got := Of(jid); got != "" {
			t.Errorf("%v is %q", jid, got)
		}
	}
}
