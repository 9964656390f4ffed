package vidtok;

/**
 * Settings of a tokenizer; vidtok.h says what they mean. Empty text and 0 are the defaults.
 *
 * <p>{@code Options.DEFAULT.withThreads(1)}
 */
public record Options(
        String provider,
        String precision,
        long threads,
        long chunk,
        long maxTile,
        long maxMemory,
        long window,
        boolean normalize) {
    public static final Options DEFAULT = new Options("", "", 0, 0, 0, 0, 0, false);

    public Options withProvider(String name) {
        return new Options(name, precision, threads, chunk, maxTile, maxMemory, window, normalize);
    }

    public Options withThreads(long count) {
        return new Options(provider, precision, count, chunk, maxTile, maxMemory, window, normalize);
    }

    public Options withMaxTile(long pixels) {
        return new Options(provider, precision, threads, chunk, pixels, maxMemory, window, normalize);
    }

    public Options withMaxMemory(long bytes) {
        return new Options(provider, precision, threads, chunk, maxTile, bytes, window, normalize);
    }
}
