package sealed

// Where the key comes from: a systemd credential, else a file of our own.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"getvpn/internal/secret"
)

const (
	// Credential is the name of the systemd credential.
	Credential = "getvpn.state-key"
	// KeyFile is the name of the key's file in the state directory.
	KeyFile = "state-key"
	// maxKey bounds what is read, in octets.
	maxKey = 4096
)

// Files is how files get to disk. WriteFile is atomic and durable and makes files that
// only their owner can read: when it returns nil the content survives a crash, and a
// crash during it leaves the old content or the new.
type Files interface {
	ReadFile(path string) ([]byte, error)
	WriteFile(path string, data []byte) error
	Remove(path string) error // fs.ErrNotExist when there is none
}

// LoadKey takes the credential in the directory credentials ($CREDENTIALS_DIRECTORY; ""
// is none), else the key in dir, which it makes when there is none. from says which.
// A key that somebody else can read or change is refused.
func LoadKey(files Files, rand io.Reader, credentials, dir string) (k *Key, from string, err error) {
	if credentials != "" {
		path := filepath.Join(credentials, Credential)
		// systemd decides who may read it: its modes and ACLs are its own.
		switch k, err := readKey(path, nil); {
		case err == nil:
			return k, "credential " + Credential, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, "", fmt.Errorf("state key: credential %s: %w", Credential, err)
		}
	}
	path := filepath.Join(dir, KeyFile)
	k, err = readKey(path, private)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = makeKey(files, rand, path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("state key %s: %w", path, err)
	}
	return k, path, nil
}

func makeKey(files Files, rand io.Reader, path string) (*Key, error) {
	b := make(secret.Bytes, KeyLen)
	defer b.Zero()
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("random octets: %w", err)
	}
	if err := files.WriteFile(path, b); err != nil {
		return nil, err
	}
	return NewKey(b)
}

// readKey reads a key from a regular file that check, if not nil, agrees with.
func readKey(path string, check func(*unix.Stat_t) error) (*Key, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil { // of what is read, not of what has the name now
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("not a regular file")
	}
	if check != nil {
		if err := check(&st); err != nil {
			return nil, err
		}
	}
	buf := make(secret.Bytes, maxKey+1)
	defer buf.Zero()
	n, err := io.ReadFull(f, buf)
	switch {
	case n > maxKey:
		return nil, fmt.Errorf("more than %d octets", maxKey)
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		return nil, err
	}
	return NewKey(buf[:n])
}

// private agrees with files of ours that nobody else can read.
func private(st *unix.Stat_t) error {
	if me := uint32(os.Geteuid()); st.Uid != me {
		return fmt.Errorf("owned by user %d, not by %d: remove it for a new one", st.Uid, me)
	}
	if m := st.Mode & 0o777; m&0o077 != 0 {
		return fmt.Errorf("mode %04o lets others in, need 0600: what it sealed may be known, remove it for a new one", m)
	}
	return nil
}
