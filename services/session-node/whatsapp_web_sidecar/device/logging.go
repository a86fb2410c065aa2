package device

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"
	internalv1 "sessionmesh.dev/gen/sessionmesh/nodes/v1"
	"sessionmesh.dev/whatsapp-web-sidecar/rows"
)

// Levels, as Python's logging counts them.
const (
	levelWarning = 30
	levelError   = 40
)

const (
	// Lines that a device may write in a minute: whoever writes to the account could fill the log otherwise.
	maxLines       = 20
	maxLineLength  = 1024
	linesPerPeriod = time.Minute
)

// logger passes on what the library finds worth a warning, to the node.
type logger struct {
	device *Device
	module string
	budget *budget
}

type budget struct {
	mu    sync.Mutex
	until time.Time
	left  int
	lost  int
}

func newLogger(d *Device) *logger { return &logger{d, "", &budget{}} }

func (l *logger) Sub(module string) waLog.Logger { return &logger{l.device, module, l.budget} }

func (l *logger) Debugf(_ string, args ...any) {
	if l.module == "Recv" && len(args) == 1 {
		if node, is := args[0].(*waBinary.Node); is {
			l.device.see(node)
		}
	}
}
func (l *logger) Infof(string, ...any)               {}
func (l *logger) Warnf(message string, args ...any)  { l.complain(levelWarning, message, args) }
func (l *logger) Errorf(message string, args ...any) { l.complain(levelError, message, args) }

// complain passes on what is wrong, without what people said in it, unless that is only that the connection was cut: how it ended is said elsewhere, and it
// may be that all went well, as where a device is linked.
func (l *logger) complain(level uint32, message string, args []any) {
	for _, arg := range args {
		if err, is := arg.(error); is && errors.Is(err, rows.ErrReadElsewhere) {
			return
		}
	}
	if l.device.ctx.Err() == nil {
		said := make([]any, len(args))
		for i, arg := range args {
			if said[i] = arg; arg != nil {
				switch stanza := arg.(type) {
				case *waBinary.Node:
					said[i] = stanza.Tag
				case waBinary.Node:
					said[i] = stanza.Tag
				}
			}
		}
		l.write(level, fmt.Sprintf(message, said...))
	}
}

// write hands a line to the node, without waiting for it: a log must not hold up what it is about.
func (l *logger) write(level uint32, message string, fields ...string) {
	lost, allowed := l.budget.take(time.Now())
	if !allowed {
		return
	}
	if len(message) > maxLineLength {
		message = message[:maxLineLength]
	}
	message = withoutNumbers(message)
	line := &internalv1.LogLine{Level: level, Message: message, Fields: map[string]string{"account_id": l.device.accountID}}
	for i := 0; i+1 < len(fields); i += 2 {
		line.Fields[fields[i]] = fields[i+1]
	}
	if lost > 0 {
		line.Fields["lines_left_out"] = fmt.Sprint(lost)
	}
	for key, value := range line.Fields {
		line.Fields[key] = valid(withoutNumbers(value))
	}
	line.Message = valid(line.Message)
	go l.device.out(&internalv1.RunResponse{Response: &internalv1.RunResponse_Log{Log: line}})
}

// shortestNumber is from how many digits on a number may be somebody's, or a hidden id.
const shortestNumber = 7

// withoutNumbers is a line of the log that tells nobody's number: those of messages and accounts have letters, too.
func withoutNumbers(line string) string {
	var out strings.Builder
	start, digits := 0, true
	word := func(end int) {
		if digits && end-start >= shortestNumber {
			out.WriteString("…")
		} else {
			out.WriteString(line[start:end])
		}
	}
	for i := range len(line) {
		switch c := line[i]; {
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			digits = false
		default:
			word(i)
			out.WriteByte(c)
			start, digits = i+1, true
		}
	}
	word(len(line))
	return out.String()
}

func (b *budget) take(now time.Time) (lost int, allowed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.After(b.until) {
		b.until, b.left = now.Add(linesPerPeriod), maxLines
	}
	if b.left == 0 {
		b.lost++
		return 0, false
	}
	b.left--
	lost, b.lost = b.lost, 0
	return lost, true
}
