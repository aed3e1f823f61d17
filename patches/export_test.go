package patches

// PatchNames are the names of all patches.
func PatchNames() (names []string) {
	for _, each := range all {
		names = append(names, each.name)
	}
	return names
}
