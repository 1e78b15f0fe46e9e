// All operations between the sources and the targets of a group of edges, as one function with one gradient.
//
// target t = sum over sources s and operations o of weights[o, e] o(source s), with e = s * targets + t. Operations are
// convolutions (ReLU, depthwise, pointwise, batch norm, once or twice), pools with a batch norm and, at stride 1, the
// source itself. Only the results before each batch norm are kept; what lies between them is computed again for the
// gradient, which is cheaper than to read it from memory.
#pragma once

#include "convolutions.h"
#include "moments.h"

// One depthwise and pointwise convolution of an operation on E edges. `results` [E, N, C / lanes, R, lanes].
template <typename T>
struct Stage {
    long size, dilation, next;  // next: the stage after this one, or -1
    const T *kernels, *mixing;  // [E, C, K, K], [E, C, C]
    T *results, *mean, *scale, *running_mean, *running_var;
    T *of_kernels, *of_mixing;  // gradients, null where nobody asks
};

// One pool of all sources. `results` [S, N, C / lanes, R, lanes].
template <typename T>
struct Pool {
    long is_max;
    T *results, *mean, *scale, *running_mean, *running_var;
};

template <typename T>
struct Group {
    long samples, height, width, channels, stride, sources, targets, threads;
    long num_first, num_second, num_pools, skips;  // skips: 1 if sources are added to targets, else 0
    double momentum, epsilon;
    const Stage<T>* stages;   // first ones, then second ones
    const Pool<T>* pools;
    const T* weights;         // [num_first + num_pools + skips, E]
    const T* const* inputs;   // S maps [N, H, W, C]
    T* const* outputs;        // T maps [N, H / stride, W / stride, C]
    const T* const* above;    // their gradients
    T* const* of_inputs;      // gradients of the inputs, null where nobody asks
    T* of_weights;

    long edges() const { return sources * targets; }
    long blocks() const { return channels / lanes<T>; }
    long out_height() const { return (height + stride - 1) / stride; }
    long out_width() const { return (width + stride - 1) / stride; }
    long rows() const { return out_height() * out_width(); }
    long in_size() const { return height * width * channels; }
    long out_size() const { return rows() * channels; }
    long num_stages() const { return num_first + num_second; }
    const Stage<T>& last(long operation) const {
        const Stage<T>& first = stages[operation];
        return first.next < 0 ? first : stages[first.next];
    }
    Depthwise depthwise(long stage) const {
        return {stages[stage].size, stage < num_first ? stride : 1, stages[stage].dilation};
    }
    long reach(long from, long to) const {
        long most = 0;
        for (long i = from; i < to; ++i)
            if (depthwise(i).reach() > most) most = depthwise(i).reach();
        return most;
    }
    Grid<T> kept(T* results, long map, long n) const {
        return planes(results + (map * samples + n) * out_size(), out_height(), out_width());
    }
    Grid<T> input(long source, long n) const {
        return dense(const_cast<T*>(inputs[source]) + n * in_size(), width, channels);
    }
    Statistics<T> statistics(const Stage<T>& s, long edge) const {
        const long at = edge * channels;
        return {s.mean + at, s.scale + at, s.running_mean ? s.running_mean + at : nullptr,
                s.running_var ? s.running_var + at : nullptr, momentum, epsilon};
    }
    Statistics<T> statistics(const Pool<T>& p, long source) const {
        const long at = source * channels;
        return {p.mean + at, p.scale + at, p.running_mean ? p.running_mean + at : nullptr,
                p.running_var ? p.running_var + at : nullptr, momentum, epsilon};
    }
};

// The kernels and pointwise weights of all stages and edges, in the order in which they are read.
template <typename T>
class Weights {
  public:
    explicit Weights(const Group<T>& g) : group_(g), starts_(g.num_stages() + 1) {
        for (long i = 0; i < g.num_stages(); ++i) starts_[i + 1] = starts_[i] + g.edges() * size(i);
        memory_ = scratch_.template of<T>(starts_.back());
    }
    void prepare(const Worker& worker) {
        const Group<T>& g = group_;
        worker.share(g.num_stages() * g.edges(), [&](long index) {
            const long i = index / g.edges(), e = index % g.edges();
            const Stage<T>& s = g.stages[i];
            const T* kernel = s.kernels + e * taps(i);
            gather_taps(kernel, place(i, e), s.size, g.channels, false);
            gather_taps(kernel, place(i, e) + taps(i), s.size, g.channels, true);
            transpose(s.mixing + e * g.channels * g.channels, place(i, e) + 2 * taps(i), g.channels, g.channels);
        });
    }
    const T* kernel(long stage, long edge, long block) const { return vectors(stage, place(stage, edge), block); }
    const T* turned(long stage, long edge, long block) const {
        return vectors(stage, place(stage, edge) + taps(stage), block);
    }
    const T* table(long stage, long edge) const { return place(stage, edge) + 2 * taps(stage); }

  private:
    long taps(long i) const { return group_.channels * group_.stages[i].size * group_.stages[i].size; }
    long size(long i) const { return 2 * taps(i) + group_.channels * group_.channels; }
    T* place(long i, long e) const { return memory_ + starts_[i] + e * size(i); }
    const T* vectors(long i, const T* start, long block) const {
        return start + block * lanes<T> * group_.stages[i].size * group_.stages[i].size;
    }
    const Group<T>& group_;
    std::vector<long> starts_;
    Scratch scratch_;
    T* memory_;
};

// Copies a map into a frame through `change`.
template <typename T, typename Change>
inline void fill(Grid<T> from, Grid<T> frame, long height, long width, long blocks, Change change) {
    for (long b = 0; b < blocks; ++b)
        for (long h = 0; h < height; ++h) {
            const T* x = from.at(h, 0, b);
            T* y = frame.at(h, 0, b);
            for (long w = 0; w < width; ++w) at(y + w * lanes<T>) = change(at(x + w * from.pixel), b);
        }
}

template <typename T>
inline Lanes<T> positive(const Lanes<T>& x) {
    const Lanes<T> zero = {};
    return select(x <= zero, zero, x);  // NaN stays
}

// 3x3 pools with a border of 1, which counts neither as a maximum nor in the average.
template <typename T, typename Visit>
inline void for_each_tap(long h, long w, long stride, long height, long width, Visit visit) {
    const long top = h * stride - 1, left = w * stride - 1;
    const bool inside = top >= 0 && left >= 0 && top + 3 <= height && left + 3 <= width;
    if (inside)  // most of them
        repeat<9>([&](auto tap) { visit(top + tap / 3, left + tap % 3); });
    else
        for (long y = top; y < top + 3; ++y)
            for (long x = left; x < left + 3; ++x)
                if (y >= 0 && y < height && x >= 0 && x < width) visit(y, x);
}

// The input of an operation's second stage: the first one's result after batch norm and ReLU.
template <typename T>
inline void fill_normalised(const Group<T>& g, const Stage<T>& first, long e, long n, Grid<T> frame) {
    const T *mean = first.mean + e * g.channels, *scale = first.scale + e * g.channels;
    fill(g.kept(first.results, e, n), frame, g.out_height(), g.out_width(), g.blocks(), [&](const Lanes<T>& x, long b) {
        return positive<T>((x - at(mean + b * lanes<T>)) * at(scale + b * lanes<T>));
    });
}
