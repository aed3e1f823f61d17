# For those who have docker; "make image" needs none.
ARG VERSION=development

# The version of go.mod's line "toolchain", which a test holds. By tag, not by
# digest: "make image" is what gives the same bytes.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
ARG TARGETOS TARGETARCH VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /spark-vitals ./cmd/spark-vitals

FROM scratch
ARG VERSION
LABEL org.opencontainers.image.title=spark-vitals org.opencontainers.image.version=$VERSION org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /spark-vitals /spark-vitals
USER 65532:65532
ENTRYPOINT ["/spark-vitals"]
