# "make" prints the targets. Everything else is in the Go code.
export CGO_ENABLED = 0
STORIES = cd e2e && go test -count=1 -timeout=4h -v -run 'Test/^($(or $(STORY),.*))$$$$' ./stories
VERSION ?= $(shell git describe --tags --always --dirty)
TOOL = go tool -modfile=$(CURDIR)/tools/go.mod

help: ## print the targets, and how long each takes on 2 cores
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/spark-vitals; about 1 min
	go build -trimpath -o bin/spark-vitals ./cmd/spark-vitals

image: ## build the image for amd64 and arm64 into bin/image, and lists of what is linked in; no docker; about 3 min
	cd e2e && go run ./release image $(VERSION) $(CURDIR)/bin/image

release: ## build all files of a release into bin/release: VERSION=0.2.0, and REGISTRY of the image if it is known; about 10 min, half a minute again
	cd e2e && go run ./release all $(VERSION) $(CURDIR)/bin/release $(REGISTRY)

demo: ## show what is injected into real Spark's pods, on a real API server; about 1 min, and 10 before it to build Kubernetes once
	cd e2e && go run ./demo

test: lint unit apiserver ## everything that needs no whole cluster; about 25 min

lint: ## formatting, imports, mistakes, prose; about 4 min
	$(TOOL) golangci-lint run ./...
	cd e2e && $(TOOL) golangci-lint run -c ../.golangci.yml ./...
	go test -run TestProse ./docs

unit: ## the tests that need no cluster; about 2 min
	go test ./...

apiserver: ## the tests on a real API server, which is built first, and on a real ZooKeeper; about 19 min
	cd e2e && go run ./setup build && go test -count=1 -p 1 -timeout=90m ./apiserver ./bloat ./chart ./engines ./failing ./liveness ./pages ./recording ./release ./releaser ./stalling

e2e: ## a selection of stories with real Spark on a whole cluster; STORY=name for one, CLUSTER=existing for that of KUBECONFIG; about 10 min
	$(STORIES) -args $(if $(STORY),-all) $(if $(filter existing,$(CLUSTER)),-existing)

e2e-all: ## all stories, on all versions of Spark, written to docs/stories.md; about 120 min
	$(STORIES) -args -all -write $(CURDIR)/docs/stories.md

cluster: ## a whole cluster with real Spark's images, which stays; about 3 min
	cd e2e && go run ./setup up

cluster-down: ## end it; some seconds
	cd e2e && go run ./setup down

idle: ## leave the webhook idle for N (10) rounds of 95 s: no pod is missed after them; about 16 min
	cd e2e && go test -count=1 -timeout=4h -v -run TestIdle ./failing -args -idle=$(or $(N),10)

FUZZ = -run '^$$' -fuzztime $(or $(T),1m) -fuzzminimizetime 20x
VULNDB ?= https://vuln.go.dev
vulncheck: ## look for known vulnerabilities in what is linked in; asks https://vuln.go.dev, or VULNDB, and fails without it; about 1 min
	@$(TOOL) govulncheck -db $(VULNDB) ./... || { [ $$? = 3 ] || echo 'Nothing was checked: the database $(VULNDB) could not be read. VULNDB=file:///folder names a copy.' >&2; exit 1; }

fuzz: ## look for input that breaks something, for T (1m) each; about 4 min
	go test ./policy -fuzz FuzzParse $(FUZZ)
	go test ./patches -fuzz FuzzPatch $(FUZZ)
	go test ./webhook -fuzz FuzzReview $(FUZZ)

bench: ## measure, and write docs/performance.md; about 35 min
	cd e2e && go run ./setup build && go run ./bench

golden: ## write the wanted part of the golden files anew; read the difference; about 2 min
	cd e2e && go test ./chart -run 'TestRender|TestPlain' -update
	go test ./oom ./patches ./policy/... ./gateway/kyuubi ./cmd/... -update
	go test ./docs -update
	go run github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2 -c charts

session: ## record the front page's session anew, on a real API server, and draw it; about 2 min
	cd e2e && go run ./setup build && go test ./pages -run TestSession -update
	go test ./docs -update

clean: ## remove what was built; at once
	rm -rf bin

.PHONY: help build image release demo test lint unit apiserver e2e e2e-all cluster cluster-down idle vulncheck fuzz bench golden session clean
.DEFAULT_GOAL = help
