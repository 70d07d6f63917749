package cli

// Judging a configuration file without a daemon.

import (
	"errors"
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
	errs := config.Validate(c)
	for i, e := range errs {
		var v *config.ValidationError
		if errors.As(e, &v) && v.Line > 0 {
			errs[i] = fmt.Errorf("%s:%d: %s", name, v.Line, v.Text)
		}
	}
	if len(errs) == 0 {
		fmt.Fprintf(&b, "%s: no errors\n", name)
	}
	return b.String(), errors.Join(errs...)
}
