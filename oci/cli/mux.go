package cli

import (
	"bufio"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcp-bridge/mcp-bridge/oci"
)

// An engine's client has three streams, and a container of ours up to five. So pid 1 of an engine's container is a
// multiplexer, in the container's own Python: it makes the pipes, forks, and the child becomes the command, in the same
// interpreter if it can. The parent speaks with the muxHost on this side, over its descriptors 0 and 1, in frames:
//
//	kind, one byte | channel, one byte | size, four bytes, big-endian | payload
//
//	h  the command has been started                     from the container, first
//	d  size bytes of a channel                          to the side that has room for them
//	c  room for size more bytes, no payload
//	e  the end of a channel, or that nobody takes what is sent to it
//	x  the wait status of the command, in four bytes    from the container, last: no other process is left, and nothing unsaid
//
// A channel is the number that the stream has as a descriptor of the command. Each begins with room for muxWindow bytes, so
// that one whose reader is slow holds up no other, and nobody keeps more than that of it. The end of its standard input ends
// pid 1, and so the container: that is the lifeline.
const (
	muxHello  = 'h'
	muxData   = 'd'
	muxCredit = 'c'
	muxEnd    = 'e'
	muxExit   = 'x'

	muxWindow = 1 << 18 // as in mux_forward.py
	muxChunk  = 1 << 16 // payload of one frame at most, likewise
	muxHeader = 6
)

//go:embed mux_start.py
var muxStart string

//go:embed mux_forward.py
var muxForward string

// muxArgs wraps a command, whose program has to be a Python, so that it runs below the multiplexer. Where the command is
// `python -c CODE`, CODE runs in the interpreter that the multiplexer has started in.
func muxArgs(c oci.Container, ways string) []string {
	names := make([]string, len(c.Env))
	for i, kv := range c.Env {
		names[i], _, _ = strings.Cut(kv, "=")
	}
	flags, how, rest := []string{"-I", "-S"}, "exec", c.Args
	if n := muxCode(c.Args); n > 0 {
		flags, how, rest = c.Args[1:n], "code", c.Args[n+1:]
	}
	args := append([]string{c.Args[0]}, flags...)
	return append(append(args, "-c", muxStart, muxForward, ways, strings.Join(names, "="), how), rest...)
}

// muxCode is the index of -c in `python FLAGS -c CODE ARGS`, or 0 if the command is another one.
func muxCode(args []string) int {
	for i := 1; i+1 < len(args); i++ {
		switch a := args[i]; {
		case a == "-c":
			return i
		case a == "-X" || a == "-W":
			i++
		case len(a) < 2 || a[0] != '-' || strings.ContainsAny(a[1:], "cm-"):
			return 0
		}
	}
	return 0
}

// A muxHost is the host's side of one container's streams. Nothing that it reads is trusted.
type muxHost struct {
	ways     string // of each channel: i into the container, o out of it, - neither
	channels []*muxChannel

	hello   func() error        // called once, with the first frame; on an error the container gets nothing to read
	last    func()              // called once, after the last frame, while the container still is; may be nil
	settled func(status uint32) // called once, after the last frame, when all that came out has been handed on

	sending sync.Mutex
	to      *os.File

	mu      sync.Mutex // guards the channels
	changed sync.Cond  // some channel, or that it is over
	greeted bool
	over    bool
	pumps   sync.WaitGroup
}

// A muxChannel is one stream.
type muxChannel struct {
	file *os.File // our own descriptor of it; nil for /dev/null
	// room is how many bytes the other side may send yet, or we may to it.
	room int
	// pending is what came out and has not been written, at most muxWindow; handed says how much is being written.
	pending []byte
	handed  int
	ended   bool // no more comes
	broken  bool // nobody takes more
}

