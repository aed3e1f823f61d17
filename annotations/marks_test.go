package annotations_test

import (
	"testing"
	"time"

	"github.com/spark-vitals/spark-vitals/annotations"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// A mark is written with whole seconds in UTC, and is read as it was written.
func TestReleaseMark(t *testing.T) {
	at := noon.In(time.FixedZone("", 3600)).Add(time.Millisecond)
	text := annotations.ReleaseMark{Gateway: "kyuubi", At: at, Registration: annotations.Deregistered, Sessions: 3}.String()
	if want := `{"gateway":"kyuubi","at":"2026-11-21T12:00:00Z","registration":"deregistered","sessions":3}`; text != want {
		t.Errorf("%s, want %s", text, want)
	}
	if mark := annotations.ReadReleaseMark(text); mark.Sessions != 3 || mark.String() != text {
		t.Error(mark)
	}
	if mark := annotations.ReadReleaseMark(`{"gateway":"kyuubi","at":"now"}`); mark.Gateway != "" {
		t.Error("half of a mark is read:", mark)
	}
}

// A mark is about one silence, in whole seconds.
func TestStallMark(t *testing.T) {
	mark := &annotations.StallMark{Since: noon, Found: noon.Add(time.Hour), Confidence: annotations.Sure, Evidence: annotations.StallEvidence{Thread: "JobGenerator"}, Message: "It hangs."}
	want := `{"since":"2026-11-21T12:00:00Z","found":"2026-11-21T13:00:00Z","confidence":"sure","evidence":{"thread":"JobGenerator"},"message":"It hangs."}`
	if text := mark.String(); text != want {
		t.Errorf("%s, want %s", text, want)
	}
	read, err := annotations.ReadStallMark(want)
	if err != nil || read.String() != want || !read.Is(noon.Add(time.Millisecond)) || read.Is(noon.Add(time.Second)) || (*annotations.StallMark)(nil).Is(noon) {
		t.Error(read, err)
	}
	if mark, err := annotations.ReadStallMark("yes"); err == nil || mark != nil {
		t.Error(mark, err)
	}
}
