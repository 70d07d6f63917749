package event

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every <name> of a row's format is a field of its event and every field is used;
// no two events share a mnemonic.
func TestCatalogueRowsMatchTheirFields(t *testing.T) {
	var decls []ast.Decl
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "event.go" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		decls = append(decls, f.Decls...)
	}
	types := map[string][]string{}
	for _, d := range decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		s := g.Specs[0].(*ast.TypeSpec)
		types[s.Name.Name] = nil
		for _, fl := range s.Type.(*ast.StructType).Fields.List {
			types[s.Name.Name] = append(types[s.Name.Name], strings.Trim(fl.Tag.Value, "`"))
		}
	}
	seen := map[string]string{}
	placeholder := regexp.MustCompile(`<(\w+)>`)
	for _, d := range decls {
		m, ok := d.(*ast.FuncDecl)
		if !ok || m.Name.Name != "Row" {
			continue
		}
		name := m.Recv.List[0].Type.(*ast.Ident).Name
		lit := m.Body.List[0].(*ast.ReturnStmt).Results[0].(*ast.CompositeLit)
		val := func(i int) string { return strings.Trim(lit.Elts[i].(*ast.BasicLit).Value, `"`) }
		key := val(0) + "-" + val(2)
		if o, dup := seen[key]; dup {
			t.Errorf("%s and %s share %s", o, name, key)
		}
		seen[key] = name
		used := map[string]bool{}
		for _, p := range placeholder.FindAllStringSubmatch(val(3), -1) {
			used[fmt.Sprintf(`f:"%s"`, p[1])] = true
		}
		for _, tag := range types[name] {
			// A count of packets stands beside the vendor's text, never in it.
			if !used[tag] && tag != `f:"packets"` {
				t.Errorf("%s: field %s isn't in %q", name, tag, val(3))
			}
			delete(used, tag)
		}
		if len(used) > 0 {
			t.Errorf("%s: no field for %v", name, used)
		}
		delete(types, name)
	}
	if len(types) > 0 || len(seen) < 40 {
		t.Errorf("types without a row: %v; rows %d", types, len(seen))
	}
}

func TestFullSinkLosesAndCountsAndNeverBlocks(t *testing.T) {
	b := NewBus()
	small, large := b.Subscribe("small", 1), b.Subscribe("large", 8)
	for range 3 {
		b.Emit(GMUnregister{Group: "g"})
	}
	b.Emit(KSHashFail{GM: netip.MustParseAddr("10.0.0.1")})
	if small.Dropped() != 3 || large.Dropped() != 0 {
		t.Fatalf("dropped %d and %d, want 3 and 0", small.Dropped(), large.Dropped())
	}
	b.Close()
	var seqs []uint64
	for r := range large.C() {
		seqs = append(seqs, r.Seq)
	}
	if fmt.Sprint(seqs) != "[1 2 3 4]" {
		t.Errorf("sequence %v", seqs)
	}
}
