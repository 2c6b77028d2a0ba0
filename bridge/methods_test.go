package bridge

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// TestMethods: what a guest asks of the bridge itself is checked as what it asks of servers.
func TestMethods(t *testing.T) {
	f := oddities()
	asked := ""
	request := f.request
	f.request = func(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
		asked += method
		return request(ctx, server, method, params)
	}
	for _, tt := range []struct{ server, tool, arguments, want string }{
		{"", "nope", `{}`, `"error":{"type":"LookupError","message":"there is no method \"nope\""`},
		{"", "", `{}`, `there is no method`},
		{"", "tools", `{}`, `there is no MCP server \"\"`},
		{"", "tools", `{"server":5}`, `cannot understand the arguments of \"tools\"`},
		{"", "tools", `{"server":"Say"}`, `did you mean \"say\"?`},
		{"", "tools", `{"server":"broken"}`, `cannot be used: no reason`},
		{"", "tools", `{"server":"failing"}`, `it does not start`},
		{"", "tools", `{"server":"say"}`, `"value":{"tools":[{"name":"say","alias":"say","params":[],"open":true,"returns":"Any"}`},
		{"", "search", `{"query":"echo","limit":-5}`, `"score":1}]`},
		{"", "search", `{"query":"echo","limit":1e9}`, `cannot understand`},
		{"", "request", `{"server":"odd","method":"tools/call","params":{}}`, `scripts cannot send \"tools/call\"`},
		{"", "request", `{"server":"odd","method":"logging/setLevel"}`, `scripts cannot send`},
		{"", "request", `{"server":"","method":"resources/list"}`, `there is no MCP server`},
		{"", "request", `{"server":"odd","method":"resources/list","params":{}}`, `"uri":"r:0"`},
		{"", "stubs", `{"server":"say"}`, `async def say(`},
		{"", "cancel", `{"id":999}`, `"value":true`},
		{"", "save_tool", `{"name":"x","source":"def x(): 0"}`, `keeps no tools`},
		{"", "user_tools", `{}`, `"value":{}`},
		{"", "display", `{"content":{"type":"text","text":"x"}}`, `a block of type \"text\" cannot be shown`},
		{"", "display", `{}`, `no content block`},
		{"odd", "say", `{}`, `has no tool \"say\"`},
		{"ODD", "names", `{}`, `did you mean \"odd\"?`},
		{"say", "say\x00", `{}`, `has no tool`},
		{"say", "number", `{}`, `"n":1000`},
	} {
		t.Run(tt.tool+" "+tt.arguments, func(t *testing.T) {
			asked = ""
			answer := make(chan string, 1)
			b := newSynthetic(t, func(g *guestEnd) (oci.Exit, error) {
				g.start()
				server, _ := json.Marshal(tt.server)
				tool, _ := json.Marshal(tt.tool)
				g.say(`{"type":"call","id":1,"server":%s,"tool":%s,"arguments":%s}`, server, tool, tt.arguments)
				line, err := g.in.ReadString('\n')
				answer <- line
				return oci.Exit{}, err
			}, func(o *Options) { o.Servers = f })
			if r, err := b.Run(t.Context(), Request{Code: "pass"}, Output{}); err != nil || r.Status != StatusSuccess {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := <-answer; !strings.Contains(got, tt.want) || len(got) > 100_000 {
				t.Errorf("%.600s, want %s", got, tt.want)
			}
			if strings.Contains(tt.want, "scripts cannot") && asked != "" {
				t.Errorf("%s was sent", asked)
			}
		})
	}
}
