package history

// CheckFilters returns an *Invalid that says what is wrong with a list of filters in JSON, nil if a query may
// have them. Segments are such lists.
func CheckFilters(filters []byte) error {
	var q Query
	return q.readFilters(filters)
}
