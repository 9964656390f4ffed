package vidtok;

import java.util.Objects;

/** RGB frames {@code [count, height, width, 3]} in -1..1. */
public record Frames(int count, int height, int width, float[] pixels) {
    /** The same as 0..255. */
    public byte[] toBytes() {
        return Native.toBytes(Objects.requireNonNull(pixels, "pixels"));
    }
}
