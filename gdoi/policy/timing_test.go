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

// The guide's examples, and what holds for every life.
func TestRekeyAt(t *testing.T) {
	const sec = time.Second
	for _, x := range []struct {
		life        time.Duration
		retransmits int
		interval    time.Duration
		members     int
		want        time.Duration
	}{
		{300 * sec, 3, 10 * sec, 0, 180 * sec},
		{3600 * sec, 3, 10 * sec, 0, 3210 * sec},
		{300 * sec, 3, 10 * sec, 100, 170 * sec},
		{3600 * sec, 3, 10 * sec, 100, 3200 * sec},
		{3600 * sec, 0, 0, 0, 3240 * sec},
		{300 * sec, 0, 0, 0, 210 * sec},
		{300 * sec, 0, 0, 100, 200 * sec},
		{3600 * sec, 0, 0, 100, 3230 * sec},
		{1800 * sec, 2, 10 * sec, 4, 1595 * sec},   // its case study
		{3600 * sec, 3, 10 * sec, 101, 3195 * sec}, // a third loop of 50
		{3600 * sec, 3, 10 * sec, 1, 3205 * sec},
		{899 * sec, 0, 0, 0, 809 * sec},
		{900 * sec, 0, 0, 0, 810 * sec},
		{7200 * sec, 10, 60 * sec, 10000, 4880 * sec},
		{300 * sec, 10, 60 * sec, 0, 150 * sec}, // never before half the life
		{120 * sec, 3, 10 * sec, 100, 60 * sec},
	} {
		if got := RekeyAt(x.life, x.retransmits, x.interval, x.members); got != x.want {
			t.Errorf("life %v, %d × %v, %d members: %v, want %v", x.life, x.retransmits, x.interval, x.members, got, x.want)
		}
	}
	if got := RekeyAtMeasured(3600*sec, 3, 10*sec, 700*time.Millisecond); got != 3209300*time.Millisecond {
		t.Error(got)
	}
	for life := 60 * sec; life < 30*24*time.Hour; life += life / 7 {
		for _, members := range []int{-1, 0, 1, 10000} {
			if at := RekeyAt(life, 3, 10*sec, members); at < life/2 || at > life {
				t.Errorf("life %v: at %v", life, at)
			}
			if kek := KEKRekeyAt(life, 3, 10*sec, members); kek < life/2 || kek > life/2 && kek > life-200*sec {
				t.Errorf("KEK of %v: at %v", life, kek)
			}
		}
	}
}

func TestKEKRekeyAt(t *testing.T) {
	const sec = time.Second
	for life, want := range map[time.Duration]time.Duration{
		86400 * sec: 77730 * sec, 2000 * sec: 1770 * sec, 1000 * sec: 800 * sec, 600 * sec: 400 * sec, 300 * sec: 150 * sec,
	} {
		if got := KEKRekeyAt(life, 3, 10*sec, 0); got != want {
			t.Errorf("life %v: %v, want %v", life, got, want)
		}
	}
}

func TestShortened(t *testing.T) {
	const sec = time.Second
	for _, x := range []struct{ remaining, life, want time.Duration }{
		{3000 * sec, 3600 * sec, 180 * sec},
		{100 * sec, 3600 * sec, 100 * sec},
		{3000 * sec, 900 * sec, 90 * sec},
		{60 * sec, 900 * sec, 60 * sec},
		{20 * 24 * time.Hour, 30 * 24 * time.Hour, time.Hour},
		{0, 3600 * sec, 0},
	} {
		if got := Shortened(x.remaining, x.life); got != x.want {
			t.Errorf("%v of %v: %v, want %v", x.remaining, x.life, got, x.want)
		}
	}
	if Skew(100*sec) != 30*sec || Skew(20*sec) != 20*sec {
		t.Error("skew")
	}
}
