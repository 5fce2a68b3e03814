package main

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	natsPending  = 16 << 10
	natsPull     = 20_000
	natsPatience = 30 * time.Second
)

// natsStreams is NATS JetStream through nats.go: streams in files, acknowledged publishing, ordered consumers.
type natsStreams struct{ address string }

func newNats(address string) (system, error) { return &natsStreams{address}, nil }

func (n *natsStreams) connect(options ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	connection, err := nats.Connect("nats://" + n.address)
	if err != nil {
		return nil, err
	}
	return jetstream.New(connection, options...)
}

func (n *natsStreams) create(stream string) error {
	js, err := n.connect()
	if err != nil {
		return err
	}
	_, err = js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: stream, Subjects: []string{stream}, Storage: jetstream.FileStorage, Replicas: 1,
	})
	return err
}

type natsProducer struct {
	js      jetstream.JetStream
	subject string
	failed  error
	once    sync.Once
}

func (n *natsStreams) producer(stream string, _ bool) (producer, error) {
	producer := &natsProducer{subject: stream}
	js, err := n.connect(
		jetstream.WithPublishAsyncMaxPending(natsPending),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
			producer.once.Do(func() { producer.failed = err })
		}),
	)
	producer.js = js
	return producer, err
}

func (p *natsProducer) send(value []byte) error {
	_, err := p.js.PublishAsync(p.subject, value, jetstream.WithStallWait(natsPatience))
	return err
}

func (p *natsProducer) call(value []byte) error {
	_, err := p.js.Publish(context.Background(), p.subject, value)
	return err
}

func (p *natsProducer) flush() error {
	<-p.js.PublishAsyncComplete()
	return p.failed
}

func (n *natsStreams) consume(stream string, ready func(), each func([]byte) (bool, error)) error {
	js, err := n.connect()
	if err != nil {
		return err
	}
	everything := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	consumer, err := js.OrderedConsumer(context.Background(), stream, everything)
	if err != nil {
		return err
	}
	finished := make(chan error, 1)
	over := false
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		if over {
			return
		}
		if done, err := each(message.Data()); done || err != nil {
			over = true
			finished <- err
		}
	}, jetstream.PullMaxMessages(natsPull))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	ready()
	return <-finished
}
