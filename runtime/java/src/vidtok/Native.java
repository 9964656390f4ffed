package vidtok;

/** The functions of vidtok_jni.c. Handles are addresses; each call throws VidtokException. */
final class Native {
    static {
        System.loadLibrary("vidtok_jni");
    }

    private Native() {}

    static native void loadOnnxRuntime(byte[] path);

    static native long openTokenizer(byte[] folder, byte[] provider, byte[] precision, long[] numbers);

    static native void freeTokenizer(long handle);

    static native long openEncoder(long tokenizer, long gop);

    static native Tokens pushFrames(long encoder, byte[] rgb, int count, int height, int width);

    static native Tokens finishEncoder(long encoder);

    static native void freeEncoder(long handle);

    static native long openDecoder(long tokenizer, long numFrames, long height, long width);

    static native long openDecoderOf(long tokenizer, long reader);

    static native Frames pushTokens(long decoder, long[] sizes, float[] latent, int[] indices);

    static native Frames finishDecoder(long decoder);

    static native void freeDecoder(long handle);

    static native byte[] toBytes(float[] pixels);

    static native long openReader(byte[] path);

    static native Clip describe(long reader);

    static native void verify(long reader);

    static native Tokens read(long reader, long start, long most);

    static native long[] pts(long reader);

    static native void freeReader(long handle);

    static native long openWriter(long tokenizer, byte[] path, boolean half, boolean force);

    static native void append(long writer, long[] sizes, float[] latent, int[] indices);

    static native void finishWriter(long writer, long encoder, long[] rates, long[] pts);

    static native void freeWriter(long handle);
}
