package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// checkFields refuses what encoding/json reads in silence: a field that the type of dst does not have, one
// written in another case, one that is there twice, and null, which would be read as a field that was left
// out. The text must be valid JSON. A type that decodes itself is only checked for fields that are there
// twice.
func checkFields(body []byte, dst any) error {
	w := fieldWalker{decoder: json.NewDecoder(bytes.NewReader(body))}
	t := reflect.TypeOf(dst)
	if _, ok := dst.(json.Unmarshaler); ok {
		t = nil
	}
	w.value(t, "")
	switch {
	case w.twice != "":
		return fmt.Errorf("%s is there twice; give it once", strconv.Quote(shortened(w.twice)))
	case len(w.unknown) > 0:
		return unknownFields(w.unknown, w.known)
	case w.null && t != nil:
		return errors.New("null is not allowed; leave the field out")
	}
	return nil
}

// unknownFields names at most maxNamed of the fields.
func unknownFields(names, known []string) error {
	var quoted []string
	for _, n := range names[:min(len(names), maxNamed)] {
		quoted = append(quoted, strconv.Quote(shortened(n)))
	}
	word := "field"
	if len(names) > 1 {
		word = "fields"
	}
	return fmt.Errorf("unknown %s %s; there are %s",
		word, strings.Join(quoted, ", "), strings.Join(known, ", "))
}

// below returns the path of a field or an element. That of a path which is too long to be shown stays.
func below(path, name string) string {
	switch {
	case path == "":
		return name
	case len(path) > maxNameLength:
		return path
	case name[:min(1, len(name))] == "[":
		return path + name
	}
	return path + "." + name
}

func shortened(name string) string {
	if len(name) > maxNameLength {
		return strings.ToValidUTF8(name[:maxNameLength], "") + "…"
	}
	return name
}

// Bounds of what an error repeats of a request.
const (
	maxNamed      = 10
	maxNameLength = 80
)

// fieldWalker walks through JSON beside the type that it will be decoded to.
type fieldWalker struct {
	decoder *json.Decoder
	unknown []string // paths of fields that the type doesn't have
	known   []string // of the first object with an unknown field: the fields of its type
	twice   string   // path of a field that its object has twice
	null    bool
}

// value reads one value of a type; nil: of any.
func (w *fieldWalker) value(t reflect.Type, path string) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := w.decoder.Token()
	if err != nil {
		return
	}
	switch token {
	case nil:
		w.null = true
	case json.Delim('{'):
		w.object(t, path)
	case json.Delim('['):
		var element reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			element = t.Elem()
		}
		for i := 0; w.decoder.More(); i++ {
			w.value(element, below(path, "["+strconv.Itoa(i)+"]"))
		}
		_, _ = w.decoder.Token()
	}
}

func (w *fieldWalker) object(t reflect.Type, path string) {
	var fields map[string]reflect.Type
	if t != nil && t.Kind() == reflect.Struct {
		fields = fieldsOf(t)
	}
	seen := map[string]bool{}
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return
		}
		name, _ := token.(string)
		at := below(path, name)
		if seen[name] && w.twice == "" {
			w.twice = at
		}
		seen[name] = true
		field, ok := fields[name]
		if fields != nil && !ok {
			if w.unknown = append(w.unknown, at); w.known == nil {
				w.known = slices.Sorted(maps.Keys(fields))
			}
		}
		w.value(field, at)
	}
	_, _ = w.decoder.Token()
}

// fieldsOf returns the fields of a struct, with those of embedded structs, by their names in JSON.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			maps.Copy(fields, fieldsOf(f.Type))
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}
