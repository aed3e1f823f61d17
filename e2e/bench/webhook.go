package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"time"
)

var (
	rounds  = flag.Int("rounds", 30, "webhook: rounds of the handler alone, each of 100 reviews of every kind")
	creates = flag.Int("creates", 600, "webhook: pods to create in each namespace")
	reviews = flag.Int("reviews", 1_000_000, "webhook: reviews to look for growing memory with")
)

func benchWebhook(ctx context.Context, d *document) error {
	if err := d.heading(); err != nil {
		return err
	}
	wanted := &aims{}
	for _, part := range []func(context.Context, *document, *aims) error{benchAlone, benchCreates, benchLoad} {
		if err := part(ctx, d, wanted); err != nil {
			return err
		}
	}
	wanted.write(d)
	return nil
}

// aims are the wanted figures.
type aims []aim

type aim struct {
	what      string
	got, most float64
}

func (a *aims) add(what string, got, most float64) { *a = append(*a, aim{what, got, most}) }

func (a *aims) write(d *document) {
	d.say("\n### Aims")
	d.table("", "measured", "at most")
	for _, each := range *a {
		got := fmt.Sprintf("%.2f", each.got)
		if each.got > each.most {
			got += " **missed**"
		}
		d.row(each.what, got, each.most)
	}
}

// quantile returns a quantile of durations, in milliseconds. It sorts them.
func quantile(all []time.Duration, q float64) float64 {
	slices.Sort(all)
	return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000
}
