package bridge

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Bounds of what a run shows besides text. A client that gets more than its model takes may refuse the whole answer.
const (
	maxBlocks     = 20
	maxBlockBytes = 8 << 20 // of all blocks, decoded
)

// A display collects what a script shows: images, sounds and resources. The zero value is ready to use.
type display struct {
	blocks  []mcp.Content
	size    int
	dropped int // blocks that were too many or too large
}

// add takes a content block of MCP. The error is for the script.
func (d *display) add(raw json.RawMessage) error {
	block, size, err := contentBlock(raw)
	if err != nil {
		return err
	}
	switch {
	case len(d.blocks) >= maxBlocks:
		err = fmt.Errorf("a run shows at most %d images and other blocks", maxBlocks)
	case d.size+size > maxBlockBytes:
		err = fmt.Errorf("what a run shows may have %d MiB in all", maxBlockBytes>>20)
	}
	if err != nil {
		d.dropped++
		return err
	}
	d.blocks, d.size = append(d.blocks, block), d.size+size
	return nil
}

// note is a sentence on what was left out, empty if nothing was.
func (d *display) note() string {
	if d.dropped == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d images or other blocks were left out: at most %d of %d MiB in all are shown.",
		d.dropped, d.dropped+len(d.blocks), maxBlocks, maxBlockBytes>>20)
}

// contentBlock checks a block of a guest's and makes it anew, so that a client gets nothing but what the protocol has.
func contentBlock(raw json.RawMessage) (block mcp.Content, size int, err error) {
	var b struct {
		Type, Data, MIMEType, URI, Name, Title, Description string
		Resource                                            struct {
			URI, MIMEType, Blob string
			Text                *string
		}
	}
	if err := json.Unmarshal(raw, &b); err != nil || !utf8.Valid(raw) {
		return nil, 0, errors.New("that is no content block of MCP")
	}
	for _, s := range []string{b.MIMEType, b.Resource.MIMEType} {
		if len(s) > 100 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, 0, fmt.Errorf("%s is no MIME type", quote(s))
		}
	}
	size = len(raw)
	decode := func(s string) []byte {
		var data []byte
		if data, err = base64.StdEncoding.DecodeString(s); err != nil {
			err = fmt.Errorf("the data of the %s is not base64", quote(b.Type))
		}
		size = len(data)
		return data
	}
	switch b.Type {
	case "image", "audio":
		if b.MIMEType == "" || b.Data == "" {
			return nil, 0, fmt.Errorf("an %s needs data and a MIME type", b.Type)
		}
		data := decode(b.Data)
		if b.Type == "audio" {
			return &mcp.AudioContent{Data: data, MIMEType: b.MIMEType}, size, err
		}
		return &mcp.ImageContent{Data: data, MIMEType: b.MIMEType}, size, err
	case "resource":
		r := &mcp.ResourceContents{URI: b.Resource.URI, MIMEType: b.Resource.MIMEType}
		if r.URI == "" {
			return nil, 0, errors.New("a resource needs a uri")
		}
		if b.Resource.Text != nil {
			r.Text = *b.Resource.Text
		} else {
			r.Blob = decode(b.Resource.Blob)
		}
		return &mcp.EmbeddedResource{Resource: r}, size, err
	case "resource_link":
		if b.URI == "" || b.Name == "" {
			return nil, 0, errors.New("a link to a resource needs a uri and a name")
		}
		return &mcp.ResourceLink{URI: b.URI, Name: b.Name, Title: b.Title, Description: b.Description, MIMEType: b.MIMEType}, size, nil
	}
	return nil, 0, fmt.Errorf("a block of type %s cannot be shown", quote(b.Type))
}
