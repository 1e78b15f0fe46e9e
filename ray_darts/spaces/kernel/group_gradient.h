// The gradients of a group of edges, phase by phase.
#pragma once

#include "group_backward.h"

// What one thread needs for the gradient of a sample.
template <typename T>
class SampleGradient {
  public:
    SampleGradient(const Group<T>& g, const Weights<T>& weights, WeightGradients<T>& of_weights, Totals<T>& totals,
                   T* passed)
        : g(g), weights_(weights), of_weights_(of_weights), totals_(totals), passed_(passed),
          gradient_(planes(gradient_scratch_.of<T>(g.out_size()), g.out_height(), g.out_width())),
          filtered_(planes(filtered_scratch_.of<T>(g.out_size()), g.out_height(), g.out_width())),
          of_input_(planes(input_scratch_.of<T>(g.in_size()), g.height, g.width)) {}

    // second stages: the gradient of the first batch norm's result is kept in `passed`
    void begin_seconds() {
        const long reach = g.reach(g.num_first, g.num_stages());
        frame_ = framed<T>(frame_scratch_, g.out_height(), g.out_width(), g.blocks(), reach);
        inner_ = framed<T>(inner_scratch_, g.out_height(), g.out_width(), g.blocks(), reach);
    }
    void second(long i, long e, long n, long slice) {
        const Stage<T>& first = g.stages[i];
        fill_normalised(g, first, e, n, frame_);
        const Grid<T> to = passed(i, e, n);
        back(first.next, e, n, slice, g.out_height(), g.out_width(), above(e % g.targets, n), to, true, false);
        Wide<T>* sums = totals_.of_first(i, e, n);
        const Grid<T> before = g.kept(first.results, e, n);
        const Lanes<T> zero = {};
        for (long b = 0; b < g.blocks(); ++b) {
            const Lanes<T> mean = at(first.mean + e * g.channels + b * lanes<T>);
            Wide<T> row_sums[2][lanes<T>];
            for (long h = 0; h < g.out_height(); ++h) {
                const T *x = before.at(h, 0, b), *z = frame_.at(h, 0, b);
                T* y = to.at(h, 0, b);
                sums_over_rows<T>(g.out_width(), row_sums[0], row_sums[1],
                                  [&](long r, Lanes<T>& sum, Lanes<T>& products) {
                                      Lanes<T>& gradient = at(y + r * lanes<T>);
                                      gradient = select(at(z + r * lanes<T>) > zero, gradient, zero);
                                      sum += gradient;
                                      products += gradient * (at(x + r * lanes<T>) - mean);
                                  });
                for (long k = 0; k < 2; ++k)
                    for (long l = 0; l < lanes<T>; ++l) sums[k * g.channels + b * lanes<T> + l] += row_sums[k][l];
            }
        }
    }

    void begin_firsts() {
        const long reach = g.reach(0, g.num_first);
        frame_ = framed<T>(frame_scratch_, g.height, g.width, g.blocks(), reach);
        inner_ = framed<T>(inner_scratch_, g.out_height(), g.out_width(), g.blocks(), g.stride == 1 ? reach : (reach + 1) / 2);
    }
    void first(long s, long n, long slice) {
        const bool wanted = g.of_inputs[s] != nullptr;
        if (wanted) std::memset(static_cast<void*>(of_input_.start), 0, g.in_size() * sizeof(T));
        if (g.num_first)
            fill(g.input(s, n), frame_, g.height, g.width, g.blocks(),
                 [](const Lanes<T>& x, long) { return positive<T>(x); });
        for (long i = 0; i < g.num_first; ++i)
            for (long t = 0; t < g.targets; ++t) {
                const long e = s * g.targets + t;
                if (!wanted && !of_weights_.kernel(slice, i, e)) continue;
                const Grid<T> from = g.stages[i].next < 0 ? above(t, n) : passed(i, e, n);
                back(i, e, n, slice, g.height, g.width, from, of_input_, wanted, true);
            }
        if (!wanted) return;
        for (long b = 0; b < g.blocks() && g.num_first; ++b)
            mask(frame_.from_block(b), of_input_.from_block(b), g.height, g.width);
        for (long p = 0; p < g.num_pools; ++p) {
            mixed_above(s, g.num_first + p, n, gradient_, false);
            const Grid<T> pooled = g.kept(g.pools[p].results, s, n);
            for (long b = 0; b < g.blocks(); ++b) {
                T* own = gradient_.at(0, 0, b);
                totals_.pool_slopes(p, s).apply(own, lanes<T>, pooled.at(0, 0, b), own, g.rows(), b * lanes<T>);
            }
            pool_back(g, g.pools[p].is_max, g.input(s, n), pooled, gradient_, of_input_);
        }
        if (g.skips) mixed_above(s, g.num_first + g.num_pools, n, of_input_, true);
        const Grid<T> to = dense(g.of_inputs[s] + n * g.in_size(), g.width, g.channels);
        for_each(g.height, g.width, g.blocks(), [&](long h, long w, long b) {
            at(to.at(h, w, b)) = at(of_input_.at(h, w, b));
        });
    }

