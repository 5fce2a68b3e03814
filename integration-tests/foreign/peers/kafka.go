package main

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafka is whatever speaks Kafka's protocol, through franz-go: idempotent, acks=all, topics of one partition.
type kafka struct{ address string }

func newKafka(address string) (system, error) { return &kafka{address}, nil }

func (k *kafka) create(stream string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.address))
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = kadm.NewClient(client).CreateTopic(context.Background(), 1, 1, nil, stream)
	return err
}

type kafkaProducer struct {
	client *kgo.Client
	// The first error of a record.
	failed error
	once   sync.Once
}

func (k *kafka) producer(stream string, lingering bool) (producer, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(k.address), kgo.DefaultProduceTopic(stream),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0),
	}
	if lingering {
		options = append(options, kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(100_000))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	return &kafkaProducer{client: client}, client.Ping(context.Background())
}

func (p *kafkaProducer) send(value []byte) error {
	p.client.Produce(context.Background(), &kgo.Record{Value: value}, p.acknowledged)
	return nil
}

func (p *kafkaProducer) acknowledged(_ *kgo.Record, err error) {
	if err != nil {
		p.once.Do(func() { p.failed = err })
	}
}

func (p *kafkaProducer) call(value []byte) error {
	return p.client.ProduceSync(context.Background(), &kgo.Record{Value: value}).FirstErr()
}

func (p *kafkaProducer) flush() error {
	if err := p.client.Flush(context.Background()); err != nil {
		return err
	}
	return p.failed
}

func (k *kafka) consume(stream string, ready func(), each func([]byte) (bool, error)) error {
	partitions := map[string]map[int32]kgo.Offset{stream: {0: kgo.NewOffset().AtStart()}}
	client, err := kgo.NewClient(kgo.SeedBrokers(k.address), kgo.ConsumePartitions(partitions))
	if err != nil {
		return err
	}
	defer client.Close()
	// The first request waits at the broker where there is nothing yet.
	waiting, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	fetches := client.PollFetches(waiting)
	cancel()
	ready()
	for {
		for _, failed := range fetches.Errors() {
			if failed.Err != context.DeadlineExceeded {
				return failed.Err
			}
		}
		for records := fetches.RecordIter(); !records.Done(); {
			if done, err := each(records.Next().Value); done || err != nil {
				return err
			}
		}
		fetches = client.PollFetches(context.Background())
	}
}
