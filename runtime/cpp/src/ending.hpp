// How the program ends before its work is done: by signals, or when its time is over.
#pragma once

#include <vidtok/files.hpp>

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <ctime>
#include <optional>
#include <string>
#include <thread>

/// A thread that waits for SIGINT and SIGTERM, which no other thread sees: the first one sets `interrupted`, the second
/// ends the process, as does the end of the time. So even a call of an engine that never returns is ended.
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
        std::thread([this, seconds] { run(seconds); }).detach();
    }

private:
    using Clock = std::chrono::steady_clock;

    void run(std::optional<double> seconds) {
        const Clock::time_point begin = Clock::now();
        while (true) {
            double left = 3600;
            if (seconds) left = *seconds - std::chrono::duration<double>(Clock::now() - begin).count();
            if (left <= 0) end(1, "it took longer than --time-limit and was ended");
            timespec patience{static_cast<std::time_t>(left), 0};
            patience.tv_nsec = static_cast<long>((left - static_cast<double>(patience.tv_sec)) * 1e9);
            const int number = sigtimedwait(&signals_, nullptr, &patience);
            if (number > 0 && interrupted.exchange(true)) end(128 + number, "ended by a second signal");
        }
    }

    /// Remove the parts of outputs and end the process without asking its other threads.
    [[noreturn]] static void end(int code, const std::string& reason) {
        vidtok::discard_parts();
        const std::string line = "vidtok: " + reason + "\n";
        static_cast<void>(!write(STDERR_FILENO, line.data(), line.size()));
        _exit(code);
    }

    sigset_t signals_{};
};