// newMuxHost prepares the streams of a container. It uses its own descriptors of them, which do not block.
func newMuxHost(s oci.Streams) (_ *muxHost, err error) {
	m := &muxHost{}
	m.changed.L = &m.mu
	defer func() {
		if err != nil {
			m.closeFiles()
		}
	}()
	ways := make([]byte, 0, 3+len(s.Extra))
	for n, f := range append([]*os.File{s.Stdin, s.Stdout, s.Stderr}, s.Extra...) {
		c := &muxChannel{room: muxWindow}
		m.channels = append(m.channels, c)
		if f == nil {
			ways = append(ways, '-')
			continue
		}
		way := byte('o')
		if n == 0 {
			way = 'i'
		}
		if c.file, err = muxDup(f, func(flags int) {
			if n >= 3 && flags&unix.O_ACCMODE == unix.O_RDONLY {
				way = 'i'
			}
		}); err != nil {
			return nil, fmt.Errorf("cannot use a stream of the container: %w", err)
		}
		ways = append(ways, way)
	}
	m.ways = string(ways)
	return m, nil
}

// muxDup makes a descriptor of our own that a deadline can interrupt: a launcher that was tried before this one may have
// made the pipe block.
func muxDup(f *os.File, flags func(int)) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	dup := -1
	cerr := raw.Control(func(fd uintptr) {
		if dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		var st unix.Stat_t
		if unix.Fstat(dup, &st) == nil && uint32(st.Mode)&unix.S_IFMT == unix.S_IFIFO {
			err = unix.SetNonblock(dup, true)
		}
		mode, ferr := unix.FcntlInt(fd, unix.F_GETFL, 0)
		err = errors.Join(err, ferr)
		flags(mode)
	})
	if err = errors.Join(err, cerr); err != nil {
		if dup >= 0 {
			unix.Close(dup)
		}
		return nil, err
	}
	return os.NewFile(uintptr(dup), f.Name()), nil
}

func (m *muxHost) closeFiles() {
	for _, c := range m.channels {
		if c.file != nil {
			c.file.Close()
		}
	}
}

// run hands on what goes to and fro until from ends, or says something that makes no sense, which is the error. Nothing of
// the caller's streams is used any more once the container has said its last: who waits for their end does not wait for the
// engine too, which has to clean up.
func (m *muxHost) run(to io.Closer, from io.Reader) error {
	for n, c := range m.channels {
		switch m.ways[n] {
		case 'i':
			m.pumps.Go(func() { m.feed(byte(n), c) })
		case 'o':
			m.pumps.Go(func() { m.drain(byte(n), c) })
		}
	}
	r := bufio.NewReaderSize(from, muxChunk+muxHeader)
	status, ended, err := m.read(r)
	if err == nil {
		m.settle()
	}
	if ended && m.last != nil {
		m.last()
	}
	m.abandon()
	to.Close() // the lifeline, and what a pump may hang on
	m.pumps.Wait()
	m.closeFiles()
	if ended {
		m.settled(status)
		if _, rerr := r.ReadByte(); rerr == nil {
			err = errors.New("a frame behind the last one")
		}
	}
	return err
}

// abandon makes the pumps end, whoever does not read or write.
func (m *muxHost) abandon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	for _, c := range m.channels {
		if c.file != nil {
			_ = c.file.SetDeadline(time.Unix(1, 0))
		}
	}
	m.changed.Broadcast()
}

// read takes the frames of the container, to the last, which has the wait status of the command; ended says that it came.
func (m *muxHost) read(r *bufio.Reader) (status uint32, ended bool, err error) {
	payload := make([]byte, muxChunk)
	greeted := false
	for {
		var header [muxHeader]byte
		if _, err := io.ReadFull(r, header[:]); err == io.EOF { // nothing at all; a part is io.ErrUnexpectedEOF
			return 0, false, nil
		} else if err != nil {
			return 0, false, muxCut(err)
		}
		if !greeted && (header[0] == muxEnd || header[0] == muxExit) {
			return 0, false, errors.New("its command died before it began")
		}
		if !greeted && header[0] != muxHello {
			rest, _ := r.Peek(min(r.Buffered(), 200))
			return 0, false, fmt.Errorf("it begins in the wrong place, with %q", append(header[:], rest...))
		}
		kind, n, size := header[0], int(header[1]), binary.BigEndian.Uint32(header[2:])
		var data []byte
		if kind == muxData || kind == muxExit {
			if size > muxChunk {
				return 0, false, fmt.Errorf("a frame of %d bytes", size)
			}
			data = payload[:size]
			if _, err := io.ReadFull(r, data); err != nil {
				return 0, false, muxCut(err)
			}
		}
		switch {
		case greeted && kind == muxHello:
			return 0, false, fmt.Errorf("a frame %q in the wrong place", kind)
		case kind == muxHello:
			greeted = true
			if err := m.hello(); err != nil {
				return 0, false, err
			}
			m.mu.Lock()
			m.greeted = true
			m.changed.Broadcast()
			m.mu.Unlock()
		case kind == muxExit:
			if len(data) != 4 {
				return 0, false, fmt.Errorf("a wait status of %d bytes", len(data))
			}
			return binary.BigEndian.Uint32(data), true, nil
		case n >= len(m.channels):
			return 0, false, fmt.Errorf("a frame for channel %d", n)
		default:
			if err := m.take(kind, n, int(size), data); err != nil {
				return 0, false, err
			}
		}
	}
}

