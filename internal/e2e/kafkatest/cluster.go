// Package kafkatest runs real Apache Kafka for tests: one or three nodes (KRaft, broker and controller in
// one) on 127.0.0.1, as child processes that can be killed, paused and restarted.
//
// It needs a Java runtime and the jars of pom.xml, which `make kafka` fetches. Without them Start fails with
// ErrUnavailable, so that a test can be skipped with a reason. No node outlives the process that started it.
package kafkatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrUnavailable means that Java or the jars are missing. The error's text says what to do.
var ErrUnavailable = errors.New("no Apache Kafka here")

// Config is that of a cluster.
type Config struct {
	Dir    string            // for property files, logs and data; Stop doesn't remove it
	Nodes  int               // 1 or 3; default 1
	Libs   string            // directory of the jars; default NOWCAST_KAFKA_LIBS or this package's libs
	HeapMB int               // of each node; default 256
	Props  map[string]string // settings of server.properties; "" removes a default

	// Doors are additional listeners of each node, for clients whose connections go through a proxy. For
	// each node and door Proxy starts a proxy of the address upstream and returns the proxy's address,
	// which the listener advertises; without Proxy there is none.
	Doors []string
	Proxy func(door, upstream string) (advertised string, err error)

	Protocols map[string]string // security protocol of a door; PLAINTEXT if it has none
	Format    []string          // more arguments of `kafka-storage.sh format`, such as --add-scram
}

// Cluster is a running cluster.
type Cluster struct {
	Nodes []*Node
}

// clusterID is that of all clusters: a cluster is identified by its data directory.
const clusterID = "MkU3OEVBNTcwNTJENDM2Qg"

// Start formats the data directories and waits until all nodes have started, which takes about 3 s for one
// node and 7 s for three.
func Start(c Config) (*Cluster, error) {
	if c.Nodes == 0 {
		c.Nodes = 1
	}
	if c.HeapMB == 0 {
		c.HeapMB = 256
	}
	if c.Nodes != 1 && c.Nodes != 3 {
		return nil, fmt.Errorf("start Kafka: 1 or 3 nodes, not %d", c.Nodes)
	}
	var err error
	if c.Libs, err = libs(c.Libs); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	for try := 0; ; try++ {
		k, err := start(c)
		// Another program may take a free port before the node does.
		if err == nil || !errors.Is(err, errPort) || try == 2 {
			return k, err
		}
	}
}

// libs returns the directory of the jars.
func libs(dir string) (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("%w: install a Java runtime (17 or newer)", ErrUnavailable)
	}
	if dir == "" {
		dir = os.Getenv("NOWCAST_KAFKA_LIBS")
	}
	if dir == "" {
		root, err := os.Getwd()
		for err == nil && root != "/" {
			if dir = filepath.Join(root, "internal", "e2e", "kafkatest", "libs"); exists(filepath.Dir(dir)) {
				break
			}
			root = filepath.Dir(root)
		}
	}
	if jars, _ := filepath.Glob(filepath.Join(dir, "kafka_*.jar")); len(jars) == 0 {
		return "", fmt.Errorf("%w: no jars in %s; run `make kafka` or set NOWCAST_KAFKA_LIBS to their place",
			ErrUnavailable, dir)
	}
	return dir, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func start(c Config) (*Cluster, error) {
	ports, err := freePorts((2 + len(c.Doors)) * c.Nodes)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	var voters []string
	for i := range c.Nodes {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1]))
	}
	k := &Cluster{}
	for i := range c.Nodes {
		n := newNode(c, i+1, ports[2*i])
		k.Nodes = append(k.Nodes, n)
		for j, name := range c.Doors {
			d := door{name: name, addr: fmt.Sprintf("127.0.0.1:%d", ports[2*c.Nodes+i*len(c.Doors)+j])}
			d.advertised = d.addr
			if c.Proxy != nil {
				if d.advertised, err = c.Proxy(name, d.addr); err != nil {
					return nil, fmt.Errorf("start Kafka: open door %s: %w", name, err)
				}
			}
			n.doors = append(n.doors, d)
		}
		p := properties(c, n, ports[2*i+1], strings.Join(voters, ","))
		if err := os.WriteFile(n.props, []byte(p), 0o644); err != nil {
			return nil, fmt.Errorf("start Kafka: %w", err)
		}
	}
	if err := k.each(func(n *Node) error { return n.format(c.Format) }); err != nil {
		return nil, err
	}
	if err := k.each((*Node).Start); err != nil {
		k.Stop()
		return nil, err
	}
	return k, nil
}

// properties are a node's server.properties. The controller notices a dead broker within 3 s instead of 9,
// and no topic is created automatically.
func properties(c Config, n *Node, controller int, voters string) string {
	copies, insync := strconv.Itoa(min(3, c.Nodes)), strconv.Itoa(min(2, c.Nodes))
	listeners := fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", n.Addr, controller)
	p := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          strconv.Itoa(n.ID),
		"controller.quorum.voters":                         voters,
		"listeners":                                        listeners,
		"advertised.listeners":                             "PLAINTEXT://" + n.Addr,
		"controller.listener.names":                        "CONTROLLER",
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                         n.data,
		"auto.create.topics.enable":                        "false",
		"broker.session.timeout.ms":                        "3000",
		"broker.heartbeat.interval.ms":                     "500",
		"default.replication.factor":                       copies,
		"min.insync.replicas":                              insync,
		"offsets.topic.replication.factor":                 copies,
		"offsets.topic.num.partitions":                     "3",
		"transaction.state.log.replication.factor":         copies,
		"transaction.state.log.min.isr":                    insync,
		"transaction.state.log.num.partitions":             "3",
		"share.coordinator.state.topic.replication.factor": copies,
		"share.coordinator.state.topic.min.isr":            insync,
		"group.initial.rebalance.delay.ms":                 "0",
		"log.cleaner.dedupe.buffer.size":                   "8388608", // the default is half of the heap
	}
	for _, d := range n.doors {
		p["listeners"] += fmt.Sprintf(",%s://%s", d.name, d.addr)
		p["advertised.listeners"] += fmt.Sprintf(",%s://%s", d.name, d.advertised)
		p["listener.security.protocol.map"] += fmt.Sprintf(",%s:%s", d.name,
			cmp.Or(c.Protocols[d.name], "PLAINTEXT"))
	}
	for name, v := range c.Props {
		p[name] = v
	}
	var lines []string
	for name, v := range p {
		if v != "" {
			lines = append(lines, name+"="+v+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Addrs are the addresses of all nodes for clients.
func (k *Cluster) Addrs() []string {
	var all []string
	for _, n := range k.Nodes {
		all = append(all, n.Addr)
	}
	return all
}

// Door returns the addresses of a door's proxies.
func (k *Cluster) Door(name string) []string {
	var all []string
	for _, n := range k.Nodes {
		for _, d := range n.doors {
			if d.name == name {
				all = append(all, d.advertised)
			}
		}
	}
	return all
}

// Stop kills all nodes at once. Their data remains: Node.Start restarts them.
func (k *Cluster) Stop() {
	_ = k.each(func(n *Node) error {
		n.Kill()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.release()
		return nil
	})
}

func (k *Cluster) each(f func(*Node) error) error {
	errs := make([]error, len(k.Nodes))
	var wg sync.WaitGroup
	for i, n := range k.Nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func freePorts(n int) ([]int, error) {
	var all []int
	for range n {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // not before the others are chosen, or a port could be chosen twice
		all = append(all, l.Addr().(*net.TCPAddr).Port)
	}
	return all, nil
}
