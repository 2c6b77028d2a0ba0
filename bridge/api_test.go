package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mcp-bridge/mcp-bridge/internal/upstream"
)

// schemaOf is an input schema from "name:type" and, for what is optional, "name?:type".
func schemaOf(params ...string) json.RawMessage {
	var props, required []string
	for _, p := range params {
		name, typ, _ := strings.Cut(p, ":")
		name, optional := strings.CutSuffix(name, "?")
		props = append(props, fmt.Sprintf(`%q:{"type":%q,"description":"the %s"}`, name, typ, name))
		if !optional {
			required = append(required, fmt.Sprintf("%q", name))
		}
	}
	return json.RawMessage(`{"type":"object","properties":{` + strings.Join(props, ",") + `},"required":[` + strings.Join(required, ",") + `]}`)
}

func textResult(text string) json.RawMessage {
	b, _ := json.Marshal(map[string]any{"content": []any{map[string]any{"type": "text", "text": text}}})
	return b
}

// office has the servers of the original's README, with tools as its examples take them to be.
func office() *fakeServers {
	f := newFake()
	tool := func(server, name, description string, params ...string) {
		f.add(server, upstream.Tool{Name: name, Description: description, InputSchema: schemaOf(params...)})
	}
	tool("filesystem", "list_directory", "List a directory", "path:string")
	tool("filesystem", "read_file", "Read a file.\n\nThe whole of it.", "path:string", "head?:integer")
	tool("search", "search", "Search everything", "query:string", "limit?:integer")
	tool("github", "create_issue", "Create an issue", "repo:string", "title:string", "body?:string")
	tool("google-drive", "get_document", "Get a document", "documentId:string")
	tool("salesforce", "update_record", "Update a record", "objectType:string", "recordId:string", "data:object")
	tool("jira", "search_issues", "Find issues", "project:string", "status?:string")
	tool("jira", "get_issue", "Get an issue", "id:string")
	tool("stub", "echo", "Echo the provided message", "message:string")
	files := map[string]string{"/tmp/test.txt": "a test", "/tmp/a.txt": "TODO: write", "/tmp/b.txt": "done"}
	f.call = func(_ context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error) {
		var a map[string]any
		if err := json.Unmarshal(arguments, &a); err != nil {
			return nil, err
		}
		switch server + "." + tool {
		case "filesystem.list_directory":
			return textResult(`["/tmp/a.txt","/tmp/b.txt"]`), nil
		case "filesystem.read_file":
			path, _ := a["path"].(string)
			b, _ := json.Marshal(files[path])
			return json.RawMessage(`{"content":[{"type":"text","text":` + string(b) + `}],"structuredContent":{"content":` + string(b) + `}}`), nil
		case "search.search":
			return json.RawMessage(`{"content":[{"type":"text","text":"{}"}],"structuredContent":{"title":"Found","hits":[{"url":"u"}]}}`), nil
		case "github.create_issue":
			b, _ := json.Marshal(a)
			return textResult(`{"number":7,"created":` + string(b) + `}`), nil
		case "google-drive.get_document":
			return textResult(strings.Repeat("long transcript ", 100)), nil
		case "jira.search_issues":
			return textResult(`[{"id":"API-1","title":"Crash","description":"A Bug"},{"id":"API-2","title":"Idea","description":"A wish"}]`), nil
		case "jira.get_issue":
			about := "a wish"
			if a["id"] == "API-1" {
				about = "A Bug in it"
			}
			return textResult(fmt.Sprintf(`{"id":%q,"description":%q}`, a["id"], about)), nil
		}
		b, _ := json.Marshal(a)
		return textResult(string(b)), nil
	}
	return f
}

