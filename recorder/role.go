package recorder

import _ "embed"

// Role is the recorder's ClusterRoles as YAML: what it needs, and what each of
// its switches needs besides.
//
//go:embed role.yaml
var Role []byte
