package recorded;

import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

/** What the command line says: a role, then names and values. */
record Options(String role, Map<String, String> values) {
    static Options of(String[] arguments) {
        Map<String, String> values = new HashMap<>();
        for (int at = 1; at < arguments.length; at += 2) {
            values.put(arguments[at], arguments[at + 1]);
        }
        return new Options(arguments[0], values);
    }

    String text(String name) {
        String value = values.get("--" + name);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value;
    }

    int number(String name) {
        return Integer.parseInt(text(name));
    }

    /**
     * What producers and consumers have in common: how long Kafka's own library waits for what a cluster under
     * test has lost, so that no wait is long against its session; the defaults (half a minute) are for others.
     */
    Properties configuration() {
        String patience = String.valueOf(Math.max(3000, number("session-ms")));
        Properties configuration = new Properties();
        configuration.put("bootstrap.servers", text("bootstrap"));
        configuration.put("client.id", text("name"));
        configuration.put("request.timeout.ms", patience);
        configuration.put("socket.connection.setup.timeout.ms", "3000");
        configuration.put("socket.connection.setup.timeout.max.ms", "3000");
        configuration.put("reconnect.backoff.ms", "50");
        configuration.put("reconnect.backoff.max.ms", "500");
        configuration.put("retry.backoff.ms", "50");
        configuration.put("retry.backoff.max.ms", "500");
        configuration.put("metadata.max.age.ms", "2000");
        return configuration;
    }
}
