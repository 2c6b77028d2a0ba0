package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// The versions of the protocol that are offered. A server of the older era answers with its own, and any is accepted:
// what is read here has not changed since the first.
const (
	versionLegacy = "2025-11-25"
	versionModern = "2026-07-28"
)

// askPause is how long a server that can ask in the older era only may fail before the newer one is tried.
const askPause = 500 * time.Millisecond

// maxRounds is how often one request may come back with questions.
const maxRounds = 10

// greet finds out what the server speaks. One way is tried and then, if the server refuses that, the other. With a
// program that is not known the older way is the first: those that do not know it say so, while those that do not know
// the modern one may say nothing, or end. Over HTTP the modern one is the first; a server that does not know it may do anything
// but answer, and is then asked in the older way. Where the user can be asked the older one is always the first: a server that
// speaks both may know how to ask in that one only (PyPI's mcp).
func (c *Conn) greet(ctx, base context.Context) error {
	first, second := c.initialize, c.discover
	asks := Asks(c.opts.Capabilities)
	modern := c.opts.Modern && !asks
	if modern {
		first, second = second, first
	}
	err := c.try(ctx, modern, first)
	if asks && c.opts.Modern && passing(err) && Pause(ctx, askPause) == nil {
		err = c.try(ctx, modern, first) // it would not be asked by the other way
	}
	if refused(err) || c.opts.Modern && err != nil && !errors.Is(err, ErrNotSent) && ctx.Err() == nil {
		if err2 := second(ctx); err2 == nil || !refused(err2) || modern {
			err = err2
		}
	}
	if err != nil {
		return err
	}
	if h := c.Hello(); h.Modern && offers(h.Capabilities, "tools", "listChanged") {
		c.spawn(func() { c.subscribe(base) })
	}
	return nil
}

// Asks says if there is a user, or a model, that a server that gets these capabilities may ask.
func Asks(capabilities json.RawMessage) bool {
	var groups map[string]json.RawMessage
	_ = json.Unmarshal(capabilities, &groups)
	return groups["elicitation"] != nil || groups["sampling"] != nil
}

// try is the first way. The modern one has half of the time: the older one must have some, too.
func (c *Conn) try(ctx context.Context, modern bool, way func(context.Context) error) error {
	if until, ok := ctx.Deadline(); ok && modern {
		half, cancel := context.WithTimeout(ctx, time.Until(until)/2)
		defer cancel()
		ctx = half
	}
	return way(ctx)
}

// refused says if the server did not want what it was asked, so that it can be asked in another way.
func refused(err error) bool {
	refusal, status := (*Error)(nil), (*StatusError)(nil)
	if errors.As(err, &status) && status.passing() {
		return false // be there a JSON-RPC error in it or not
	}
	return errors.As(err, &refusal) || status != nil && status.Code/100 == 4
}

// offers reads one flag of a capabilities object.
func offers(capabilities json.RawMessage, group, flag string) bool {
	var groups map[string]map[string]any
	_ = json.Unmarshal(capabilities, &groups) // groups of other types leave the rest
	yes, _ := groups[group][flag].(bool)
	return yes
}

func (c *Conn) clientInfo() json.RawMessage {
	return Object([]Member{{"name", appendString(nil, c.opts.Name)}, {"version", appendString(nil, c.opts.Version)}})
}

func (c *Conn) initialize(ctx context.Context) error {
	c.speak(Hello{}, nil)
	params := Object([]Member{
		{"protocolVersion", appendString(nil, versionLegacy)},
		{"capabilities", c.opts.Capabilities},
		{"clientInfo", c.clientInfo()},
	})
	result, err := c.call(ctx, "initialize", params, nil)
	if err != nil {
		return err
	}
	var r struct {
		ProtocolVersion, Instructions, Capabilities, ServerInfo json.RawMessage
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return err
	}
	h := Hello{Version: text(r.ProtocolVersion), Capabilities: r.Capabilities, ServerInfo: r.ServerInfo, Instructions: text(r.Instructions)}
	if h.Version == "" {
		return fmt.Errorf("it answered initialize without a protocolVersion: %q", clip(result, 200))
	}
	c.speak(h, nil)
	return c.notify(ctx, "notifications/initialized", nil)
}

