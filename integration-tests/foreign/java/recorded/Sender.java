package recorded;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A producer, idempotent, acks=all, at a steady rate, a few records to each partition in turn. */
final class Sender {
    private final Options options;
    private final Lines lines;
    private final KafkaProducer<byte[], byte[]> client;
    private final AtomicInteger underWay = new AtomicInteger();

    Sender(Options options, Lines lines) {
        this.options = options;
        this.lines = lines;
        Properties configuration = options.configuration();
        configuration.put("enable.idempotence", "true");
        configuration.put("acks", "all");
        configuration.put("linger.ms", "20");
        configuration.put("delivery.timeout.ms", "120000");
        configuration.put("max.block.ms", "20000");
        client = new KafkaProducer<>(configuration, new ByteArraySerializer(), new ByteArraySerializer());
    }

    void run(AtomicBoolean stop) throws InterruptedException {
        int rate = options.number("rate");
        int burst = options.number("burst");
        int partitions = options.number("partitions");
        int most = options.number("under-way-max");
        long number = 0;
        double due = 0;
        long last = System.nanoTime();
        while (!stop.get()) {
            long now = System.nanoTime();
            // What could not be sent in time is not made up for in a burst.
            due = Math.min(due + (now - last) / 1e9 * rate, rate / 10.0 + 1);
            last = now;
            List<Integer> sends = new ArrayList<>();
            while (due >= 1 && underWay.get() + sends.size() < most) {
                due -= 1;
                sends.add((int) ((number + sends.size()) / burst % partitions));
            }
            if (!sends.isEmpty()) {
                // Said before it is done, so that whatever is in the log was said to be sent.
                lines.say("sent", "at", lines.now(), "first", number, "partitions", sends);
                for (int partition : sends) {
                    send(number++, partition);
                }
            }
            Thread.sleep(4);
            lines.sayAcknowledged();
        }
        while (underWay.get() > 0) {
            Thread.sleep(50);
            lines.sayAcknowledged();
        }
        lines.sayAcknowledged();
        client.close(Duration.ofSeconds(5));
    }

    private void send(long number, int partition) {
        var record = new ProducerRecord<byte[], byte[]>(options.text("topic"), partition, null, value(number));
        underWay.incrementAndGet();
        try {
            client.send(record, (metadata, error) -> {
                if (error == null) {
                    lines.acknowledged(number, metadata.partition(), metadata.offset());
                } else {
                    lines.failed(number, error);
                }
                underWay.decrementAndGet();
            });
        } catch (KafkaException error) {
            // Thrown instead of told to the callback.
            lines.failed(number, error);
            underWay.decrementAndGet();
        }
    }

    /** As {@code integration_tests::workload::value}. */
    private byte[] value(long number) {
        byte[] begin = (options.text("producer") + ":" + number + ":").getBytes(StandardCharsets.US_ASCII);
        byte[] value = Arrays.copyOf(begin, Math.max(begin.length, options.number("value-bytes")));
        Arrays.fill(value, begin.length, value.length, (byte) '.');
        return value;
    }
}
