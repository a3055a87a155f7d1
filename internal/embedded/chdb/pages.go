//go:build linux && !noembed

package chdb

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ReleasePages drops the library's pages from this process's resident memory. Pages that are used again
// come back from the page cache. Loading touches 120 MB that an idle engine never uses again. Mappings
// that this process has written to are kept, so no data is lost.
func ReleasePages(library string) error {
	library, err := filepath.EvalSymlinks(library)
	if err != nil {
		return fmt.Errorf("release pages: %w", err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("release pages: %w", err)
	}
	defer f.Close()
	var from, to uintptr
	droppable := false
	release := func() {
		if droppable {
			// It fails only for a mapping that was removed meanwhile.
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
		}
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && !strings.HasSuffix(fields[0], ":"): // first line of the next mapping
			release()
			_, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to)
			droppable = err == nil && strings.HasPrefix(fields[1], "r-") &&
				strings.HasSuffix(lines.Text(), " "+library)
		case len(fields) >= 2 && fields[1] != "0" &&
			(fields[0] == "Anonymous:" || fields[0] == "Private_Dirty:"):
			droppable = false
		}
	}
	release()
	return nil
}
