package cli

import (
	"regexp"
	"testing"

	"getvpn/model"
)

// Behind a rollover the KEK before is shown for as long as it opens rekeys.
func TestPreviousKEKIsShown(t *testing.T) {
	f := fixture(t)
	f.snap.Members[0].PreviousKEK = &model.KEK{SPI: [16]byte{0xAA, 0xBB, 0xCC, 0xDD, 8: 0x11, 0x22, 0x33, 0x44}, Seq: 7, Unicast: true}
	got := run(t, f, "show crypto gdoi gm rekey detail")
	if !regexp.MustCompile(`(?m)^Previous: \d+\.\S+ +\d+\.\S+ +\d+ +AABBCCDD +11223344$`).MatchString(got) {
		t.Errorf("%s", got)
	}
}
