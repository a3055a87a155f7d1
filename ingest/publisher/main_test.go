package publisher

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// kafka-go's connection pool stops looking for brokers at its idle timeout, after its owner has
	// closed it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"))
}
