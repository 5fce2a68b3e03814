package main

import (
	"fmt"

	"github.com/gomodule/redigo/redis"
)

const (
	// Commands in one write.
	redisRun = 100
	// Runs whose answers have not come.
	redisRuns = 64
	// Entries of one answer.
	redisCount = 2_000
)

// redisStreams is Redis through redigo, which lets one goroutine write commands while another reads answers.
type redisStreams struct{ address string }

func newRedis(address string) (system, error) { return &redisStreams{address}, nil }

// create does nothing: the first entry makes a stream.
func (r *redisStreams) create(string) error { return nil }

type redisProducer struct {
	connection redis.Conn
	stream     string
	lingering  bool
	// Commands written into the buffer, not yet to the socket.
	buffered int
	// How many answers are due, a number for each run.
	due      chan int
	answered chan error
}

func (r *redisStreams) producer(stream string, lingering bool) (producer, error) {
	connection, err := redis.Dial("tcp", r.address)
	if err != nil {
		return nil, err
	}
	return &redisProducer{connection: connection, stream: stream, lingering: lingering}, nil
}

// read takes answers until no more are due.
func (p *redisProducer) read() {
	var failed error
	for count := range p.due {
		for range count {
			if _, err := p.connection.Receive(); err != nil && failed == nil {
				failed = err
			}
		}
	}
	p.answered <- failed
}

func (p *redisProducer) send(value []byte) error {
	if p.due == nil {
		p.due, p.answered = make(chan int, redisRuns), make(chan error, 1)
		go p.read()
	}
	if err := p.connection.Send("XADD", p.stream, "*", "v", value); err != nil {
		return err
	}
	if p.buffered++; p.lingering && p.buffered < redisRun {
		return nil
	}
	return p.write()
}

func (p *redisProducer) write() error {
	count := p.buffered
	p.buffered = 0
	if err := p.connection.Flush(); err != nil {
		return err
	}
	p.due <- count
	return nil
}

func (p *redisProducer) call(value []byte) error {
	_, err := p.connection.Do("XADD", p.stream, "*", "v", value)
	return err
}

func (p *redisProducer) flush() error {
	if err := p.write(); err != nil {
		return err
	}
	close(p.due)
	return <-p.answered
}

// consume asks for what follows as soon as an answer has come, and looks at that meanwhile.
func (r *redisStreams) consume(stream string, ready func(), each func([]byte) (bool, error)) error {
	connection, err := redis.Dial("tcp", r.address)
	if err != nil {
		return err
	}
	defer connection.Close()
	ask := func(after []byte) error {
		if err := connection.Send("XREAD", "COUNT", redisCount, "BLOCK", 0, "STREAMS", stream, after); err != nil {
			return err
		}
		return connection.Flush()
	}
	if err := ask([]byte("0")); err != nil {
		return err
	}
	ready()
	for {
		answer, err := connection.Receive()
		if err != nil {
			return err
		}
		entries, err := entriesOf(answer)
		if err != nil {
			return err
		}
		if err := ask(entries[len(entries)-1].id); err != nil {
			return err
		}
		for _, entry := range entries {
			if done, err := each(entry.value); done || err != nil {
				return err
			}
		}
	}
}

type redisEntry struct{ id, value []byte }

// entriesOf takes them out of [[stream, [[id, [field, value]], ...]]].
func entriesOf(answer any) ([]redisEntry, error) {
	unexpected := fmt.Errorf("XREAD answered %T", answer)
	streams, ok := answer.([]any)
	if !ok || len(streams) != 1 {
		return nil, unexpected
	}
	stream, ok := streams[0].([]any)
	if !ok || len(stream) != 2 {
		return nil, unexpected
	}
	list, ok := stream[1].([]any)
	if !ok || len(list) == 0 {
		return nil, unexpected
	}
	entries := make([]redisEntry, len(list))
	for i, item := range list {
		pair, ok := item.([]any)
		if !ok || len(pair) != 2 {
			return nil, unexpected
		}
		id, isID := pair[0].([]byte)
		fields, isList := pair[1].([]any)
		if !isID || !isList || len(fields) != 2 {
			return nil, unexpected
		}
		value, ok := fields[1].([]byte)
		if !ok {
			return nil, unexpected
		}
		entries[i] = redisEntry{id, value}
	}
	return entries, nil
}
