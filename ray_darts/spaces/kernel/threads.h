// Threads that share the samples of a batch.
#pragma once

#include <dlfcn.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

constexpr long kMostSlices = 16;  // of a batch: what samples add up to does not depend on the number of threads
constexpr int kSpins = 20000;     // looks at a barrier before a thread sleeps: some tenths of a millisecond

// The OpenMP threads that PyTorch uses, where it uses GNU's: they are awake when a call begins, and while they wait for
// PyTorch's next operator they would take processors from threads of our own.
struct OpenMP {
    void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
    int (*index)();
    int (*size)();

    static const OpenMP& of_process() {
        static const OpenMP found{reinterpret_cast<decltype(parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel")),
                                  reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_thread_num")),
                                  reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"))};
        return found;
    }
    // Whether all three are there and of one library: each of two threads has its own number.
    bool is_whole() const {
        static const bool whole = parallel && index && size && counts();
        return whole;
    }

  private:
    bool counts() const {
        std::atomic<int> calls{0}, numbers{0};
        auto count = [&] { ++calls, numbers |= 1 << index(); };
        const auto call = [](void* data) { (*static_cast<decltype(count)*>(data))(); };
        parallel(call, &count, 2, 0);
        return numbers == (1 << calls) - 1;
    }
};

// Where `size` threads wait for each other, again and again.
class Meeting {
  public:
    void wait(long size) {
        if (size == 1) return;
        const long turn = turn_.load();
        if (here_.fetch_add(1) + 1 == size) {
            here_ = 0;
            std::lock_guard<std::mutex> lock(mutex_);
            ++turn_;
            all_here_.notify_all();
            return;
        }
        for (int spin = 0; spin < kSpins; ++spin) {
            if (turn_.load() != turn) return;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        std::unique_lock<std::mutex> lock(mutex_);
        all_here_.wait(lock, [&] { return turn_.load() != turn; });
    }

  private:
    std::atomic<long> here_{0}, turn_{0};
    std::mutex mutex_;
    std::condition_variable all_here_;
};

// One of `size` threads. Each slice of a batch belongs to one thread and adds up its samples in their order.
struct Worker {
    long index, size, samples;
    Meeting* meeting;
    long slices() const { return samples < kMostSlices ? samples : kMostSlices; }
    void wait() const { meeting->wait(size); }
    // its share of `count` things
    template <typename Visit>
    void share(long count, Visit visit) const {
        for (long i = index * count / size; i < (index + 1) * count / size; ++i) visit(i);
    }
    // its samples: visit(sample, slice)
    template <typename Visit>
    void share_samples(Visit visit) const {
        share(slices(), [&](long slice) {
            for (long n = slice * samples / slices(); n < (slice + 1) * samples / slices(); ++n) visit(n, slice);
        });
    }
};

template <typename Work>
struct Job {
    Work& work;
    long samples;
    Meeting meeting;
    void run(long index, long size) { work(Worker{index, size, samples, &meeting}); }
    static void run_in_openmp(void* job) {
        const OpenMP& openmp = OpenMP::of_process();
        static_cast<Job*>(job)->run(openmp.index(), openmp.size());
    }
};

template <typename Work>
void work_together(long threads, long samples, Work work) {
    if (threads > samples) threads = samples;
    Job<Work> job{work, samples, {}};
    if (threads <= 1) return job.run(0, 1);
    const OpenMP& openmp = OpenMP::of_process();
    if (openmp.is_whole()) return openmp.parallel(&Job<Work>::run_in_openmp, &job, threads, 0);
    std::vector<std::thread> others;
    for (long i = 1; i < threads; ++i) others.emplace_back([&, i] { job.run(i, threads); });
    job.run(0, threads);
    for (std::thread& other : others) other.join();
}