// muxCut is what is wrong when from ends within a frame. That it was closed on this side is nothing wrong.
func muxCut(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // the container was killed meanwhile; its exit says so
	}
	return err
}

// take is one frame of a channel.
func (m *muxHost) take(kind byte, n, size int, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, out := m.channels[n], m.ways[n] == 'o'
	switch {
	case kind == muxData && out && !c.ended && size > 0:
		if size > c.room {
			return fmt.Errorf("%d bytes for channel %d, which has room for %d", size, n, c.room)
		}
		c.room -= size
		if !c.broken {
			c.pending = append(c.pending, data...)
		}
	case kind == muxEnd && size == 0 && out && !c.ended:
		c.ended = true
	case kind == muxEnd && size == 0 && m.ways[n] == 'i':
		c.broken = true
		_ = c.file.SetDeadline(time.Unix(1, 0))
	case kind == muxCredit && m.ways[n] == 'i' && size > 0 && size <= muxWindow-c.room:
		c.room += size
	default:
		return fmt.Errorf("a frame %q of %d for channel %d in the wrong place", kind, size, n)
	}
	m.changed.Broadcast()
	return nil
}

// settle waits until everything that came out has been handed on, or that is given up.
func (m *muxHost) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		rest := 0
		for _, c := range m.channels {
			c.ended = true
			rest += len(c.pending) + c.handed
		}
		if m.over || rest == 0 {
			return
		}
		m.changed.Wait()
	}
}

// send writes a frame. That the container's end is closed shows where from is read.
func (m *muxHost) send(kind, n byte, size int, data []byte) {
	b := append(make([]byte, 0, muxHeader+len(data)), kind, n)
	b = append(binary.BigEndian.AppendUint32(b, uint32(size)), data...)
	m.sending.Lock()
	defer m.sending.Unlock()
	_, _ = m.to.Write(b)
}

// drain hands on what came out of the container.
func (m *muxHost) drain(n byte, c *muxChannel) {
	for {
		m.mu.Lock()
		for len(c.pending) == 0 && !c.ended && !m.over {
			m.changed.Wait()
		}
		data := c.pending
		c.pending, c.handed = nil, len(data)
		over := m.over
		m.mu.Unlock()
		if len(data) == 0 || over {
			return
		}
		_, err := c.file.Write(data)
		m.mu.Lock()
		c.handed = 0
		if err != nil {
			c.broken, c.pending = true, nil
		} else {
			c.room += len(data)
		}
		m.changed.Broadcast()
		over = m.over
		m.mu.Unlock()
		switch {
		case over:
			return
		case err != nil:
			m.send(muxEnd, n, 0, nil) // so that the script has its SIGPIPE
			return
		}
		m.send(muxCredit, n, len(data), nil)
	}
}

// feed sends to the container what there is for it, once it runs: with one that does not start nothing is lost.
func (m *muxHost) feed(n byte, c *muxChannel) {
	buf := make([]byte, muxChunk)
	for {
		m.mu.Lock()
		for (c.room == 0 || !m.greeted) && !c.broken && !m.over {
			m.changed.Wait()
		}
		room := min(c.room, len(buf))
		over := c.broken || m.over
		m.mu.Unlock()
		if over {
			return
		}
		size, err := c.file.Read(buf[:room])
		if size > 0 {
			m.mu.Lock()
			c.room -= size
			m.mu.Unlock()
			m.send(muxData, n, size, buf[:size])
		}
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				m.send(muxEnd, n, 0, nil)
			}
			return
		}
	}
}
