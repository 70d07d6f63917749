package secret

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestNeverPrinted(t *testing.T) {
	type holder struct {
		Name string
		Key  Bytes
	}
	b := Bytes("hunter2!")
	h := holder{"k", b}
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		fmt.Sprint(b), fmt.Sprintf("%s|%v|%+v|%#v|%x|%X|%q|%d", b, b, b, b, b, b, b, b),
		fmt.Sprintf("%v %+v %#v", h, h, &h), string(j), fmt.Errorf("x %v: %w", b, errors.New("y")).Error(),
	} {
		for _, leak := range []string{"hunter2", "68756e", "68756E", "104 117"} {
			if strings.Contains(s, leak) {
				t.Errorf("%q shows the secret", s)
			}
		}
		if !strings.Contains(s, redacted) {
			t.Errorf("%q doesn't say that it hides something", s)
		}
	}
}

func TestCloneAndZero(t *testing.T) {
	b := Bytes{1, 2, 3}
	c := b.Clone()
	b.Zero()
	if !c.Equal(Bytes{1, 2, 3}) || !b.Equal(Bytes{0, 0, 0}) || c.Equal(b) || c.Equal(c[:2]) {
		t.Errorf("clone %v zeroed %v", []byte(c), []byte(b))
	}
}
