// The gradients of a group of edges.
#pragma once

#include "group.h"

// A slice's share of the weight gradients of each stage and edge.
template <typename T>
class WeightGradients {
  public:
    WeightGradients(const Group<T>& g, long slices) : group_(g), slices_(slices), starts_(g.num_stages() + 1) {
        for (long i = 0; i < g.num_stages(); ++i) {
            const bool wanted = g.stages[i].of_kernels || g.stages[i].of_mixing;
            starts_[i + 1] = starts_[i] + (wanted ? g.edges() * (taps(i) + g.channels * g.channels) : 0);
        }
        memory_ = scratch_.template of<T>(starts_.back() * slices);
    }
    void clear(long slice) { std::memset(static_cast<void*>(memory_ + slice * starts_.back()), 0, starts_.back() * sizeof(T)); }
    T* kernel(long slice, long i, long e) const {
        if (!group_.stages[i].of_kernels && !group_.stages[i].of_mixing) return nullptr;
        return memory_ + slice * starts_.back() + starts_[i] + e * (taps(i) + group_.channels * group_.channels);
    }
    T* mixing(long slice, long i, long e) const { return kernel(slice, i, e) + taps(i); }
    // adds up the slices, in their order
    void write(const Worker& worker) const {
        const Group<T>& g = group_;
        worker.share(g.num_stages() * g.edges(), [&](long index) {
            const long i = index / g.edges(), e = index % g.edges(), size = taps(i) + g.channels * g.channels;
            const Stage<T>& stage = g.stages[i];
            T* total = kernel(0, i, e);
            if (!total) return;
            for (long slice = 1; slice < slices_; ++slice)
                for (long k = 0; k < size; ++k) total[k] += kernel(slice, i, e)[k];
            if (stage.of_kernels) scatter_taps(total, stage.of_kernels + e * taps(i), stage.size, g.channels);
            const long square = g.channels * g.channels;
            if (stage.of_mixing) std::memcpy(stage.of_mixing + e * square, total + taps(i), square * sizeof(T));
        });
    }

  private:
    long taps(long i) const { return group_.channels * group_.stages[i].size * group_.stages[i].size; }
    const Group<T>& group_;
    const long slices_;
    std::vector<long> starts_;
    Scratch scratch_;
    T* memory_;
};

