// Memory that is kept for the next call: to touch fresh pages costs as much as to compute what is written to them.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>

constexpr size_t kHugePage = 1 << 21;

class Store {
  public:
    // At least `size` bytes, aligned to 64; `size` becomes that of the memory.
    void* take(size_t& size) {
        size = (size + 4095) / 4096 * 4096;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            auto found = free_.lower_bound(size);
            if (found != free_.end() && found->first <= size + size / 4) {
                found = std::prev(free_.upper_bound(found->first));  // the last one given: it may still be in a cache
                void* memory = found->second;
                size = found->first;
                free_.erase(found);
                return memory;
            }
        }
        if (size < kHugePage) return std::aligned_alloc(4096, size);
        void* memory = std::aligned_alloc(kHugePage, (size + kHugePage - 1) / kHugePage * kHugePage);
#ifdef MADV_HUGEPAGE
        madvise(memory, size / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
        return memory;
    }
    void give(void* memory, size_t size) {
        std::lock_guard<std::mutex> lock(mutex_);
        free_.emplace(size, memory);
    }
    static Store& of_process() {
        static Store* const store = new Store;  // never destroyed: tensors may outlive it
        return *store;
    }

  private:
    std::mutex mutex_;
    std::multimap<size_t, void*> free_;
};
