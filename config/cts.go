package config

// "cts manual" on an interface: tags in the frames of a link. Its lines are kept as they
// are written; what of them matters here is read from there.

import (
	"slices"
	"strconv"
	"strings"
)

// CTSManual is what an interface does with tags in the frames that it receives.
type CTSManual struct {
	Static  uint16 // policy static sgt N: the tag of what comes without one; 0: none
	Trusted bool   // … trusted: what comes with a tag keeps it
}

// CTS is the interface's "cts manual"; false if it has none. Without "policy static" tags
// are taken as they come.
func (i *Interface) CTS() (c CTSManual, ok bool) {
	n := slices.Index(i.Kept, ctsManual)
	if n < 0 {
		return c, false
	}
	for _, line := range i.Kept[n+1:] {
		if !strings.HasPrefix(line, " ") {
			break
		}
		w := strings.Fields(line)
		if len(w) < 4 || w[0] != "policy" || w[1] != "static" || w[2] != "sgt" {
			continue
		}
		if tag, err := strconv.ParseUint(w[3], 10, 16); err == nil && tag > 0 {
			c = CTSManual{Static: uint16(tag), Trusted: len(w) == 5 && w[4] == "trusted"}
		}
	}
	return c, true
}
