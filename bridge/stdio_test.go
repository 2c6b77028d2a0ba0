package bridge

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBadLines: a line that is no message is answered, if it is to be, and the session goes on.
func TestBadLines(t *testing.T) {
	c, _ := newRawClient(t)
	c.hello(`{}`)
	ping := 100
	for _, tt := range []struct {
		name, line string
		id, code   string // of the answer; "" is none
	}{
		{"not JSON", `hello`, "null", "-32700"},
		{"half of a message", `{"jsonrpc":"2.0","id":7,`, "null", "-32700"},
		{"two messages", `{"jsonrpc":"2.0","id":7,"method":"ping"}{"jsonrpc":"2.0","id":8,"method":"ping"}`, "null", "-32700"},
		{"a number", `7`, "null", "-32600"},
		{"no method", `{"jsonrpc":"2.0","id":7}`, "", ""}, // the SDK's: an answer nobody waits for
		{"no version", `{"id":7,"method":"ping"}`, "7", "-32600"},
		{"another version", `{"jsonrpc":"1.0","id":"a","method":"ping"}`, `"a"`, "-32600"},
		{"an id that can be none", `{"jsonrpc":"2.0","id":[7],"method":"ping"}`, "null", "-32600"},
		{"a method that is no string", `{"jsonrpc":"2.0","id":7,"method":7}`, "7", "-32600"},
		{"an error without id", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`, "", ""},
		{"empty batch", `[]`, "null", "-32600"},
		{"bad batch", `[{"jsonrpc":"2.0","id":7,"method":"ping"}`, "null", "-32700"},
		{"blank", ` `, "", ""},
		{"too long", `{"jsonrpc":"2.0","id":7,"method":"` + strings.Repeat("x", maxMessage) + `"}`, "null", "-32600"},
		{"unknown method", `{"jsonrpc":"2.0","id":7,"method":"nope"}`, "7", "-32601"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			go c.say("%s", tt.line)
			if tt.code != "" {
				m := c.hear()
				var e struct{ Code json.Number }
				if err := json.Unmarshal(m.Error, &e); err != nil || string(m.ID) != tt.id || e.Code.String() != tt.code {
					t.Errorf("%s: %v; want id %s, code %s", m.line, err, tt.id, tt.code)
				}
			}
			ping++
			go c.say(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, ping)
			if m := c.hear(); string(m.ID) != fmt.Sprint(ping) || string(m.Result) != "{}" {
				t.Errorf("a ping behind it: %s", m.line)
			}
		})
	}
}

// TestByteOrderMark: a client may begin with one.
func TestByteOrderMark(t *testing.T) {
	c, _ := newRawClient(t)
	defer c.end()
	go c.say("\ufeff" + `{"jsonrpc":"2.0","id":7,"method":"ping"}`)
	if m := c.hear(); string(m.ID) != "7" || string(m.Result) != "{}" {
		t.Errorf("%s", m.line)
	}
}

// TestBatch: its requests are answered, each by itself.
func TestBatch(t *testing.T) {
	c, _ := newRawClient(t)
	c.hello(`{}`)
	go c.say(`[{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}},` +
		`{"jsonrpc":"2.0","id":7,"method":"ping"},{"jsonrpc":"2.0","id":8,"method":"ping"},{"jsonrpc":"2.0","id":"b","method":"ping"}]`)
	answers := make(map[string]string)
	for range 3 {
		m := c.hear()
		answers[string(m.ID)] = string(m.Result) + string(m.Error)
	}
	if answers["7"] != "{}" || answers["8"] != "{}" || answers[`"b"`] != "{}" {
		t.Errorf("%v", answers)
	}
}

// TestNumbers: a client gets its ids and its progress tokens as it wrote them, whatever a float64 makes of them, and cancels by
// them.
func TestNumbers(t *testing.T) {
	for _, id := range []string{
		"0", "-1", "9007199254740993", "-9007199254740993", "9223372036854775807", "12345678901234567890", "1e30", "1733000000.25", `"9007199254740993"`,
	} {
		t.Run(id, func(t *testing.T) {
			b, began, _ := sleeper(t)
			c := dialRaw(t, b)
			defer c.end()
			c.hello(`{}`)
			go c.say(`{"jsonrpc":"2.0","id":%s,"method":"ping"}`, id)
			if m := c.hear(); string(m.ID) != id || string(m.Result) != "{}" {
				t.Errorf("ping %s: %s", id, m.line)
			}
			go c.say(`{"jsonrpc":"1.0","id":%s,"method":"ping"}`, id)
			if m := c.hear(); string(m.ID) != id || m.Error == nil {
				t.Errorf("a bad message: %s", m.line)
			}
			go c.say(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"_meta":{"progressToken":%[1]s},"name":"run_python","arguments":{"code":"pass"}}}`, id)
			m := c.hear()
			var p struct{ ProgressToken json.RawMessage }
			if err := json.Unmarshal(m.Params, &p); err != nil || string(p.ProgressToken) != id {
				t.Errorf("%s, %v", m.line, err)
			}
			within(t, "the call", began)
			go c.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id)
			for m.Method != "" {
				m = c.hear()
			}
			if string(m.ID) != id || !strings.Contains(m.line, `"cancelled"`) {
				t.Errorf("%s", m.line)
			}
		})
	}
}

