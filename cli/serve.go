package cli

// The control socket. A client sends one request, a line of JSON, and reads one
// answer: a line of JSON with its length, then the text. Requests are bounded in
// length and time, clients in number, so that nobody can hold the daemon up; and when
// all places are taken, the client that has kept us waiting longest loses its own.

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest = 4096             // octets
	maxClients = 64               // connections served at once; others are told so
	ioTimeout  = 10 * time.Second // to send a request, and to take each part of an answer
	patience   = time.Second      // kept waiting for so long, a client may lose its place to another
)

// Request is one command. Session is a name that the client thought up and nobody
// can guess; commands with the same one share configuration mode. Without it there is
// none.
type Request struct {
	Session   string `json:"session,omitempty"`
	Command   string `json:"command"`
	JSON      bool   `json:"json,omitempty"`
	Help      bool   `json:"help,omitempty"`      // Command is a beginning: what may follow?
	Complete  bool   `json:"complete,omitempty"`  // Command is a beginning: what is its last word?
	Asks      bool   `json:"asks,omitempty"`      // a person is there to be asked
	Confirmed bool   `json:"confirmed,omitempty"` // and has said yes
	Script    bool   `json:"script,omitempty"`    // errors quote the line
}

// Answer heads the text that follows it. OK is false when the command failed.
type Answer struct {
	OK       bool   `json:"ok"`
	Hostname string `json:"hostname"`
	Prompt   string `json:"prompt"`
	Config   bool   `json:"config,omitempty"`  // the session is in configuration mode
	Confirm  bool   `json:"confirm,omitempty"` // the text is a question: send again, Confirmed
	Length   int    `json:"length"`            // of the text, octets
}

// Serve answers on l until it is closed, which is no error.
func Serve(l net.Listener, c Control) error {
	x := &server{x: &Exec{Control: c}, sessions: map[string]*remembered{}, limit: ioTimeout, patience: patience}
	return x.run(l)
}

func (x *server) run(l net.Listener) error {
	x.clients = clients{m: map[net.Conn]time.Time{}, max: maxClients}
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			time.Sleep(50 * time.Millisecond) // it passes, and a socket that nobody serves wouldn't
			continue
		case err != nil:
			return fmt.Errorf("cli: control socket: %w", err)
		}
		if x.clients.admit(conn, x.patience) {
			go func() {
				defer x.clients.leave(conn)
				x.serve(conn)
			}()
			continue
		}
		// Never wait for a client that may not be reading.
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		conn.Write(reply(Answer{}, "% Too many sessions, try again.\n"))
		conn.Close()
	}
}

// clients are the connections that are served.
type clients struct {
	mu  sync.Mutex
	max int
	m   map[net.Conn]time.Time // since when we wait for it; zero: it waits for us
}

// admit gives conn a place; if there is none, that of the client that we have waited for
// longest, patience at least.
func (c *clients) admit(conn net.Conn, patience time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.m) >= c.max {
		var worst net.Conn
		var since time.Time
		for x, t := range c.m {
			if !t.IsZero() && now.Sub(t) >= patience && (worst == nil || t.Before(since)) {
				worst, since = x, t
			}
		}
		if worst == nil {
			return false
		}
		worst.Close() // who serves it notices
		delete(c.m, worst)
	}
	c.m[conn] = now
	return true
}

// waiting notes that we wait for conn, or not any more.
func (c *clients) waiting(conn net.Conn, is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.m[conn]; !ok {
		return
	}
	c.m[conn] = time.Time{}
	if is {
		c.m[conn] = time.Now()
	}
}

func (c *clients) leave(conn net.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, conn)
}

func (x *server) serve(conn net.Conn) {
	conn.SetDeadline(time.Now().Add(x.limit))
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	x.clients.waiting(conn, false)
	var r Request
	if err != nil || json.Unmarshal(line, &r) != nil {
		x.answer(conn, Answer{Hostname: x.x.Control.Snapshot().Hostname}, "% Bad request.\n")
		return
	}
	s, done, err := x.session(r.Session, Caller{User: userOf(conn), Source: "vty0"})
	if err != nil {
		x.answer(conn, Answer{Hostname: x.x.Control.Snapshot().Hostname}, failed(err).Error())
		return
	}
	defer done()
	a, text := Answer{OK: true}, ""
	switch {
	case r.Help:
		text = s.Help(r.Command)
	case r.Complete:
		text = s.Complete(r.Command)
	default:
		text, err = s.Run(r.Command, Options{JSON: r.JSON, Asks: r.Asks, Confirmed: r.Confirmed, Script: r.Script})
		var q *Confirm
		if err != nil {
			a.OK, a.Confirm = false, errors.As(err, &q)
			text += err.Error()
		}
	}
	a.Hostname, a.Prompt, a.Config = x.x.Control.Snapshot().Hostname, s.Prompt(), s.Configuring()
	x.answer(conn, a, text)
}

// reply is an answer on the wire.
func reply(a Answer, text string) []byte {
	a.Length = len(text)
	head, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return append(append(head, '\n'), text...)
}

// answer writes in parts: each has the time limit, so that a slow but reading client
// of a long table isn't cut off.
func (x *server) answer(conn net.Conn, a Answer, text string) {
	buf := reply(a, text)
	for len(buf) > 0 {
		n := min(len(buf), 64<<10)
		x.clients.waiting(conn, true)
		conn.SetWriteDeadline(time.Now().Add(x.limit))
		if _, err := conn.Write(buf[:n]); err != nil {
			return
		}
		buf = buf[n:]
	}
}

// Ask sends one request to the daemon behind the socket at path.
func Ask(path string, r Request) (Answer, string, error) {
	var a Answer
	conn, err := net.DialTimeout("unix", path, ioTimeout)
	if err != nil {
		return a, "", fmt.Errorf("no daemon answers at %s: %w", path, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(6 * ioTimeout))
	line, err := json.Marshal(r)
	if err != nil {
		return a, "", fmt.Errorf("cli: request: %w", err)
	}
	if len(line) >= maxRequest {
		return a, "", fmt.Errorf("the command is longer than %d octets", maxRequest)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return a, "", fmt.Errorf("cli: request: %w", err)
	}
	in := bufio.NewReader(conn)
	head, err := in.ReadBytes('\n')
	if err != nil {
		return a, "", fmt.Errorf("cli: answer: %w", err)
	}
	if err := json.Unmarshal(head, &a); err != nil || a.Length < 0 {
		return a, "", fmt.Errorf("cli: answer: bad heading")
	}
	text, err := io.ReadAll(io.LimitReader(in, int64(a.Length)))
	if err != nil {
		return a, "", fmt.Errorf("cli: answer: %w", err)
	}
	if len(text) != a.Length {
		return a, "", fmt.Errorf("cli: answer: cut off after %d of %d octets", len(text), a.Length)
	}
	return a, string(text), nil
}
