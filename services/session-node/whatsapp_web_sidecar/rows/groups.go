package rows

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

const (
	// To whom the account's sender key of a group was given.
	membersPrefix = "members/"
	// Which groups the account has made, or was about to make.
	madeKey = "made"
	// How many of those are kept, and for how long.
	maxMade = 64
	madeFor = 48 * time.Hour
)

// KeyFor has a message that is being sent to a group be encrypted with a key that only its present members have: where they are
// others than those who were given the account's sender key, another key is made. The library gives the key to every member
// with every message, and would keep it for ever: whoever has left could read on.
func (s *Store) KeyFor(sending context.Context, group types.JID, members []types.JID) error {
	key, now := membersPrefix+group.User, []byte(fingerprint(members))
	given, err := s.look(sending, key)
	if err != nil || string(given) == string(now) {
		return err
	}
	own := senderKeyKey(group.String(), s.device.GetLID().SignalAddress().String())
	if _, err := s.look(sending, own); err != nil {
		return err
	}
	return s.note(sending, Change{key, now}, Change{own, nil})
}

// fingerprint is the same of the same members, whatever their order.
func fingerprint(members []types.JID) string {
	sum := uint64(len(members))
	for _, member := range members {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(member.ToNonAD().String()))
		sum += hash.Sum64()
	}
	return strconv.FormatUint(sum, 36)
}

// Made is a group that the account has made, or was about to make.
type Made struct {
	Token string
	Since int64  // seconds since the epoch
	Group string // empty: whether it was made is not known
}

// Making keeps that a group is about to be made, before the network is asked to, and returns what was kept of an earlier time
// with this token; nil: there was none.
func (s *Store) Making(ctx context.Context, token string) (earlier *Made, err error) {
	err = s.changeMade(ctx, func(made []Made) []Made {
		for i := range made {
			if made[i].Token == token {
				earlier = &made[i]
				return made
			}
		}
		return append(made, Made{Token: token, Since: time.Now().Unix()})
	})
	return earlier, err
}

// HasMade keeps which group was made with a token.
func (s *Store) HasMade(ctx context.Context, token, group string) error {
	return s.changeMade(ctx, func(made []Made) []Made {
		for i := range made {
			if made[i].Token == token {
				made[i].Group = group
				return made
			}
		}
		return append(made, Made{token, time.Now().Unix(), group})
	})
}

// NotMade forgets a token: the network has refused to make anything.
func (s *Store) NotMade(ctx context.Context, token string) error {
	return s.changeMade(ctx, func(made []Made) []Made {
		return slices.DeleteFunc(made, func(one Made) bool { return one.Token == token })
	})
}

// AllMade are the groups that are known to have been made with a token, a while ago at most.
func (s *Store) AllMade(ctx context.Context) (map[string]bool, error) {
	made, err := s.made(ctx)
	groups := map[string]bool{}
	for _, one := range made {
		groups[one.Group] = true
	}
	return groups, err
}

func (s *Store) made(ctx context.Context) (made []Made, err error) {
	value, err := s.look(ctx, madeKey)
	if err != nil || value == nil {
		return nil, err
	}
	return made, json.Unmarshal(value, &made)
}

func (s *Store) changeMade(ctx context.Context, change func([]Made) []Made) error {
	s.making.Lock()
	defer s.making.Unlock()
	made, err := s.made(ctx)
	if err != nil {
		return err
	}
	oldest := time.Now().Add(-madeFor).Unix()
	made = slices.DeleteFunc(made, func(one Made) bool { return one.Since < oldest })
	made = change(made)
	made = made[max(0, len(made)-maxMade):]
	return s.commit(Change{madeKey, encode(made)})
}
