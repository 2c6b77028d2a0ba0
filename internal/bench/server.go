package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// A served is the one tool of a server that is as little of an MCP server as can be measured with.
type served struct {
	name, schema string
	call         func(ctx context.Context, arguments json.RawMessage) (any, error)
	quick        bool // call takes no time for which another one would wait
	others       int  // tools that it lists beside that one
}

// ServeEcho serves the tool that the measured scripts call, and lists others that nobody calls, until in ends.
func ServeEcho(ctx context.Context, in io.Reader, out io.Writer, others int) error {
	return serve(ctx, in, out, served{
		"echo", `{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`,
		func(_ context.Context, arguments json.RawMessage) (any, error) {
			var a struct {
				Text string `json:"text"`
			}
			if err := json.Unmarshal(arguments, &a); err != nil {
				return nil, fmt.Errorf("cannot read the arguments: %v", err)
			}
			return map[string]any{"content": []any{map[string]any{"type": "text", "text": a.Text}}}, nil
		},
		true,
		others,
	})
}

// serve answers until in ends; calls are answered in the order in which they end.
func serve(ctx context.Context, in io.Reader, out io.Writer, tool served) error {
	ctx, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	var mu sync.Mutex // guards out
	answer := func(m message) {
		m.JSONRPC = "2.0"
		b, err := json.Marshal(m)
		if err != nil {
			return // of what is made below, only a result could be at fault, and none is
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = out.Write(append(b, '\n')) // nobody reads: then in ends too
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		switch m.Method {
		case "initialize":
			var p struct {
				ProtocolVersion string `json:"protocolVersion"`
			}
			_ = json.Unmarshal(m.Params, &p)
			answer(message{ID: m.ID, Result: raw(map[string]any{
				"protocolVersion": p.ProtocolVersion, "capabilities": map[string]any{"tools": map[string]any{}},
				"serverInfo": map[string]any{"name": "mcp-bridge-bench-" + tool.name, "version": "1"},
			})})
		case "ping":
			answer(message{ID: m.ID, Result: raw(map[string]any{})})
		case "tools/list":
			tools := []any{map[string]any{"name": tool.name, "inputSchema": json.RawMessage(tool.schema)}}
			for i := range tool.others {
				tools = append(tools, uncalled(i))
			}
			answer(message{ID: m.ID, Result: raw(map[string]any{"tools": tools})})
		case "tools/call":
			var p struct {
				Name      string          `json:"name"`
				Arguments json.RawMessage `json:"arguments"`
			}
			if json.Unmarshal(m.Params, &p) != nil || p.Name != tool.name {
				answer(message{ID: m.ID, Error: json.RawMessage(`{"code":-32602,"message":"no such tool"}`)})
				continue
			}
			call := func() {
				result, err := tool.call(ctx, p.Arguments)
				if err != nil {
					result = map[string]any{"isError": true, "content": []any{map[string]any{"type": "text", "text": err.Error()}}}
				}
				answer(message{ID: m.ID, Result: raw(result)})
			}
			if tool.quick {
				call()
			} else {
				calls.Go(call)
			}
		default:
			answer(message{ID: m.ID, Error: json.RawMessage(`{"code":-32601,"message":"method not found"}`)})
		}
	}
	return lines.Err()
}

// uncalled is a tool of the size that those of large servers have.
func uncalled(i int) any {
	properties := map[string]any{}
	for a := range 8 {
		properties[fmt.Sprintf("argument_%d", a)] = map[string]any{
			"type": "string", "description": fmt.Sprintf("What argument %d of tool %d is for, in a sentence of the usual length.", a, i),
		}
	}
	return map[string]any{
		"name": fmt.Sprintf("tool_%d", i), "description": fmt.Sprintf("Does what tool %d does. Nobody calls it.", i),
		"inputSchema": map[string]any{"type": "object", "properties": properties, "required": []string{"argument_0", "argument_1"}},
	}
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return b
}
