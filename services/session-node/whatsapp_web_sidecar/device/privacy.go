package device

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
)

var audiences = map[types.PrivacySetting]sessionmeshv1.PrivacyAudience{
	types.PrivacySettingAll:              sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_EVERYONE,
	types.PrivacySettingContacts:         sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_CONTACTS,
	types.PrivacySettingContactBlacklist: sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_CONTACTS_EXCEPT,
	types.PrivacySettingContactAllowlist: sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_SELECTED_CONTACTS,
	types.PrivacySettingMatchLastSeen:    sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_SAME_AS_LAST_SEEN,
	types.PrivacySettingKnown:            sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_KNOWN,
	types.PrivacySettingNone:             sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_NOBODY,
}

var statusAudiences = map[types.StatusPrivacyType]sessionmeshv1.PrivacyAudience{
	types.StatusPrivacyTypeContacts:  sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_CONTACTS,
	types.StatusPrivacyTypeBlacklist: sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_CONTACTS_EXCEPT,
	types.StatusPrivacyTypeWhitelist: sessionmeshv1.PrivacyAudience_PRIVACY_AUDIENCE_SELECTED_CONTACTS,
}

// privacySettings are the network's names of the settings.
var privacySettings = map[string]types.PrivacySettingType{
	"last_seen": types.PrivacySettingTypeLastSeen, "online": types.PrivacySettingTypeOnline, "picture": types.PrivacySettingTypeProfile,
	"about": types.PrivacySettingTypeStatus, "groups_add": types.PrivacySettingTypeGroupAdd, "calls": types.PrivacySettingTypeCallAdd,
}

// getPrivacy says to whom the account shows what.
func (d *Device) getPrivacy(ctx context.Context, result *internalv1.DeviceCallResult) error {
	set, err := d.client.TryFetchPrivacySettings(ctx, true)
	if err != nil {
		return err
	}
	privacy := &sessionmeshv1.PrivacySettings{
		LastSeen: audiences[set.LastSeen], Online: audiences[set.Online], Picture: audiences[set.Profile], About: audiences[set.Status],
		GroupsAdd: audiences[set.GroupAdd], Calls: audiences[set.CallAdd], ReadReceipts: set.ReadReceipts != types.PrivacySettingNone,
	}
	posts, err := d.client.GetStatusPrivacy(ctx)
	if err != nil {
		return err
	}
	for _, each := range posts {
		if each.IsDefault || len(posts) == 1 {
			privacy.Status = statusAudiences[each.Type]
		}
	}
	own := d.client.Store.GetJID().ToNonAD()
	said, err := d.ask(ctx, []types.JID{own}, waBinary.Node{Tag: "disappearing_mode"})
	if err != nil {
		return err
	}
	user := said[own]
	mode := user.GetChildByTag("disappearing_mode")
	if seconds := mode.AttrGetter().OptionalInt("duration"); seconds > 0 {
		privacy.DefaultDisappearAfter = &durationpb.Duration{Seconds: int64(seconds)}
	}
	result.Privacy = privacy
	return nil
}

// changePrivacy changes to whom the account shows what, one setting after the other.
func (d *Device) changePrivacy(ctx context.Context, call *internalv1.ChangePrivacyCall) error {
	set := call.GetSettings()
	wanted := map[string]sessionmeshv1.PrivacyAudience{
		"last_seen": set.GetLastSeen(), "online": set.GetOnline(), "picture": set.GetPicture(), "about": set.GetAbout(),
		"groups_add": set.GetGroupsAdd(), "calls": set.GetCalls(),
	}
	for _, field := range call.GetFields() {
		var err error
		switch field {
		case "status":
			err = fmt.Errorf("%w: who sees status posts is chosen on the phone", content.ErrUnsupported)
		case "read_receipts":
			value := types.PrivacySettingAll
			if !set.GetReadReceipts() {
				value = types.PrivacySettingNone
			}
			_, err = d.client.SetPrivacySetting(ctx, types.PrivacySettingTypeReadReceipts, value)
		case "default_disappear_after":
			err = d.client.SetDefaultDisappearingTimer(ctx, set.GetDefaultDisappearAfter().AsDuration())
		default:
			_, err = d.client.SetPrivacySetting(ctx, privacySettings[field], settingOf(wanted[field]))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func settingOf(audience sessionmeshv1.PrivacyAudience) types.PrivacySetting {
	for setting, each := range audiences {
		if each == audience {
			return setting
		}
	}
	return types.PrivacySettingUndefined
}
