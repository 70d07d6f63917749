package cli

// Sessions between the commands of a client, and who that client is. A client holds no
// connection while a person thinks: the session is found again by its name. Only one
// that is in configuration mode is worth remembering.

import (
	"fmt"
	"net"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxSessions = 256              // in configuration mode, or at a command, at once
	idleSession = 10 * time.Minute // then its changes are dropped, as the device's exec-timeout does
	minName     = 16               // octets of a session's name
)

// server is what the control socket's clients share.
type server struct {
	x        *Exec
	clients  clients
	limit    time.Duration // see ioTimeout
	patience time.Duration

	mu       sync.Mutex
	sessions map[string]*remembered
}

type remembered struct {
	s    *Session
	used time.Time
	busy int
}

// session finds or begins the session of that name; done is called when its command
// has been answered.
func (x *server) session(name string, by Caller) (s *Session, done func(), err error) {
	if name == "" {
		return x.x.NewSession(by), func() {}, nil
	}
	if len(name) < minName {
		return nil, nil, fmt.Errorf("the name of a session has %d octets or more", minName)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	for n, r := range x.sessions {
		if r.busy == 0 && now.Sub(r.used) > idleSession {
			delete(x.sessions, n)
		}
	}
	r := x.sessions[name]
	switch {
	case r != nil && r.s.by.User != by.User:
		return nil, nil, fmt.Errorf("this session is another user's")
	case r == nil && len(x.sessions) >= maxSessions:
		return nil, nil, fmt.Errorf("too many sessions are in configuration mode, try again")
	case r == nil:
		by.Source = "vty" + strconv.Itoa(x.freeLine())
		r = &remembered{s: x.x.NewSession(by)}
		x.sessions[name] = r
	}
	r.busy++
	return r.s, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if r.used, r.busy = time.Now(), r.busy-1; r.busy == 0 && !r.s.Configuring() {
			delete(x.sessions, name)
		}
	}, nil
}

// freeLine is the lowest number that no session has; the caller holds the lock.
func (x *server) freeLine() int {
	taken := map[string]bool{}
	for _, r := range x.sessions {
		taken[r.s.by.Source] = true
	}
	n := 0
	for taken["vty"+strconv.Itoa(n)] {
		n++
	}
	return n
}

// userOf is the name of the user at the other end of a unix socket.
func userOf(conn net.Conn) string {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return "unknown"
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "unknown"
	}
	uid := -1
	if err := raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(c.Uid)
		}
	}); err != nil || uid < 0 {
		return "unknown"
	}
	if x, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return x.Username
	}
	return "uid " + strconv.Itoa(uid)
}
