// How the program ends before its work is done: by signals, or when its time is over.
#pragma once

#include <vidtok/files.hpp>

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <thread>

/// A thread waits for SIGINT and SIGTERM, which no other thread sees: the first one sets `interrupted`, the second ends the
/// process, as does another thread when the time is over. So even a call of an engine that never returns is ended.
class Ending {
public:
    std::atomic<bool> interrupted{false};

    /// To be called before any other thread is made.
    Ending() {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGINT);
        sigaddset(&signals_, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    }

    /// Watch until the process ends; after so many seconds, if some are given, end it.
    void watch(std::optional<double> seconds) {
        std::thread([this] {
            for (int number = 0; sigwait(&signals_, &number) == 0;) {
                if (interrupted.exchange(true)) end(128 + number, "ended by a second signal");
            }
        }).detach();
        if (!seconds) return;
        std::thread([limit = std::chrono::duration<double>(*seconds)] {
            std::this_thread::sleep_for(limit);
            end(1, "it took longer than --time-limit and was ended");
        }).detach();
    }

private:
    /// Remove the parts of outputs and end the process without asking its other threads.
    [[noreturn]] static void end(int code, const std::string& reason) {
        vidtok::discard_parts();
        const std::string line = "vidtok: " + reason + "\n";
        static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
        _exit(code);
    }

    sigset_t signals_{};
};