// Sums of the targets' gradients, alone and times the terms of each target, and what follows from them.
template <typename T>
class Totals {
  public:
    explicit Totals(const Group<T>& g)
        : group_(g), kinds_(g.num_first + g.num_pools + g.skips), terms_(g.sources * kinds_ + 1),
          of_samples_(g.samples * g.targets * terms_ * g.channels), totals_(g.targets * terms_ * g.channels),
          of_firsts_(g.samples * g.num_first * g.edges() * 2 * g.channels) {
        slopes_ = scratch_.template of<T>(((g.num_stages() * g.edges()) + g.num_pools * g.sources) * 4 * g.channels);
    }
    // of one sample and target: the gradient, then for each source the gradient times each kind of term
    void add_up(long t, long n) {
        const Group<T>& g = group_;
        for (long b = 0; b < g.blocks(); ++b) {
            const T* above = g.above[t] + n * g.out_size() + b * lanes<T>;
            Wide<T>* into = of_samples_.data() + (n * g.targets + t) * terms_ * g.channels + b * lanes<T>;
            for (long start = 0; start < g.rows(); start += 64) {
                const long stop = start + 64 < g.rows() ? start + 64 : g.rows();
                Lanes<T> sum = {};
                for (long r = start; r < stop; ++r) sum += at(above + r * g.channels);
                add_to<T>(into, sum);
                for (long s = 0; s < g.sources; ++s)
                    for (long k = 0; k < kinds_; ++k) {
                        const T* mean = mean_of(s, k, t);
                        const Grid<T> term = term_of(s, k, t, n);
                        const Lanes<T> middle = mean ? at(mean + b * lanes<T>) : Lanes<T>{};
                        const T* x = term.at(0, 0, b);
                        Lanes<T> sums[4] = {};
                        long r = start;
                        for (; r + 4 <= stop; r += 4)
                            for (int j = 0; j < 4; ++j)
                                sums[j] += at(above + (r + j) * g.channels) * (at(x + (r + j) * term.pixel) - middle);
                        for (; r < stop; ++r) sums[0] += at(above + r * g.channels) * (at(x + r * term.pixel) - middle);
                        add_to<T>(into + (1 + s * kinds_ + k) * g.channels, (sums[0] + sums[1]) + (sums[2] + sums[3]));
                    }
            }
        }
    }
    void prepare_totals(const Worker& worker) {
        const Group<T>& g = group_;
        worker.share(g.targets * terms_, [&](long index) {
            for (long n = 0; n < g.samples; ++n)
                for (long c = 0; c < g.channels; ++c)
                    totals_[index * g.channels + c] += of_samples_[(n * g.targets * terms_ + index) * g.channels + c];
        });
    }
    // gradients of the mixing weights, and the slopes of the last batch norms
    void prepare_slopes(const Worker& worker) {
        const Group<T>& g = group_;
        const double count = double(g.samples) * g.rows();
        worker.share(g.edges(), [&](long e) {
            const long s = e / g.targets, t = e % g.targets;
            for (long k = 0; k < kinds_; ++k) {
                const Wide<T>* products = total(t, 1 + s * kinds_ + k);
                const T* scale = scale_of(s, k, t);
                Wide<T> sum = 0;
                for (long c = 0; c < g.channels; ++c) sum += products[c] * Wide<T>(scale ? get(scale, c) : T(1));
                g.of_weights[k * g.edges() + e] = T(sum);
                if (k >= g.num_first) continue;
                const Stage<T>& last = g.last(k);
                slopes(&last - g.stages, e).set(mean_of(s, k, t), scale, Wide<T>(weight(k, e)), total(t, 0), products,
                                                count, g.channels);
            }
        });
        worker.share(g.num_pools * g.sources, [&](long index) {
            const long p = index / g.sources, s = index % g.sources, k = g.num_first + p;
            std::vector<Wide<T>> first(g.channels), second(g.channels);
            for (long t = 0; t < g.targets; ++t)
                for (long c = 0; c < g.channels; ++c) {
                    const Wide<T> weight_of_edge(weight(k, s * g.targets + t));
                    first[c] += weight_of_edge * total(t, 0)[c];
                    second[c] += weight_of_edge * total(t, 1 + s * kinds_ + k)[c];
                }
            pool_slopes(p, s).set(mean_of(s, k, 0), scale_of(s, k, 0), 1, first.data(), second.data(), count, g.channels);
        });
    }
    // sums of one sample of the gradient of a first stage's batch norm, alone and times its input's offset
    Wide<T>* of_first(long i, long e, long n) {
        return of_firsts_.data() + ((i * group_.edges() + e) * group_.samples + n) * 2 * group_.channels;
    }
    void prepare_first_slopes(const Worker& worker) {
        const Group<T>& g = group_;
        worker.share(g.num_first * g.edges(), [&](long index) {
            const long i = index / g.edges(), e = index % g.edges();
            if (g.stages[i].next < 0) return;
            std::vector<Wide<T>> sums(2 * g.channels);
            for (long n = 0; n < g.samples; ++n)
                for (long k = 0; k < 2 * g.channels; ++k) sums[k] += of_first(i, e, n)[k];
            const Stage<T>& own = g.stages[i];
            slopes(i, e).set(own.mean + e * g.channels, own.scale + e * g.channels, 1, sums.data(),
                             sums.data() + g.channels, double(g.samples) * g.rows(), g.channels);
        });
    }
    Slopes<T> slopes(long stage, long edge) const { return slopes_at(stage * group_.edges() + edge); }
    Slopes<T> pool_slopes(long p, long s) const {
        return slopes_at(group_.num_stages() * group_.edges() + p * group_.sources + s);
    }
    T weight(long kind, long e) const { return group_.weights[kind * group_.edges() + e]; }

