package upstream

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// serveHostile is a server that plays the words of its role, such as "banner deaf". It knows the older era only.
func serveHostile(role string) {
	words := strings.Fields(role)
	is := func(word string) bool {
		for _, w := range words {
			if w == word {
				return true
			}
		}
		return false
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }
	if log := os.Getenv("STARTS"); log != "" {
		f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			fmt.Fprintln(f, os.Getpid())
			f.Close()
		}
	}
	if is("deaf") { // to being asked to end
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	}
	if is("grandchildren") {
		for _, script := range []string{
			"exec sleep 1000", "setsid sleep 1000 & exec sleep 1000", "(setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' &) ; exec sleep 1000",
			"trap '' TERM; sleep 1000; sleep 1000",
		} {
			if err := exec.Command("sh", "-c", script).Start(); err != nil {
				panic(err)
			}
		}
	}
	switch {
	case is("exit"):
		fmt.Fprintln(os.Stderr, "cannot find the token\x1b[31m")
		os.Exit(3)
	case is("silent"):
		fmt.Fprintln(os.Stderr, "waiting for nothing")
		block()
	case is("byte-order-mark"):
		os.Stdout.WriteString("\ufeff")
	case is("banner"):
		say("Welcome to the server!\n\n[INFO] listening\n{not json}\n\x00\xff\xfe")
	}
	h := &hostileServer{is: is, say: say}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		h.handle(line)
	}
	if is("deaf") {
		block()
	}
}

// block is for a role that goes on until it is killed. Without cgo, Go ends a program in which nothing can go on any more; a
// timer may.
func block() { <-time.After(math.MaxInt64) }

type hostileServer struct {
	is    func(string) bool
	say   func(string, ...any)
	pages int
	calls int
}

func (h *hostileServer) handle(line []byte) {
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct {
			Name      string
			Cursor    string
			Arguments map[string]any
			RequestID int
			Meta      map[string]any `json:"_meta"`
		}
	}
	if json.Unmarshal(line, &m) != nil {
		return
	}
	switch m.Method {
	case "initialize":
		if h.is("die-at-initialize") {
			os.Exit(4)
		}
		if h.is("null-initialize") {
			h.say(`{"jsonrpc":"2.0","id":%s,"result":null}`, m.ID)
			return
		}
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"hostile","version":"1"},"instructions":"Does harm.\nSecond line."}}`, m.ID)
	case "server/discover":
		h.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`, m.ID)
	case "tools/list":
		h.list(m.ID)
	case "tools/call":
		h.calls++
		h.call(m.ID, m.Params.Name, m.Params.Arguments, m.Params.Meta, line)
	case "notifications/cancelled":
		if log := os.Getenv("CANCELLED"); log != "" {
			_ = os.WriteFile(log, []byte(strconv.Itoa(m.Params.RequestID)), 0o600)
		}
	}
}

var hostileTools = []string{
	"echo", "die", "die-after-answer", "never", "wrong-id", "string-id", "float-id", "long", "broken", "broken-spaced", "long-spaced", "odd", "null", "result-null", "no-result",
	"error-text", "bad-utf8", "storm", "ask", "ask-and-withdraw", "progress", "environment", "denied", "big", "slow", "twice", "grow", "deep", "close-output", "close-input",
}

