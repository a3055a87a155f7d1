package main

import (
	"strings"
	"testing"
)

// However the bytes are cut, the same frames, skips and seconds are counted, and a viewer is there once it has what it waits for.
func TestCrowdCountsMessages(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\nretry: 1000\n\n\r\n"
	frame := func(at, skipped string) string {
		return "2f\r\nid: 1-1-0\ndata: {\"visitors\":1,\"second\":{\"at\":\"" + at + "\",\"pageviews\":1},\"skipped\":" + skipped + "}\n\n\r\n"
	}
	stream := head + "event: snapshot\ndata: {\"skipped\":7}\n\n" + frame("2026-11-23T12:00:01Z", "0") + ": hb\n\n" + frame("2026-11-23T12:00:02Z", "12") + "id: 1"
	for step := 1; step <= len(stream); step++ {
		c := crowd{job: job{Until: "event: snapshot"}, pending: 1, report: tallied{Seconds: map[int64]burst{}}}
		k := conn{state: waiting}
		for rest := stream; rest != ""; rest = rest[min(step, len(rest)):] {
			b := append([]byte(string(k.rest)), rest[:min(step, len(rest))]...)
			c.messages(&k, b, 5)
		}
		if r := c.report; r.Up != 1 || c.pending != 0 || r.Frames != 2 || r.Skipped != 12 || len(r.Seconds) != 2 || r.Seconds[12*3600+2].N != 1 {
			t.Fatalf("cut into %d bytes: %+v", step, r)
		}
	}
}

func TestJudgeSoak(t *testing.T) {
	curve := func(grow func(s *sample, i int)) (all []sample) {
		for i := range 120 {
			s := sample{rss: 100 << 10, inUse: 90 << 10, goroutines: 1000, files: 500}
			grow(&s, i)
			all = append(all, s)
		}
		return all
	}
	for _, c := range []struct {
		name  string
		curve []sample
		want  string
	}{
		{"level", curve(func(*sample, int) {}), ""},
		{"warming up", curve(func(s *sample, i int) { s.rss += 20 << 10 * min(i, 10) / 10 }), ""},
		{"memory", curve(func(s *sample, i int) { s.rss += i << 10; s.inUse += i << 10 }), "KB resident and in use grew"},
		{"goroutines", curve(func(s *sample, i int) { s.goroutines += 5 * i }), "goroutines grew"},
		{"files", curve(func(s *sample, i int) { s.files += 5 * i }), "open files grew"},
		{"too short", curve(func(*sample, int) {})[:5], "too few"},
	} {
		err := judgeSoak(c.curve)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
