package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	os.WriteFile(good, []byte("hostname r1\n"), 0o600)
	os.WriteFile(bad, []byte("hostname r1\ncrypto gdoi nonsense\n"), 0o600)
	lost, open := filepath.Join(dir, "lost"), filepath.Join(dir, "open")
	os.WriteFile(lost, []byte("hostname r1\ninterface wan\n crypto map NONE\n"), 0o600)
	os.WriteFile(open, []byte("crypto isakmp key s3cret address 10.0.0.1\n"), 0o644)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--version"}, exitOK, "getvpnd"},
		{[]string{"--help"}, exitOK, "-config"},
		{[]string{"--nonsense"}, exitUsage, "nonsense"},
		{[]string{"extra"}, exitUsage, "extra"},
		{[]string{"--check", "--config", good}, exitOK, ""},
		{[]string{"--check", "--config", bad}, exitConfig, ":2"},
		{[]string{"--check", "--config", lost}, exitConfig, lost + ":2: interface wan: there is no crypto map NONE"},
		{[]string{"--check", "--config", open}, exitOK, "mode 0644 lets others read"},
		{[]string{"--check", "--config", filepath.Join(dir, "none")}, exitFailure, "no such file"},
	} {
		var out bytes.Buffer
		if code := run(c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.says) {
			t.Errorf("%v: exit code %d, said %q", c.args, code, out.String())
		}
	}
}
