package vidtok;

/** What a token file says. Denominators are 0 of rates that are not known, codebookSize of latents. */
public record Clip(
        String family,
        String name,
        String weightsSha256,
        String precision,
        String provider,
        long numFrames,
        int height,
        int width,
        long fpsNumerator,
        long fpsDenominator,
        long timeBaseNumerator,
        long timeBaseDenominator,
        long codebookSize,
        long count,
        int channels,
        int tokenHeight,
        int tokenWidth) {}
