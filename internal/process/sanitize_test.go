package process

import (
	"strings"
	"testing"
)

func TestSanitize(t *testing.T) {
	for _, row := range []struct{ reason, want string }{
		{"waiting for Kafka at [kafka-1:9092 10.0.0.7:9092]: no answer yet",
			"waiting for Kafka at [[address] [address]]: no answer yet"},
		{"dial tcp 10.1.2.3:9000: connect: connection refused",
			"dial tcp [address]: connect: connection refused"},
		{"dial tcp [fd00::17]:9000: i/o timeout", "dial tcp [address]: i/o timeout"},
		{"dial tcp: lookup ch.internal on 10.0.0.53:53: no such host",
			"dial tcp: lookup [address]: no such host"},
		{"read tcp 10.0.0.1:5000->10.0.0.2:9092: EOF", "read tcp [address]->[address]: EOF"},
		{`Post "http://user:pw@ch:8123/?database=x": EOF`, `Post "[address]": EOF`},
		{"clickhouse://nowcast:hunter2@ch.internal:9000/stats refused", "[address] refused"},
		{"login nowcast:hunter2@db refused", "login [address] refused"},
		{"x509: certificate is valid for a.internal, not b.internal",
			"x509: certificate is valid for [address]"},
		{"open /var/lib/nowcast/spool/0.wal: no space left on device",
			"open [file]: no space left on device"},
		{"mkdir .nowcast/spool: permission denied", "mkdir [file]: permission denied"},
		{"dial unix /run/nowcast/ch.sock: connect: no such file",
			"dial unix [address]: connect: no such file"},
		{"broker secrethost answered: stale", "broker [address] answered: stale"},
		// These say nothing that is secret.
		{"nothing since 12:30:05 UTC; see /readyz of the aggregator", ""},
		{"can't read nowcast.windows.v1/3: not leader", ""},
		{"windows lane: watermark 1795435200000 instead of 5 at offset 9 of nowcast.events.v1/0", ""},
		{"run kafka-consumer-groups.sh --bootstrap-server HOST:PORT --group nowcast-store", ""},
		{"the spool holds 5/8 of --spool-size 1024 MB", ""},
		{"secrethosts", ""},
	} {
		want := row.want
		if want == "" {
			want = row.reason
		}
		if got := sanitize(row.reason, []string{"secrethost"}); got != want {
			t.Errorf("%s\n got %s\nwant %s", row.reason, got, want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("dial tcp ", ":9092 refused")
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "secret") {
			t.Skip()
		}
		got := sanitize(before+" secret.example.com "+after, []string{"secret.example.com"})
		if strings.Contains(got, "secret") {
			t.Errorf("%q", got)
		}
	})
}
