package ks

import (
	"bytes"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"getvpn/gdoi"
	"getvpn/internal/sealed"
	"getvpn/internal/secret"
	"getvpn/ipsec"
)

// fill puts something into every field, so that a field that the codec forgets shows.
func fill(r *rand.Rand, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		if r.IntN(5) > 0 {
			*x = time.Unix(0, r.Int64N(1<<62))
		}
		return
	case *netip.Addr:
		*x = netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		if r.IntN(2) == 0 {
			*x = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", r.IntN(65536)))
		}
		return
	case *netip.AddrPort:
		var a netip.Addr
		fill(r, reflect.ValueOf(&a).Elem())
		*x = netip.AddrPortFrom(a, uint16(r.Uint32()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Slice:
		n := r.IntN(4)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = 1 + r.IntN(40)
		}
		if n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("Ä %d", r.Uint64()))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(r.Uint64()))
	default:
		panic("fill: " + v.Kind().String())
	}
}

// sensible makes a filled value one that check agrees with.
func sensible(r *rand.Rand, d *durable) {
	for i := range d.Entries {
		for j := range d.Entries[i].TEKs {
			t := &d.Entries[i].TEKs[j]
			t.SPI |= 256
			t.Transform = []ipsec.Transform{cbc128, gcm128, {Cipher: ipsec.Cipher3DES, Auth: ipsec.AuthSHA1, Mode: ipsec.Transport}}[r.IntN(3)]
			t.Replay.Mode = ipsec.ReplayMode(r.IntN(3))
			t.Key, t.AuthKey = someOctets(r, t.Transform.CipherKeyLen()), someOctets(r, t.Transform.AuthKeyLen())
			t.Lifetime = t.Lifetime&(1<<62-1) + 1
		}
	}
	for i := range d.Members {
		d.Members[i].Row.KeyServer = netip.Addr{} // Origin says it
	}
	d.Ord |= 1 << 10
	for i := range d.KEKs {
		k := &d.KEKs[i]
		k.Ord, k.Cipher, k.KeyBits = uint32(2*i+1), gdoi.KEKAESCBC, 256
		k.Key, k.IV = someOctets(r, 32), someOctets(r, 16)
		k.Lifetime = k.Lifetime&(1<<62-1) + 1
	}
}

func someOctets(r *rand.Rand, n int) secret.Bytes {
	if n == 0 {
		return nil
	}
	b := make(secret.Bytes, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func someState(seed uint64) durable {
	r := rand.New(rand.NewPCG(seed, 7))
	var d durable
	fill(r, reflect.ValueOf(&d).Elem())
	sensible(r, &d)
	return d
}

// What is read is what was written, every field of it; nothing shorter or longer is read.
func TestStateCodecKeepsEverything(t *testing.T) {
	for seed := range uint64(300) {
		d := someState(seed)
		b, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeState(b)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !reflect.DeepEqual(got, d) {
			t.Fatalf("seed %d: something is lost", seed)
		}
		if seed > 20 {
			continue
		}
		for n := range b {
			if _, err := decodeState(b[:n]); err == nil {
				t.Fatalf("seed %d: %d of %d octets parse", seed, n, len(b))
			}
		}
		if _, err := decodeState(append(bytes.Clone(b), 0)); err == nil {
			t.Error("an octet too much parses")
		}
		b[0]++
		if _, err := decodeState(b); err == nil {
			t.Error("a later form parses")
		}
	}
}

// Ten thousand members are some hundred octets each, far below what a file may have.
func TestStateSize(t *testing.T) {
	d := someState(1)
	r := rand.New(rand.NewPCG(2, 2))
	d.Members = nil
	for range 10000 {
		var m durableMember
		fill(r, reflect.ValueOf(&m).Elem())
		d.Members = append(d.Members, m)
	}
	b, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	each := len(b) / len(d.Members)
	t.Logf("%d octets a member with the largest numbers", each)
	if 2*each*maxMembers > maxFile {
		t.Errorf("%d members don't fit into a file", maxMembers)
	}
}

// What a group can't work with is refused even when it is well formed.
func TestStateThatCantBe(t *testing.T) {
	for name, edit := range map[string]func(*durable){
		"short key":        func(d *durable) { d.Entries[0].TEKs[0].Key = d.Entries[0].TEKs[0].Key[1:] },
		"no such auth":     func(d *durable) { d.Entries[0].TEKs[0].Transform.Auth = 99 },
		"reserved SPI":     func(d *durable) { d.Entries[0].TEKs[0].SPI = 255 },
		"KEK order":        func(d *durable) { d.KEKs[0].Ord = 0 },
		"later KEK":        func(d *durable) { d.KEKs[0].Ord = d.Ord + 1 },
		"KEK of no length": func(d *durable) { d.KEKs[0].Key = nil },
		"nowhere":          func(d *durable) { d.Members = []durableMember{{}} },
	} {
		d := durable{Ord: 1, Entries: []durableEntry{{Seq: 1, TEKs: []durableTEK{{SPI: 256, Transform: cbc128, Lifetime: 1,
			Key: make(secret.Bytes, 16), AuthKey: make(secret.Bytes, 32)}}}},
			KEKs: []durableKEK{{Ord: 1, Cipher: gdoi.KEKAESCBC, KeyBits: 128, Lifetime: 1, Key: make(secret.Bytes, 16), IV: make(secret.Bytes, 16)}}}
		b, _ := d.encode()
		if _, err := decodeState(b); err != nil {
			t.Fatal(err)
		}
		edit(&d)
		b, _ = d.encode()
		if _, err := decodeState(b); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	for seed := range uint64(4) {
		d := someState(seed)
		b, _ := d.encode()
		f.Add([]byte(b))
	}
	f.Add([]byte{stateVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeState(again)
		if err != nil || !reflect.DeepEqual(d, got) {
			t.Errorf("what was read can't be written and read again: %v", err)
		}
	})
}

// BenchmarkSaveState saves a group of ten thousand members to a disk.
func BenchmarkSaveState(b *testing.B) {
	d := someState(1)
	r := rand.New(rand.NewPCG(2, 2))
	d.Members = nil
	for range 10000 {
		var m durableMember
		fill(r, reflect.ValueOf(&m).Elem())
		d.Members = append(d.Members, m)
	}
	k, err := sealed.NewKey(bytes.Repeat([]byte("key "), 8))
	if err != nil {
		b.Fatal(err)
	}
	st := &State{}
	st.Use(&sealed.Store{Files: Disk{}, Key: k, Dir: b.TempDir(), Rand: crand.Reader})
	for b.Loop() {
		if err := st.save("g", d); err != nil {
			b.Fatal(err)
		}
	}
}
