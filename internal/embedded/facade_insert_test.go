package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"nowcast/internal/warehouse"
)

// token sets the deduplication token of an insert.
func token(ctx context.Context, token string) context.Context {
	return clickhouse.Context(ctx,
		clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
}

// A batch with the token of an earlier one is dropped. Without a token, a batch with identical data is
// dropped.
func testDeduplication(t *testing.T, _ string, db *warehouse.DB) {
	site := "dedup.example"
	send := func(ctx context.Context, n int) {
		t.Helper()
		e := someEvent(site, n)
		e.Props = nil // the order of a map would make the data differ
		if err := insertEvents(ctx, db, e); err != nil {
			t.Fatal(err)
		}
	}
	send(token(t.Context(), "a"), 1)
	send(token(t.Context(), "a"), 1)
	send(token(t.Context(), "a"), 2) // dropped, though the rows differ
	send(token(t.Context(), "b"), 3)
	send(t.Context(), 4)
	send(t.Context(), 4)
	got := one[uint64](t, db,
		"SELECT count() FROM events WHERE site = {s:String}", clickhouse.Named("s", site))
	if got != 3 {
		t.Errorf("got %d rows, want 3", got)
	}
}

// If the columns of a batch differ in length, clickhouse-go sends an empty body and reports success.
func testEmptyInsert(t *testing.T, _ string, db *warehouse.DB) {
	do(t, db, "CREATE TABLE uneven (a UInt8, b UInt8) ENGINE = MergeTree ORDER BY a")
	b, err := db.PrepareBatch(t.Context(), "INSERT INTO uneven (a, b)")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Column(0).Append([]uint8{1, 2}), b.Column(1).Append([]uint8{1})); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(); err == nil {
		t.Error("want an error")
	}
	if n := one[uint64](t, db, "SELECT count() FROM uneven"); n != 0 {
		t.Errorf("got %d rows", n)
	}
}

// An insert whose connection breaks before its end commits no row.
func testIncompleteInsert(t *testing.T, dsn string, db *warehouse.DB) {
	do(t, db, "CREATE TABLE incomplete (n UInt64) ENGINE = MergeTree ORDER BY n")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []string{
		"Content-Length: 10000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n989680\r\n",
	} {
		conn, err := net.Dial("unix", u.Path)
		if err != nil {
			t.Fatal(err)
		}
		query := url.QueryEscape("INSERT INTO incomplete FORMAT TabSeparated")
		fmt.Fprintf(conn, "POST /?query=%s HTTP/1.1\r\nHost: x\r\n%s", query, length)
		if _, err := io.WriteString(conn, strings.Repeat("12345678\n", 400_000)); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
	eventually(t, 5*time.Second, func() (bool, string) {
		n := one[uint64](t, db,
			"SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO incomplete%'")
		return n == 0, "the insert still runs"
	})
	if n := one[uint64](t, db, "SELECT count() FROM incomplete"); n != 0 {
		t.Errorf("got %d rows of incomplete inserts", n)
	}
}

func testBigInsert(t *testing.T, _ string, db *warehouse.DB) {
	do(t, db, "CREATE TABLE big (site LowCardinality(String), ts DateTime64(3, 'UTC'), visitor UInt64, "+
		"path String) ENGINE = MergeTree ORDER BY ts")
	const rows, batches = 100_000, 3
	start := time.Now()
	for i := range batches {
		b, err := db.PrepareBatch(t.Context(), "INSERT INTO big")
		if err != nil {
			t.Fatal(err)
		}
		for j := range rows {
			n := i*rows + j
			path := fmt.Sprintf("/article/%d", n%5000)
			if err := b.Append("big.example", time.UnixMilli(int64(n)), uint64(n), path); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Send(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%.0f rows/s", rows*batches/time.Since(start).Seconds())
	if n := one[uint64](t, db, "SELECT uniqExact(visitor) FROM big"); n != rows*batches {
		t.Errorf("got %d visitors", n)
	}
}

// Values inside a statement may have an empty line.
func testInlineInsert(t *testing.T, _ string, db *warehouse.DB) {
	do(t, db, "CREATE TABLE inline (n UInt8, s String) ENGINE = MergeTree ORDER BY n")
	do(t, db, "INSERT INTO inline VALUES (1, 'one\n\nparagraph'), (2, 'a;b')")
	do(t, db, "/* why */ INSERT INTO inline (n, s) VALUES (3, {s:String})", clickhouse.Named("s", "x\n\ny"))
	got := one[string](t, db,
		"SELECT arrayStringConcat(groupArray(s), '|') FROM (SELECT s FROM inline ORDER BY n)")
	if got != "one\n\nparagraph|a;b|x\n\ny" {
		t.Errorf("got %q", got)
	}
}
