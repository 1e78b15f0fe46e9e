// Maps of one sample, and scratch memory.
#pragma once

#include <cstdlib>
#include <cstring>

#include "memory.h"
#include "numbers.h"
#include "threads.h"

constexpr long kBlock = 256;    // pixels summed in T before a total
constexpr long kStrip = 128;    // pixels that are computed from one end to the other before the next ones

// Memory for a while.
class Scratch {
  public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { give(); }
    template <typename T>
    T* of(long count) {
        if (count * sizeof(T) > size_) {
            give();
            size_ = count * sizeof(T);
            memory_ = Store::of_process().take(size_);
        }
        return static_cast<T*>(memory_);
    }

  private:
    void give() {
        if (memory_) Store::of_process().give(memory_, size_);
    }
    void* memory_ = nullptr;
    size_t size_ = 0;
};

// Maps of one sample: where the vector of a pixel and a block of channels lies. Steps are counted in T.
template <typename T>
struct Grid {
    T* start;
    long row, pixel, block;
    T* at(long h, long w, long b) const { return start + h * row + w * pixel + b * block; }
    Grid from_row(long h) const { return {start + h * row, row, pixel, block}; }
    Grid from_block(long b) const { return {start + b * block, row, pixel, block}; }
};

// [H, W, C], as PyTorch's channels_last
template <typename T>
Grid<T> dense(T* start, long width, long channels) {
    return {start, width * channels, channels, lanes<std::remove_const_t<T>>};
}

// [C / lanes, H, W, lanes]
template <typename T>
Grid<T> planes(T* start, long height, long width) {
    constexpr long l = lanes<std::remove_const_t<T>>;
    return {start, width * l, l, height * width * l};
}

// Planes with a border of `reach` zeros; the result's (0, 0) is the first pixel inside of it.
template <typename T>
Grid<T> framed(Scratch& scratch, long height, long width, long blocks, long reach) {
    const long rows = height + 2 * reach, columns = width + 2 * reach, size = rows * columns * blocks * lanes<T>;
    T* memory = scratch.of<T>(size);
    std::memset(static_cast<void*>(memory), 0, size * sizeof(T));
    const Grid<T> whole = planes(memory, rows, columns);
    return {whole.at(reach, reach, 0), whole.row, whole.pixel, whole.block};
}

// Calls visit(h, w, b) for all vectors of a map.
template <typename Visit>
inline void for_each(long height, long width, long blocks, Visit visit) {
    for (long b = 0; b < blocks; ++b)
        for (long h = 0; h < height; ++h)
            for (long w = 0; w < width; ++w) visit(h, w, b);
}

// Calls visit(first, stop) for strips of rows that stay in the processor's first cache.
template <typename Visit>
inline void for_each_strip(long height, long width, Visit visit) {
    const long rows = width < kStrip ? kStrip / width : 1;
    for (long first = 0; first < height; first += rows) visit(first, first + rows < height ? first + rows : height);
}
