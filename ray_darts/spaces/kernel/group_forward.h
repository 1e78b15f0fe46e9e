// The results of a group of edges.
#pragma once

#include "group.h"

template <typename T>
void pool(const Group<T>& g, bool is_max, Grid<T> from, Grid<T> to) {
    for_each(g.out_height(), g.out_width(), g.blocks(), [&](long h, long w, long b) {
        Lanes<T> found = {};
        Plain<T> count = 0;
        for_each_tap<T>(h, w, g.stride, g.height, g.width, [&](long y, long x) {
            const Lanes<T> value = at(from.at(y, x, b));
            if (!is_max)
                found += value;
            else
                found = count == 0 ? value : select((value > found) | (value != value), value, found);
            count += 1;
        });
        at(to.at(h, w, b)) = is_max ? found : found / count;
    });
}

// Adds up targets: each of its terms times a scale, and a shift of all of them together.
template <typename T>
class Sums {
  public:
    explicit Sums(const Group<T>& g) : group_(g) {
        const long terms = g.sources * (g.num_first + g.num_pools + g.skips);
        memory_ = scratch_.template of<T>(g.targets * (terms + 1) * g.channels);
        num_terms_ = terms;
    }
    void prepare(const Worker& worker) {
        worker.share(group_.targets, [&](long t) {
            T* shift = scales(t, num_terms_);
            for (long c = 0; c < group_.channels; ++c) put(shift, c, 0);
            long term = 0;
            each_term(t, [&](T*, long, const T* mean, const T* scale, T weight, long) {
                for (long c = 0; c < group_.channels; ++c) {
                    const T factor = mean ? get(scale, c) * weight : weight;
                    put(scales(t, term), c, factor);
                    if (mean) put(shift, c, get(shift, c) - get(mean, c) * factor);
                }
                ++term;
            });
        });
    }
    void write(long t, long n) const {
        const Group<T>& g = group_;
        for (long b = 0; b < g.blocks(); ++b) {
            T* to = g.outputs[t] + n * g.out_size() + b * lanes<T>;
            for (long start = 0; start < g.rows(); start += kRows<T>) {
                const long count = g.rows() - start < kRows<T> ? g.rows() - start : kRows<T>;
                if (count == kRows<T>)
                    add_up<kRows<T>>(t, n, b, start, to + start * g.channels);
                else
                    for (long r = start; r < g.rows(); ++r) add_up<1>(t, n, b, r, to + r * g.channels);
            }
        }
    }

  private:
    // visit(results, map, mean, scale, weight, source): a source itself has no results and no mean
    template <typename Visit>
    void each_term(long t, Visit visit) const {
        const Group<T>& g = group_;
        for (long s = 0; s < g.sources; ++s) {
            const long e = s * g.targets + t, c = e * g.channels;
            for (long o = 0; o < g.num_first; ++o) {
                const Stage<T>& last = g.last(o);
                visit(last.results, e, last.mean + c, last.scale + c, g.weights[o * g.edges() + e], s);
            }
            for (long p = 0; p < g.num_pools; ++p) {
                const Pool<T>& own = g.pools[p];
                const T weight = g.weights[(g.num_first + p) * g.edges() + e];
                visit(own.results, s, own.mean + s * g.channels, own.scale + s * g.channels, weight, s);
            }
            if (g.skips) visit(nullptr, s, nullptr, nullptr, g.weights[(g.num_first + g.num_pools) * g.edges() + e], s);
        }
    }
    template <int B>
    void add_up(long t, long n, long b, long start, T* to) const {
        const Group<T>& g = group_;
        Lanes<T> sums[B];
        for (int r = 0; r < B; ++r) sums[r] = at(scales(t, num_terms_) + b * lanes<T>);
        long term = 0;
        each_term(t, [&](T* results, long map, const T*, const T*, T, long source) {
            const Grid<T> from = results ? g.kept(results, map, n) : g.input(source, n);
            const Lanes<T> scale = at(scales(t, term++) + b * lanes<T>);
            const T* x = from.at(0, 0, b) + start * from.pixel;
            for (int r = 0; r < B; ++r) accumulate(sums[r], at(x + r * from.pixel), scale);
        });
        for (int r = 0; r < B; ++r) at(to + r * g.channels) = sums[r];
    }
    T* scales(long t, long term) const { return memory_ + (t * (num_terms_ + 1) + term) * group_.channels; }

