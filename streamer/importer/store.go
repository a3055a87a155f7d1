package importer

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/imports"
	"nowcast/internal/site"
)

// Bounds of an import.
const (
	maxLine     = 16 << 10 // bytes of a sum
	maxSums     = 20_000_000
	maxName     = 200
	maxDuration = time.Hour
	block       = 50_000           // rows of an insert
	orphanAge   = 2 * maxDuration  // after which a batch that nothing names is of no import that runs
	bodyPause   = 30 * time.Second // in which some of the body has to arrive
)

// Reasons why a sum doesn't count.
const (
	skipOwn      = "of a day on which the site has events of its own, or after it"
	skipImported = "of a dimension and day that another import has"
)

// invalidError is an error of the body. It maps to 400.
type invalidError struct{ error }

var (
	errNothing = errors.New("nothing was imported: the site has its own events, or another import, of " +
		"each of these days; give overlap=true (--overlap) to count both")
	errSiteChanged = errors.New("nothing was imported: the site was removed meanwhile")
)

// store keeps imports in ClickHouse.
type store struct {
	db  database
	now func() time.Time
}

// attempt is an import that runs.
type attempt struct {
	site            site.Site
	format, name    string
	overlap, dryRun bool

	batch     uint64
	at        time.Time
	ownDay    imports.Day // of the site's first event; 0: it has none
	covered   map[dayDim]bool
	hash      hash.Hash
	kept      []imports.Sum // of the block that is filled
	days      map[imports.Day]struct{}
	result    stored
	canonical []byte
}

type dayDim struct {
	day imports.Day
	dim string
}

// outcome is what became of an attempt.
type outcome struct {
	stored
	repeated, dryRun bool
}

// newBatch returns the number of a batch: the time in milliseconds, and 20 random bits.
func newBatch(now time.Time) uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	random := uint64(binary.LittleEndian.Uint32(b[:]) & (1<<20 - 1))
	return uint64(now.UnixMilli())<<20 | random //nolint:gosec // a time after 1970
}

func batchTime(batch uint64) time.Time { return time.UnixMilli(int64(batch >> 20)) } //nolint:gosec // 44 bits

// since returns the parameters of the statements about a site: with the time from which on rows are its own,
// and not those of a site of its domain that was removed.
func since(st site.Site) []any {
	first := int64(0)
	if !st.Previous.IsZero() {
		first = st.Created.Truncate(time.Second).UnixMilli()
	}
	return []any{clickhouse.Named("site", st.Domain), clickhouse.Named("since", first)}
}

// create reads the sums of body, stores those that count, and names them as an import. On any error, nothing
// counts.
func (s *store) create(ctx context.Context, a *attempt, body io.Reader, current func(site.Site) bool) (
	out outcome, err error) {
	a.at = s.now().UTC().Truncate(time.Millisecond)
	a.batch, a.hash, a.days = newBatch(a.at), sha256.New(), map[imports.Day]struct{}{}
	a.result = stored{format: a.format, name: a.name, at: a.at, batch: a.batch, skipped: map[string]uint64{}}
	out.dryRun = a.dryRun
	if err := s.sweep(ctx); err != nil {
		return out, err
	}
	if err := s.readState(ctx, a); err != nil {
		return out, err
	}
	named := false
	defer func() {
		if !named && !a.dryRun {
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			_ = s.drop(cleanup, a.batch) // the sweep of a later import drops it
		}
	}()
	_, _ = a.hash.Write([]byte(a.site.Domain + "\n"))
	if err := s.readBody(ctx, a, body); err != nil {
		return out, err
	}
	id := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(a.hash.Sum(nil)[:10])
	a.result.id = "imp_" + strings.ToLower(id)
	a.result.days = uint32(len(a.days)) //nolint:gosec // days
	out.stored = a.result
	existing, err := s.find(ctx, a.site, a.result.id)
	switch {
	case err != nil:
		return out, err
	case existing != nil:
		out.stored, out.repeated = *existing, true
		return out, nil
	case a.result.sums == 0:
		return out, errNothing
	case a.dryRun:
		return out, nil
	case !current(a.site):
		return out, errSiteChanged
	}
	if err := s.name(ctx, a); err != nil {
		return out, err
	}
	named = true
	return out, nil
}

