package daemon

// Downloaded lists in the state directory, so that a member that starts again drops
// what the process before it protected. No keys.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"getvpn/config"
	"getvpn/gdoi/gm"
	"getvpn/gdoi/ks"
	"getvpn/ipsec"
)

// listFile is one group's file.
type listFile struct {
	path     string
	identity string // a list of another identity is another group's
}

var _ gm.Memory = listFile{}

// list is the file's content.
type list struct {
	Identity string
	Entries  []ipsec.ACE
}

const listPrefix, listSuffix = "list-", ".json"

func listPath(dir, group string) string {
	return filepath.Join(dir, listPrefix+url.PathEscape(group)+listSuffix)
}

func newMemory(dir string, g *config.Group) listFile {
	id := g.Address.String()
	if g.HasNumber {
		id = fmt.Sprint(g.Number)
	}
	return listFile{listPath(dir, g.Name), id}
}

func (m listFile) Load() ([]ipsec.ACE, error) {
	b, err := ks.Disk{}.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l list
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	if l.Identity != m.identity {
		return nil, nil
	}
	return l.Entries, nil
}

func (m listFile) Save(entries []ipsec.ACE) error {
	b, err := json.Marshal(list{m.identity, entries})
	if err != nil {
		return err
	}
	return ks.Disk{}.WriteFile(m.path, b)
}

func (m listFile) Forget() error {
	if err := os.Remove(m.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forgetOthers removes the lists of groups that aren't among setups: what was taken out
// of the configuration protects nothing any more.
func forgetOthers(dir string, setups []memberSetup) error {
	keep := map[string]bool{}
	for _, s := range setups {
		keep[listPath(dir, s.Group.Name)] = true
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range found {
		p := filepath.Join(dir, f.Name())
		if strings.HasPrefix(f.Name(), listPrefix) && strings.HasSuffix(f.Name(), listSuffix) && !keep[p] {
			errs = append(errs, os.Remove(p))
		}
	}
	return errors.Join(errs...)
}
