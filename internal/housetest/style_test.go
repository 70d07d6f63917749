package housetest

// What every source file owes its readers.

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A package opens with a comment that says what it is.
func TestPackagesHaveComments(t *testing.T) {
	has, name := map[string]bool{}, map[string]string{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		name[f.pkg] = f.ast.Name.Name
		if f.ast.Doc == nil {
			continue
		}
		text := f.ast.Doc.Text()
		if strings.HasPrefix(text, "Package "+f.ast.Name.Name+" ") ||
			f.ast.Name.Name == "main" && strings.HasPrefix(text, "Command ") {
			has[f.pkg] = true
		}
	}
	for pkg, n := range name {
		if !has[pkg] {
			t.Errorf("%s: no package comment that starts with %q or, for a program, %q", pkg, "Package "+n+" ", "Command ")
		}
	}
}

// maxLines outside tests; exceptions stand here with their reason.
const maxLines = 600

var longFiles = map[string]string{}

func TestFilesAreShort(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || ast.IsGenerated(f.ast) {
			continue
		}
		if n := f.lines(); n > maxLines && longFiles[f.path] == "" {
			t.Errorf("%s has %d lines, more than %d: split it, or list it with a reason", f.path, n, maxLines)
		}
	}
}

// Nothing happens at import.
func TestNoInit(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init()", fset.Position(fn.Pos()))
			}
		}
	}
}

// State belongs to values that someone owns: a package-level variable is a table
// that nobody writes. Written means assigned, indexed into and assigned,
// incremented, or of a type that exists to be changed.
func TestNoMutablePackageState(t *testing.T) {
	type variable struct{ pkg, name string }
	declared := map[variable]token.Position{}
	//lint:ignore SA1019 syntactic resolution is all that this rule needs
	objects := map[*ast.Object]variable{}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for _, n := range v.Names {
					if n.Name == "_" {
						continue
					}
					id := variable{f.pkg, n.Name}
					declared[id] = fset.Position(n.Pos())
					objects[n.Obj] = id
					if changing(v.Type) {
						t.Errorf("%s: package-level %s is made to be changed", declared[id], n.Name)
					}
					if len(v.Values) == 0 && !embedded(g, v) {
						t.Errorf("%s: package-level %s has no value: someone must write it later", declared[id], n.Name)
					}
				}
			}
		}
	}
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			var targets []ast.Expr
			switch s := n.(type) {
			case *ast.AssignStmt:
				if s.Tok != token.DEFINE {
					targets = s.Lhs
				}
			case *ast.IncDecStmt:
				targets = []ast.Expr{s.X}
			}
			for _, x := range targets {
				id := base(x)
				if id == nil {
					continue
				}
				// An identifier of another file of the package has no object here.
				v, ok := objects[id.Obj]
				if id.Obj == nil {
					v = variable{f.pkg, id.Name}
					_, ok = declared[v]
				}
				if ok {
					t.Errorf("%s: writes package-level %s", fset.Position(x.Pos()), v.name)
				}
			}
			return true
		})
	}
}

// changing reports whether a type is a lock, an atomic or the like.
func changing(x ast.Expr) bool {
	found := false
	if x != nil {
		ast.Inspect(x, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if p, ok := s.X.(*ast.Ident); ok && (p.Name == "sync" || p.Name == "atomic") {
					found = true
				}
			}
			return true
		})
	}
	return found
}

func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, c := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if c != nil && slices.ContainsFunc(c.List, func(l *ast.Comment) bool { return strings.HasPrefix(l.Text, "//go:embed") }) {
			return true
		}
	}
	return false
}

// base returns the identifier that an assignment's target starts with.
func base(x ast.Expr) *ast.Ident {
	switch e := x.(type) {
	case *ast.Ident:
		return e
	case *ast.IndexExpr:
		return base(e.X)
	case *ast.SelectorExpr:
		return base(e.X)
	}
	return nil
}

// Only syslog writes the vendor's message tags: one happening, one emit.
func TestOnlySyslogFormatsTags(t *testing.T) {
	tag := regexp.MustCompile(`%(%)?(GDOI|CRYPTO)-`)
	for _, f := range sources(t) {
		if f.test || within(f.pkg, []string{"syslog", "internal/housetest", "internal/lab", "test"}) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && tag.MatchString(l.Value) {
				t.Errorf("%s: a log tag outside syslog: emit an event", fset.Position(l.Pos()))
			}
			return true
		})
	}
}

// The tree stands alone: nothing in it points outside.
func TestNothingPointsOutside(t *testing.T) {
	top := root(t)
	banned := []string{".." + "/shared", "/work" + "/"}
	walk(top, func(path string) {
		text, err := os.ReadFile(filepath.Join(top, path))
		if err != nil || len(text) > 2<<20 || slices.Contains(text, 0) {
			return
		}
		for _, b := range banned {
			if strings.Contains(string(text), b) {
				t.Errorf("%s mentions %s", path, b)
			}
		}
	})
}

// The README's commands exist.
func TestReadmeIsTrue(t *testing.T) {
	top := root(t)
	readme, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(string(makefile), -1) {
		targets[m[1]] = true
	}
	used := regexp.MustCompile("(?m)(?:^ *|`)make ([a-z-]+)").FindAllStringSubmatch(string(readme), -1)
	if len(used) == 0 {
		t.Error("the README names no make target")
	}
	for _, m := range used {
		if !targets[m[1]] {
			t.Errorf("the README says make %s, the Makefile has no such target", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join(top, m[1])); err != nil {
			t.Errorf("the README links to %s: %v", m[1], err)
		}
	}
}