  private:
    Grid<T> above(long t, long n) const {
        return dense(const_cast<T*>(g.above[t]) + n * g.out_size(), g.out_width(), g.channels);
    }
    Grid<T> passed(long i, long e, long n) const {
        long before = 0;
        for (long k = 0; k < i; ++k) before += g.stages[k].next >= 0;
        return g.kept(passed_, before * g.edges() + e, n);
    }
    // `from`: the gradient of the batch norm's result
    void back(long i, long e, long n, long slice, long height, long width, Grid<T> from, Grid<T> to, bool wanted,
              bool add) {
        T* of_kernel = of_weights_.kernel(slice, i, e);
        const StageBack<T> stage{g.depthwise(i), height, width, g.out_height(), g.out_width(), g.channels,
                                 weights_.kernel(i, e, 0), weights_.turned(i, e, 0),
                                 g.stages[i].mixing + e * g.channels * g.channels, of_kernel,
                                 of_kernel ? of_weights_.mixing(slice, i, e) : nullptr};
        const Slopes<T> slopes = totals_.slopes(i, e);
        const Grid<T> before = g.kept(g.stages[i].results, e, n);
        stage(frame_, gradient_, filtered_, inner_, to, wanted, add, [&](long first, long stop) {
            for (long b = 0; b < g.blocks(); ++b)
                slopes.apply(from.at(first, 0, b), from.pixel, before.at(first, 0, b), gradient_.at(first, 0, b),
                             (stop - first) * g.out_width(), b * lanes<T>);
        });
    }
    // to = or += the sum over targets of their gradients times the weights of a kind of term
    void mixed_above(long s, long kind, long n, Grid<T> to, bool add) const {
        for (long b = 0; b < g.blocks(); ++b)
            for (long r = 0; r < g.rows(); ++r) {
                Lanes<T> sum = add ? at(to.at(0, 0, b) + r * to.pixel) : Lanes<T>{};
                for (long t = 0; t < g.targets; ++t)
                    sum += at(g.above[t] + n * g.out_size() + r * g.channels + b * lanes<T>) *
                           totals_.weight(kind, s * g.targets + t);
                at(to.at(0, 0, b) + r * to.pixel) = sum;
            }
    }
    static void mask(Grid<T> frame, Grid<T> to, long height, long width) {
        const Lanes<T> zero = {};
        for_each(height, width, 1, [&](long h, long w, long) {
            Lanes<T>& own = at(to.at(h, w, 0));
            own = select(at(frame.at(h, w, 0)) > zero, own, zero);
        });
    }

    const Group<T>& g;
    const Weights<T>& weights_;
    WeightGradients<T>& of_weights_;
    Totals<T>& totals_;
    T* passed_;
    Scratch frame_scratch_, inner_scratch_, gradient_scratch_, filtered_scratch_, input_scratch_;
    Grid<T> frame_, inner_, gradient_, filtered_, of_input_;
};

template <typename T>
void group_gradient(const Group<T>& g) {
    const Worker whole{0, 1, g.samples, nullptr};
    Weights<T> weights(g);
    WeightGradients<T> of_weights(g, whole.slices());
    Totals<T> totals(g);
    Scratch passed_scratch;
    T* passed = passed_scratch.of<T>(g.num_second * g.edges() * g.samples * g.out_size());
    const auto needed = [&](long i, long e) {  // whether a first stage's gradient is asked for
        return g.of_inputs[e / g.targets] || of_weights.kernel(0, i, e) || of_weights.kernel(0, g.stages[i].next, e);
    };
    work_together(g.threads, g.samples, [&](const Worker& worker) {
        SampleGradient<T> sample(g, weights, of_weights, totals, passed);
        weights.prepare(worker);
        worker.share(worker.slices(), [&](long slice) { of_weights.clear(slice); });
        worker.share_samples([&](long n, long) {
            for (long t = 0; t < g.targets; ++t) totals.add_up(t, n);
        });
        worker.wait();
        totals.prepare_totals(worker);
        worker.wait();
        totals.prepare_slopes(worker);
        worker.wait();
        if (g.num_second) {
            sample.begin_seconds();
            worker.share_samples([&](long n, long slice) {
                for (long i = 0; i < g.num_first; ++i)
                    for (long e = 0; e < g.edges() && g.stages[i].next >= 0; ++e)
                        if (needed(i, e)) sample.second(i, e, n, slice);
            });
            worker.wait();
            totals.prepare_first_slopes(worker);
            worker.wait();
        }
        sample.begin_firsts();
        worker.share_samples([&](long n, long slice) {
            for (long s = 0; s < g.sources; ++s) sample.first(s, n, slice);
        });
        worker.wait();
        of_weights.write(worker);
    });
}
