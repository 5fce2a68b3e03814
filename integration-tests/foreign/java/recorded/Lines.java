package recorded;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;

/** The lines that a client says: one place that writes, one clock. */
final class Lines {
    private final ObjectMapper json = new ObjectMapper();
    private final long beganMs;
    /** What has to be added to {@link System#nanoTime} to get the time since the machine's start. */
    private final long sinceStartNs;
    /** Acknowledgements come one by one, in a thread of the library, and are said together. */
    private final Queue<List<Object>> acknowledged = new ConcurrentLinkedQueue<>();
    /** Records of one partition that follow one another and were not said yet. */
    private final List<List<Object>> run = new ArrayList<>();
    private int runPartition;
    private long runFirst;

    Lines(long beganMs) throws IOException {
        this.beganMs = beganMs;
        // That clock is told in hundredths of a second: read where it moves on.
        String before = uptime();
        String now = before;
        while (now.equals(before)) {
            now = uptime();
        }
        sinceStartNs = Math.round(Double.parseDouble(now) * 1e9) - System.nanoTime();
    }

    private static String uptime() throws IOException {
        return Files.readString(Path.of("/proc/uptime")).split(" ")[0];
    }

    /** Milliseconds since the run began; every process reads the same clock. */
    long now() {
        return Math.max(0, (System.nanoTime() + sinceStartNs) / 1_000_000 - beganMs);
    }

    /** An event with pairs of names and values. */
    void say(String event, Object... pairs) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("event", event);
        for (int at = 0; at < pairs.length; at += 2) {
            line.put((String) pairs[at], pairs[at + 1]);
        }
        try {
            String text = json.writeValueAsString(line);
            synchronized (this) {
                System.out.println(text);
            }
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    void note(Object text) {
        say("note", "at", now(), "text", text.toString());
    }

    /** Says that nothing more can be done, and ends. */
    void fatal(Object error) {
        sayAcknowledged();
        say("fatal", "at", now(), "error", error.toString());
        Runtime.getRuntime().halt(1);
    }

    /** A send was acknowledged; from any thread. */
    void acknowledged(long number, int partition, long offset) {
        acknowledged.add(List.of(number, partition, offset));
    }

    /** A send has failed; from any thread. */
    void failed(long number, Exception error) {
        say("failed", "at", now(), "number", number, "error", error.toString());
    }

    void sayAcknowledged() {
        List<List<Object>> sends = new ArrayList<>();
        for (List<Object> send = acknowledged.poll(); send != null; send = acknowledged.poll()) {
            sends.add(send);
        }
        if (!sends.isEmpty()) {
            say("acknowledged", "at", now(), "sends", sends);
        }
    }

    /** A record was delivered. It is said with those after it, before anything else of its reader. */
    void delivered(int partition, long offset, byte[] value) {
        if (run.isEmpty() || partition != runPartition || offset != runFirst + run.size()) {
            sayDelivered();
            runPartition = partition;
            runFirst = offset;
        }
        String[] parts = new String(value, StandardCharsets.US_ASCII).split(":", 3);
        run.add(List.of(Integer.valueOf(parts[0]), Long.valueOf(parts[1])));
    }

    void sayDelivered() {
        if (!run.isEmpty()) {
            say("delivered", "at", now(), "partition", runPartition, "first", runFirst, "values", run);
            run.clear();
        }
    }
}