// TestNumberMadeUp: a text that begins as ours do, and is of no number, is a text.
func TestNumberMadeUp(t *testing.T) {
	b, _, _ := sleeper(t)
	c := dialRaw(t, b)
	defer c.end()
	c.hello(`{}`)
	const id = `"\u0000number 1,\"error\":{}"`
	go c.say(`{"jsonrpc":"2.0","id":%s,"method":"ping"}`, id)
	if m := c.hear(); string(m.ID) != id || string(m.Result) != "{}" {
		t.Errorf("%s", m.line)
	}
}

// TestEndOfFile: what a client has asked before the end of its input is answered, but a run does not go on.
func TestEndOfFile(t *testing.T) {
	for range 20 {
		b, _, _ := sleeper(t)
		c := dialRaw(t, b)
		answers := make(chan []byte)
		go func() {
			all, _ := io.ReadAll(c.read)
			answers <- all
		}()
		c.say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
		c.say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		c.say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"run_python","arguments":{"code":"pass"}}}`)
		c.say(`{"jsonrpc":"2.0","id":3,"method":"tools/list"}`)
		c.in.Close()
		if err := <-c.done; err != nil {
			t.Error(err)
		}
		got := string(<-answers)
		for _, want := range []string{`"id":1,"result":{"capab`, `"id":3,"result":{`, `"id":2,"result":{`, `"status":"cancelled"`} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in\n%s", want, got)
			}
		}
	}
}

// TestOutOfTurn: what may not be asked at the moment is refused with a code.
func TestOutOfTurn(t *testing.T) {
	c, _ := newRawClient(t)
	const hello = `{"jsonrpc":"2.0","id":%d,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	for _, tt := range []struct {
		say string
		ok  bool
	}{
		{`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, false},
		{hello, true},
		{hello, false},
		{`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, true},
	} {
		go c.say(tt.say, 1)
		if m := c.hear(); tt.ok != (m.Error == nil) || !tt.ok && !strings.Contains(m.line, `"code":-32600`) {
			t.Errorf("%s: %s", tt.say, m.line)
		}
	}
}

// TestCancelledAtOnce: a call that is cancelled as soon as it was made is answered as one that ran, or by an error with a code.
func TestCancelledAtOnce(t *testing.T) {
	c, _ := newRawClient(t)
	c.hello(`{}`)
	early := 0
	for id := 1; id <= 20; id++ {
		go c.say(`[{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"run_python","arguments":{"code":"1"}}},`+
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%[1]d}}]`, id)
		m := c.hear()
		var e struct{ Code int }
		switch {
		case string(m.ID) != fmt.Sprint(id):
			t.Errorf("the answer to %d is %s", id, m.line)
		case m.Error == nil:
		case json.Unmarshal(m.Error, &e) != nil || e.Code != codeCancelled:
			t.Errorf("%s", m.line)
		default:
			early++
		}
	}
	t.Logf("%d of 20 were cancelled before they were looked at", early)
}

// TestPollable: a pipe can be waited for beside other things, and whoever else has it, or a socket, sees nothing of that.
func TestPollable(t *testing.T) {
	blocks := func(f *os.File) bool {
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		return err == nil && flags&unix.O_NONBLOCK == 0
	}
	file := func(fd int) *os.File { return os.NewFile(uintptr(fd), "in") }
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket, peer := file(pair[0]), file(pair[1])
	defer peer.Close()
	defer socket.Close()
	if got := pollable(socket); got != io.ReadCloser(socket) || !blocks(socket) {
		t.Errorf("a socket: %T, blocks: %v", got, blocks(socket))
	}
	if runtime.GOOS != "linux" {
		t.Skip("a pipe can be opened once more only where there is Linux's /proc")
	}
	fds := make([]int, 2)
	if err := unix.Pipe(fds); err != nil {
		t.Fatal(err)
	}
	in, out := file(fds[0]), file(fds[1])
	defer out.Close()
	fd, err := unix.Dup(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	shared := file(fd)
	defer shared.Close()
	got := pollable(in)
	if _, err := out.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if n, err := got.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
	ended := make(chan error)
	go func() {
		_, err := got.Read(make([]byte, 2))
		ended <- err
	}()
	if !blocks(shared) {
		t.Error("the pipe itself does not block any more")
	}
	if err := got.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("a read behind the end had no error")
	}
	if _, err := in.Stat(); err == nil {
		t.Error("it is open still")
	}
}

// TestLargestScript: a script of MaxCode bytes fits into a message, however its encoder escapes it.
func TestLargestScript(t *testing.T) {
	if maxMessage < 6*MaxCode+64<<10 {
		t.Errorf("a message may have %d bytes", maxMessage)
	}
}
