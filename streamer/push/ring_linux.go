package push

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring hands many sends to the kernel in one call (io_uring, io_uring_enter(2)). Each is done before the call returns, since none may wait.
// It belongs to the thread that made it.
type ring struct {
	fd                             int
	memory, entries                []byte // shared with the kernel
	sqHead, sqTail, cqHead, cqTail *uint32
	sqMask, cqMask                 uint32
	completions                    int // where they begin in memory
	tail                           uint32
	sends                          []sending // since the last flush
	failed                         []failure
}

// sending is data on its way to a viewer.
type sending struct {
	who int32
	fd  int32
	b   []byte
}

// failure is a send that the connection didn't take whole, or not at all.
type failure struct {
	sending
	n   int
	err error
}

// The parts of the kernel's interface that are used (include/uapi/linux/io_uring.h).
const (
	ringEntries = 1024

	setupCoopTaskrun  = 1 << 8
	setupSingleIssuer = 1 << 12
	featSingleMmap    = 1 << 0
	opSend            = 26
	skipSuccess       = 1 << 6 // no completion for what went well
	offsetEntries     = 0x10000000
	sqeSize, cqeSize  = 64, 16
)

// newRing makes a ring, or says why this system has none: the kernel may be old, or a container's profile may forbid it.
func newRing() (*ring, error) {
	var p [120]byte                                                                 // struct io_uring_params
	at := func(offset int) *uint32 { return (*uint32)(unsafe.Pointer(&p[offset])) } //nolint:gosec // within p
	*at(8) = setupCoopTaskrun | setupSingleIssuer
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, uintptr(unsafe.Pointer(&p[0])), 0) //nolint:gosec // the kernel's interface
	if errno != 0 {
		return nil, fmt.Errorf("set up io_uring: %w", errno)
	}
	r := &ring{fd: int(fd)}
	if *at(20)&featSingleMmap == 0 {
		r.close()
		return nil, fmt.Errorf("set up io_uring: %w", unix.ENOSYS)
	}
	const sq, cq = 40, 80 // io_sqring_offsets and io_cqring_offsets
	completions := int(*at(cq + 20))
	size := max(int(*at(sq + 24))+4*int(*at(0)), completions+cqeSize*int(*at(4)))
	var err error
	if r.memory, err = unix.Mmap(r.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err == nil {
		r.entries, err = unix.Mmap(r.fd, offsetEntries, sqeSize*int(*at(0)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.memory[offset])) } //nolint:gosec // the kernel's interface
	r.sqHead, r.sqTail, r.sqMask = word(*at(sq)), word(*at(sq + 4)), *word(*at(sq + 8))
	r.cqHead, r.cqTail, r.cqMask, r.completions = word(*at(cq)), word(*at(cq + 4)), *word(*at(cq + 8)), completions
	for i := range *at(0) { // each place of the queue is its own entry
		*word(*at(sq + 24) + 4*i) = i
	}
	r.tail = *r.sqTail
	return r, nil
}

// send puts data on its way to a viewer.
func (r *ring) send(s sending) {
	if len(r.sends) == ringEntries {
		r.flush()
	}
	i := r.tail & r.sqMask
	e := r.entries[i*sqeSize : (i+1)*sqeSize]
	clear(e)
	e[0], e[1] = opSend, skipSuccess
	*(*int32)(unsafe.Pointer(&e[4])) = s.fd
	*(*uint64)(unsafe.Pointer(&e[16])) = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(s.b)))) //nolint:gosec // r.sends keeps it alive
	*(*uint32)(unsafe.Pointer(&e[24])) = uint32(len(s.b))                                       //nolint:gosec // a frame
	// What can't be sent whole is to be told, and not to wait: without WAITALL a part would be a success.
	*(*uint32)(unsafe.Pointer(&e[28])) = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL | unix.MSG_WAITALL
	*(*uint64)(unsafe.Pointer(&e[32])) = uint64(len(r.sends))
	r.sends = append(r.sends, s)
	r.tail++
}

// flush has all sends done, and notes in failed those that weren't whole.
func (r *ring) flush() {
	atomic.StoreUint32(r.sqTail, r.tail)
	for left := r.tail - atomic.LoadUint32(r.sqHead); left > 0; left = r.tail - atomic.LoadUint32(r.sqHead) {
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(left), 0, 0, 0, 0)
		r.reap()
		switch errno {
		case 0, unix.EINTR, unix.EAGAIN, unix.EBUSY:
		default:
			panic(fmt.Sprint("send by io_uring: ", errno)) // a mistake of ours
		}
	}
	runtime.KeepAlive(r.sends)
	clear(r.sends)
	r.sends = r.sends[:0]
}

func (r *ring) reap() {
	head := *r.cqHead
	for ; head != atomic.LoadUint32(r.cqTail); head++ {
		c := r.memory[r.completions+int(head&r.cqMask)*cqeSize:]
		f := failure{sending: r.sends[*(*uint64)(unsafe.Pointer(&c[0]))]}
		switch n := *(*int32)(unsafe.Pointer(&c[8])); {
		case n >= 0:
			f.n = int(n)
		case unix.Errno(-n) != unix.EAGAIN:
			f.err = unix.Errno(-n)
		}
		r.failed = append(r.failed, f)
	}
	atomic.StoreUint32(r.cqHead, head)
}

func (r *ring) close() {
	if r.entries != nil {
		_ = unix.Munmap(r.entries)
	}
	if r.memory != nil {
		_ = unix.Munmap(r.memory)
	}
	_ = unix.Close(r.fd)
}