    const Group<T>& group_;
    long num_terms_;
    Scratch scratch_;
    T* memory_;
};

template <typename T>
void group_forward(const Group<T>& g) {
    const long channels = g.channels, edges = g.edges(), rows = g.rows(), height = g.out_height(), width = g.out_width();
    const long firsts = g.num_first * edges, seconds = g.num_second * edges, pooled = g.num_pools * g.sources;
    std::vector<Wide<T>> memory((firsts + seconds + pooled) * g.samples * 2 * channels);
    const auto of_samples = [&](long map) { return memory.data() + map * g.samples * 2 * channels; };
    const auto measure = [&](Grid<T> maps, long map, long n, long first, long stop) {
        for (long b = 0; b < g.blocks(); ++b) {
            Wide<T>* into = of_samples(map) + 2 * n * channels + b * lanes<T>;
            add_moments(maps.at(first, 0, b), (stop - first) * width, maps.pixel, first * width, into, into + channels);
        }
    };
    Weights<T> weights(g);
    Sums<T> sums(g);
    work_together(g.threads, g.samples, [&](const Worker& worker) {
        Scratch frame_scratch, inner_scratch;
        const Grid<T> inner = planes(inner_scratch.of<T>(g.out_size()), height, width);
        const auto convolved = [&](long i, long e, Grid<T> frame, long n) {
            const Grid<T> to = g.kept(g.stages[i].results, e, n);
            for_each_strip(height, width, [&](long first, long stop) {
                for (long b = 0; b < g.blocks(); ++b)
                    convolve(g.depthwise(i), frame.from_block(b), weights.kernel(i, e, b), inner.from_block(b), first,
                             stop, width);
                product(inner, weights.table(i, e), to, first, stop, width, channels, channels);
                measure(to, i * edges + e, n, first, stop);
            });
        };
        weights.prepare(worker);
        worker.wait();
        Grid<T> frame = framed<T>(frame_scratch, g.height, g.width, g.blocks(), g.reach(0, g.num_first));
        worker.share_samples([&](long n, long) {
            for (long s = 0; s < g.sources; ++s) {
                for (long p = 0; p < g.num_pools; ++p) {
                    const Grid<T> to = g.kept(g.pools[p].results, s, n);
                    pool(g, g.pools[p].is_max, g.input(s, n), to);
                    measure(to, firsts + seconds + p * g.sources + s, n, 0, height);
                }
                if (!g.num_first) continue;
                fill(g.input(s, n), frame, g.height, g.width, g.blocks(),
                     [](const Lanes<T>& x, long) { return positive<T>(x); });
                for (long i = 0; i < g.num_first; ++i)
                    for (long t = 0; t < g.targets; ++t) convolved(i, s * g.targets + t, frame, n);
            }
        });
        worker.wait();
        worker.share(firsts, [&](long map) {
            g.statistics(g.stages[map / edges], map % edges).set(of_samples(map), g.samples, rows, channels);
        });
        worker.share(pooled, [&](long map) {
            const Pool<T>& own = g.pools[map / g.sources];
            g.statistics(own, map % g.sources).set(of_samples(firsts + seconds + map), g.samples, rows, channels);
        });
        worker.wait();
        if (seconds) {
            frame = framed<T>(frame_scratch, height, width, g.blocks(), g.reach(g.num_first, g.num_stages()));
            worker.share_samples([&](long n, long) {
                for (long i = 0; i < g.num_first; ++i)
                    for (long e = 0; e < edges && g.stages[i].next >= 0; ++e) {
                        const Stage<T>& first = g.stages[i];
                        fill_normalised(g, first, e, n, frame);
                        convolved(first.next, e, frame, n);
                    }
            });
            worker.wait();
            worker.share(seconds, [&](long map) {
                const long i = g.num_first + map / edges;
                g.statistics(g.stages[i], map % edges).set(of_samples(firsts + map), g.samples, rows, channels);
            });
            worker.wait();
        }
        sums.prepare(worker);
        worker.wait();
        worker.share_samples([&](long n, long) {
            for (long t = 0; t < g.targets; ++t) sums.write(t, n);
        });
    });
}