// TestExamplesOfTheOriginal runs the examples of the original's README as they are written there.
func TestExamplesOfTheOriginal(t *testing.T) {
	for _, tt := range []struct {
		name, code string
		servers    []string
		want       []string // of stdout
		calls      string   // the last call of a tool
	}{
		{
			name: "execute code", code: `# Use MCP tools in sandboxed code
result = await mcp_filesystem.read_file(path='/tmp/test.txt')
# Complex workflows
data = await mcp_search.search(query="TODO")
await mcp_github.create_issue(repo='owner/repo', title=data.title)
`, calls: `github.create_issue {"repo":"owner/repo","title":"Found"}`,
		},
		{
			name: "file processing", code: `# List and filter files
files = await mcp_filesystem.list_directory(path='/tmp')
for file in files:
    content = await mcp_filesystem.read_file(path=file)
    if 'TODO' in content:
        print(f"TODO in {file}")
`, want: []string{"TODO in /tmp/a.txt"}, calls: `filesystem.read_file {"path":"/tmp/b.txt"}`,
		},
		{
			name: "data pipeline", code: `# Extract data
transcript = await mcp_google_drive.get_document(documentId='abc123')
# Process
summary = transcript[:50] + "..."
# Store
await mcp_salesforce.update_record(
    objectType='SalesMeeting',
    recordId='00Q5f000001abcXYZ',
    data={'Notes': summary}
)
`, calls: `salesforce.update_record {"objectType":"SalesMeeting","recordId":"00Q5f000001abcXYZ","data":{"Notes":"` + strings.Repeat("long transcript ", 4)[:50] + `..."}}`,
		},
		{
			name: "multi-system workflow", code: `# Jira -> GitHub migration
issues = await mcp_jira.search_issues(project='API', status='Open')
for issue in issues:
    details = await mcp_jira.get_issue(id=issue.id)
    if 'bug' in details.description.lower():
        await mcp_github.create_issue(
            repo='owner/repo',
            title=f"Bug: {issue.title}",
            body=details.description
        )
`, calls: `jira.get_issue {"id":"API-2"}`,
		},
		{
			name: "inspect", servers: []string{"stub"}, code: `from mcp import runtime
print("Discovered:", runtime.discovered_servers())
print("Loaded metadata:", runtime.list_loaded_server_metadata())
print("Selectable via RPC:", await runtime.list_servers())
# Peek at tool docs for a server that's already loaded in this run
loaded = runtime.list_loaded_server_metadata()
if loaded:
    first = runtime.describe_server(loaded[0]["name"])
    for tool in first["tools"]:
        print(tool["alias"], "->", tool.get("description", ""))
`, want: []string{
				"Discovered: ('filesystem', 'search', 'github', 'google-drive', 'salesforce', 'jira', 'stub')",
				`Loaded metadata: ({'name': 'stub', 'alias': 'stub', 'loaded': True, 'source': 'test', 'toolCount': 1, 'tools': ({'name': 'echo', 'alias': 'echo', 'description': 'Echo the provided message', 'input_schema': {'type': 'object', 'properties': {'message': {'type': 'string', 'description': 'the message'}}, 'required': ['message']}},)},)`,
				"Selectable via RPC: ('filesystem', 'search', 'github', 'google-drive', 'salesforce', 'jira', 'stub')",
				"echo -> Echo the provided message",
			},
		},
		{
			name: "access patterns", code: `r = [
    await mcp_servers["stub"].echo(message="1"),
    await mcp_stub.echo(message="2"),
]
from mcp.servers.stub import *
r.append(await echo("3"))
import mcp.servers.google_drive
from mcp.servers import jira
from mcp.servers.jira import get_issue
print([x.message for x in r], get_issue is jira.get_issue is mcp_jira.get_issue is mcp_servers["jira"]["get_issue"])
`, want: []string{"['1', '2', '3'] True"}, calls: `stub.echo {"message":"3"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := office()
			last, call := "", f.call
			f.call = func(ctx context.Context, server, tool string, arguments json.RawMessage) (json.RawMessage, error) {
				last = server + "." + tool + " " + string(arguments)
				return call(ctx, server, tool, arguments)
			}
			b := newBridge(t, func(o *Options) { o.Servers = f })
			r, err := b.Run(t.Context(), Request{Code: tt.code, Servers: tt.servers}, Output{})
			if err != nil || r.Status != StatusSuccess {
				t.Fatalf("%+v, %v", r, err)
			}
			if got, want := strings.Join(r.Stdout, "\n"), strings.Join(tt.want, "\n"); got != want {
				t.Errorf("printed\n%s\nwant\n%s", got, want)
			}
			if last != tt.calls {
				t.Errorf("the last call is %s, want %s", last, tt.calls)
			}
		})
	}
}

// TestExampleOfOurs: that of our own README runs as it is written there, too.
func TestExampleOfOurs(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(readme), "```python\n")
	example, _, _ = strings.Cut(example, "```\n")
	f := office()
	r := runCode(t, newBridge(t, func(o *Options) { o.Servers = f }), example)
	if want := `[{"number":7,"created":{"repo":"owner/repo","title":"Crash"}}]`; string(r.Result) != want {
		t.Errorf("%+v, want %s", r, want)
	}
}

// TestGuesses: the error of a script that has guessed a name says which there are.
func TestGuesses(t *testing.T) {
	f := newFake().add("git-hub", upstream.Tool{Name: "create_issue"}, upstream.Tool{Name: "search"}).add("mail", upstream.Tool{Name: "send"})
	everyPython(t, func(t *testing.T, python string) {
		b := newBridge(t, func(o *Options) { withPython(python)(o); o.Servers = f })
		for code, want := range map[string]string{
			"await mcp_slack.send()":     "NameError: name 'mcp_slack' is not defined; the MCP servers are 'mcp_git_hub', 'mcp_mail' (line 1)",
			"def f():\n  mcp_x\nf()":     "NameError: name 'mcp_x' is not defined; the MCP servers are 'mcp_git_hub', 'mcp_mail' (line 2)",
			"raise NameError('mcp_')":    "NameError: mcp_ (line 1)",
			"mcp_mail, x":                "NameError: name 'x' is not defined (line 1)",
			"eval('m' + 'cp_' + 'mail')": "NameError: name 'mcp_mail' is not defined; write import mcp_mail (line 1)",

			"from mcp.servers.mail import sent":     "ModuleNotFoundError: the MCP server 'mail' has no tool 'sent'; did you mean 'send'? (line 1)",
			"from mcp.servers.git_hub import close": "ModuleNotFoundError: the MCP server 'git-hub' has no tool 'close'; there are 'create_issue', 'search' (line 1)",
			"from mcp.servers import slack":         "ModuleNotFoundError: there is no MCP server 'slack'; there are 'git-hub', 'mail' (line 1)",
			"import mcp.servers.slack":              "ModuleNotFoundError: there is no MCP server 'slack'; there are 'git-hub', 'mail' (line 1)",
			"from mcp import ClientSession":         "ModuleNotFoundError: mcp has no 'ClientSession'; there are 'runtime', 'servers' (line 1)",
			"import mcp.client.stdio":               "ModuleNotFoundError: mcp has no 'client'; there are 'runtime', 'servers' (line 1)",
			"from mcp.runtime import search_tools":  "ModuleNotFoundError: mcp.runtime has no 'search_tools'; did you mean 'search_tool_docs' or 'search_tool_docs_sync' or 'save_tool'? (line 1)",
			"from user_tools import slug":           "ModuleNotFoundError: there is no saved tool 'slug'; there are nothing (line 1)",
		} {
			if r := runCode(t, b, code); r.Error != want {
				t.Errorf("%s\nerror %s\nwant  %s", code, r.Error, want)
			}
		}
		r := runCode(t, b, "mcp_mail.sent") // where Python has a suggestion too, once is enough
		if got := strings.Join(r.Stderr, "\n"); strings.Count(strings.ToLower(got), "did you mean") != 1 {
			t.Error(got)
		}
	})
	if r := runCode(t, newBridge(t, nil), "mcp_slack"); r.Error != "NameError: name 'mcp_slack' is not defined; no MCP server is configured (line 1)" {
		t.Errorf("%+v", r)
	}
}

// TestStarLeavesBuiltins: a server has no say in what print is.
func TestStarLeavesBuiltins(t *testing.T) {
	f := newFake().add("loud", upstream.Tool{Name: "print"}, upstream.Tool{Name: "shout"})
	b := newBridge(t, func(o *Options) { o.Servers = f })
	r := runCode(t, b, "import builtins\nfrom mcp.servers.loud import *\nfrom mcp.servers import loud\nprint(print is builtins.print, callable(shout), loud.print is mcp_loud.print)")
	if len(r.Stdout) != 1 || r.Stdout[0] != "True True True" {
		t.Errorf("%+v", r)
	}
}
