package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/cluster"
)

var (
	date    = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	changed = []change{{"added", "A thing."}}
)

// Two builds in two folders give the same bytes, and so do two releases of them. The
// second program stands for the one for Windows, which would take a minute to build.
func TestSameBytes(t *testing.T) {
	root := project(t)
	var releases [2][]digested
	var images [2]string
	for i := range releases {
		built, err := buildAll(context.Background(), root, "0.2.0", t.TempDir(), inImage[:1])
		if err != nil {
			t.Fatal(err)
		}
		built = append(built, onWindows(t, built[0]))
		folder := t.TempDir()
		if err := write(root, "0.2.0", folder, "", built, commit{strings.Repeat("a", 40), date}, changed); err != nil {
			t.Fatal(err)
		}
		if releases[i], err = filesOf(folder); err != nil {
			t.Fatal(err)
		}
		if images[i], err = digestOf(filepath.Join(folder, "image", "index.json")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			holdsTogether(t, folder, releases[0])
		}
	}
	if diff := cmp.Diff(releases[0], releases[1], cmp.AllowUnexported(digested{})); diff != "" || images[0] != images[1] {
		t.Errorf("two runs differ (images %v):\n%s", images, diff)
	}
}

// onWindows returns a program packed as the one for Windows.
func onWindows(t *testing.T, b binary) binary {
	t.Helper()
	file := filepath.Join(t.TempDir(), "spark-vitals.exe")
	if err := os.Link(b.file, file); err != nil {
		t.Fatal(err)
	}
	return binary{platform{"windows", "amd64"}, file, b.info}
}

// holdsTogether checks that what each file of a release says about the others is true.
func holdsTogether(t *testing.T, folder string, files []digested) {
	t.Helper()
	digests := map[string]string{}
	var sums strings.Builder
	for _, f := range files {
		digests[f.name] = f.digest
		if f.name != "SHA256SUMS" {
			sums.WriteString(f.digest + "  " + f.name + "\n")
		}
	}
	const linux, windows = "spark-vitals_0.2.0_linux_amd64.tar.gz", "spark-vitals_0.2.0_windows_amd64.zip"
	if got := read(t, folder, "SHA256SUMS"); got != sums.String() {
		t.Errorf("SHA256SUMS:\n%s", cmp.Diff(sums.String(), got))
	}

	var plugin struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       struct {
			Version, Homepage, ShortDescription, Description string
			Platforms                                        []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, Sha256, Bin string
			}
		}
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, folder, "spark-vitals.yaml")), &plugin); err != nil {
		t.Fatal(err)
	}
	if p := plugin.Spec.Platforms; len(p) != 2 || p[0].Sha256 != digests[linux] || p[1].Sha256 != digests[windows] ||
		!strings.HasSuffix(p[0].URI, "/v0.2.0/"+linux) || p[0].Bin != "spark-vitals" || p[1].Bin != "spark-vitals.exe" {
		t.Errorf("the manifest for krew has the platforms %+v", p)
	}

	var statement struct {
		Subject []struct {
			Name   string
			Digest map[string]string
		}
	}
	if err := json.Unmarshal([]byte(read(t, folder, "provenance.intoto.json")), &statement); err != nil {
		t.Fatal(err)
	}
	var subjects []string
	for _, s := range statement.Subject {
		subjects = append(subjects, s.Name)
		if s.Name != "image" && s.Digest["sha256"] != digests[s.Name] {
			t.Errorf("the provenance has %s of %s", s.Digest, s.Name)
		}
	}
	for name := range digests {
		if name != "SHA256SUMS" && name != "provenance.intoto.json" && !slices.Contains(subjects, name) {
			t.Errorf("the provenance does not name %s", name)
		}
	}

	c, err := loader.Load(filepath.Join(folder, "spark-vitals-0.2.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Metadata.AppVersion != "0.2.0" || c.Metadata.Annotations["artifacthub.io/changes"] != "- description: A thing.\n  kind: added\n" {
		t.Errorf("the chart is %+v", c.Metadata)
	}

	for name, want := range map[string][]string{linux: {"spark-vitals", "LICENSE"}, windows: {"spark-vitals.exe", "LICENSE"}, "spark-vitals-0.2.0.tgz": nil} {
		names, dates := unpack(t, filepath.Join(folder, name))
		if want != nil && !slices.Equal(names, want) {
			t.Errorf("%s holds %v", name, names)
		}
		for _, d := range dates {
			if !d.Equal(date) {
				t.Errorf("%s has a file of %s", name, d)
			}
		}
	}
}

