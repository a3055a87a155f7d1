package embedded

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ackListener holds each acknowledgement of a write back until the log is as durable as it has to be: with
// sync, and always for the topics in durable, until the partition's file is synced. Writers that wait at the
// same time share a sync. It also records how far the log has come.
type ackListener struct {
	net.Listener
	syncer  *syncer
	ends    *ends
	sync    bool
	durable []string
	log     *slog.Logger
}

// Accept implements net.Listener.
func (l *ackListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &ackConn{Conn: conn, l: l}, nil
}

// ackConn reads along on a connection of the broker. The broker reads requests whole and writes a response by
// one call, one after the other.
type ackConn struct {
	net.Conn
	l *ackListener

	// Of the reading goroutine.
	header []byte // of the current request, up to requestHeader bytes
	left   int64  // bytes of the current request that aren't read

	mu      sync.Mutex
	waiting []produceRequest // in order of their requests
}

const topicIDVersion = 13 // the first version of produce requests that name topics by ids

const requestHeader = 512 // enough for the client id, the transactional id and the name of the first topic

type produceRequest struct {
	correlation int32
	version     int16
	topic       string // the first topic's; "" if the request names it by an id
}

// Read implements net.Conn.
func (c *ackConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for rest := b[:n]; len(rest) > 0; {
		rest = c.advance(rest)
	}
	return n, err
}

// advance takes bytes of the current request and returns those behind it.
func (c *ackConn) advance(b []byte) []byte {
	const size = 4
	if len(c.header) < size {
		n := min(size-len(c.header), len(b))
		if c.header = append(c.header, b[:n]...); len(c.header) == size {
			c.left = int64(binary.BigEndian.Uint32(c.header))
		}
		return b[n:]
	}
	n := min(int64(len(b)), c.left)
	if room := requestHeader - len(c.header); room > 0 {
		c.header = append(c.header, b[:min(n, int64(room))]...)
	}
	if c.left -= n; c.left <= 0 {
		c.requested(c.header[size:])
		c.header = c.header[:0]
	}
	return b[n:]
}

// requested notes a produce request that is about to be handled.
func (c *ackConn) requested(header []byte) {
	r := kbin.Reader{Src: header}
	switch kmsg.Key(r.Int16()) {
	case kmsg.Produce:
	case kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.Heartbeat, kmsg.ApiVersions:
		return
	default:
		c.l.syncer.wrote() // groups or topics change soon
		return
	}
	p := produceRequest{version: r.Int16(), correlation: r.Int32()}
	r.NullableString() // client id
	request := kmsg.ProduceRequest{Version: p.version}
	var acks int16
	if request.IsFlexible() {
		kmsg.SkipTags(&r)
		r.CompactNullableString()
		acks = r.Int16()
		r.Int32()
		r.CompactArrayLen()
		p.topic = r.CompactString()
	} else {
		r.NullableString()
		acks = r.Int16()
		r.Int32()
		r.ArrayLen()
		p.topic = r.String()
	}
	if !r.Ok() || p.version >= topicIDVersion {
		p.topic = ""
	}
	if acks == 0 {
		c.l.syncer.wrote()
		return // there is no response
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, p)
}

// Write implements net.Conn: it writes a response.
func (c *ackConn) Write(b []byte) (int, error) {
	if p, ok := c.responds(b); ok {
		if err := c.acknowledge(p, b); err != nil {
			c.l.log.Error("acknowledge write: the connection is closed, and the client tries again",
				"error", err)
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// responds returns the produce request that a response is for.
func (c *ackConn) responds(b []byte) (produceRequest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || len(b) < 8 {
		return produceRequest{}, false
	}
	p := c.waiting[0]
	if p.correlation != int32(binary.BigEndian.Uint32(b[4:])) {
		return produceRequest{}, false
	}
	c.waiting = slices.Delete(c.waiting, 0, 1)
	return p, true
}

// acknowledge makes durable what a response acknowledges.
func (c *ackConn) acknowledge(p produceRequest, b []byte) error {
	response := kmsg.ProduceResponse{Version: p.version}
	b = b[8:]
	if response.IsFlexible() {
		b = b[min(1, len(b)):] // no tags
	}
	if err := response.ReadFrom(b); err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	for i := range response.Topics {
		t := &response.Topics[i]
		name := t.Topic
		if name = cmp.Or(name, p.topic); name == "" {
			// No client of this program does that.
			if err := c.l.syncer.syncAll(); err != nil {
				return err
			}
			continue
		}
		for _, x := range t.Partitions {
			if x.ErrorCode != 0 {
				continue
			}
			c.l.syncer.wrote()
			partition := fmt.Sprintf("%s-%d", name, x.Partition)
			if c.l.sync || slices.Contains(c.l.durable, name) {
				if err := c.l.syncer.syncPartition(partition); err != nil {
					return err
				}
			}
			c.l.ends.reached(partition, x.BaseOffset+1)
		}
	}
	return nil
}

// syncer syncs the files of the log that have grown since their last sync.
type syncer struct {
	dir      string // of the log
	syncFile func(name string) error
	written  chan struct{} // see wrote

	mu         sync.Mutex
	partitions map[string]*syncedFiles
}

// syncedFiles are the files of one directory. Its lock is held during a sync, so that those who wait for it
// share the next one.
type syncedFiles struct {
	mu     sync.Mutex
	synced map[string]fileVersion
}

// fileVersion tells whether a file has changed. Segments only grow, groups.log is also replaced.
type fileVersion struct {
	size int64
	info fs.FileInfo
}

func newSyncer(dir string) *syncer {
	return &syncer{dir: dir, syncFile: syncFile, written: make(chan struct{}, 1),
		partitions: map[string]*syncedFiles{}}
}

// wrote notes that the log may have changed since the last sync.
func (s *syncer) wrote() {
	select {
	case s.written <- struct{}{}:
	default:
	}
}

func (s *syncer) files(name string) *syncedFiles {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.partitions[name]
	if f == nil {
		f = &syncedFiles{synced: map[string]fileVersion{}}
		s.partitions[name] = f
	}
	return f
}

// syncPartition syncs what was written to a partition before the call.
func (s *syncer) syncPartition(name string) error {
	return s.files(name).sync(filepath.Join(s.dir, "partitions", name), segmentSuffix, s.syncFile)
}

// syncAll syncs everything that was written before the call.
func (s *syncer) syncAll() error {
	if err := s.files("").sync(s.dir, ".log", s.syncFile); err != nil {
		return err
	}
	partitions, err := os.ReadDir(filepath.Join(s.dir, "partitions"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, p := range partitions {
		if err := s.syncPartition(p.Name()); err != nil {
			return err
		}
	}
	return nil
}

// sync syncs the files of a directory that have a suffix and have changed, and the directory if it has new
// ones. Index files aren't synced, since the broker can rebuild them from the segments.
func (f *syncedFiles) sync(dir, suffix string, syncFile func(string) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil // retention or the deletion of a topic
	}
	if err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	present, created := make(map[string]fileVersion, len(entries)), false
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sync log: %w", err)
		}
		now := fileVersion{info.Size(), info}
		last, has := f.synced[e.Name()]
		if !has || last.size != now.size || !os.SameFile(last.info, now.info) {
			if err := syncFile(filepath.Join(dir, e.Name())); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("sync %s: %w", e.Name(), err)
			}
			created = created || !has || !os.SameFile(last.info, now.info)
		}
		present[e.Name()] = now
	}
	f.synced = present
	if created {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("sync log: %w", err)
		}
	}
	return nil
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
