package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

// Broker supervises a Kafka-protocol broker on loopback: franz-go's kfake, with its log on disk.
type Broker struct {
	*supervisor
	addr   string
	dir    string
	unlock func()
}

// NewBroker locks the data dir and listens on a free loopback port. It starts nothing. It fails if the
// data dir is in use or can't be written.
func NewBroker(c Config) (*Broker, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	s, err := newSupervisor("embedded broker", "broker", &c)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, "broker")
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		unlock()
		return nil, fmt.Errorf("listen for embedded broker: %w", err)
	}
	defer l.Close()
	b := &Broker{supervisor: s, addr: l.Addr().String(), dir: dir, unlock: unlock}
	if s.listener, err = l.(*net.TCPListener).File(); err != nil {
		b.close()
		return nil, fmt.Errorf("prepare embedded broker: %w", err)
	}
	child := childConfig{dir: dir, partitionBytes: c.PartitionBytes, sync: c.Sync}
	s.args = child.args(brokerCommand)
	s.probe = b.ping
	return b, nil
}

// Addr returns host:port. It doesn't change while this process runs.
func (b *Broker) Addr() string { return b.addr }

// Ready reports whether the broker answers and takes events, and otherwise why not.
func (b *Broker) Ready() (ok bool, reason string) {
	if ok, reason := b.supervisor.Ready(); !ok {
		return false, reason
	}
	reason = fullReason(b.dir)
	return reason == "", reason
}

// Run keeps the broker running until ctx ends, then lets it save its state and end, and unlocks the data
// dir.
func (b *Broker) Run(ctx context.Context) error {
	defer b.close()
	return b.run(ctx)
}

func (b *Broker) close() {
	if b.listener != nil {
		b.listener.Close()
	}
	b.unlock()
}

// ping sends an ApiVersions request, the smallest of the protocol, and reads the header of the response.
// Source: https://kafka.apache.org/protocol#The_Messages_ApiVersions
func (b *Broker) ping(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", b.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	const apiVersions, correlation = 18, 0x6e6f7763
	request := binary.BigEndian.AppendUint32(nil, 10)             // length of what follows
	request = binary.BigEndian.AppendUint16(request, apiVersions) // API key
	request = binary.BigEndian.AppendUint16(request, 0)           // API version
	request = binary.BigEndian.AppendUint32(request, correlation) // correlation id
	request = binary.BigEndian.AppendUint16(request, 1<<16-1)     // client id: null
	if _, err := conn.Write(request); err != nil {
		return err
	}
	var header [8]byte // length and correlation id
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(header[4:]) != correlation {
		return errors.New("the response has another request's correlation id")
	}
	return nil
}
