package network

import (
	"time"

	"go.mau.fi/whatsmeow/types"
)

func (c *client) result(question *Node, content ...Node) {
	attrs := Attrs{"id": question.Attrs["id"], "type": "result", "from": types.ServerJID}
	if to, ok := question.Attrs["to"].(types.JID); ok {
		attrs["from"] = to
	}
	answer := &Node{Tag: "iq", Attrs: attrs}
	if len(content) > 0 {
		answer.Content = content
	}
	c.answer(answer)
}

func (c *client) fail(question *Node, code, text string) {
	attrs := Attrs{"id": question.Attrs["id"], "type": "error", "from": types.ServerJID}
	if to, ok := question.Attrs["to"].(types.JID); ok {
		attrs["from"] = to
	}
	c.answer(&Node{Tag: "iq", Attrs: attrs, Content: []Node{{Tag: "error", Attrs: Attrs{"code": code, "text": text}}}})
}

// answer sends the answer to a question, as the faults of the moment have it.
func (c *client) answer(answer *Node) {
	e := c.effects()
	if e.halfAnswers {
		half := halved(*answer)
		answer = &half
	}
	times := 1
	if e.doubleAnswers {
		times = 2
	}
	for range times {
		if e.answerDelay > 0 {
			time.AfterFunc(e.answerDelay, func() { c.send(answer) })
		} else {
			c.send(answer)
		}
	}
}

// halved is a node with half of what is in it, and in that.
func halved(node Node) Node {
	switch content := node.Content.(type) {
	case []byte:
		node.Content = content[:len(content)/2]
	case []Node:
		kept := make([]Node, 0, len(content))
		for _, child := range content[:(len(content)+1)/2] {
			kept = append(kept, halved(child))
		}
		node.Content = kept
	}
	return node
}