// readState reads which days have counts already.
func (s *store) readState(ctx context.Context, a *attempt) error {
	a.covered = map[dayDim]bool{}
	if a.overlap {
		return nil
	}
	var has bool
	var first time.Time
	if err := s.db.QueryRow(ctx, sql("first_own_day"), since(a.site)...).Scan(&has, &first); err != nil {
		return fmt.Errorf("read the site's first day: %w", err)
	}
	if has {
		a.ownDay = dayOf(first)
	}
	rows, err := s.db.Query(ctx, sql("covered"), since(a.site)...)
	if err != nil {
		return fmt.Errorf("read the days of imports: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var day time.Time
		var dim string
		if err := rows.Scan(&day, &dim); err != nil {
			return fmt.Errorf("read the days of imports: %w", err)
		}
		a.covered[dayDim{dayOf(day), dim}] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the days of imports: %w", err)
	}
	return nil
}

func dayOf(t time.Time) imports.Day { return imports.DayOf(t.Date()) }

// readBody reads the sums and stores those that count.
func (s *store) readBody(ctx context.Context, a *attempt, body io.Reader) error {
	whole := &failureReader{in: body}
	lines := bufio.NewScanner(whole)
	lines.Buffer(make([]byte, maxLine), maxLine)
	n, all := 0, uint64(0)
	for lines.Scan() {
		n++
		if len(lines.Bytes()) == 0 {
			continue
		}
		sum, err := imports.ParseSum(lines.Bytes())
		switch {
		case whole.err != nil && whole.err != io.EOF: //nolint:errorlint // itself
			return notWhole(whole.err)
		case err != nil:
			return &invalidError{fmt.Errorf("line %d: %w", n, err)}
		}
		if all++; all > maxSums {
			return &invalidError{fmt.Errorf("there are over %d sums; import fewer days at a time", maxSums)}
		}
		if a.take(sum); len(a.kept) == block {
			if err := s.insert(ctx, a); err != nil {
				return err
			}
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return &invalidError{fmt.Errorf("line %d: it is over %d bytes", n+1, maxLine)}
	case err != nil:
		return notWhole(err)
	case all == 0:
		return &invalidError{errors.New("the body has no sum")}
	}
	return s.insert(ctx, a)
}

func notWhole(err error) error {
	return &invalidError{fmt.Errorf("the sums didn't arrive whole, so none counts: %w", err)}
}

// failureReader keeps the error of a reader: a Scanner gives the line before it first.
type failureReader struct {
	in  io.Reader
	err error
}

// Read implements io.Reader.
func (r *failureReader) Read(b []byte) (n int, err error) {
	n, err = r.in.Read(b)
	r.err = err
	return n, err
}

// take counts a sum, and keeps it unless its day has counts already.
func (a *attempt) take(sum imports.Sum) {
	a.canonical = append(sum.AppendJSON(a.canonical[:0]), '\n')
	_, _ = a.hash.Write(a.canonical)
	switch {
	case a.ownDay != 0 && sum.Day >= a.ownDay:
		a.result.skipped[skipOwn]++
		return
	case a.covered[dayDim{sum.Day, sum.Dim}]:
		a.result.skipped[skipImported]++
		return
	}
	if at := sum.Day.Time(); a.result.sums == 0 {
		a.result.first, a.result.last = at, at
	} else if at.Before(a.result.first) {
		a.result.first = at
	} else if at.After(a.result.last) {
		a.result.last = at
	}
	a.days[sum.Day] = struct{}{}
	a.result.sums++
	if a.kept = append(a.kept, sum); a.dryRun {
		a.kept = a.kept[:0]
	}
}

// insert stores the sums of a block.
func (s *store) insert(ctx context.Context, a *attempt) error {
	if len(a.kept) == 0 {
		return nil
	}
	b, err := s.db.PrepareBatch(ctx, sql("insert_imported"))
	if err != nil {
		return fmt.Errorf("store sums: %w", err)
	}
	defer func() { _ = b.Close() }() // returns no error after Send
	for _, x := range a.kept {
		n := &x.Counts
		err := b.Append(a.batch, a.site.Domain, x.Day.Time(), x.Dim, x.Value, uint8(x.Known),
			n[imports.Visitors], n[imports.Visits], n[imports.Pageviews], n[imports.Events],
			n[imports.Bounces], n[imports.Duration], a.at)
		if err != nil {
			return fmt.Errorf("store sums: %w", err)
		}
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("store sums: %w", err)
	}
	a.kept = a.kept[:0]
	return nil
}

// name makes an attempt count.
func (s *store) name(ctx context.Context, a *attempt) error {
	b, err := s.db.PrepareBatch(ctx, sql("insert_import"))
	if err != nil {
		return fmt.Errorf("store an import: %w", err)
	}
	defer func() { _ = b.Close() }() // returns no error after Send
	r := &a.result
	err = b.Append(a.site.Domain, r.id, r.batch, r.format, r.name, r.at, r.first, r.last, r.days, r.sums,
		r.skipped, r.batch)
	if err == nil {
		err = b.Send()
	}
	if err != nil {
		return fmt.Errorf("store an import: %w", err)
	}
	return nil
}

// list returns the imports of a site, the newest first.
func (s *store) list(ctx context.Context, st site.Site) (all []*stored, err error) {
	rows, err := s.db.Query(ctx, sql("list"), since(st)...)
	if err != nil {
		return nil, fmt.Errorf("list imports: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	for rows.Next() {
		var x stored
		if err := rows.Scan(&x.id, &x.batch, &x.format, &x.name, &x.at, &x.first, &x.last, &x.days, &x.sums,
			&x.skipped); err != nil {
			return nil, fmt.Errorf("list imports: %w", err)
		}
		all = append(all, &x)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list imports: %w", err)
	}
	return all, nil
}

// find returns an import of a site, nil if there is none of the id.
func (s *store) find(ctx context.Context, st site.Site, id string) (*stored, error) {
	all, err := s.list(ctx, st)
	if err != nil {
		return nil, err
	}
	for _, x := range all {
		if x.id == id {
			return x, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// remove takes an import back. First it stops counting, then its sums are dropped.
func (s *store) remove(ctx context.Context, st site.Site, id string) (removed bool, err error) {
	x, err := s.find(ctx, st, id)
	if err != nil || x == nil {
		return false, err
	}
	if err := s.db.Exec(ctx, sql("remove"), clickhouse.Named("site", st.Domain),
		clickhouse.Named("id", id)); err != nil {
		return false, fmt.Errorf("take an import back: %w", err)
	}
	if err := s.drop(ctx, x.batch); err != nil {
		return false, err
	}
	return true, s.sweep(ctx)
}

// drop drops the sums of a batch.
func (s *store) drop(ctx context.Context, batch uint64) error {
	if err := s.db.Exec(ctx, fmt.Sprintf("ALTER TABLE imported DROP PARTITION %d", batch)); err != nil {
		return fmt.Errorf("drop the sums of an import: %w", err)
	}
	return nil
}

// sweep drops the batches that no import names and that are of no import that runs.
func (s *store) sweep(ctx context.Context) error {
	rows, err := s.db.Query(ctx, sql("orphans"))
	if err != nil {
		return fmt.Errorf("look for sums of no import: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err returns the errors of reading
	var orphans []uint64
	for rows.Next() {
		var batch uint64
		if err := rows.Scan(&batch); err != nil {
			return fmt.Errorf("look for sums of no import: %w", err)
		}
		if s.now().Sub(batchTime(batch)) > orphanAge {
			orphans = append(orphans, batch)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("look for sums of no import: %w", err)
	}
	for _, batch := range orphans {
		if err := s.drop(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// patientBody gives a body bodyPause from one part to the next, since the server's time for a whole body is
// too short for an import.
type patientBody struct {
	body  io.Reader
	conn  *http.ResponseController
	until time.Time
}

// Read implements io.Reader.
func (p *patientBody) Read(b []byte) (int, error) {
	if now := time.Now(); p.until.Sub(now) < bodyPause/2 {
		p.until = now.Add(bodyPause)
		_ = p.conn.SetReadDeadline(p.until) // a recorder of tests has none
	}
	return p.body.Read(b)
}
