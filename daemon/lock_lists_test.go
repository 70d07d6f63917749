package daemon

import (
	"path/filepath"
	"testing"
	"testing/synctest"

	"getvpn/ipsec"
)

// At boot an interface is closed for what its groups protected before.
func TestPolicyAtBoot(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, k, m := pair(t, dir)
		k.d.Stop()
		m.d.Stop()
		c, err := load(m.file, m.out)
		if err != nil {
			t.Fatal(err)
		}
		setups, err := memberSetups(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := atStart(t.TempDir(), setups); len(got) != 0 {
			t.Errorf("a member that never was: %+v", got)
		}
		got := atStart(filepath.Join(dir, "198.51.100.1"), setups)
		if len(got) != 2 || got[0].State != ipsec.Registered || got[0].Interface != "wan" || len(got[0].Entries) != 2 {
			t.Errorf("%+v", got)
		}
	})
}
