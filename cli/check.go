package cli

// Judging a configuration file without a daemon.

import (
	"fmt"
	"strings"

	"getvpn/config"
)

// Check reads and validates a file. The report lists warnings; the error tells every
// line that is wrong.
func Check(name string, text []byte) (string, error) {
	c, warnings, err := config.Parse(name, text)
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "%s\n", w)
	}
	if err != nil {
		return b.String(), err
	}
	err = config.Problems(name, c)
	if err == nil {
		b.WriteString(octets(config.New(), c))
		fmt.Fprintf(&b, "%s: no errors\n", name)
	}
	return b.String(), err
}
