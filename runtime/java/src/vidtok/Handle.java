package vidtok;

import java.nio.charset.StandardCharsets;
import java.util.function.LongConsumer;

/** Something of libvidtok that is freed once, by close. */
abstract class Handle implements AutoCloseable {
    private final LongConsumer free;
    private long address;

    Handle(long address, LongConsumer free) {
        this.address = address;
        this.free = free;
    }

    final long address() {
        if (address == 0) throw new IllegalStateException("it is closed");
        return address;
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public final void close() {
        if (address != 0) free.accept(address);
        address = 0;
    }
}
