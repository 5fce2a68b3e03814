// Command peers is the client of other logs for `bench-peers`: one task in a process of its own.
//
//	peers versions                                          of the libraries
//	peers SYSTEM create  ADDRESS STREAM
//	peers SYSTEM produce ADDRESS STREAM VALUES COUNT        as fast as it goes, all acknowledged
//	peers SYSTEM drain   ADDRESS STREAM VALUES COUNT        everything from the beginning, each value compared
//	peers SYSTEM trip    ADDRESS STREAM VALUES COUNT        one value in flight
//	peers SYSTEM pace    ADDRESS STREAM VALUES COUNT RATE   at a rate, each value begins with the time of its send
//	peers SYSTEM follow  ADDRESS STREAM VALUES COUNT        reads what pace sends, as it comes
//
// SYSTEM is kafka, nats, redis or rabbitmq; VALUES a file of values of 200 bytes, sent in turn. What was measured
// is one line of JSON; `follow` prints another one before, when it is ready.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
)

// A system stores values in streams, in order, on its disk.
type system interface {
	create(stream string) error
	// producer sends without waiting; `lingering` where batches are worth a few milliseconds.
	producer(stream string, lingering bool) (producer, error)
	// consume hands every value from the beginning of the stream to `each`, until that says that it has all; it
	// calls `ready` when it has asked for the first ones.
	consume(stream string, ready func(), each func(value []byte) (done bool, err error)) error
}

// A producer keeps no value after it was acknowledged.
type producer interface {
	// send queues a value and waits only where too many are unacknowledged.
	send(value []byte) error
	// call sends a value and waits for its acknowledgement.
	call(value []byte) error
	// flush waits for all acknowledgements.
	flush() error
}

var systems = map[string]func(address string) (system, error){
	"kafka": newKafka, "nats": newNats, "redis": newRedis, "rabbitmq": newRabbitmq,
}

func main() {
	measured, err := perform(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	line, _ := json.Marshal(measured)
	fmt.Println(string(line))
}

func perform(args []string) (map[string]any, error) {
	if len(args) == 1 && args[0] == "versions" {
		return versions(), nil
	}
	if len(args) < 4 || systems[args[0]] == nil {
		return nil, fmt.Errorf("usage: peers SYSTEM TASK ADDRESS STREAM [VALUES COUNT [RATE]]")
	}
	name, task, address, stream := args[0], args[1], args[2], args[3]
	system, err := systems[name](address)
	if err != nil {
		return nil, err
	}
	if task == "create" {
		return map[string]any{}, system.create(stream)
	}
	if len(args) < 6 {
		return nil, fmt.Errorf("%s takes VALUES and COUNT", task)
	}
	values, err := readValues(args[4])
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(args[5])
	if err != nil {
		return nil, err
	}
	switch task {
	case "produce":
		return produce(system, stream, values, count)
	case "drain":
		return drain(system, stream, values, count)
	case "trip":
		return trip(system, stream, values, count)
	case "follow":
		return follow(system, stream, values, count)
	case "pace":
		if len(args) < 7 {
			return nil, fmt.Errorf("pace takes a RATE")
		}
		rate, err := strconv.Atoi(args[6])
		if err != nil {
			return nil, err
		}
		return pace(system, stream, values, count, rate)
	}
	return nil, fmt.Errorf("there is no task %s", task)
}

// versions tells what this program was built with.
func versions() map[string]any {
	all := map[string]any{"go": runtime.Version()}
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		switch module.Path {
		case "github.com/twmb/franz-go", "github.com/nats-io/nats.go", "github.com/gomodule/redigo",
			"github.com/rabbitmq/rabbitmq-stream-go-client":
			all[module.Path] = module.Version
		}
	}
	return all
}
