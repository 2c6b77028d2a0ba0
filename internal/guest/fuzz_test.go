package guest

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzReader checks that what the Reader lets through is what encoding/json reads too, and that errors are final.
func FuzzReader(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.bytes(f))
	}
	f.Add([]byte(`{"type":"warm"}` + "\n" + runningLine + call(1) + `{"type":"done"}`))
	f.Add([]byte(runningLine + call(1) + call(2) + `{"type":"done","result":1}`))
	f.Add([]byte(`{"type":"part","data":"{\"type\":\"done\"","last":false}` + "\n" + `{"type":"part","data":"}","last":true}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"FORGED"}]}}`))
	f.Add([]byte("Content-Length: 20\r\n\r\n{\"jsonrpc\":\"2.0\"}"))
	f.Add([]byte("\u2028\u2029\u0085\n{\"a\":\"\\ud800\"}\n\x1b]52;c;cHduZWQ=\x07"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := readyReader(t, bytes.NewReader(append(in, '\n')))
		var last int64
		began := false
		for {
			m, err := r.Read()
			if err != nil {
				if _, again := r.Read(); again != err {
					t.Errorf("%v, then %v", err, again)
				}
				return
			}
			switch m := m.(type) {
			case Warm:
				if began {
					t.Error("warm after running")
				}
			case Running:
				if began {
					t.Error("running twice")
				}
				began = true
			case Call:
				if !began {
					t.Error("a call before running")
				}
				var arguments map[string]any
				d := json.NewDecoder(bytes.NewReader(m.Arguments))
				d.UseNumber()
				if err := d.Decode(&arguments); err != nil || m.ID <= last {
					t.Errorf("call %d after %d: %v", m.ID, last, err)
				}
				last = m.ID
			case Done:
				if m.Result != nil && !json.Valid(m.Result) {
					t.Errorf("result %q", m.Result)
				}
			}
		}
	})
}
