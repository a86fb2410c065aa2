package network

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.mau.fi/whatsmeow/types"
)

const (
	longestChannelName        = 100
	longestChannelDescription = 2048
)

// mexError is a question that was refused, with the network's number.
type mexError int

func (e mexError) Error() string { return fmt.Sprintf("refused with %d", int(e)) }

// mexAsked is what clients ask about channels, by the ids of their questions.
var mexAsked = map[string]func(n *Network, account *Account, asked mexVariables) (map[string]any, error){
	"6563316087068696":  getChannel,
	"6388546374527196":  listChannels,
	"6274038279359549":  muteChannel(true),
	"6068417879924485":  muteChannel(false),
	"7150902998257522":  updateChannel,
	"6234210096708695":  createChannel,
	"6392786840836363":  followChannel(false),
	"9926858900719341":  followChannel(true),
	"30062808666639665": deleteChannel,
}

type mexVariables struct {
	ID    types.JID `json:"newsletter_id"`
	Input struct {
		Key  string `json:"key"`
		Type string `json:"type"`
	} `json:"input"`
	New struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Picture     []byte `json:"picture"`
	} `json:"newsletter_input"`
	Updates struct {
		Name        *string `json:"name"`
		Description *string `json:"description"`
		Picture     *[]byte `json:"picture"`
		Settings    *struct {
			ReactionCodes struct {
				Value string `json:"value"`
			} `json:"reaction_codes"`
		} `json:"settings"`
	} `json:"updates"`
}

// mexQuery answers a question that is asked in JSON.
func (c *client) mexQuery(node *Node, child Node) {
	id := text(child.Attrs["query_id"])
	body, _ := child.Content.([]byte)
	var asked struct {
		Variables mexVariables `json:"variables"`
	}
	handle := mexAsked[id]
	if handle == nil || json.Unmarshal(body, &asked) != nil {
		c.fail(node, "400", "bad-request")
		return
	}
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	data, err := handle(n, c.account, asked.Variables)
	answer := map[string]any{"data": data}
	var refused mexError
	if errors.As(err, &refused) {
		answer["errors"] = []any{map[string]any{
			"message": err.Error(), "path": []string{}, "extensions": map[string]any{"error_code": int(refused), "is_retryable": false, "severity": "CRITICAL"},
		}}
	}
	said, _ := json.Marshal(answer)
	c.result(node, Node{Tag: "result", Content: said})
}

func getChannel(n *Network, account *Account, asked mexVariables) (map[string]any, error) {
	var channel *Channel
	if asked.Input.Type == "INVITE" {
		for _, one := range n.channels {
			if one.Invite == asked.Input.Key && !one.Deleted {
				channel = one
			}
		}
		if channel == nil {
			return nil, mexError(404)
		}
		return map[string]any{"xwa2_newsletter": channel.metadata("")}, nil
	}
	jid, _ := types.ParseJID(asked.Input.Key)
	if channel = n.channelAt(jid); channel == nil {
		return nil, mexError(404)
	}
	return map[string]any{"xwa2_newsletter": channel.metadata(account.Digits)}, nil
}

func listChannels(n *Network, account *Account, _ mexVariables) (map[string]any, error) {
	listed := []map[string]any{}
	for _, channel := range n.channels {
		if _, follows := channel.Followers[account.Digits]; follows {
			found := channel.metadata(account.Digits)
			found["thread_metadata"].(map[string]any)["subscribers_count"] = "0" // whatever it is
			listed = append(listed, found)
		}
	}
	return map[string]any{"xwa2_newsletter_subscribed": listed}, nil
}

func muteChannel(muted bool) func(*Network, *Account, mexVariables) (map[string]any, error) {
	return func(n *Network, account *Account, asked mexVariables) (map[string]any, error) {
		channel := n.channelAt(asked.ID)
		if channel == nil {
			return nil, mexError(404)
		}
		if _, follows := channel.Followers[account.Digits]; !follows {
			return nil, mexError(403)
		}
		channel.Followers[account.Digits] = muted
		return map[string]any{"xwa2_newsletter_update": channel.metadata("")}, nil
	}
}

func followChannel(follow bool) func(*Network, *Account, mexVariables) (map[string]any, error) {
	return func(n *Network, account *Account, asked mexVariables) (map[string]any, error) {
		channel := n.channelAt(asked.ID)
		switch {
		case channel == nil:
			return nil, mexError(404)
		case follow:
			channel.Followers[account.Digits] = channel.Followers[account.Digits]
			return map[string]any{"xwa2_newsletter_join_v2": channel.metadata(account.Digits)}, nil
		case channel.Owner == account.Digits:
			return nil, mexError(405)
		}
		delete(channel.Followers, account.Digits)
		delete(channel.Admins, account.Digits)
		return map[string]any{"xwa2_newsletter_leave_v2": channel.metadata("")}, nil
	}
}

func createChannel(n *Network, account *Account, asked mexVariables) (map[string]any, error) {
	if !fitsChannel(asked.New.Name, asked.New.Description) {
		return nil, mexError(406)
	}
	channel := n.newChannel(asked.New.Name, asked.New.Description, account.Digits)
	channel.Picture = pictureID(asked.New.Picture)
	return map[string]any{"xwa2_newsletter_create": channel.metadata(account.Digits)}, nil
}

func updateChannel(n *Network, account *Account, asked mexVariables) (map[string]any, error) {
	channel := n.channelAt(asked.ID)
	if channel == nil {
		return nil, mexError(404)
	}
	if !channel.runBy(account.Digits) {
		return nil, mexError(403)
	}
	name, description, updates := channel.Name, channel.Description, asked.Updates
	if updates.Name != nil {
		name = *updates.Name
	}
	if updates.Description != nil {
		description = *updates.Description
	}
	if !fitsChannel(name, description) {
		return nil, mexError(406)
	}
	channel.Name, channel.Description = name, description
	if updates.Picture != nil {
		channel.Picture = pictureID(*updates.Picture)
	}
	if updates.Settings != nil && slices.Contains([]string{"ALL", "BASIC", "NONE"}, updates.Settings.ReactionCodes.Value) {
		channel.Reactions = updates.Settings.ReactionCodes.Value
	}
	n.tellChannel(channel, account.Digits)
	return map[string]any{"xwa2_newsletter_update": channel.metadata("")}, nil
}

func deleteChannel(n *Network, account *Account, asked mexVariables) (map[string]any, error) {
	channel := n.channelAt(asked.ID)
	if channel == nil {
		return nil, mexError(404)
	}
	if channel.Owner != account.Digits {
		return nil, mexError(403)
	}
	channel.Deleted = true
	n.tellChannel(channel, account.Digits)
	clear(channel.Followers)
	return map[string]any{"xwa2_newsletter_delete_v2": map[string]any{"id": channel.jid(), "state": map[string]any{"type": "DELETED"}}}, nil
}

func fitsChannel(name, description string) bool {
	return name != "" && len([]rune(name)) <= longestChannelName && len([]rune(description)) <= longestChannelDescription
}

func pictureID(picture []byte) string {
	if len(picture) == 0 {
		return ""
	}
	sum := sha256.Sum256(picture)
	return hex.EncodeToString(sum[:8])
}
