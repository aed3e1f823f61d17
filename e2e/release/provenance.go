package main

import (
	"bytes"
	"encoding/json"
	"os"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// writeProvenance writes what the files were built from and how: an in-toto statement
// with SLSA's predicate. It is not signed, and it names no builder that anybody could
// trust more than the person who ran it.
func writeProvenance(version, registry string, from commit, toolchain string, files []digested, file string) error {
	parameters, err := structpb.NewStruct(map[string]any{"version": version, "registry": registry})
	if err != nil {
		return err
	}
	built, err := structpb.NewStruct(map[string]any{"go": toolchain})
	if err != nil {
		return err
	}
	page := home + "/blob/" + from.hash + "/docs/release.md"
	predicate := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType:          page + "#provenance",
			ExternalParameters: parameters,
			InternalParameters: built,
			ResolvedDependencies: []*intoto.ResourceDescriptor{
				{Uri: "git+" + home, Digest: map[string]string{"gitCommit": from.hash}},
			},
		},
		RunDetails: &provenance.RunDetails{Builder: &provenance.Builder{Id: page + "#the-builder"}},
	}
	if err := predicate.Validate(); err != nil {
		return err
	}
	text, err := protojson.Marshal(predicate)
	if err != nil {
		return err
	}
	statement := &intoto.Statement{Type: intoto.StatementTypeUri, PredicateType: "https://slsa.dev/provenance/v1", Predicate: &structpb.Struct{}}
	if err := protojson.Unmarshal(text, statement.Predicate); err != nil {
		return err
	}
	for _, f := range files {
		statement.Subject = append(statement.Subject, &intoto.ResourceDescriptor{Name: f.name, Digest: map[string]string{"sha256": f.digest}})
	}
	if err := statement.Validate(); err != nil {
		return err
	}
	if text, err = protojson.Marshal(statement); err != nil {
		return err
	}
	var out bytes.Buffer // Indent also takes out the spaces that protojson puts in at random
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(file, append(out.Bytes(), '\n'), 0o644)
}
