package vidtok;

/**
 * Latents {@code [count, channels, height, width]}, or tokens {@code [count, height, width]} of a model with a codebook.
 * One of the arrays is null.
 */
public record Tokens(int count, int channels, int height, int width, float[] latent, int[] indices) {
    long[] sizes() {
        long size = Math.multiplyExact(Math.multiplyExact((long) count, channels), Math.multiplyExact((long) height, width));
        long found = latent != null ? latent.length : indices != null ? indices.length : 0;
        if (count < 0 || channels < 0 || height < 0 || width < 0 || size != found) {
            throw new IllegalArgumentException("tokens do not have as many numbers as their sizes say");
        }
        return new long[] {count, channels, height, width};
    }
}
