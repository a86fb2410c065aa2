// Package webhooks verifies the webhooks of a mesh; docs/webhooks.md has the rules.
package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute

var timestamp = regexp.MustCompile(`^[0-9]{1,15}$`)

// Verify returns an error unless the mesh signed the body with the endpoint's secret, within five minutes of now.
func Verify(secret string, header http.Header, body []byte, now time.Time) error {
	encoded, found := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !found || len(key) == 0 {
		return errors.New("an endpoint's secret is whsec_ and base64")
	}
	id, at := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !timestamp.MatchString(at) || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return errors.New("webhook-timestamp is not of now")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	// There are several while a secret is being changed.
	for _, signature := range strings.Split(header.Get("webhook-signature"), " ") {
		if id != "" && hmac.Equal([]byte(signature), expected) {
			return nil
		}
	}
	return errors.New("webhook-signature has none that this secret makes")
}