func (c *Conn) discover(ctx context.Context) error {
	meta := []Member{
		{"io.modelcontextprotocol/protocolVersion", appendString(nil, versionModern)},
		{"io.modelcontextprotocol/clientInfo", c.clientInfo()},
		{"io.modelcontextprotocol/clientCapabilities", c.opts.Capabilities},
	}
	c.speak(Hello{Version: versionModern, Modern: true}, meta)
	result, err := c.call(ctx, "server/discover", nil, nil)
	if e := (*Error)(nil); errors.As(err, &e) && e.Code == codeUnsupportedVersion && bytes.Contains(e.Data, []byte(versionModern)) {
		result, err = c.call(ctx, "server/discover", nil, nil) // it says that it speaks just that
	}
	var r struct {
		SupportedVersions                      []string
		Instructions, Capabilities, ServerInfo json.RawMessage
		Meta                                   map[string]json.RawMessage `json:"_meta"`
	}
	if err == nil {
		if json.Unmarshal(result, &r) != nil || !slices.Contains(r.SupportedVersions, versionModern) {
			err = &Error{Code: codeUnsupportedVersion, Message: fmt.Sprintf("it speaks none of the versions %s and %s: %q", versionLegacy, versionModern, clip(result, 200))}
		}
	}
	if err != nil {
		c.speak(Hello{}, nil)
		return err
	}
	if r.ServerInfo == nil {
		r.ServerInfo = r.Meta["io.modelcontextprotocol/serverInfo"]
	}
	c.speak(Hello{
		Version: versionModern, Modern: true, Capabilities: r.Capabilities, ServerInfo: r.ServerInfo, Instructions: text(r.Instructions),
	}, meta)
	return nil
}

// speak sets what the requests to come look like.
func (c *Conn) speak(h Hello, meta []Member) {
	c.mu.Lock()
	c.hello, c.meta = h, nil
	if meta != nil {
		c.meta = Object(meta)
	}
	c.mu.Unlock()
	c.link.greeted(h)
}

// Request is call, and in the modern era answers what the server asks in its results, and takes the marks of the
// protocol from the last of them.
func (c *Conn) Request(ctx context.Context, method string, params json.RawMessage, progress func(json.RawMessage)) (json.RawMessage, error) {
	result, err := c.call(ctx, method, params, progress)
	if err != nil || !c.Hello().Modern {
		return result, err
	}
	for round := 0; bytes.Contains(result, []byte(`"input_required"`)); round++ {
		members, err := Members(result)
		if err != nil {
			return nil, err
		}
		var kind, requests, state json.RawMessage
		for _, m := range members {
			switch m.Name {
			case "resultType":
				kind = m.Value
			case "inputRequests":
				requests = m.Value
			case "requestState":
				state = m.Value
			}
		}
		if text(kind) != "input_required" {
			break
		}
		if round == maxRounds {
			return nil, &Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf("it asked for input %d times", round)}
		}
		again, err := c.answerInput(ctx, params, requests, state)
		if err != nil {
			return nil, err
		}
		if result, err = c.call(ctx, method, again, progress); err != nil {
			return nil, err
		}
	}
	return unmark(result), nil
}

// answerInput is params once more, with answers to what the server asked.
func (c *Conn) answerInput(ctx context.Context, params, requests, state json.RawMessage) (json.RawMessage, error) {
	members, err := Members(params)
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(m Member) bool { return m.Name == "inputResponses" || m.Name == "requestState" })
	if !absent(requests) {
		asked, err := Members(requests)
		if err != nil {
			return nil, &Error{Code: jsonrpc.CodeInternalError, Message: "its inputRequests are " + err.Error()}
		}
		var answers []Member
		for _, a := range asked {
			var r struct{ Method, Params json.RawMessage }
			if err := json.Unmarshal(a.Value, &r); err != nil {
				return nil, &Error{Code: jsonrpc.CodeInternalError, Message: "its inputRequests cannot be read"}
			}
			answer, err := c.serve(ctx, text(r.Method), r.Params)
			if err != nil {
				return nil, fmt.Errorf("it asked for %s: %w", clip([]byte(text(r.Method)), 100), err)
			}
			answers = append(answers, Member{a.Name, answer})
		}
		members = append(members, Member{"inputResponses", Object(answers)})
	}
	if !absent(state) {
		members = append(members, Member{"requestState", state})
	}
	var line bytes.Buffer
	err = json.Compact(&line, Object(members))
	return line.Bytes(), err
}

// unmark takes what the protocol itself put into a modern result: a script has no use for it.
func unmark(result json.RawMessage) json.RawMessage {
	if !bytes.Contains(result, []byte(`"resultType"`)) && !bytes.Contains(result, []byte(`"io.modelcontextprotocol/`)) {
		return result
	}
	members, err := Members(result)
	if err != nil {
		return result
	}
	kept := members[:0]
	for _, m := range members {
		switch m.Name {
		case "resultType":
			continue
		case "_meta":
			meta, err := Members(m.Value)
			if err == nil {
				meta = slices.DeleteFunc(meta, func(m Member) bool { return strings.HasPrefix(m.Name, "io.modelcontextprotocol/") })
				if len(meta) == 0 {
					continue
				}
				m.Value = Object(meta)
			}
		}
		kept = append(kept, m)
	}
	return Object(kept)
}
