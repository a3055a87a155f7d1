package main

import "testing"

// However the bytes are cut into reads, the same frames, skips and seconds are counted, and the viewer has
// joined once it has received the message that it waits for.
func TestViewerProcessCountsMessages(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\nretry: 1000\n\n\r\n"
	frame := func(at, skipped string) string {
		return "2f\r\nid: 1-1-0\ndata: {\"visitors\":1,\"second\":{\"at\":\"" + at + "\",\"pageviews\":1}," +
			"\"skipped\":" + skipped + "}\n\n\r\n"
	}
	stream := head + "event: snapshot\ndata: {\"skipped\":7}\n\n" + frame("2026-11-23T12:00:01Z", "0") +
		": hb\n\n" + frame("2026-11-23T12:00:02Z", "12") + "id: 1"
	for step := 1; step <= len(stream); step++ {
		v := viewerProcess{viewerJob: viewerJob{JoinedBy: "event: snapshot"}, pending: 1,
			report: viewerReport{Seconds: map[int64]arrival{}}}
		c := viewerConn{state: connWaiting}
		for rest := stream; rest != ""; rest = rest[min(step, len(rest)):] {
			b := append([]byte(string(c.rest)), rest[:min(step, len(rest))]...)
			v.messages(&c, b, 5)
		}
		r := v.report
		if r.Joined != 1 || v.pending != 0 || r.Frames != 2 || r.Skipped != 12 || len(r.Seconds) != 2 ||
			r.Seconds[12*3600+2].N != 1 {
			t.Fatalf("cut into %d bytes: %+v", step, r)
		}
	}
}
