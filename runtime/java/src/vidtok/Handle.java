package vidtok;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.function.LongConsumer;
import java.util.function.LongFunction;

/** Something of libvidtok that is freed once, by close, which waits for the calls that are on their way. */
abstract class Handle implements AutoCloseable {
    private final LongConsumer free;
    private final ReadWriteLock open = new ReentrantReadWriteLock(); // read by calls, written by close
    private long address;

    Handle(long address, LongConsumer free) {
        this.address = address;
        this.free = free;
    }

    /** What a call with the address gives; until then it stays open. */
    final <T> T use(LongFunction<T> call) {
        Lock lock = open.readLock();
        lock.lock();
        try {
            if (address == 0) throw new IllegalStateException("it is closed");
            return call.apply(address);
        } finally {
            lock.unlock();
        }
    }

    /** The same for a call that gives nothing. */
    final void run(LongConsumer call) {
        use(
                address -> {
                    call.accept(address);
                    return null;
                });
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public final void close() {
        Lock lock = open.writeLock();
        lock.lock();
        try {
            if (address != 0) free.accept(address);
            address = 0;
        } finally {
            lock.unlock();
        }
    }
}
