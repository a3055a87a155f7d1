package history

import "encoding/json"

// The parts of a query that other questions have too.

// ReadDateRange reads the field date_range. Its errors are *Invalid.
func ReadDateRange(b json.RawMessage) (r DateRange, err error) { return r, r.read(b) }

// A FilterReader reads lists of filters, within the limits of one query for all of them together.
type FilterReader struct{ budget filterBudget }

// NewFilterReader makes a reader.
func NewFilterReader() *FilterReader {
	return &FilterReader{filterBudget{leaves: maxLeaves, values: maxValues, bytes: maxBytes}}
}

// Read reads the filters of a field; none where it is absent. Its errors are *Invalid.
func (r *FilterReader) Read(field string, b json.RawMessage) (out []Filter, err error) {
	if absent(b) {
		return nil, nil
	}
	list, err := decodeArray(field, b)
	if err != nil {
		return nil, err
	}
	for i, x := range list {
		f, err := readFilter(element(field, i), x, 1, &r.budget)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// NewInvalid makes the error of a field of a question.
func NewInvalid(field, reason string, args ...any) *Invalid { return invalid(field, reason, args...) }

// Quote quotes a value of a question, cut to a length that fits an error.
func Quote(s string) string { return quote(s) }
