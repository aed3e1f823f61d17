package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"helm.sh/helm/v4/pkg/chart/v2/util"
	"sigs.k8s.io/yaml"

	"github.com/spark-vitals/spark-vitals/e2e/helm"
)

// change is a line of CHANGELOG.md, as Artifact Hub shows it.
type change struct {
	Kind        string `json:"kind"`
	Description string `json:"description"`
}

// writeChart packs the chart as "helm package --version --app-version" does, with
// what changed as an annotation. All dates are that of the commit.
func writeChart(version, folder, registry string, date time.Time, changed []change) error {
	c, err := helm.Chart()
	if err != nil {
		return err
	}
	c.Metadata.Version, c.Metadata.AppVersion = version, version
	annotations := map[string]any{"artifacthub.io/changes": changed}
	if registry != "" {
		annotations["artifacthub.io/images"] = []map[string]any{{
			"name": "spark-vitals", "image": registry + "/spark-vitals:" + version,
			"platforms": []string{"linux/amd64", "linux/arm64"},
		}}
	}
	for key, value := range annotations {
		text, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		c.Metadata.Annotations[key] = string(text)
	}
	c.ModTime, c.SchemaModTime = date, date
	for _, file := range append(append(c.Raw, c.Templates...), c.Files...) {
		file.ModTime = date
	}
	_, err = util.Save(c, folder)
	return err
}

var (
	section = regexp.MustCompile(`(?m)^## \[([^\]]+)\].*$`)
	kind    = regexp.MustCompile(`^### (Added|Changed|Deprecated|Removed|Fixed|Security)$`)
)

// changesOf reads what CHANGELOG.md says about a version; for a test version such as
// 0.2.0-rc.1, what is not released yet.
func changesOf(file string, version *semver.Version) (all []change, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	name := version.String()
	if version.Prerelease() != "" {
		name = "Unreleased"
	}
	lines, found := sectionOf(string(text), name)
	if !found {
		return nil, fmt.Errorf("CHANGELOG.md has no section [%s]: give what is under [Unreleased] that heading", name)
	}
	of := ""
	for _, line := range strings.Split(lines, "\n") {
		if m := kind.FindStringSubmatch(line); m != nil {
			of = strings.ToLower(m[1])
		} else if text, found := strings.CutPrefix(line, "- "); found {
			all = append(all, change{of, text})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("CHANGELOG.md says nothing of what changed in [%s]", name)
	}
	return all, nil
}

func sectionOf(text, name string) (lines string, found bool) {
	headings := section.FindAllStringSubmatchIndex(text, -1)
	for i, h := range headings {
		if text[h[2]:h[3]] != name {
			continue
		}
		if i+1 < len(headings) {
			return text[h[1]:headings[i+1][0]], true
		}
		return text[h[1]:], true
	}
	return "", false
}
