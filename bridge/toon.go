package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/toon-format/toon-go"
)

// This file is the only one that knows toon-go, behind encodeTOON, so that a newer or another encoder can replace it.
// What it guards against was measured on 7ca0e27 (December 2025): see the constants and the comments below.

const (
	// Each level of depth indents every line by two more blanks: small, deep values would grow without bound, and would
	// be read worse than as JSON.
	maxTOONDepth = 32
	// The encoder looks each cell of a table up in a list of its row's fields: quadratic, and a row with a million fields
	// would keep it busy for an hour.
	maxTOONColumns = 100
	// It takes a second for a megabyte, on the host's CPU, and nobody reads a megabyte as a table.
	maxTOON = 256 << 10 // bytes of JSON
	// It writes numbers without exponent, so that five bytes (1e-99) become a hundred. The specification asks for that up
	// to 1e21 only.
	maxTOONDigits = 32
)

// encodeTOON writes a JSON object as TOON, in the order of its fields, with text made printable. It fails where TOON, or
// this encoder of it, cannot hold the value; the caller then has the JSON still.
func encodeTOON(doc json.RawMessage) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot encode as TOON: encoder panicked: %v", p)
		}
	}()
	if len(doc) > maxTOON {
		return "", fmt.Errorf("cannot encode as TOON: %d bytes are more than %d", len(doc), maxTOON)
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	value, err := toonValue(d, 0)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return "", fmt.Errorf("cannot encode as TOON: %w", err)
	}
	text, err = toon.MarshalString(value)
	if err != nil {
		return "", fmt.Errorf("cannot encode as TOON: %w", err)
	}
	return text, nil
}

// toonValue reads the next value of d: an object as toon.Object, which keeps the order that a map would lose.
func toonValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case string:
		return printable(t), nil
	case json.Number:
		return toonNumber(t), nil
	case json.Delim:
		if depth == maxTOONDepth {
			return nil, errors.New("nested too deeply")
		}
		if t == '[' {
			return toonArray(d, depth+1)
		}
		return toonObject(d, depth+1)
	default:
		return t, nil // bool, nil
	}
}

func toonArray(d *json.Decoder, depth int) (any, error) {
	values := []any{}
	for d.More() {
		v, err := toonValue(d, depth)
		if err != nil {
			return nil, err
		}
		if err := toonItem(v); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	_, err := d.Token()
	return values, err
}

// toonItem refuses the items of lists that the encoder writes in a way which decoders do not read, or read as something else
// (seen with @toon-format/toon 2.1.0 and 4.4.0).
func toonItem(v any) error {
	if list, ok := v.([]any); ok && slices.ContainsFunc(list, container) {
		return errors.New("a list in a list has more than plain values")
	}
	o, ok := v.(toon.Object)
	switch {
	case !ok:
		return nil
	case o.Len() > maxTOONColumns:
		return errors.New("too many fields for a table")
	case o.Len() == 0:
		return errors.New("an empty object in a list becomes text")
	}
	first := o.Fields[0]
	switch value := first.Value.(type) {
	case toon.Object:
		return errors.New("an object in a list begins with an object")
	case []any:
		if slices.ContainsFunc(value, container) {
			return errors.New("an object in a list begins with a list of objects or lists")
		}
	case string:
		if strings.HasPrefix(value, "#") {
			return errors.New("a row that begins with # is taken for a comment")
		}
	}
	if strings.HasPrefix(first.Key, "#") {
		return errors.New("a row that begins with # is taken for a comment")
	}
	return nil
}

// container says that a value holds others.
func container(v any) bool {
	switch v.(type) {
	case []any, toon.Object:
		return true
	}
	return false
}

func toonObject(d *json.Decoder, depth int) (any, error) {
	var fields []toon.Field
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("a field is named %v", token)
		}
		// Names that differ in control characters only would become one.
		name = printable(name)
		if seen[name] {
			return nil, errors.New("a field stands twice")
		}
		seen[name] = true
		v, err := toonValue(d, depth)
		if err != nil {
			return nil, err
		}
		if _, array := v.([]any); array && name == "" {
			return nil, errors.New("the encoder loses an empty name of an array")
		}
		fields = append(fields, toon.Field{Key: name, Value: v})
	}
	_, err := d.Token()
	return toon.NewObject(fields...), err
}

// toonNumber is n where the encoder, which goes through float64 and says nothing of what it loses, would write the same
// value; otherwise its digits as a string, which is how TOON carries what is no float64.
func toonNumber(n json.Number) any {
	if f, err := n.Float64(); err == nil {
		written := strconv.FormatFloat(f, 'f', -1, 64)
		if len(written) <= maxTOONDigits && sameDecimal(n.String(), written) {
			return n
		}
	}
	return n.String()
}

// sameDecimal says whether two JSON numbers are the same value, in time linear in their length, however large it is.
func sameDecimal(a, b string) bool {
	x, okX := parseDecimal(a)
	y, okY := parseDecimal(b)
	return okX && okY && x == y
}

// decimal is 0.digits x 10^exponent, or a zero.
type decimal struct {
	negative bool
	digits   string // begins and ends with a digit that is not zero
	exponent int
}

func parseDecimal(s string) (decimal, bool) {
	var d decimal
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
	}
	mantissa, d.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return decimal{}, true
	}
	d.exponent = len(whole) - (len(whole) + len(fraction) - len(digits))
	d.digits = strings.TrimRight(digits, "0")
	if exponent != "" {
		e, err := strconv.Atoi(exponent)
		if err != nil || e > 1<<30 || e < -1<<30 {
			return d, false
		}
		d.exponent += e
	}
	return d, true
}
