// Package paged lists and watches objects, when anyone may have chosen their size. It
// lists in pages that are limited in bytes, and keeps only what is read of each
// object.
//
// If the API server streams lists (WatchList), a reflector makes no list and gets one
// object at a time. If it does not, a reflector's own list is in memory as a whole. A
// page with few objects does not help, because each may have 1.5 MB.
package paged

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	// maxPage is how many bytes of a page are read at most. An object has 1.5 MB at
	// most, so one always fits.
	maxPage = 4 << 20
	// firstPage and largestPage are numbers of objects, for the first page and for
	// any: 400 ordinary pods of Spark's are 3.6 MB. A page that is too large is asked
	// for again with a quarter of its objects. The next pages grow to half of that
	// one, or to aFew.
	firstPage, largestPage, aFew = 100, 400, 50
)

// reading limits the pages that may be in memory at once, of all lists of the process.
// At its start a recorder lists each namespace that opted in.
var reading = make(chan struct{}, 4)

// errTooLarge means that a page has more than maxPage bytes.
var errTooLarge = fmt.Errorf("the page has more than %d MiB", maxPage>>20)

// Bound returns a configuration of the API server. Its clients read no page that is
// too large; see [ListWatch].
func Bound(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return bounded{next} })
	return config
}

type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper. It reads the page before client-go does,
// which logs an error about each page that ends early.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if query := r.URL.Query(); err != nil || !query.Has("limit") || query.Has("watch") {
		return response, err
	}
	page, err := io.ReadAll(io.LimitReader(response.Body, maxPage+1))
	err = errors.Join(err, response.Body.Close())
	if err == nil && len(page) > maxPage {
		err = errTooLarge
	}
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(page))
	return response, nil
}

// ListWatch returns a watch of the same objects that first reduces each object by a
// function. Its lists come in pages. They are consistent and the newest there are,
// because only then can a list continue after a page.
func ListWatch(of cache.ListerWatcher, keep cache.TransformFunc) *cache.ListWatch {
	with := cache.ToListerWatcherWithContext(of)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			all := &metainternalversion.List{}
			options.ResourceVersion, options.ResourceVersionMatch = "", ""
			version, err := Each(ctx, options, with.ListWithContext, func(o runtime.Object) error {
				kept, err := keep(o)
				if err == nil {
					all.Items = append(all.Items, kept.(runtime.Object))
				}
				return err
			})
			all.ResourceVersion = version
			return all, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			w, err := with.WatchWithContext(ctx, options)
			if err != nil {
				return nil, err
			}
			return keeping(w, keep), nil
		},
	}
}

// keeping returns a watch that keeps what a function keeps of each object.
func keeping(w watch.Interface, keep cache.TransformFunc) watch.Interface {
	events := make(chan watch.Event)
	kept := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer w.Stop()
		for {
			var event watch.Event
			var ok bool
			select {
			case event, ok = <-w.ResultChan():
			case <-kept.StopChan():
			}
			if !ok {
				return
			}
			if event.Type == watch.Added || event.Type == watch.Modified || event.Type == watch.Deleted {
				if object, err := keep(event.Object); err == nil {
					event.Object = object.(runtime.Object)
				}
			}
			select {
			case events <- event:
			case <-kept.StopChan():
				return
			}
		}
	}()
	return kept
}

// Each calls a function with each object of a list, page by page, and returns the
// list's resource version. No page is in memory longer than that takes.
func Each(ctx context.Context, options metav1.ListOptions, list func(context.Context, metav1.ListOptions) (runtime.Object, error), do func(runtime.Object) error) (version string, err error) {
	limit, top := int64(firstPage), int64(largestPage)
	for {
		options.Limit = limit
		of, err := page(ctx, options, list, do)
		if errors.Is(err, errTooLarge) && limit > 1 {
			limit, top = max(1, limit/4), max(aFew, limit/2)
			continue
		}
		if err != nil {
			return "", err
		}
		if version == "" {
			version = of.ResourceVersion
		}
		if options.Continue = of.Continue; options.Continue == "" {
			return version, nil
		}
		limit = min(top, 2*limit)
	}
}

// page calls a function with each object of a page, and returns the page's metadata.
func page(ctx context.Context, options metav1.ListOptions, list func(context.Context, metav1.ListOptions) (runtime.Object, error), do func(runtime.Object) error) (of metav1.ListMeta, err error) {
	select {
	case reading <- struct{}{}:
		defer func() { <-reading }()
	case <-ctx.Done():
		return of, ctx.Err()
	}
	objects, err := list(ctx, options)
	if err != nil {
		return of, err
	}
	if err := meta.EachListItem(objects, do); err != nil {
		return of, err
	}
	said, err := meta.ListAccessor(objects)
	if err != nil {
		return of, err
	}
	return metav1.ListMeta{ResourceVersion: said.GetResourceVersion(), Continue: said.GetContinue()}, nil
}
