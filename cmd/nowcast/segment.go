package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"

	"nowcast/streamer/api"
)

type segmentCmd struct {
	Add    segmentAddCmd    `cmd:"" help:"Save a segment."`
	List   segmentListCmd   `cmd:"" help:"List a site's segments that are shared, and the key's own."`
	Set    segmentSetCmd    `cmd:"" help:"Change a segment; what has no flag stays."`
	Remove segmentRemoveCmd `cmd:"" help:"Remove a segment."`
}

// Help implements kong.HelpProvider.
func (segmentCmd) Help() string {
	return `A segment is a list of filters with a name. The filters are those of POST /api/v2/query. The
commands need an admin key, or a key that may write.

Example:

	nowcast site segment add example.com Mobile --filters '[["is","visit:device",["Mobile"]]]' --shared`
}

// readFilters reads the value of --filters.
func readFilters(given string) (list []any, err error) {
	if err := json.Unmarshal([]byte(given), &list); err != nil || len(list) == 0 {
		return nil, fmt.Errorf(`--filters %s: give a list in JSON, as [["is","visit:country",["DE"]]]`, given)
	}
	return list, nil
}

func printSegments(std *stdio, segments ...api.Segment) error {
	t := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tSHARED\tFILTERS")
	for _, s := range segments {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(s.Filters); err != nil {
			return fmt.Errorf("print filters: %w", err)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Id, s.Name, yes(s.Shared), bytes.TrimSpace(b.Bytes()))
	}
	return t.Flush()
}

type segmentAddCmd struct {
	serverFlags
	Domain  string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Name    string `arg:"" placeholder:"NAME" help:"How lists show it."`
	Filters string `env:"-" required:"" placeholder:"JSON" help:"Who is in it, as the filters of POST /api/v2/query."`
	Shared  bool   `env:"-" help:"All keys that may read the site have it; otherwise only the key that makes it."`
}

// Help implements kong.HelpProvider.
func (segmentAddCmd) Help() string {
	return `Example:

	nowcast site segment add example.com DACH --filters '[["is","visit:country",["DE","AT","CH"]]]'`
}

// Validate implements kong's validation.
func (c *segmentAddCmd) Validate() error {
	_, err := readFilters(c.Filters)
	return err
}

// Run runs the command.
func (c *segmentAddCmd) Run(ctx context.Context, std *stdio) error {
	filters, err := readFilters(c.Filters)
	if err != nil {
		return err
	}
	in := api.SegmentInput{Name: c.Name, Filters: filters, Shared: &c.Shared}
	var s api.Segment
	if err := c.call(ctx, http.MethodPost, partPath(c.Domain, "segments"), in, &s); err != nil {
		return err
	}
	return printSegments(std, s)
}

type segmentListCmd struct {
	serverFlags
	Domain string `arg:"" placeholder:"DOMAIN" help:"Which site."`
}

// Help implements kong.HelpProvider.
func (segmentListCmd) Help() string {
	return `Example:

	nowcast site segment list example.com`
}

// Run runs the command.
func (c *segmentListCmd) Run(ctx context.Context, std *stdio) error {
	var list api.SegmentList
	if err := c.call(ctx, http.MethodGet, partPath(c.Domain, "segments"), nil, &list); err != nil {
		return err
	}
	return printSegments(std, list.Segments...)
}

// segment asks for a segment by its id or name.
func (f *serverFlags) segment(ctx context.Context, domain, given string) (api.Segment, error) {
	var list api.SegmentList
	if err := f.call(ctx, http.MethodGet, partPath(domain, "segments"), nil, &list); err != nil {
		return api.Segment{}, err
	}
	return named("segment", list.Segments, given,
		func(s api.Segment) (string, string) { return s.Id, s.Name })
}

type segmentSetCmd struct {
	serverFlags
	Domain  string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Segment string `arg:"" placeholder:"SEGMENT" help:"Which segment, by its id or name."`
	Name    string `env:"-" placeholder:"NAME" help:"Its new name."`
	Filters string `env:"-" placeholder:"JSON" help:"Who is in it."`
	Shared  *bool  `env:"-" negatable:"" help:"All keys that may read the site have it, or only the key that made it."`
}

// Help implements kong.HelpProvider.
func (segmentSetCmd) Help() string {
	return `Example:

	nowcast site segment set example.com Mobile --name "On the way" --shared`
}

// Validate implements kong's validation.
func (c *segmentSetCmd) Validate() error {
	if c.Name == "" && c.Filters == "" && c.Shared == nil {
		return errors.New("there is nothing to change: give --name, --filters, --shared or --no-shared")
	}
	if c.Filters == "" {
		return nil
	}
	_, err := readFilters(c.Filters)
	return err
}

// Run runs the command.
func (c *segmentSetCmd) Run(ctx context.Context, std *stdio) error {
	s, err := c.segment(ctx, c.Domain, c.Segment)
	if err != nil {
		return err
	}
	in := api.SegmentInput{Name: s.Name, Filters: s.Filters, Shared: &s.Shared, Revision: &s.Revision}
	if c.Name != "" {
		in.Name = c.Name
	}
	if c.Shared != nil {
		in.Shared = c.Shared
	}
	if c.Filters != "" {
		if in.Filters, err = readFilters(c.Filters); err != nil {
			return err
		}
	}
	if err := c.call(ctx, http.MethodPut, partPath(c.Domain, "segments", s.Id), in, &s); err != nil {
		return err
	}
	return printSegments(std, s)
}

type segmentRemoveCmd struct {
	serverFlags
	Domain  string `arg:"" placeholder:"DOMAIN" help:"Which site."`
	Segment string `arg:"" placeholder:"SEGMENT" help:"Which segment, by its id or name."`
}

// Help implements kong.HelpProvider.
func (segmentRemoveCmd) Help() string {
	return `Example:

	nowcast site segment remove example.com Mobile`
}

// Run runs the command.
func (c *segmentRemoveCmd) Run(ctx context.Context, std *stdio) error {
	s, err := c.segment(ctx, c.Domain, c.Segment)
	if err != nil {
		return err
	}
	return c.removePart(ctx, std, s.Name, c.Domain, "segments", s.Id)
}
