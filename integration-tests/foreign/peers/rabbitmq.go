package main

import (
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/amqp"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/message"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/stream"
)

const (
	// Messages of one sub-entry where batches are worth it: the broker handles such a one as a whole.
	rabbitmqSubEntry = 100
	// Messages handed to the client at once.
	rabbitmqRun = 1_000
	// Messages whose confirmation has not come.
	rabbitmqUnconfirmed = 100_000
	// Chunks ahead of the reader: at a steady rate a chunk has one message.
	rabbitmqCredits = 200
)

// rabbitmqStreams is RabbitMQ's stream protocol through its Go client.
type rabbitmqStreams struct{ environment *stream.Environment }

func newRabbitmq(address string) (system, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	options := stream.NewEnvironmentOptions().SetHost(host).SetPort(port).
		SetReadBuffer(1 << 20).SetWriteBuffer(1 << 20)
	environment, err := stream.NewEnvironment(options)
	return &rabbitmqStreams{environment}, err
}

func (r *rabbitmqStreams) create(name string) error {
	return r.environment.DeclareStream(name, stream.NewStreamOptions())
}

type rabbitmqProducer struct {
	producer  *stream.Producer
	lingering bool
	run       []message.StreamMessage
	sent      int64
	confirmed atomic.Int64
	failed    atomic.Bool
	// Something was confirmed.
	more chan struct{}
}

func (r *rabbitmqStreams) producer(name string, lingering bool) (producer, error) {
	options := stream.NewProducerOptions().SetConfirmationTimeOut(30 * time.Second)
	if lingering {
		options = options.SetSubEntrySize(rabbitmqSubEntry).SetBatchSize(rabbitmqRun).
			SetQueueSize(rabbitmqUnconfirmed)
	}
	inner, err := r.environment.NewProducer(name, options)
	if err != nil {
		return nil, err
	}
	producer := &rabbitmqProducer{producer: inner, lingering: lingering, more: make(chan struct{}, 1)}
	go producer.count(inner.NotifyPublishConfirmation())
	return producer, nil
}

func (p *rabbitmqProducer) count(confirmations stream.ChannelPublishConfirm) {
	for statuses := range confirmations {
		for _, status := range statuses {
			if !status.IsConfirmed() {
				p.failed.Store(true)
			}
		}
		p.confirmed.Add(int64(len(statuses)))
		select {
		case p.more <- struct{}{}:
		default:
		}
	}
}

// wait returns when at most `open` messages are unconfirmed.
func (p *rabbitmqProducer) wait(open int64) error {
	for p.sent-p.confirmed.Load() > open {
		select {
		case <-p.more:
		case <-time.After(30 * time.Second):
			return fmt.Errorf("%d of %d messages confirmed", p.confirmed.Load(), p.sent)
		}
	}
	if p.failed.Load() {
		return fmt.Errorf("a message was refused")
	}
	return nil
}

func (p *rabbitmqProducer) send(value []byte) error {
	p.sent++
	if !p.lingering {
		return p.producer.Send(amqp.NewMessage(value))
	}
	p.run = append(p.run, amqp.NewMessage(value))
	if len(p.run) < rabbitmqRun {
		return nil
	}
	return p.write()
}

func (p *rabbitmqProducer) write() error {
	if len(p.run) == 0 {
		return nil
	}
	if err := p.producer.BatchSend(p.run); err != nil {
		return err
	}
	p.run = make([]message.StreamMessage, 0, rabbitmqRun)
	return p.wait(rabbitmqUnconfirmed)
}

func (p *rabbitmqProducer) call(value []byte) error {
	p.sent++
	if err := p.producer.Send(amqp.NewMessage(value)); err != nil {
		return err
	}
	return p.wait(0)
}

func (p *rabbitmqProducer) flush() error {
	if err := p.write(); err != nil {
		return err
	}
	return p.wait(0)
}

func (r *rabbitmqStreams) consume(name string, ready func(), each func([]byte) (bool, error)) error {
	finished := make(chan error, 1)
	over := false
	handle := func(_ stream.ConsumerContext, message *amqp.Message) {
		if over {
			return
		}
		if done, err := each(message.GetData()); done || err != nil {
			over = true
			finished <- err
		}
	}
	options := stream.NewConsumerOptions().SetOffset(stream.OffsetSpecification{}.First()).
		SetCRCCheck(true).SetInitialCredits(rabbitmqCredits)
	consumer, err := r.environment.NewConsumer(name, handle, options)
	if err != nil {
		return err
	}
	defer consumer.Close()
	ready()
	return <-finished
}