  private:
    const Wide<T>* total(long t, long term) const { return totals_.data() + (t * terms_ + term) * group_.channels; }
    Slopes<T> slopes_at(long index) const {
        T* start = slopes_ + index * 4 * group_.channels;
        return {start, start + group_.channels, start + 2 * group_.channels, start + 3 * group_.channels};
    }
    bool is_convolution(long k) const { return k < group_.num_first; }
    bool is_pool(long k) const { return !is_convolution(k) && k < group_.num_first + group_.num_pools; }
    const Pool<T>& pool_of(long k) const { return group_.pools[k - group_.num_first]; }
    const T* mean_of(long s, long k, long t) const {
        if (is_convolution(k)) return group_.last(k).mean + (s * group_.targets + t) * group_.channels;
        return is_pool(k) ? pool_of(k).mean + s * group_.channels : nullptr;
    }
    const T* scale_of(long s, long k, long t) const {
        if (is_convolution(k)) return group_.last(k).scale + (s * group_.targets + t) * group_.channels;
        return is_pool(k) ? pool_of(k).scale + s * group_.channels : nullptr;
    }
    Grid<T> term_of(long s, long k, long t, long n) const {
        if (is_convolution(k)) return group_.kept(group_.last(k).results, s * group_.targets + t, n);
        return is_pool(k) ? group_.kept(pool_of(k).results, s, n) : group_.input(s, n);
    }

    const Group<T>& group_;
    const long kinds_, terms_;
    std::vector<Wide<T>> of_samples_, totals_, of_firsts_;
    Scratch scratch_;
    T* slopes_;
};

// One stage back: its weights' gradients of one sample are added where they are not null, its input's to `to`.
template <typename T>
struct StageBack {
    Depthwise depthwise;
    long in_height, in_width, out_height, out_width, channels;
    const T *kernel, *turned;
    const T* mixing;
    T *of_kernel, *of_mixing;

    // frame: of the input; gradient, filtered: planes; inner: frame of the gradient between the two convolutions;
    // prepare(first, stop): writes these rows of the gradient
    template <typename Prepare>
    void operator()(Grid<T> frame, Grid<T> gradient, Grid<T> filtered, Grid<T> inner, Grid<T> to, bool wanted, bool add,
                    Prepare prepare) const {
        const long blocks = channels / lanes<T>, taps = depthwise.size * depthwise.size * lanes<T>;
        for_each_strip(out_height, out_width, [&](long first, long stop) {
            prepare(first, stop);
            for (long b = 0; b < blocks && of_mixing; ++b)
                convolve(depthwise, frame.from_block(b), kernel + b * taps, filtered.from_block(b), first, stop, out_width);
            if (of_mixing) outer_product(gradient, filtered, of_mixing, first, stop, out_width, channels, channels);
            if (wanted || of_kernel) product(gradient, mixing, inner, first, stop, out_width, channels, channels);
        });
        for (long b = 0; b < blocks; ++b) {
            const Grid<T> block = inner.from_block(b);
            if (of_kernel)
                tap_gradient(depthwise, frame.from_block(b), block, of_kernel + b * taps, out_height, out_width);
            if (wanted)
                convolve_back(depthwise, block, kernel + b * taps, turned + b * taps, to.from_block(b), in_height,
                              in_width, add);
        }
    }
};

// to += the input gradient of a pool; `gradient`, `pooled`: planes
template <typename T>
void pool_back(const Group<T>& g, bool is_max, Grid<T> from, Grid<T> pooled, Grid<T> gradient, Grid<T> to) {
    const Lanes<T> zero = {};
    for_each(g.out_height(), g.out_width(), g.blocks(), [&](long h, long w, long b) {
        Lanes<T> left = at(gradient.at(h, w, b));
        if (!is_max) {
            Plain<T> count = 0;
            for_each_tap<T>(h, w, g.stride, g.height, g.width, [&](long, long) { count += 1; });
            left = left / count;
        }
        const Lanes<T> most = at(pooled.at(h, w, b));
        for_each_tap<T>(h, w, g.stride, g.height, g.width, [&](long y, long x) {
            if (!is_max) {
                at(to.at(y, x, b)) += left;
                return;
            }
            const auto hit = at(from.at(y, x, b)) == most;  // the first of several equal ones gets it
            at(to.at(y, x, b)) += select(hit, left, zero);
            left = select(hit, zero, left);
        });
    });
}
