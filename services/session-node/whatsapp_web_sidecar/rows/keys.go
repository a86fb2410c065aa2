package rows

import (
	"fmt"
	"strings"
)

// Names of rows. Rows that are read together have a name with a slash after what they share: see unitOf.
const (
	// What every login needs.
	loginPrefix    = "login/"
	deviceKey      = "login/device"
	preKeysKey     = "login/prekeys"
	preKeysLeftKey = "login/prekeys-left"
	// Notices of history that is still to be read.
	historyPrefix = "login/history/"
	// Messages that could not be decrypted.
	awaitedPrefix = "login/awaited/"
	// Logs that are to be read on.
	openPrefix = "login/settings-open/"
	// Secrets of the messages that came last.
	recentKey    = "login/recent"
	recentPrefix = "recent/"

	// In which order people go: see usage.go.
	peoplePrefix = "people/"

	peerPrefix      = "peer/"
	senderKeyPrefix = "senderkey/"
	preKeyPrefix    = "prekey/"
	secretPrefix    = "secret/"
	pollPrefix      = "poll/"
	filePrefix      = "file/"
	timerPrefix     = "timer/"
	appKeyPrefix    = "appkey/"
	appVersion      = "appversion/"
	appMACPrefix    = "appmac/"
	nctSaltKey      = "nctsalt"
)

// peerKey names what is known of a person under one of their ids: sessions and identities of their devices, their other
// id, the token that they gave, and since when they were not heard of.
func peerKey(user, name string) string { return peerPrefix + user + "/" + name }

// sessionKey and identityKey take addresses as the library writes them, USER:DEVICE.
func sessionKey(address string) string {
	user, device := splitAddress(address)
	return peerKey(user, "session/"+device)
}

func identityKey(address string) string {
	user, device := splitAddress(address)
	return peerKey(user, "identity/"+device)
}

func senderKeyKey(group, user string) string { return senderKeyPrefix + group + "/" + user }

func preKeyKey(id uint32) string { return fmt.Sprintf("%s%d", preKeyPrefix, id) }

func splitAddress(address string) (user, device string) {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return address[:i], address[i+1:]
	}
	return address, "0"
}

// unitOf is what is read at once for a row: a name's beginning, ending in a slash, or the row alone.
func unitOf(key string) string {
	switch {
	case strings.HasPrefix(key, loginPrefix):
		return loginPrefix
	case strings.HasPrefix(key, appKeyPrefix):
		return appKeyPrefix
	case strings.HasPrefix(key, peerPrefix):
		if i := strings.IndexByte(key[len(peerPrefix):], '/'); i >= 0 {
			return key[:len(peerPrefix)+i+1]
		}
	}
	return key
}

// isRatchet says whether a row is a session's or a sender key's, and so has its reservation before it.
func isRatchet(key string) bool {
	return strings.HasPrefix(key, senderKeyPrefix) ||
		strings.HasPrefix(key, peerPrefix) && strings.Contains(key[len(peerPrefix):], "/session/")
}
