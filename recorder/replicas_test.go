package recorder

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Of two replicas the one that found a death written lets the other go first,
// until it finds several times that nobody has.
func TestReplicas(t *testing.T) {
	for name, test := range map[string]struct {
		age       time.Duration // of the death
		byAnother bool
		second    bool
	}{
		"one's own":  {age: time.Second},
		"another's":  {age: time.Second, byAnother: true, second: true},
		"an old one": {age: 2 * time.Minute, byAnother: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := dead(t, "OOMKilled")
			p.Status.ContainerStatuses[0].State.Terminated.FinishedAt = metav1.NewTime(now.Add(-test.age))
			s := recording(t, p)
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			written, err := s.CoreV1().Pods(p.Namespace).Get(context.Background(), p.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if test.byAnother {
				s = recording(t, written)
			} else {
				s.see(t, written)
			}
			if err := s.work(t); err != nil {
				t.Fatal(err)
			}
			if wait := s.replicas.delay(); (wait == secondDelay) != test.second {
				t.Errorf("waits for %s", wait)
			}
			for i := range goesFirstAfter {
				p.UID, p.Name = types.UID(fmt.Sprint("u-", i+2)), fmt.Sprint("etl-", i+2)
				p.Labels["spark-app-selector"] = fmt.Sprint("spark-", i+2)
				if _, err := s.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				s.see(t, p)
				if err := s.work(t); err != nil {
					t.Fatal(err)
				}
				if waiting := s.facts.due(now.Add(time.Hour)); (waiting > 0) != test.second {
					t.Errorf("%d deaths wait for another replica", waiting)
				}
				s.facts.hurry()
				if err := s.work(t); err != nil {
					t.Fatal(err)
				}
			}
			if wait := s.replicas.delay(); wait != 0 {
				t.Errorf("wrote often enough, and still waits for %s", wait)
			}
		})
	}
}
