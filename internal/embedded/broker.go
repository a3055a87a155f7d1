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

// Broker is a supervised Kafka-protocol broker on loopback: franz-go's kfake with its log on disk.
type Broker struct {
	*supervisor
	addr   string
	unlock func()
}

// NewBroker claims the data dir and a free loopback port, and starts nothing. A data dir that is in use or can't be written is
// an error that says so.
func NewBroker(c Config) (*Broker, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	s, err := newSupervisor("embedded broker", "broker", &c)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, "broker")
	unlock, err := claim(dir)
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
	b := &Broker{supervisor: s, addr: l.Addr().String(), unlock: unlock}
	if s.listener, err = l.(*net.TCPListener).File(); err != nil {
		b.close()
		return nil, fmt.Errorf("prepare embedded broker: %w", err)
	}
	child := childConfig{dir: dir, bytes: c.PartitionBytes, sync: c.Sync}
	s.args = child.args(brokerVerb)
	s.probe = b.ask
	return b, nil
}

// Addr is host:port, the same for the life of this process.
func (b *Broker) Addr() string { return b.addr }

// Run keeps the broker running until ctx ends, then has it save its state and end. Afterwards the data dir is free again.
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

// ask sends the smallest request of the protocol, ApiVersions, and wants the beginning of an answer to it.
func (b *Broker) ask(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", b.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	const apiVersions, correlation = 18, 0x6e6f7763
	q := binary.BigEndian.AppendUint32(nil, 10)       // bytes that follow
	q = binary.BigEndian.AppendUint16(q, apiVersions) //
	q = binary.BigEndian.AppendUint16(q, 0)           // its version
	q = binary.BigEndian.AppendUint32(q, correlation) //
	q = binary.BigEndian.AppendUint16(q, 1<<16-1)     // no client id
	if _, err := conn.Write(q); err != nil {
		return err
	}
	var answer [8]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(answer[4:]) != correlation {
		return errors.New("the answer belongs to another request")
	}
	return nil
}
