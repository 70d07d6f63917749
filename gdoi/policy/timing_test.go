package policy

import (
	"testing"
	"time"
)

func TestReceiversHoldTheSuccessorFirst(t *testing.T) {
	const sec = time.Second
	for life := 60 * sec; life <= 30*24*time.Hour; life += max(sec, life/200) {
		ready := ReadyBefore(life)
		last, jitter := Window(life)
		if ready < last+jitter+3*sec && ready < life/2 {
			t.Errorf("life %v: successor ready %v before the end, first member comes at %v", life, ready, last+jitter)
		}
		if last+jitter > ready {
			t.Errorf("life %v: members come %v before the end, successor is ready %v before", life, last+jitter, ready)
		}
		if ready > life/2 {
			t.Errorf("life %v: ready before half of it", life)
		}
		// The latest member: registered a moment before the successor was there.
		late, _ := Window(ready)
		if late < SwitchBefore(life)+3*sec {
			t.Errorf("life %v: a member may get the successor %v before the end, others send with it from %v", life, late, SwitchBefore(life))
		}
	}
}

func TestVendorNumbers(t *testing.T) {
	if last, j := Window(3600 * time.Second); last != 60*time.Second || j != 300*time.Second {
		t.Error(last, j)
	}
	if SwitchBefore(time.Hour) != 30*time.Second || Offset(300*time.Second) != 90*time.Second || Offset(time.Hour) != 360*time.Second {
		t.Error("guide's numbers")
	}
}

// The delays of a rollover travel in the GAP, with interop too: they are the RFC's.
func TestRolloverDelaysRoundTrip(t *testing.T) {
	for _, interop := range []bool{false, true} {
		o := &Offer{Activation: 12 * time.Second, Deactivation: 17 * time.Second}
		sa, err := o.SA(interop)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeSA(sa)
		if err != nil || got.Activation != o.Activation || got.Deactivation != o.Deactivation {
			t.Errorf("interop %v: %v and %v, %v", interop, got.Activation, got.Deactivation, err)
		}
	}
}