func (h *hostileServer) list(id json.RawMessage) {
	h.pages++
	switch {
	case h.is("endless-pages"):
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t%d"}],"nextCursor":"c%d"}}`, id, h.pages, h.pages)
	case h.is("same-page"):
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t"}],"nextCursor":"c"}}`, id)
	case h.is("list-null"):
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"tools":null}}`, id)
	case h.is("list-types"):
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[null,5,{"name":7},{"name":""},{"description":"x"},{"name":"ok","description":{"a":1},"inputSchema":"no","title":[]},{"name":"ok"}],"nextCursor":null}}`, id)
	case h.is("list-never"):
	default:
		var tools []string
		for _, name := range hostileTools {
			tools = append(tools, fmt.Sprintf(`{"name":%q,"description":"Does %s","inputSchema":{"type":"object","properties":{"n":{"type":"integer","maximum":12345678901234567890}}}}`, name, name))
		}
		if h.calls > 0 && h.is("grows") {
			tools = append(tools, `{"name":"grown"}`)
		}
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s]}}`, id, strings.Join(tools, ","))
	}
}

func (h *hostileServer) call(id json.RawMessage, name string, args, meta map[string]any, line []byte) {
	result := func(s string) { h.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, s) }
	content := func(s string) { result(fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, s)) }
	switch name {
	case "die":
		fmt.Fprintln(os.Stderr, "I am dying", os.Getenv("API_KEY"))
		os.Exit(5)
	case "die-after-answer":
		content("last words")
		os.Exit(6)
	case "close-input":
		syscall.Close(0)
		content("closed")
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		<-told
		os.Exit(0)
	case "close-output":
		os.Stdout.Close()
	case "never":
		if file := os.Getenv("ASKED"); file != "" {
			_ = os.WriteFile(file, nil, 0o600)
		}
	case "slow":
		content(strconv.FormatInt(int64(time.Since(time.Now())), 10))
	case "wrong-id":
		h.say(`{"jsonrpc":"2.0","id":99999,"result":{}}`)
		h.say(`{"jsonrpc":"2.0","id":{"a":1},"result":{}}`)
		h.say(`{"jsonrpc":"2.0","result":{}}`)
	case "string-id":
		h.say(`{"jsonrpc":"2.0","id":"%s","result":{"content":[{"type":"text","text":"quoted"}]}}`, id)
	case "float-id":
		h.say(`{"jsonrpc":"2.0","id":%s.0,"result":{"content":[{"type":"text","text":"not whole"}]}}`, id)
	case "twice":
		content("once")
		content("twice")
	case "long":
		fmt.Fprintf(os.Stdout, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"`, id)
		chunk := strings.Repeat("x", 1<<20)
		for range 65 {
			os.Stdout.WriteString(chunk)
		}
		h.say(`"}]}}`)
	case "big":
		n, _ := args["n"].(float64)
		content(strings.Repeat("y", int(n)))
	case "broken":
		h.say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[`, id)
	case "broken-spaced": // as Python's json writes it
		h.say(`{"jsonrpc": "2.0", "id": %s, "result": {"x": NaN}}`, id)
	case "long-spaced":
		h.say(`{"result": {"content": [{"type": "text", "text": "%s"}]}, "id": %s, "jsonrpc": "2.0"}`, strings.Repeat("z", 65<<20), id)
	case "odd":
		result(`{"content":[{"type":"hologram","x":1},{"type":"image","data":"!!!not base64","mimeType":7}],"structuredContent":{"n":12345678901234567890,"f":1.000,"u":"\u00e9\ud83d"},"x":null}`)
	case "null":
		result(`{"content":null}`)
	case "result-null":
		result(`null`)
	case "no-result":
		h.say(`{"jsonrpc":"2.0","id":%s}`, id)
	case "error-text":
		h.say(`{"jsonrpc":"2.0","id":%s,"error":"just a text"}`, id)
	case "bad-utf8":
		h.say("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"a\xffb\"}]}}", id)
	case "deep":
		result(strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000))
	case "storm":
		for range 10_000 {
			h.say(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		}
		content(strconv.Itoa(h.pages))
	case "grow":
		h.say(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		content("grown")
	case "ask":
		h.say(`{"jsonrpc":"2.0","id":"q1","method":%q,"params":{"message":"?"}}`, args["method"])
		answer := make([]byte, 64<<10)
		n, _ := os.Stdin.Read(answer)
		content(string(answer[:n]))
	case "ask-and-withdraw":
		h.say(`{"jsonrpc":"2.0","id":"q2","method":"elicitation/create","params":{"message":"?"}}`)
		h.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q2"}}`)
		h.say(`{"jsonrpc":"2.0","id":"q3","method":"elicitation/create","params":{"message":"last"}}`)
		answer := make([]byte, 64<<10)
		n, _ := os.Stdin.Read(answer)
		content(string(answer[:n]))
	case "progress":
		token, _ := json.Marshal(meta["progressToken"])
		for i := range 3 {
			h.say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, token, i+1)
		}
		h.say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":12345,"progress":9}}`)
		content("done")
	case "environment":
		name, _ := args["name"].(string)
		value, ok := os.LookupEnv(name)
		dir, _ := os.Getwd()
		content(fmt.Sprint(value, " ", ok, " ", filepath.Base(dir)))
	case "grown":
		content("I was not there before")
	default:
		content(string(line))
	}
}
