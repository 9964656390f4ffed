package vidtok;

import java.nio.charset.StandardCharsets;

/** Why a call failed: one line that says what to do. */
public final class VidtokException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** What kind of thing went wrong, in the order of vidtok.h. */
    public enum Kind { BUNDLE, TOKEN_FILE, MISMATCH, PROVIDER, INPUT, OUTPUT, MEMORY, INTERNAL }

    private final Kind kind;

    VidtokException(int status, byte[] text) {
        super(new String(text, StandardCharsets.UTF_8));
        kind = status >= 1 && status <= Kind.values().length ? Kind.values()[status - 1] : Kind.INTERNAL;
    }

    public Kind kind() {
        return kind;
    }
}
