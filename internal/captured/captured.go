// Package captured has admission reviews for tests, as a real API server sent them.
// They are about the pods, Services and ConfigMaps that Spark 3.5.9 and 4.1.4 really
// made: plain, with pod templates, and with the statefulset allocator.
package captured

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
)

//go:embed reviews
var files embed.FS

// Review is one review, named "spark-3.5.9/driver".
type Review struct {
	Name   string
	JSON   []byte
	Review admissionv1.AdmissionReview
}

// Reviews returns all reviews in the order of their names.
func Reviews() (all []Review) {
	err := fs.WalkDir(files, "reviews", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, Named(strings.TrimSuffix(strings.TrimPrefix(path, "reviews/"), ".json")))
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return all
}

// Named returns the review with a name. It panics if there is none.
func Named(name string) Review {
	text, err := files.ReadFile("reviews/" + name + ".json")
	if err != nil {
		panic(err)
	}
	r := Review{Name: name, JSON: text}
	if err := json.Unmarshal(text, &r.Review); err != nil {
		panic(fmt.Errorf("%s: %w", name, err))
	}
	return r
}

// Kind returns the kind of the object under review: "Pod", "Service" or "ConfigMap".
func (r Review) Kind() string { return r.Review.Request.Kind.Kind }

// Object returns the object under review as JSON.
func (r Review) Object() []byte { return r.Review.Request.Object.Raw }
