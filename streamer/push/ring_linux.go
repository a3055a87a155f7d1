package push

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring sends to many sockets with one system call (io_uring(7), io_uring_enter(2)). No send waits, so
// each is complete when the call returns. A ring belongs to the thread that made it.
type ring struct {
	fd                             int
	memory, entries                []byte // shared with the kernel
	sqHead, sqTail, cqHead, cqTail *uint32
	sqMask, cqMask                 uint32
	completions                    int // offset of the completion entries in memory
	tail                           uint32

	requests []sendRequest // since the last flush
	failed   []sendFailure // until the caller has handled and removed them
	err      error         // of a flush that failed as a whole; the ring does nothing after it
}

// sendRequest is data for a viewer's socket.
type sendRequest struct {
	viewer int32
	fd     int32
	b      []byte
}

// sendFailure is a send whose socket took only the first n bytes. A nil err says that it takes no more
// for now.
type sendFailure struct {
	sendRequest
	n   int
	err error
}

// The parts of the kernel's interface that the ring uses (include/uapi/linux/io_uring.h).
const (
	ringEntries = 1024

	setupCoopTaskrun  = 1 << 8
	setupSingleIssuer = 1 << 12
	featSingleMmap    = 1 << 0
	sendOpcode        = 26     // IORING_OP_SEND
	skipSuccess       = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS: no completion for a whole send
	offsetEntries     = 0x10000000
	sqeSize, cqeSize  = 64, 16
)

// newRing makes a ring. It fails where the kernel has no io_uring or a container's profile forbids it.
func newRing() (*ring, error) {
	var p [120]byte                                                                 // struct io_uring_params
	at := func(offset int) *uint32 { return (*uint32)(unsafe.Pointer(&p[offset])) } //nolint:gosec // within p
	*at(8) = setupCoopTaskrun | setupSingleIssuer
	params := uintptr(unsafe.Pointer(&p[0])) //nolint:gosec // the kernel's interface
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, ringEntries, params, 0)
	if errno != 0 {
		return nil, fmt.Errorf("set up io_uring: %w", errno)
	}
	r := &ring{fd: int(fd)}
	if *at(20)&featSingleMmap == 0 {
		r.close()
		return nil, fmt.Errorf("set up io_uring: %w", unix.ENOSYS)
	}
	const sq, cq = 40, 80 // io_sqring_offsets and io_cqring_offsets
	r.completions = int(*at(cq + 20))
	size := max(int(*at(sq + 24))+4*int(*at(0)), r.completions+cqeSize*int(*at(4)))
	const protection, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	var err error
	if r.memory, err = unix.Mmap(r.fd, 0, size, protection, flags); err == nil {
		r.entries, err = unix.Mmap(r.fd, offsetEntries, sqeSize*int(*at(0)), protection, flags)
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("map io_uring: %w", err)
	}
	word := func(offset uint32) *uint32 {
		return (*uint32)(unsafe.Pointer(&r.memory[offset])) //nolint:gosec // the kernel's interface
	}
	r.sqHead, r.sqTail, r.sqMask = word(*at(sq)), word(*at(sq + 4)), *word(*at(sq + 8))
	r.cqHead, r.cqTail, r.cqMask = word(*at(cq)), word(*at(cq + 4)), *word(*at(cq + 8))
	for i := range *at(0) { // slot i of the submission queue is entry i
		*word(*at(sq + 24) + 4*i) = i
	}
	r.tail = *r.sqTail
	return r, nil
}

// send queues a request; the next flush does it.
func (r *ring) send(s sendRequest) {
	if len(r.requests) == ringEntries {
		r.flush()
	}
	i := r.tail & r.sqMask
	e := r.entries[i*sqeSize : (i+1)*sqeSize]
	clear(e)
	e[0], e[1] = sendOpcode, skipSuccess
	*(*int32)(unsafe.Pointer(&e[4])) = s.fd
	data := unsafe.Pointer(unsafe.SliceData(s.b))              //nolint:gosec // the kernel's interface
	*(*uint64)(unsafe.Pointer(&e[16])) = uint64(uintptr(data)) // r.requests keeps it alive
	*(*uint32)(unsafe.Pointer(&e[24])) = uint32(len(s.b))      //nolint:gosec // a frame
	// With WAITALL a partial send counts as a failure and has a completion; with DONTWAIT it still
	// doesn't wait.
	*(*uint32)(unsafe.Pointer(&e[28])) = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL | unix.MSG_WAITALL
	*(*uint64)(unsafe.Pointer(&e[32])) = uint64(len(r.requests))
	r.requests = append(r.requests, s)
	r.tail++
}

// flush does all queued requests, and appends to failed those that weren't sent whole.
func (r *ring) flush() {
	atomic.StoreUint32(r.sqTail, r.tail)
	for r.err == nil {
		queued := r.tail - atomic.LoadUint32(r.sqHead)
		if queued == 0 {
			break
		}
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(queued), 0, 0, 0, 0)
		r.reap()
		switch errno {
		case 0, unix.EINTR, unix.EAGAIN, unix.EBUSY:
		default:
			r.err = fmt.Errorf("send by io_uring: %w", errno)
		}
	}
	runtime.KeepAlive(r.requests)
	clear(r.requests)
	r.requests = r.requests[:0]
}

// reap moves the kernel's completions, which are failures only, to failed.
func (r *ring) reap() {
	head := *r.cqHead
	for ; head != atomic.LoadUint32(r.cqTail); head++ {
		c := r.memory[r.completions+int(head&r.cqMask)*cqeSize:]
		f := sendFailure{sendRequest: r.requests[*(*uint64)(unsafe.Pointer(&c[0]))]}
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
