// Package addresses writes an address as the mesh does; docs/addresses.md has the rules.
package addresses

import (
	"fmt"
	"regexp"
)

var (
	phone  = regexp.MustCompile(`^(?:phone:)?(\+[1-9][0-9]{6,14})$`)
	byID   = regexp.MustCompile(`^(?:user|hidden|group|channel):[A-Za-z0-9._-]{1,160}$`)
	name   = regexp.MustCompile(`^username:([a-z0-9._]{3,35})$`)
	letter = regexp.MustCompile(`[a-z]`)
	// Where a name has one of these, it is none.
	noName = regexp.MustCompile(`^\.|^www\.|\.\.|\.(?:com|org|net|int|edu|gov|mil|arpa|html?|txt|xml)?$`)
)

// Parse returns the canonical form, or an error if text is no address.
func Parse(text string) (string, error) {
	if found := phone.FindStringSubmatch(text); found != nil {
		return "phone:" + found[1], nil
	}
	found := name.FindStringSubmatch(text)
	if byID.MatchString(text) || text == "status" || found != nil && mayBeAName(found[1]) {
		return text, nil
	}
	return "", fmt.Errorf("%q is no address", text)
}

func mayBeAName(name string) bool {
	return letter.MatchString(name) && !noName.MatchString(name)
}
