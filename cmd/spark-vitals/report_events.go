package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/pager"

	"github.com/spark-vitals/spark-vitals/recorder"
)

// maxEvents is how many Events of one object are printed.
const maxEvents = 10

// deathEvent is a death as one of the recorder's Events describes it.
type deathEvent struct {
	Pod    string      `json:"pod"` // that died
	Reason string      `json:"reason"`
	Count  int         `json:"count"`
	At     metav1.Time `json:"at"`
	Note   string      `json:"note"`
}

// deathEvents returns the recorder's Events. It reads them in pages.
func deathEvents(ctx context.Context, client kubernetes.Interface, namespace string) (events []*eventsv1.Event, err error) {
	list := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return client.EventsV1().Events(namespace).List(ctx, o)
	})
	selector := fields.OneTermEqualSelector("reportingController", recorder.Controller).String()
	err = list.EachListItem(ctx, metav1.ListOptions{FieldSelector: selector}, func(o runtime.Object) error {
		if e := o.(*eventsv1.Event); e.ReportingController == recorder.Controller {
			events = append(events, e.DeepCopy())
		}
		return nil
	})
	return events, err
}

// askForEvents adds what Events show. If the user may list pods but not Events, it
// says so.
func (f *findings) askForEvents(ctx context.Context, client kubernetes.Interface, namespace string, pods []*corev1.Pod, stderr io.Writer) error {
	events, err := deathEvents(ctx, client, namespace)
	switch {
	case apierrors.IsForbidden(err):
		fmt.Fprintf(stderr, "Events cannot be listed, so deaths of pods that are gone are not known: %v\n", err)
		return nil
	case err != nil:
		return fmt.Errorf("listing Events: %w", err)
	}
	f.addEvents(events, pods)
	return nil
}

// addEvents adds the deaths that neither a record nor a status shows because their
// driver is gone: of a driver that its operator has deleted and replaced, or of
// executors that have outlived theirs. Of the Events about one death it takes the
// SparkApplication's, because that outlives its drivers.
func (f *findings) addEvents(events []*eventsv1.Event, pods []*corev1.Pod) {
	f.Events = true
	there := map[types.UID]bool{}
	for _, p := range pods {
		there[p.UID] = true
	}
	type death struct {
		pod    types.UID
		reason string
		note   string
	}
	drivers := map[death]types.UID{} // with an Event of the death on them
	chosen := map[death]*eventsv1.Event{}
	for _, e := range events {
		d := death{reason: e.Reason, note: e.Note}
		if e.Related != nil {
			d.pod = e.Related.UID
		}
		if e.Regarding.Kind == "Pod" {
			drivers[d] = e.Regarding.UID
		}
		if before := chosen[d]; before == nil || before.Regarding.Kind == "Pod" {
			chosen[d] = e
		}
	}
	about := map[corev1.ObjectReference]*reported{}
	for d, e := range chosen {
		if there[d.pod] || there[drivers[d]] {
			continue // the status of the pod or the record of the driver says it
		}
		on := corev1.ObjectReference{Namespace: e.Regarding.Namespace, Kind: e.Regarding.Kind, Name: e.Regarding.Name, UID: e.Regarding.UID}
		if about[on] == nil {
			about[on] = &reported{Namespace: on.Namespace, Driver: on.Name, UID: string(on.UID), Source: fromEvents, Absent: true, Ended: true}
			if on.Kind != "Pod" {
				about[on].Driver = on.Kind + " " + on.Name
			}
		}
		about[on].Events = append(about[on].Events, deathEventOf(e))
	}
	for _, r := range about {
		slices.SortFunc(r.Events, func(a, b deathEvent) int {
			return cmp.Or(b.At.Compare(a.At.Time), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Reason, b.Reason))
		})
		r.Reason, r.Message = r.Events[0].Reason, r.Events[0].Note
		f.Items = append(f.Items, *r)
	}
	f.sort()
}

func deathEventOf(e *eventsv1.Event) deathEvent {
	d := deathEvent{Pod: e.Regarding.Name, Reason: e.Reason, Count: 1, At: metav1.NewTime(e.EventTime.Time), Note: e.Note}
	if e.Related != nil {
		d.Pod = e.Related.Name
	}
	if e.Series != nil {
		d.Count, d.At = int(e.Series.Count), metav1.NewTime(e.Series.LastObservedTime.Time)
	}
	return d
}
