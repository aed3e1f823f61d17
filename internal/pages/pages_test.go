package pages

import (
	"slices"
	"testing"
)

func TestRead(t *testing.T) {
	p, err := read("x.md", []byte("# What `it` does, and\n"+
		"See [it](a.md#b), ![](c.svg), `make image`, `make` and `spark-vitals.io/x`.\n\n"+
		"    kubectl get pod   # all\n    cd e2e && go run ./setup images | x -y > file\n\n"+
		"```json\n{\"make\": 1}\n```\n\n| a |\n|---|\n| `helm upgrade` [t](t.md) |\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.Commands {
		got = append(got, c.String())
	}
	if want := []string{"make image", "kubectl get pod", "cd e2e", "go run ./setup images", "x -y", "helm upgrade"}; !slices.Equal(got, want) {
		t.Errorf("commands %q", got)
	}
	if !p.Commands[0].InText || p.Commands[1].InText {
		t.Error("a sentence is not told from a block")
	}
	if want := []string{"a.md#b", "c.svg", "t.md"}; !slices.Equal(p.Links, want) {
		t.Errorf("links %q", p.Links)
	}
	if want := []string{"what-it-does-and"}; !slices.Equal(p.Anchors, want) {
		t.Errorf("anchors %q", p.Anchors)
	}
}
