package device

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	sessionmeshv1 "sessionmesh.dev/gen/sessionmesh/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/content"
)

var (
	weekdays = []string{"", "mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	openings = []string{"", "specific_hours", "open_24h", "appointment_only"}
)

// getBusinessProfile says what a business shows. The library's own reads neither description nor websites.
func (d *Device) getBusinessProfile(ctx context.Context, named string, result *internalv1.DeviceCallResult) error {
	person, err := d.personAt(named)
	if err != nil {
		return err
	}
	answer, err := d.client.DangerousInternals().SendIQ(ctx, whatsmeow.DangerousInfoQuery{
		Namespace: "w:biz", Type: "get", To: types.ServerJID,
		Content: []waBinary.Node{{Tag: "business_profile", Attrs: waBinary.Attrs{"v": "244"}, Content: []waBinary.Node{
			{Tag: "profile", Attrs: waBinary.Attrs{"jid": person}},
		}}},
	})
	if codeOfQuery(err) == 404 {
		return nil
	} else if err != nil {
		return err
	}
	profile, is := answer.GetOptionalChildByTag("business_profile", "profile")
	if !is || len(profile.GetChildren()) == 0 {
		return nil
	}
	shown := &sessionmeshv1.BusinessProfile{
		Description: textIn(profile, "description"), StreetAddress: textIn(profile, "address"), Email: textIn(profile, "email"),
		Vertical: textIn(profile, "vertical"), Hours: hoursOf(profile.GetChildByTag("business_hours")),
	}
	for _, website := range profile.GetChildrenByTag("website") {
		if address, is := website.Content.([]byte); is {
			shown.Websites = append(shown.Websites, valid(string(address)))
		}
	}
	if categories := profile.GetChildByTag("categories"); shown.GetVertical() == "" {
		shown.Vertical = textIn(categories, "category")
	}
	result.BusinessProfile = shown
	return nil
}

func hoursOf(node waBinary.Node) *sessionmeshv1.BusinessHours {
	configs := node.GetChildrenByTag("business_hours_config")
	zone, _ := node.Attrs["timezone"].(string)
	if zone == "" && len(configs) == 0 {
		return nil
	}
	hours := &sessionmeshv1.BusinessHours{TimeZone: valid(zone)}
	for _, config := range configs {
		attrs := config.AttrGetter()
		day := slices.Index(weekdays, attrs.OptionalString("day_of_week"))
		mode := slices.Index(openings, attrs.OptionalString("mode"))
		if day < 1 || mode < 1 {
			continue
		}
		hours.Periods = append(hours.Periods, &sessionmeshv1.BusinessHoursPeriod{
			Day: sessionmeshv1.Weekday(day), Mode: sessionmeshv1.BusinessHoursMode(mode),
			Opens: clock(attrs.OptionalString("open_time")), Closes: clock(attrs.OptionalString("close_time")),
		})
	}
	return hours
}

// changeBusinessProfile changes some fields of what the account shows as a business.
func (d *Device) changeBusinessProfile(ctx context.Context, call *internalv1.ChangeBusinessProfileCall) error {
	profile := call.GetProfile()
	var changed []waBinary.Node
	for _, field := range call.GetFields() {
		switch field {
		case "description":
			changed = append(changed, waBinary.Node{Tag: "description", Content: []byte(profile.GetDescription())})
		case "street_address":
			changed = append(changed, waBinary.Node{Tag: "address", Content: []byte(profile.GetStreetAddress())})
		case "email":
			changed = append(changed, waBinary.Node{Tag: "email", Content: []byte(profile.GetEmail())})
		case "websites":
			for _, website := range profile.GetWebsites() {
				changed = append(changed, waBinary.Node{Tag: "website", Content: []byte(website)})
			}
			if len(profile.GetWebsites()) == 0 {
				changed = append(changed, waBinary.Node{Tag: "website", Content: []byte{}})
			}
		case "hours":
			changed = append(changed, hoursNode(profile.GetHours()))
		default:
			return fmt.Errorf("%w: a business' %s is changed on the phone", content.ErrUnsupported, field)
		}
	}
	_, err := d.client.DangerousInternals().SendIQ(ctx, whatsmeow.DangerousInfoQuery{
		Namespace: "w:biz", Type: "set", To: types.ServerJID,
		Content: []waBinary.Node{{Tag: "business_profile", Attrs: waBinary.Attrs{"v": "3", "mutation_type": "delta"}, Content: changed}},
	})
	return err
}

func hoursNode(hours *sessionmeshv1.BusinessHours) waBinary.Node {
	node := waBinary.Node{Tag: "business_hours", Attrs: waBinary.Attrs{}}
	if hours == nil {
		return node
	}
	node.Attrs["timezone"] = hours.GetTimeZone()
	var configs []waBinary.Node
	for _, period := range hours.GetPeriods() {
		attrs := waBinary.Attrs{"day_of_week": weekdays[period.GetDay()], "mode": openings[period.GetMode()]}
		if period.GetMode() == sessionmeshv1.BusinessHoursMode_BUSINESS_HOURS_MODE_SPECIFIC {
			attrs["open_time"], attrs["close_time"] = minutes(period.GetOpens()), minutes(period.GetCloses())
		}
		configs = append(configs, waBinary.Node{Tag: "business_hours_config", Attrs: attrs})
	}
	node.Content = configs
	return node
}

// clock is a time of day from minutes since midnight; empty for none.
func clock(minutes string) string {
	since, err := strconv.Atoi(minutes)
	if err != nil || since < 0 || since > 24*60 {
		return ""
	}
	return fmt.Sprintf("%02d:%02d", since/60, since%60)
}

// minutes is the inverse of clock.
func minutes(clock string) string {
	hour, minute, _ := strings.Cut(clock, ":")
	hours, _ := strconv.Atoi(hour)
	rest, _ := strconv.Atoi(minute)
	return strconv.Itoa(hours*60 + rest)
}
