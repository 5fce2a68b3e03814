package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	valueLen = 200
	stampLen = 8
	// Round trips that are not counted.
	warmUpTrips = 500
	// Values of the first second of a paced run are not counted.
	warmUpTime = time.Second
)

// Values are sent in turn: value i is the one at i modulo their number.
type Values []byte

func readValues(path string) (Values, error) {
	all, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || len(all)%valueLen != 0 {
		return nil, fmt.Errorf("%s holds no values of %d bytes", path, valueLen)
	}
	return all, nil
}

func (v Values) of(i int) []byte {
	at := i * valueLen % len(v)
	return v[at : at+valueLen : at+valueLen]
}

func produce(system system, stream string, values Values, count int) (map[string]any, error) {
	producer, err := system.producer(stream, true)
	if err != nil {
		return nil, err
	}
	meter := startMeter()
	for i := range count {
		if err := producer.send(values.of(i)); err != nil {
			return nil, err
		}
	}
	if err := producer.flush(); err != nil {
		return nil, err
	}
	return meter.stop(count), nil
}

// Lines differ from each other, so that equal content at every place is order, too.
func drain(system system, stream string, values Values, count int) (map[string]any, error) {
	seen := 0
	meter := startMeter()
	err := system.consume(stream, func() {}, func(value []byte) (bool, error) {
		if !bytes.Equal(value, values.of(seen)) {
			return true, fmt.Errorf("value %d is another one than was sent there", seen)
		}
		seen++
		return seen == count, nil
	})
	if err != nil {
		return nil, err
	}
	return meter.stop(seen), nil
}

func trip(system system, stream string, values Values, count int) (map[string]any, error) {
	producer, err := system.producer(stream, false)
	if err != nil {
		return nil, err
	}
	var meter meter
	spans := make(spans, 0, count)
	for i := range warmUpTrips + count {
		if i == warmUpTrips {
			meter = startMeter()
		}
		start := time.Now()
		if err := producer.call(values.of(i)); err != nil {
			return nil, err
		}
		if i >= warmUpTrips {
			spans = append(spans, time.Since(start))
		}
	}
	measured := meter.stop(count)
	spans.percentiles(measured)
	return measured, nil
}

// The thread sleeps in the kernel: the timers of Go's runtime are later.
func sleep(span time.Duration) {
	left := syscall.NsecToTimespec(int64(span))
	_ = syscall.Nanosleep(&left, nil)
}

func pace(system system, stream string, values Values, count, rate int) (map[string]any, error) {
	producer, err := system.producer(stream, false)
	if err != nil {
		return nil, err
	}
	behind := make(spans, 0, count)
	meter := startMeter()
	start := time.Now()
	for i := range count {
		due := time.Duration(i) * time.Second / time.Duration(rate)
		for left := due - time.Since(start); left > 0; left = due - time.Since(start) {
			sleep(left)
		}
		behind = append(behind, time.Since(start)-due)
		value := append(make([]byte, 0, valueLen), values.of(i)...)
		binary.LittleEndian.PutUint64(value, uint64(time.Now().UnixNano()))
		if err := producer.send(value); err != nil {
			return nil, err
		}
	}
	if err := producer.flush(); err != nil {
		return nil, err
	}
	measured := meter.stop(count)
	late := map[string]any{}
	behind.percentiles(late)
	measured["sender_behind"] = late
	return measured, nil
}

func follow(system system, stream string, values Values, count int) (map[string]any, error) {
	seen, first := 0, uint64(0)
	spans := make(spans, 0, count)
	meter := startMeter()
	err := system.consume(stream, func() { fmt.Println(`{"ready":true}`) }, func(value []byte) (bool, error) {
		now := uint64(time.Now().UnixNano())
		if len(value) != valueLen || !bytes.Equal(value[stampLen:], values.of(seen)[stampLen:]) {
			return true, fmt.Errorf("value %d is another one than was sent there", seen)
		}
		sent := binary.LittleEndian.Uint64(value)
		if first == 0 {
			first = sent
		}
		if sent-first >= uint64(warmUpTime) {
			spans = append(spans, time.Duration(now-min(sent, now)))
		}
		seen++
		return seen == count, nil
	})
	if err != nil {
		return nil, err
	}
	measured := meter.stop(seen)
	spans.percentiles(measured)
	return measured, nil
}
