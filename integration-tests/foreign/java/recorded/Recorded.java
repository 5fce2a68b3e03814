package recorded;

import java.io.IOException;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A client of Apache Kafka's own library that says all that it does, for the fault runs (integration-tests/faults
 * --clients kafka-java): a producer, a member of a group or a reader of everything, as the programs in
 * foreign/python/recorded are with other libraries, and with their options.
 *
 * <p>Standard output has a line of JSON for each thing that happened, as
 * integration-tests/src/recorder/foreign/line.rs reads them; the library's log goes to standard error. It ends in
 * good order when its standard input ends.
 */
final class Recorded {
    /** Longer than any send may take, and a group to be left. */
    private static final long END_WITHIN_S = 150;

    private Recorded() {}

    public static void main(String[] arguments) throws IOException {
        Options options = Options.of(arguments);
        Lines lines = new Lines(Long.parseLong(options.text("began-ms")));
        AtomicBoolean stop = new AtomicBoolean();
        Thread input = new Thread(() -> endWithInput(stop, lines), "input");
        input.setDaemon(true);
        input.start();
        try {
            switch (options.role()) {
                case "producer" -> new Sender(options, lines).run(stop);
                case "member" -> new Reader(options, lines, true).run(stop);
                case "tail" -> new Reader(options, lines, false).run(stop);
                default -> throw new IllegalArgumentException("no role " + options.role());
            }
        } catch (Exception error) {
            error.printStackTrace();
            lines.fatal(error);
        }
        lines.say("ended");
    }

    /** Waits for the end of the input, then for ours, but not for ever. */
    private static void endWithInput(AtomicBoolean stop, Lines lines) {
        try {
            while (System.in.read() >= 0) {
                // Nothing is said to us.
            }
            stop.set(true);
            Thread.sleep(END_WITHIN_S * 1000);
            lines.fatal("has not ended within " + END_WITHIN_S + " s");
        } catch (IOException | InterruptedException error) {
            lines.fatal(error);
        }
    }
}
