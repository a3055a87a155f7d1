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

// Broker supervises a Kafka-protocol broker on a unix socket: franz-go's kfake, with its log on disk.
type Broker struct {
	*supervisor
	dir    string
	socket *socket
	unlock func()
}

// NewBroker locks the data dir and listens on a socket in it. It starts nothing. It fails if the data dir
// is in use or can't be written.
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
	b := &Broker{supervisor: s, dir: dir, unlock: unlock}
	if b.socket, err = listenSocket(dir, "broker.sock"); err != nil {
		unlock()
		return nil, fmt.Errorf("listen for embedded broker: %w", err)
	}
	s.listener = b.socket.listener
	child := childConfig{dir: dir, partitionBytes: c.PartitionBytes, sync: c.Sync}
	s.args = child.args(brokerCommand)
	s.probe = b.ping
	return b, nil
}

// Addr returns the address for broker.Config: unix: and the path of the socket. It doesn't change while
// this process runs.
func (b *Broker) Addr() string { return "unix:" + b.socket.path }

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
	b.socket.close()
	b.unlock()
}

// ping sends an ApiVersions request, the smallest of the protocol, and reads the header of the response.
// Source: https://kafka.apache.org/protocol#The_Messages_ApiVersions
func (b *Broker) ping(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", b.socket.path)
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
