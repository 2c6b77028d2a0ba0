package bridge

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// numberText begins the texts that stand for numbers in what the SDK gets. It decodes a number to a float64, and an id on to
// a whole one: that of a client which counts nanoseconds would come back as another, and the answer be nobody's.
const numberText = "\x00number "

// keepNumbers puts texts in the place of the numbers of a request that the client must get back as they are: its id, of which
// raw is what the client wrote, that of the request which it cancels, and its progress token.
func keepNumbers(r *jsonrpc.Request, raw json.RawMessage) (err error) {
	if text, ok := asText(raw); ok {
		if r.ID, err = jsonrpc.MakeID(text); err != nil {
			return err
		}
	}
	switch {
	case r.Method == "notifications/cancelled":
		r.Params, err = keepNumber(r.Params, "requestId")
	case bytes.Contains(r.Params, []byte(`"progressToken"`)):
		r.Params, err = keepNumber(r.Params, "_meta", "progressToken")
	}
	return err
}

// keepNumber does that with one member of an object, or of one in it.
func keepNumber(doc json.RawMessage, path ...string) (_ json.RawMessage, err error) {
	members := object(doc)
	was, ok := members[path[0]]
	if !ok {
		return doc, nil
	}
	var is json.RawMessage
	if len(path) > 1 {
		is, err = keepNumber(was, path[1:]...)
	} else if text, ok := asText(was); ok {
		is, err = marshal(text)
	} else {
		is = was
	}
	if err != nil || bytes.Equal(is, was) {
		return doc, err
	}
	members[path[0]] = is
	return marshal(members)
}

// asText is the text for a number, unless the SDK keeps that as it is.
func asText(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return "", false
	}
	const most = 1 << 53
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return numberText + string(raw), err != nil || n < -most || n > most || strconv.FormatInt(n, 10) != string(raw)
}

// asNumber is the number that a text stands for, and any other value itself.
func asNumber(v any) any {
	if text, ok := v.(string); ok {
		if number, ok := strings.CutPrefix(text, numberText); ok {
			return json.Number(number)
		}
	}
	return v
}

// withNumber is an encoded answer, which begins with its id, with the number that this stands for.
func withNumber(line []byte, id jsonrpc.ID) []byte {
	text := id.Raw()
	is := asNumber(text)
	if is == text {
		return line
	}
	quoted, err := marshal(text)
	number, nerr := marshal(is) // an error if a client has made such a text up, of no number
	if err != nil || nerr != nil {
		return line
	}
	return bytes.Replace(line, quoted, number, 1)
}