func unpack(t *testing.T, file string) (names []string, dates []time.Time) {
	t.Helper()
	if strings.HasSuffix(file, ".zip") {
		r, err := zip.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, f := range r.File {
			names, dates = append(names, f.Name), append(dates, f.Modified)
		}
		return names, dates
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, dates
		}
		if err != nil {
			t.Fatal(err)
		}
		if names = append(names, header.Name); header.Name == "spark-vitals" && header.Mode != 0o755 {
			t.Errorf("the program has the mode %o", header.Mode)
		}
		dates = append(dates, header.ModTime)
	}
}

// The list of changes is of the version alone, and must exist.
func TestChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "CHANGELOG.md")
	text := "# Changelog\n\n## [Unreleased]\n### Fixed\n- `a` works.\n\n## [0.2.0] - 2026-11-29\n### Added\n- B.\n- C.\n\n### Changed\n- D.\n\n## [0.1.0]\n- E.\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string][]change{
		"0.2.0":      {{"added", "B."}, {"added", "C."}, {"changed", "D."}},
		"0.3.0-rc.1": {{"fixed", "`a` works."}},
		"0.3.0":      nil,
	} {
		got, err := changesOf(file, semver.MustParse(version))
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (want != nil) {
			t.Errorf("%s: %v\n%s", version, err, diff)
		}
	}
	if _, err := changesOf(filepath.Join(project(t), "CHANGELOG.md"), semver.MustParse("9.9.9-rc.1")); err != nil {
		t.Error(err)
	}
}

// A version that Helm or krew would refuse is refused before anything is built.
func TestVersion(t *testing.T) {
	for _, version := range []string{"v0.2.0", "0.2", "0f5c28-dirty", ""} {
		if err := release(context.Background(), version, t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "VERSION") {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// Nothing is released from uncommitted files.
func TestCommit(t *testing.T) {
	of := func(modified string) *buildinfo.BuildInfo {
		return &buildinfo.BuildInfo{Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "aff1f0f"}, {Key: "vcs.time", Value: "2026-11-29T12:00:00Z"}, {Key: "vcs.modified", Value: modified},
		}}
	}
	if got, err := commitOf(of("false")); err != nil || got != (commit{"aff1f0f", date}) {
		t.Errorf("%v: %v", got, err)
	}
	for _, info := range []*buildinfo.BuildInfo{of("true"), {}} {
		if got, err := commitOf(info); err == nil {
			t.Errorf("%v is accepted", got)
		}
	}
}

func project(t *testing.T) string {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func read(t *testing.T, folder, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The chart of a release has what Artifact Hub reads: our icon, links, and the image.
func TestChart(t *testing.T) {
	folder := t.TempDir()
	if err := writeChart("0.2.0", folder, "registry.example.com/data", date, changed); err != nil {
		t.Fatal(err)
	}
	c, err := loader.Load(filepath.Join(folder, "spark-vitals-0.2.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	const raw = "https://raw.githubusercontent.com/spark-vitals/spark-vitals/main/"
	icon, found := strings.CutPrefix(c.Metadata.Icon, raw)
	if _, err := os.Stat(filepath.Join(project(t), icon)); !found || err != nil {
		t.Errorf("the icon %s is none of ours: %v", c.Metadata.Icon, err)
	}
	var links []struct{ Name, URL string }
	if err := yaml.UnmarshalStrict([]byte(c.Metadata.Annotations["artifacthub.io/links"]), &links); err != nil || len(links) == 0 {
		t.Errorf("links %v: %v", links, err)
	}
	for _, link := range links {
		page, found := strings.CutPrefix(link.URL, home+"/blob/main/")
		file, _, _ := strings.Cut(page, "#")
		if _, err := os.Stat(filepath.Join(project(t), file)); found && err != nil {
			t.Errorf("the link %s: %v", link.Name, err)
		}
	}
	var images []struct {
		Name, Image string
		Platforms   []string
	}
	if err := yaml.UnmarshalStrict([]byte(c.Metadata.Annotations["artifacthub.io/images"]), &images); err != nil || len(images) != 1 || images[0].Image != "registry.example.com/data/spark-vitals:0.2.0" {
		t.Errorf("images %v: %v", images, err)
	}
}
