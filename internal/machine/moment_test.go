package machine

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReadMoment(t *testing.T) {
	dir := t.TempDir()
	for p, s := range map[string]string{rtcEpoch: "1700000000\n", fwcfgGenID: "\x01\x02"} {
		os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755)
		os.WriteFile(filepath.Join(dir, p), []byte(s), 0o644)
	}
	m := ReadMoment(dir)
	if m.RTC != 1700000000 || m.GenID != "0102" || m.Awake <= 0 || m.Boot < m.Awake-time.Second || time.Since(m.Wall).Abs() > time.Minute {
		t.Errorf("%+v", m)
	}
	if m = ReadMoment(t.TempDir()); m.RTC != 0 || m.GenID != "" {
		t.Errorf("%+v", m)
	}
}
