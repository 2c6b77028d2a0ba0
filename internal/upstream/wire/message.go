package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// A message is any of JSON-RPC. Its fields are raw: one of a wrong type must not hide the others.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method json.RawMessage `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// decode reads a message, or several of them. What is not valid UTF-8 is replaced, because nobody behind us could read
// it.
func decode(line []byte) ([]message, error) {
	if !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	if len(line) > 0 && line[0] == '[' {
		var batch []message
		err := json.Unmarshal(line, &batch)
		return batch, err
	}
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, err
	}
	return []message{m}, nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// number is a message's id as one of ours: some servers answer with a string, or have but one kind of number and write 1.0.
func number(id json.RawMessage) (int64, bool) {
	id = bytes.Trim(id, `"`)
	if n, err := strconv.ParseInt(string(id), 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(id), 64)
	n := int64(f)
	return n, err == nil && float64(n) == f
}

// text is a JSON string, or nothing.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// decodeError reads a JSON-RPC error, however odd.
func decodeError(raw json.RawMessage) *Error {
	var fields struct {
		Code, Message, Data json.RawMessage
	}
	if json.Unmarshal(raw, &fields) != nil {
		return &Error{Code: jsonrpc.CodeInternalError, Message: fmt.Sprintf("%.500s", raw)}
	}
	e := &Error{Code: jsonrpc.CodeInternalError, Message: text(fields.Message), Data: fields.Data}
	var code float64
	if json.Unmarshal(fields.Code, &code) == nil {
		e.Code = int64(code)
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("error %d without a message", e.Code)
	}
	return e
}

// guessID finds whose answer a line is that cannot be read, by its beginning and its end.
func guessID(head, tail []byte) (int64, bool) {
	const enough = 200 // bytes, with whatever space an encoder puts between them
	head, tail = squeeze(head[:min(len(head), enough)]), squeeze(tail[max(0, len(tail)-enough):])
	head = bytes.TrimPrefix(bytes.TrimPrefix(head, []byte("{")), []byte(`"jsonrpc":"2.0",`))
	if rest, ok := bytes.CutPrefix(head, []byte(`"id":`)); ok {
		if i := bytes.IndexAny(rest, ",}"); i > 0 {
			return number(rest[:i])
		}
	}
	if rest, ok := bytes.CutSuffix(tail, []byte("}")); ok {
		rest = bytes.TrimSuffix(rest, []byte(`,"jsonrpc":"2.0"`))
		if i := bytes.LastIndex(rest, []byte(`"id":`)); i >= 0 {
			return number(rest[i+len(`"id":`):])
		}
	}
	return 0, false
}

// squeeze is b without white space.
func squeeze(b []byte) []byte { return bytes.Join(bytes.Fields(b), nil) }

// A Member is one of a JSON object.
type Member struct {
	Name  string
	Value json.RawMessage
}

// Members are those of a JSON object, in order, by their exact names.
func Members(object json.RawMessage) ([]Member, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var list []Member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, Member{name, value})
	}
	_, err := d.Token()
	return list, err
}

// Object is the JSON object of members. Their values are written as they are.
func Object(members []Member) json.RawMessage {
	size := 2
	for _, m := range members {
		size += len(m.Name) + len(m.Value) + 4
	}
	b := append(make([]byte, 0, size), '{')
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, m.Name)
		b = append(b, ':')
		b = append(b, m.Value...)
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil { // it cannot fail
		return append(b, `""`...)
	}
	return append(b, quoted...)
}

// withMeta is params with members in its _meta, which win over those that are there.
func withMeta(params json.RawMessage, meta []Member) (json.RawMessage, error) {
	if len(meta) == 0 {
		return params, nil
	}
	if len(params) == 0 || string(params) == "{}" {
		return Object([]Member{{"_meta", Object(meta)}}), nil
	}
	if !bytes.Contains(params, []byte(`_meta"`)) && params[0] == '{' {
		b := append(make([]byte, 0, len(params)+256), `{"_meta":`...)
		b = append(b, Object(meta)...)
		b = append(b, ',')
		return append(b, params[1:]...), nil
	}
	members, err := Members(params)
	if err != nil {
		return nil, err
	}
	var kept []Member
	for _, m := range members {
		if m.Name != "_meta" {
			kept = append(kept, m)
			continue
		}
		theirs, err := Members(m.Value)
		if err != nil && !absent(m.Value) {
			return nil, fmt.Errorf("_meta is %v", err)
		}
		for _, t := range theirs {
			if !slices.ContainsFunc(meta, func(m Member) bool { return m.Name == t.Name }) {
				meta = append([]Member{t}, meta...)
			}
		}
	}
	return Object(append([]Member{{"_meta", Object(meta)}}, kept...)), nil
}
